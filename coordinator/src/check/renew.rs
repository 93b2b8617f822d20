//! Renewals that write: `proof_until` is raised and committed before anything is signed up to it (design 2.1).

use edgekeep_shared::problem::Reason;
use edgekeep_shared::renewal::{Lifetimes, Renewal, SessionTimes};
use edgekeep_shared::revision::Revision;
use edgekeep_shared::token::Claims;
use edgekeep_shared::verdict::{Current, Found, FoundSession, FoundUser, Verdict, decide};
use sqlx::{PgConnection, PgPool};

use crate::db::{self, DbError, outcomes, run_tx};

/// A session after a renewal: what may be signed now.
pub(super) struct Renewed {
    /// As the transaction read and wrote it.
    pub current: Current,
    /// Coordinator time of the transaction, after its locks.
    pub now_ms: u64,
    /// A new proof may reach until here.
    pub renew_after_ms: u64,
}

/// Raises the session's times in one transaction: epoch, settings and the user's row first; then session, roles, settings and
/// clock are read behind those locks.
///
/// `Err(verdict)`: the session is not current any more.
///
/// # Errors
/// When the database cannot do it, or nobody knows whether it did.
pub(super) async fn raise(pool: &PgPool, claims: &Claims) -> Result<Result<Renewed, Verdict>, DbError> {
    run_tx!(pool, "renew", async |conn| renew(conn, claims).await).await
}

async fn renew(conn: &mut PgConnection, claims: &Claims) -> Result<Result<Renewed, Verdict>, DbError> {
    let (epoch, states) = outcomes::lock_users(conn, &[claims.user_id]).await?;
    let (found, lifetimes) = look(conn, claims, epoch, states.first().map(|state| state.feed.revision)).await?;
    let now_ms = found.now_ms;
    let mut current = match decide(claims, found) {
        Verdict::Current(current) => current,
        verdict => return Ok(Err(verdict)),
    };
    match lifetimes.renew(current.times, now_ms) {
        Renewal::Expired => Ok(Err(Verdict::Ended(Reason::Expired))),
        // Somebody else has raised it meanwhile: twenty requests that renew the same proof write once.
        Renewal::SignUpTo { renew_after_ms } => Ok(Ok(Renewed { current, now_ms, renew_after_ms })),
        Renewal::Raise(times) => {
            store(conn, claims, times, now_ms).await?;
            current.times = times;
            Ok(Ok(Renewed { current, now_ms, renew_after_ms: times.proof_until_ms }))
        }
    }
}

/// Session, user, settings and clock, or why the session is over. All of one statement that begins when the user's state row
/// is locked: nobody changes any of the user's sessions, or roles, without that lock.
async fn look(
    conn: &mut PgConnection,
    claims: &Claims,
    epoch: u16,
    revision: Option<Revision>,
) -> Result<(Found, Lifetimes), DbError> {
    let row = sqlx::query!(
        r#"SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS "now_ms!",
                  s.proof_life_ms, s.idle_timeout_ms, s.absolute_timeout_ms,
                  u.name AS "name?", u.roles AS "roles?", u.disabled_at IS NOT NULL AS "disabled!",
                  floor(extract(epoch FROM x.authenticated_at) * 1000)::bigint AS "authenticated_at_ms?",
                  ceil(extract(epoch FROM x.proof_until) * 1000)::bigint AS "proof_until_ms?",
                  floor(extract(epoch FROM x.idle_expires_at) * 1000)::bigint AS "idle_expires_at_ms?",
                  floor(extract(epoch FROM x.expires_at) * 1000)::bigint AS "expires_at_ms?",
                  e.reason AS "reason?"
           FROM settings s
           LEFT JOIN users u ON u.user_id = $1 AND u.deleted_at IS NULL
           LEFT JOIN session x ON x.session_id = $2 AND x.user_id = $1
           LEFT JOIN ended_session e ON e.session_id = $2"#,
        db::signed(claims.user_id.0),
        claims.session_id.0.as_slice()
    )
    .fetch_one(conn)
    .await?;
    let lifetimes = Lifetimes {
        proof_life_ms: db::unsigned(i64::from(row.proof_life_ms))?,
        idle_timeout_ms: db::unsigned(row.idle_timeout_ms)?,
        absolute_timeout_ms: db::unsigned(row.absolute_timeout_ms)?,
    };
    let user = revision.map(|revision| FoundUser {
        revision,
        // Whoever is deleted has no name, and may not sign in either.
        disabled: row.disabled || row.name.is_none(),
        roles: row.roles.unwrap_or_default(),
        name: row.name,
    });
    let times = (row.authenticated_at_ms, row.proof_until_ms, row.idle_expires_at_ms, row.expires_at_ms);
    let session = match times {
        (Some(authenticated), Some(proof_until), Some(idle_expires), Some(expires)) => Some(FoundSession {
            user_id: claims.user_id,
            authenticated_at_ms: db::unsigned(authenticated)?,
            times: SessionTimes {
                proof_until_ms: db::unsigned(proof_until)?,
                idle_expires_at_ms: db::unsigned(idle_expires)?,
                expires_at_ms: db::unsigned(expires)?,
            },
        }),
        _ => None,
    };
    let ended = row.reason.map(|reason| Reason::from_name(&reason).ok_or(DbError::Corrupt("an unknown reason")));
    let found = Found { epoch, now_ms: db::unsigned(row.now_ms)?, user, session, ended: ended.transpose()? };
    Ok((found, lifetimes))
}

/// Writes the new times; `proof_until` never goes down, whatever the settings became.
async fn store(conn: &mut PgConnection, claims: &Claims, times: SessionTimes, now_ms: u64) -> Result<(), DbError> {
    let stored = sqlx::query!(
        "UPDATE session
         SET proof_until = greatest(proof_until, timestamptz 'epoch' + $3 * interval '1 millisecond'),
             idle_expires_at = timestamptz 'epoch' + $4 * interval '1 millisecond',
             last_seen_at = timestamptz 'epoch' + $5 * interval '1 millisecond'
         WHERE user_id = $1 AND session_id = $2",
        db::signed(claims.user_id.0),
        claims.session_id.0.as_slice(),
        db::signed(times.proof_until_ms) as _,
        db::signed(times.idle_expires_at_ms) as _,
        db::signed(now_ms) as _,
    )
    .execute(conn)
    .await?;
    db::affected(stored.rows_affected(), 1, "a session that was locked is gone")
}
