//! The statements of transaction two: users locked, their sessions locked ([`lock_of_users`]), subject and attempt
//! locked, then what was decided written.
//!
//! What makes a lock a statement of its own: a statement reads what was committed when it *began*, however long it then
//! waits; only a row that it locks is read anew after the wait. So one statement may take several locks one after the
//! other, and read of them the locked rows; which sessions a user has must be read by one that begins when the user is
//! locked, and what failed before by one that begins when the subject is.
//!
//! [`lock_of_users`]: super::sessions::lock_of_users

use edgekeep_shared::ids::UserId;
use edgekeep_shared::lockout::{Count, GuessPolicy};
use edgekeep_shared::renewal::Lifetimes;
use edgekeep_shared::revision::Revision;
use edgekeep_shared::revocation::FeedRow;
use serde_json::Value;
use sqlx::PgConnection;

use super::attempts::{Settled, Subject, SubjectRow, count_of};
use super::settings::{self, SessionRules};
use super::users::{self, User, UserState};
use super::{DbError, affected, signed, unsigned, user_id};
use crate::epoch;

/// How often a raised epoch is looked at again.
const TRIES: u32 = 3;

/// The feed epoch, checked as [`epoch::checked`] does; then the settings held as they are until the transaction ends
/// ([`settings::HOLD`]); then the state rows of these users locked, in id order. Users that do not exist have none.
///
/// One statement may do all three, in this order: each part needs a value of the one before it, and of what may change
/// while it waits it reads only the rows that it locks. The settings themselves are for a later statement.
///
/// # Errors
/// When the database cannot do it.
pub async fn lock_users(conn: &mut PgConnection, users: &[UserId]) -> Result<(u16, Vec<UserState>), DbError> {
    let ids: Vec<i64> = users.iter().map(|id| signed(id.0)).collect();
    for _ in 0..TRIES {
        let rows = sqlx::query!(
            r#"WITH checked AS MATERIALIZED (
                   SELECT epoch, CASE WHEN system_identifier = (SELECT system_identifier FROM pg_control_system())
                                           AND timeline = left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)
                                      THEN pg_advisory_xact_lock_shared($1) IS NOT NULL ELSE false END AS held
                   FROM cluster)
               SELECT checked.epoch AS "epoch!", checked.held AS "held!", u.user_id AS "user_id?",
                      u.revision AS "revision?", u.needed_until_ms AS "needed_until_ms?"
               FROM checked LEFT JOIN LATERAL (
                   SELECT user_id, revision,
                          ceil(extract(epoch FROM greatest(needed_until, 'epoch')) * 1000)::bigint AS needed_until_ms
                   FROM user_state WHERE checked.held AND user_id = ANY(ARRAY(SELECT unnest($2::bigint[])))
                   ORDER BY user_id FOR UPDATE) AS u ON true"#,
            settings::HOLD,
            &ids
        )
        .fetch_all(&mut *conn)
        .await?;
        let Some(first) = rows.first().filter(|first| first.held) else {
            // Another database or timeline than before: the epoch is raised, and nothing is held or locked yet.
            epoch::checked(conn).await?;
            continue;
        };
        let epoch = epoch::stored_epoch(first.epoch)?;
        let mut states = Vec::with_capacity(rows.len());
        for row in rows {
            let (Some(id), Some(revision), Some(needed)) = (row.user_id, row.revision, row.needed_until_ms) else {
                continue;
            };
            let feed = FeedRow { revision: Revision(unsigned(revision)?), needed_until_ms: unsigned(needed)? };
            states.push(UserState { user_id: user_id(id)?, feed });
        }
        return Ok((epoch, states));
    }
    Err(DbError::Conflict("the feed epoch is being raised by others again and again".to_owned()))
}

/// An attempt that is not settled, locked, and what else is read with it.
#[derive(Debug)]
pub struct LockedAttempt {
    /// Its subject, locked before it.
    pub subject: Subject,
    /// Its number.
    pub seq: u64,
    /// Coordinator time, read when all locks were taken.
    pub now_ms: u64,
    /// As they are; they stay so if they are held.
    pub rules: SessionRules,
    /// The user who was asked for, unless deleted.
    pub user: Option<User>,
}

/// Locks the subject, then the attempt, and reads the clock, the rules of sessions and this user with them. `None`: the
/// attempt is settled already.
///
/// One statement may do it: the attempt is locked with a value of the locked subject, and whether it is settled is
/// decided anew after a wait. Rules and user may be of before that wait: whoever acts on them has held the settings and
/// locked the user's state row in an earlier statement, and with neither can they change.
///
/// # Errors
/// When the subject has no row, or the database cannot do it.
pub async fn lock_attempt(
    conn: &mut PgConnection,
    subject: &[u8; 32],
    attempt_id: &[u8; 32],
    user: UserId,
) -> Result<Option<LockedAttempt>, DbError> {
    // Every attempt's number is below its subject's next one: what makes the second lock wait for the first.
    let row = sqlx::query!(
        r#"WITH subject AS MATERIALIZED (
               SELECT next_seq, window_from_seq, runs, consecutive_failures,
                      coalesce(locked_until = 'infinity', false) AS by_administrator,
                      CASE WHEN locked_until < 'infinity'
                           THEN ceil(extract(epoch FROM locked_until) * 1000)::bigint END AS locked_until_ms
               FROM subject_state WHERE subject = $1 FOR UPDATE)
           SELECT s.next_seq AS "next_seq!", s.window_from_seq AS "window_from_seq!", s.runs AS "runs!",
                  s.consecutive_failures AS "consecutive_failures!", s.by_administrator AS "by_administrator!",
                  s.locked_until_ms AS "locked_until_ms?", a.seq AS "seq?",
                  floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS "now_ms!",
                  p.site, p.sessions_per_user, p.takeover, p.proof_life_ms, p.idle_timeout_ms, p.absolute_timeout_ms,
                  p.login_wait_ms, p.password_min_chars,
                  u.user_id AS "user_id?", u.name AS "name?", u.subject AS "subject?",
                  u.password_hash AS "password_hash?", u.password_version AS "password_version?", u.roles AS "roles?",
                  u.disabled_at IS NOT NULL AS "disabled?"
           FROM subject AS s
           LEFT JOIN LATERAL (SELECT seq FROM attempt
                              WHERE attempt_id = $2 AND settled_at IS NULL AND seq < s.next_seq FOR UPDATE) AS a ON true
           CROSS JOIN settings AS p
           LEFT JOIN users AS u ON u.user_id = $3 AND u.deleted_at IS NULL"#,
        subject.as_slice(),
        attempt_id.as_slice(),
        signed(user.0)
    )
    .fetch_optional(conn)
    .await?
    .ok_or(DbError::Corrupt("an attempt whose subject has no row"))?;
    let Some(seq) = row.seq else { return Ok(None) };
    let subject = SubjectRow {
        next_seq: row.next_seq,
        window_from_seq: row.window_from_seq,
        runs: row.runs,
        consecutive_failures: row.consecutive_failures,
        by_administrator: row.by_administrator,
        locked_until_ms: row.locked_until_ms,
    };
    let user = users::Joined {
        user_id: row.user_id,
        name: row.name,
        subject: row.subject,
        password_hash: row.password_hash,
        password_version: row.password_version,
        roles: row.roles,
        disabled: row.disabled,
    };
    let rules = SessionRules {
        site: row.site,
        sessions_per_user: settings::small(row.sessions_per_user)?,
        takeover: settings::takeover(&row.takeover)?,
        lifetimes: Lifetimes {
            proof_life_ms: u64::from(settings::small(row.proof_life_ms)?),
            idle_timeout_ms: unsigned(row.idle_timeout_ms)?,
            absolute_timeout_ms: unsigned(row.absolute_timeout_ms)?,
        },
        login_wait_ms: settings::small(row.login_wait_ms)?,
        password_min_chars: settings::small(row.password_min_chars)?,
    };
    Ok(Some(LockedAttempt {
        subject: subject.try_into()?,
        seq: unsigned(seq)?,
        now_ms: unsigned(row.now_ms)?,
        rules,
        user: user.user()?,
    }))
}

/// A run of guesses as it will be when an attempt of it has failed.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Its places, this attempt's among the failures.
    pub count: Count,
    /// How many there are.
    pub policy: GuessPolicy,
    /// The clock by which they were counted.
    pub now_ms: u64,
}

/// Counts the run that begins at `window_from_seq` with this attempt among its failures. The subject's row is locked; the
/// attempt need not be settled yet.
///
/// # Errors
/// When the database cannot say.
pub async fn run_with_failure(
    conn: &mut PgConnection,
    subject: &[u8; 32],
    window_from_seq: u64,
    attempt_id: &[u8; 32],
) -> Result<Run, DbError> {
    let row = sqlx::query!(
        r#"WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS now)
           SELECT run.taken AS "taken!", run.failures AS "failures!",
                  p.guess_limit, p.lockout_base_ms, p.lockout_max_ms, p.consecutive_failure_cap,
                  floor(extract(epoch FROM clock.now) * 1000)::bigint AS "now_ms!"
           FROM clock
           CROSS JOIN settings AS p
           CROSS JOIN LATERAL (
               SELECT count(*) AS taken,
                      count(*) FILTER (WHERE settled_at IS NOT NULL OR owner_deadline <= clock.now
                                             OR attempt_id = $3) AS failures
               FROM attempt WHERE subject = $1 AND seq >= $2 AND counted) AS run"#,
        subject.as_slice(),
        signed(window_from_seq),
        attempt_id.as_slice()
    )
    .fetch_one(conn)
    .await?;
    Ok(Run {
        count: count_of(row.taken, row.failures)?,
        policy: settings::guess_policy(
            row.guess_limit,
            row.lockout_base_ms,
            row.lockout_max_ms,
            row.consecutive_failure_cap,
        )?,
        now_ms: unsigned(row.now_ms)?,
    })
}

/// What is written when an attempt is settled.
#[derive(Debug)]
pub struct Settling<'a> {
    /// The attempt and its outcome.
    pub settled: &'a Settled,
    /// Its failure stays counted.
    pub counted: bool,
    /// Whose guess it was.
    pub subject: &'a [u8; 32],
    /// What the subject's row becomes. `None`: it stays as it is.
    pub row: Option<&'a Subject>,
    /// The user of the audit entry, whose state row is locked.
    pub user: Option<UserId>,
    /// What happened, for the audit log.
    pub action: &'static str,
    /// More, as an object.
    pub detail: Value,
}

/// Settles an attempt, stores its subject's row, and records it.
///
/// One statement may do all of it: they are different rows, all locked (or new), and no write looks at what another one
/// has written.
///
/// # Errors
/// When it is settled already (its row was not locked), or the database cannot do it.
pub async fn settle(conn: &mut PgConnection, settling: Settling<'_>) -> Result<(), DbError> {
    let settled = settling.settled;
    let stored = settling.row.map(SubjectRow::from);
    let written = sqlx::query!(
        r#"WITH settled AS (
               UPDATE attempt SET settled_at = clock_timestamp(), outcome = $3, user_id = $4, session_id = $5,
                                  ended_other = $6, counted = $7
               WHERE attempt_id = $1 AND settled_at IS NULL RETURNING attempt_id),
           stored AS (
               UPDATE subject_state
               SET next_seq = $8, window_from_seq = $9, runs = $10, consecutive_failures = $11,
                   locked_until = CASE WHEN $12 THEN 'infinity'
                                       ELSE timestamptz 'epoch' + $13::bigint * interval '1 millisecond' END,
                   updated_at = clock_timestamp()
               WHERE subject = $2 AND $8::bigint IS NOT NULL RETURNING subject),
           noted AS (
               INSERT INTO audit (user_id, subject, action, session_id, detail) VALUES ($14, $2, $15, $5, $16))
           SELECT (SELECT count(*) FROM settled) AS "settled!", (SELECT count(*) FROM stored) AS "stored!""#,
        settled.attempt_id.as_slice(),
        settling.subject.as_slice(),
        settled.outcome.as_str(),
        settled.user.map(|id| signed(id.0)),
        settled.session.as_ref().map(|id| id.0.as_slice()),
        settled.ended_other,
        settling.counted,
        stored.as_ref().map(|row| row.next_seq),
        stored.as_ref().map(|row| row.window_from_seq),
        stored.as_ref().map(|row| row.runs),
        stored.as_ref().map(|row| row.consecutive_failures),
        stored.as_ref().map(|row| row.by_administrator),
        stored.as_ref().and_then(|row| row.locked_until_ms),
        settling.user.map(|id| signed(id.0)),
        settling.action,
        settling.detail
    )
    .fetch_one(conn)
    .await?;
    affected(unsigned(written.settled)?, 1, "an attempt that was settled twice")?;
    affected(unsigned(written.stored)?, usize::from(stored.is_some()), "a subject without a row")
}
