//! The policy that every coordinator must agree on; it lives in one row of the database.

use edgekeep_shared::ids::SiteId;
use edgekeep_shared::lockout::GuessPolicy;
use edgekeep_shared::renewal::Lifetimes;
use edgekeep_shared::takeover::Takeover;
use sqlx::PgConnection;

use super::{DbError, unsigned};

/// The name of a takeover policy in the database and on the command line.
#[must_use]
pub const fn takeover_name(policy: Takeover) -> &'static str {
    match policy {
        Takeover::NewestWins => "newest_wins",
        Takeover::RefuseSecond => "refuse_second",
    }
}

/// The takeover policy with this name.
#[must_use]
pub fn takeover_from_name(name: &str) -> Option<Takeover> {
    [Takeover::NewestWins, Takeover::RefuseSecond].into_iter().find(|policy| takeover_name(*policy) == name)
}

/// The settings, as one statement read them. All durations in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Grows with every change.
    pub version: u64,
    /// The audience of tokens.
    pub site: String,
    /// The bound of G2 that edges keep.
    pub max_staleness_ms: u32,
    /// The bound that receipts name: the greater of the present one and one that leases may still run under.
    pub receipt_staleness_ms: u32,
    /// Slots per user, 1 to 16.
    pub sessions_per_user: u32,
    /// What a login does when no slot is free.
    pub takeover: Takeover,
    /// How long proofs and sessions live.
    pub lifetimes: Lifetimes,
    /// Lockout.
    pub guesses: GuessPolicy,
    /// Default of `Prefer: wait` for logins; 0 answers at once.
    pub login_wait_ms: u32,
    /// The shortest new password, in characters.
    pub password_min_chars: u32,
    /// How long settled attempts are kept.
    pub attempt_retention_ms: u64,
    /// How long audit entries are kept.
    pub audit_retention_ms: u64,
}

impl Settings {
    /// The audience of tokens as tokens carry it.
    #[must_use]
    pub fn site_id(&self) -> SiteId {
        SiteId::of(&self.site)
    }
}

/// The settings that a session is made by, as they were when nobody could change them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRules {
    /// The audience of tokens.
    pub site: String,
    /// Slots per user, 1 to 16.
    pub sessions_per_user: u32,
    /// What a login does when no slot is free.
    pub takeover: Takeover,
    /// How long proofs and sessions live.
    pub lifetimes: Lifetimes,
    /// Default of `Prefer: wait` for logins; 0 answers at once.
    pub login_wait_ms: u32,
    /// The shortest new password, in characters.
    pub password_min_chars: u32,
}

pub(super) fn small(value: i32) -> Result<u32, DbError> {
    u32::try_from(value).map_err(|_| DbError::Corrupt("a negative setting"))
}

pub(super) fn takeover(name: &str) -> Result<Takeover, DbError> {
    takeover_from_name(name).ok_or(DbError::Corrupt("an unknown takeover policy"))
}

/// The policy of guesses, from its columns.
pub(super) fn guess_policy(limit: i32, base_ms: i64, max_ms: i64, cap: i32) -> Result<GuessPolicy, DbError> {
    Ok(GuessPolicy {
        guess_limit: small(limit)?,
        base_ms: unsigned(base_ms)?,
        max_ms: unsigned(max_ms)?,
        consecutive_failure_cap: small(cap)?,
    })
}

/// Reads the settings.
///
/// # Errors
/// When the database cannot be asked, or was set up by another version.
pub async fn load(conn: &mut PgConnection) -> Result<Settings, DbError> {
    let row = sqlx::query!(
        r#"SELECT version, site, max_staleness_ms,
                  greatest(max_staleness_ms, CASE WHEN previous_staleness_until > clock_timestamp()
                                                  THEN previous_staleness_ms ELSE 0 END) AS "receipt_staleness_ms!",
                  sessions_per_user, takeover, proof_life_ms, idle_timeout_ms, absolute_timeout_ms, guess_limit,
                  lockout_base_ms, lockout_max_ms, consecutive_failure_cap, login_wait_ms, password_min_chars,
                  attempt_retention_ms, audit_retention_ms
           FROM settings"#
    )
    .fetch_one(conn)
    .await?;
    Ok(Settings {
        version: unsigned(row.version)?,
        site: row.site,
        max_staleness_ms: small(row.max_staleness_ms)?,
        receipt_staleness_ms: small(row.receipt_staleness_ms)?,
        sessions_per_user: small(row.sessions_per_user)?,
        takeover: takeover(&row.takeover)?,
        lifetimes: Lifetimes {
            proof_life_ms: u64::from(small(row.proof_life_ms)?),
            idle_timeout_ms: unsigned(row.idle_timeout_ms)?,
            absolute_timeout_ms: unsigned(row.absolute_timeout_ms)?,
        },
        guesses: guess_policy(row.guess_limit, row.lockout_base_ms, row.lockout_max_ms, row.consecutive_failure_cap)?,
        login_wait_ms: small(row.login_wait_ms)?,
        password_min_chars: small(row.password_min_chars)?,
        attempt_retention_ms: unsigned(row.attempt_retention_ms)?,
        audit_retention_ms: unsigned(row.audit_retention_ms)?,
    })
}

/// The advisory lock that holds the settings: shared by transactions that place a session
/// ([`lock_users`](super::outcomes::lock_users) takes it), exclusive by one that changes the settings. So no session can
/// appear under a limit that has been lowered meanwhile. ("edgekeep settings" as a number.)
pub(super) const HOLD: i64 = 0x6564_6765_6b65_6570;

/// Waits for every transaction that [holds](HOLD) the settings, and keeps new ones waiting until this one ends.
///
/// # Errors
/// When the database cannot do it.
pub async fn hold_exclusively(conn: &mut PgConnection) -> Result<(), DbError> {
    sqlx::query!("SELECT pg_advisory_xact_lock($1)", HOLD).execute(conn).await?;
    Ok(())
}
