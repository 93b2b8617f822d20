//! Places to guess: the statements of transaction one. The subject's row is locked ([`lock_subject`]), then everything
//! that decides about a place is read in one statement, then the place is written in one.
//!
//! The lock is a statement of its own, because a statement reads what was committed when it *began*: one that waited for
//! the lock itself would not see the attempt or the failure of whoever held it.
//!
//! [`lock_subject`]: super::attempts::lock_subject

use edgekeep_shared::attempt::Operation;
use edgekeep_shared::lockout::{Count, GuessPolicy};
use sqlx::PgConnection;

use super::attempts::{AttemptRow, Found, Subject, SubjectRow, count_of};
use super::users::{self, User};
use super::{DbError, affected, settings, signed, unsigned};

/// What decides about a place, as one statement read it.
#[derive(Debug)]
pub struct Standing {
    /// The attempt, if it is there already.
    pub found: Option<Found>,
    /// The places taken in the present run.
    pub count: Count,
    /// How many there are.
    pub policy: GuessPolicy,
    /// The clock by which they were counted.
    pub now_ms: u64,
    /// The user with this subject. `None`: nobody has this name.
    pub user: Option<User>,
}

/// Reads how a subject stands, whose row is locked: the attempt with one of these ids (under the present key and the one
/// before), the places taken in the run that begins at `window_from_seq`, the policy, the clock, and the user.
///
/// One statement may do it all: whoever changes attempts holds the subject's lock, which is ours, and of the user and
/// the policy any state since then will do (a user is read again before anything comes of it). One reading of the clock
/// decides about every attempt, so none can fall between the counts.
///
/// # Errors
/// When the database cannot say.
pub async fn standing(
    conn: &mut PgConnection,
    ids: &[[u8; 32]],
    subject: &[u8; 32],
    window_from_seq: u64,
) -> Result<Standing, DbError> {
    let ids: Vec<Vec<u8>> = ids.iter().map(|id| id.to_vec()).collect();
    let row = sqlx::query!(
        r#"WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS now)
           SELECT a.attempt_id AS "attempt_id?", a.outcome AS "outcome?", a.user_id AS "made_for?",
                  a.session_id AS "session_id?", a.ended_other AS "ended_other?",
                  ceil(extract(epoch FROM a.effective_at) * 1000)::bigint AS "effective_at_ms?",
                  a.owner_deadline <= clock.now AS "abandoned?",
                  run.taken AS "taken!", run.failures AS "failures!",
                  p.guess_limit, p.lockout_base_ms, p.lockout_max_ms, p.consecutive_failure_cap,
                  floor(extract(epoch FROM clock.now) * 1000)::bigint AS "now_ms!",
                  u.user_id AS "user_id?", u.name AS "name?", u.subject AS "subject?",
                  u.password_hash AS "password_hash?", u.password_version AS "password_version?", u.roles AS "roles?",
                  u.disabled_at IS NOT NULL AS "disabled?"
           FROM clock
           CROSS JOIN settings AS p
           CROSS JOIN LATERAL (
               SELECT count(*) AS taken,
                      count(*) FILTER (WHERE settled_at IS NOT NULL OR owner_deadline <= clock.now) AS failures
               FROM attempt WHERE subject = $2 AND seq >= $3 AND counted) AS run
           LEFT JOIN LATERAL (SELECT * FROM attempt WHERE attempt_id = ANY(ARRAY(SELECT unnest($1::bytea[])))
                              ORDER BY settled_at NULLS LAST LIMIT 1) AS a ON true
           LEFT JOIN users AS u ON u.subject = $2 AND u.deleted_at IS NULL"#,
        &ids,
        subject.as_slice(),
        signed(window_from_seq)
    )
    .fetch_one(conn)
    .await?;
    let found = AttemptRow {
        attempt_id: row.attempt_id,
        outcome: row.outcome,
        user_id: row.made_for,
        session_id: row.session_id,
        ended_other: row.ended_other,
        effective_at_ms: row.effective_at_ms,
        abandoned: row.abandoned,
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
    Ok(Standing {
        found: found.found()?,
        count: count_of(row.taken, row.failures)?,
        policy: settings::guess_policy(
            row.guess_limit,
            row.lockout_base_ms,
            row.lockout_max_ms,
            row.consecutive_failure_cap,
        )?,
        now_ms: unsigned(row.now_ms)?,
        user: user.user()?,
    })
}

/// A place that is reserved: what is stored about it.
#[derive(Clone, Copy, Debug)]
pub struct NewAttempt<'a> {
    /// Keyed hash of operation, subject, idempotency key and passwords.
    pub attempt_id: &'a [u8; 32],
    /// Which effect it is to have.
    pub operation: Operation,
    /// Whose guess it is.
    pub subject: &'a [u8; 32],
    /// Its number.
    pub seq: u64,
    /// Which delivery works on it.
    pub owner: &'a [u8; 16],
    /// For how long it does.
    pub owner_deadline_ms: u64,
}

/// Reserves a place: the failure counts from now on, and the subject's row, which is locked, becomes `row`.
///
/// One statement may do both: they are different rows, and neither write looks at what the other has written.
///
/// # Errors
/// When the subject has no row, or the database cannot do it.
pub async fn take(conn: &mut PgConnection, attempt: NewAttempt<'_>, row: &Subject) -> Result<(), DbError> {
    let stored = SubjectRow::from(row);
    let rows = sqlx::query!(
        "WITH reserved AS (
             INSERT INTO attempt (attempt_id, operation, subject, seq, owner, owner_deadline)
             VALUES ($1, $2, $3, $4, $5, clock_timestamp() + $6::bigint * interval '1 millisecond'))
         UPDATE subject_state
         SET next_seq = $7, window_from_seq = $8, runs = $9, consecutive_failures = $10,
             locked_until = CASE WHEN $11 THEN 'infinity'
                                 ELSE timestamptz 'epoch' + $12::bigint * interval '1 millisecond' END,
             updated_at = clock_timestamp()
         WHERE subject = $3",
        attempt.attempt_id.as_slice(),
        attempt.operation.as_str(),
        attempt.subject.as_slice(),
        signed(attempt.seq),
        attempt.owner.as_slice(),
        signed(attempt.owner_deadline_ms),
        stored.next_seq,
        stored.window_from_seq,
        stored.runs,
        stored.consecutive_failures,
        stored.by_administrator,
        stored.locked_until_ms
    )
    .execute(conn)
    .await?
    .rows_affected();
    affected(rows, 1, "a subject without a row")
}
