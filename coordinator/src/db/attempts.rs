//! Attempts and the state of a subject: the rows behind G4 and G6.
//!
//! Whoever changes either holds the lock on the subject's row; an attempt is settled by a guarded update, once.

use edgekeep_shared::ids::{SessionId, UserId};
use edgekeep_shared::lockout::{Count, Lock, SubjectState};
use sqlx::PgConnection;

use super::{DbError, affected, bytes, signed, unsigned, user_id};
use crate::sabotage;

/// How an attempt ended. Every delivery of it gets the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The effect has happened.
    Succeeded,
    /// Wrong name, wrong password, or not allowed to sign in.
    InvalidCredentials,
    /// The password was right; another device has the session and `refuse_second` is in force.
    RefusedSecond,
    /// The password was right; the new one does not keep the rules.
    PasswordRejected,
}

impl Outcome {
    const ALL: [Self; 4] = [Self::Succeeded, Self::InvalidCredentials, Self::RefusedSecond, Self::PasswordRejected];

    /// The name in the database and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::InvalidCredentials => "invalid_credentials",
            Self::RefusedSecond => "refused_second",
            Self::PasswordRejected => "password_rejected",
        }
    }
}

/// A settled attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Which.
    pub attempt_id: [u8; 32],
    /// How it ended.
    pub outcome: Outcome,
    /// Whose, if it succeeded.
    pub user: Option<UserId>,
    /// The session that it made.
    pub session: Option<SessionId>,
    /// It ended at least one other session.
    pub ended_other: bool,
    /// What its first receipt said.
    pub effective_at_ms: Option<u64>,
}

/// An attempt that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It has its outcome.
    Settled(Settled),
    /// A delivery owns it and is at work.
    InFlight,
    /// Its owner's deadline has passed: whoever comes may take it over.
    Abandoned {
        /// Which.
        attempt_id: [u8; 32],
    },
}

/// An attempt's columns, of a statement that may have found none.
pub(super) struct AttemptRow {
    pub(super) attempt_id: Option<Vec<u8>>,
    pub(super) outcome: Option<String>,
    pub(super) user_id: Option<i64>,
    pub(super) session_id: Option<Vec<u8>>,
    pub(super) ended_other: Option<bool>,
    pub(super) effective_at_ms: Option<i64>,
    pub(super) abandoned: Option<bool>,
}

impl AttemptRow {
    pub(super) fn found(self) -> Result<Option<Found>, DbError> {
        let Some(attempt_id) = self.attempt_id else { return Ok(None) };
        let attempt_id = bytes(&attempt_id)?;
        let Some(outcome) = self.outcome else {
            let abandoned = self.abandoned.unwrap_or(false);
            return Ok(Some(if abandoned { Found::Abandoned { attempt_id } } else { Found::InFlight }));
        };
        let outcome = Outcome::ALL.into_iter().find(|known| known.as_str() == outcome);
        Ok(Some(Found::Settled(Settled {
            attempt_id,
            outcome: outcome.ok_or(DbError::Corrupt("an unknown outcome"))?,
            user: self.user_id.map(user_id).transpose()?,
            session: self.session_id.map(|id| bytes(&id).map(SessionId)).transpose()?,
            ended_other: self.ended_other.unwrap_or(false),
            effective_at_ms: self.effective_at_ms.map(unsigned).transpose()?,
        })))
    }
}

/// What a look without any lock says. Only good for answering early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// The attempt. `None`: there is none.
    pub found: Option<Found>,
    /// The lock that the subject is under. `None`: it is under none; `Some(None)`: until an administrator unlocks.
    pub locked_for_ms: Option<Option<u64>>,
}

/// Looks at the attempt with one of these ids (under the present key and the one before) and at the subject's lock.
///
/// One statement may do both: nothing is locked, so nothing has to be read after anything else, and of one snapshot an
/// attempt cannot be settled between the two.
///
/// # Errors
/// When the database cannot say.
pub async fn look(conn: &mut PgConnection, ids: &[[u8; 32]], subject: &[u8; 32]) -> Result<Look, DbError> {
    let ids: Vec<Vec<u8>> = ids.iter().map(|id| id.to_vec()).collect();
    let row = sqlx::query!(
        r#"WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS now)
           SELECT a.attempt_id AS "attempt_id?", a.outcome AS "outcome?", a.user_id AS "user_id?",
                  a.session_id AS "session_id?", a.ended_other AS "ended_other?",
                  ceil(extract(epoch FROM a.effective_at) * 1000)::bigint AS "effective_at_ms?",
                  a.owner_deadline <= clock.now AS "abandoned?",
                  s.subject IS NOT NULL AS "locked!",
                  CASE WHEN s.locked_until < 'infinity'
                       THEN ceil(extract(epoch FROM s.locked_until - clock.now) * 1000)::bigint END AS "locked_for_ms?"
           FROM clock
           LEFT JOIN LATERAL (SELECT * FROM attempt WHERE attempt_id = ANY(ARRAY(SELECT unnest($1::bytea[])))
                              ORDER BY settled_at NULLS LAST LIMIT 1) AS a ON true
           LEFT JOIN subject_state AS s ON s.subject = $2 AND s.locked_until > clock.now"#,
        &ids,
        subject.as_slice()
    )
    .fetch_one(conn)
    .await?;
    let found = AttemptRow {
        attempt_id: row.attempt_id,
        outcome: row.outcome,
        user_id: row.user_id,
        session_id: row.session_id,
        ended_other: row.ended_other,
        effective_at_ms: row.effective_at_ms,
        abandoned: row.abandoned,
    };
    let locked_for_ms = row.locked.then_some(row.locked_for_ms).map(|ms| ms.map(unsigned).transpose()).transpose()?;
    Ok(Look { found: found.found()?, locked_for_ms })
}

/// A subject's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The number of the next attempt.
    pub next_seq: u64,
    /// Run, failures and lock.
    pub state: SubjectState,
}

/// Makes sure that the subject has a row.
///
/// # Errors
/// When the database cannot do it.
pub async fn ensure_subject(conn: &mut PgConnection, subject: &[u8; 32]) -> Result<(), DbError> {
    sqlx::query!("INSERT INTO subject_state (subject) VALUES ($1) ON CONFLICT DO NOTHING", subject.as_slice())
        .execute(conn)
        .await?;
    Ok(())
}

/// A subject's columns.
pub(super) struct SubjectRow {
    pub(super) next_seq: i64,
    pub(super) window_from_seq: i64,
    pub(super) runs: i32,
    pub(super) consecutive_failures: i32,
    pub(super) by_administrator: bool,
    pub(super) locked_until_ms: Option<i64>,
}

impl TryFrom<SubjectRow> for Subject {
    type Error = DbError;
    fn try_from(row: SubjectRow) -> Result<Self, DbError> {
        let lock = match (row.by_administrator, row.locked_until_ms) {
            (true, _) => Lock::Administrator,
            (false, Some(until_ms)) => Lock::Until(unsigned(until_ms)?),
            (false, None) => Lock::Open,
        };
        let small = |value: i32| u32::try_from(value).map_err(|_| DbError::Corrupt("a negative count"));
        Ok(Self {
            next_seq: unsigned(row.next_seq)?,
            state: SubjectState {
                window_from_seq: unsigned(row.window_from_seq)?,
                runs: small(row.runs)?,
                failures_before: small(row.consecutive_failures)?,
                lock,
            },
        })
    }
}

impl From<&Subject> for SubjectRow {
    fn from(row: &Subject) -> Self {
        let (locked_until_ms, by_administrator) = match row.state.lock {
            Lock::Open => (None, false),
            Lock::Until(until_ms) => (Some(signed(until_ms)), false),
            Lock::Administrator => (None, true),
        };
        let small = |value: u32| i32::try_from(value).unwrap_or(i32::MAX);
        Self {
            next_seq: signed(row.next_seq),
            window_from_seq: signed(row.state.window_from_seq),
            runs: small(row.state.runs),
            consecutive_failures: small(row.state.failures_before),
            by_administrator,
            locked_until_ms,
        }
    }
}

/// Locks the subject's row. `None`: it has none.
///
/// # Errors
/// When the database cannot do it.
pub async fn lock_subject(conn: &mut PgConnection, subject: &[u8; 32]) -> Result<Option<Subject>, DbError> {
    sqlx::query_as!(
        SubjectRow,
        r#"SELECT next_seq, window_from_seq, runs, consecutive_failures,
                  coalesce(locked_until = 'infinity', false) AS "by_administrator!",
                  CASE WHEN locked_until < 'infinity'
                       THEN ceil(extract(epoch FROM locked_until) * 1000)::bigint END AS locked_until_ms
           FROM subject_state WHERE subject = $1 FOR UPDATE"#,
        subject.as_slice()
    )
    .fetch_optional(conn)
    .await?
    .map(Subject::try_from)
    .transpose()
}

/// Stores the subject's row, which is locked.
///
/// # Errors
/// When the row is not there, or the database cannot do it.
pub async fn store_subject(conn: &mut PgConnection, subject: &[u8; 32], row: &Subject) -> Result<(), DbError> {
    let stored = SubjectRow::from(row);
    let rows = sqlx::query!(
        "UPDATE subject_state
         SET next_seq = $2, window_from_seq = $3, runs = $4, consecutive_failures = $5,
             locked_until = CASE WHEN $6 THEN 'infinity'
                                 ELSE timestamptz 'epoch' + $7::bigint * interval '1 millisecond' END,
             updated_at = clock_timestamp()
         WHERE subject = $1",
        subject.as_slice(),
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

/// The counted attempts of a run, as a statement counted them.
pub(super) fn count_of(taken: i64, failures: i64) -> Result<Count, DbError> {
    let small = |value: i64| u32::try_from(value).map_err(|_| DbError::Corrupt("a count out of range"));
    let in_flight = small(taken - failures)?;
    let failures = if sabotage::breaks(sabotage::Rule::CountedTwice) {
        2 * failures
    } else if sabotage::breaks(sabotage::Rule::NotCounted) {
        0
    } else {
        failures
    };
    Ok(Count { failures: small(failures)?, in_flight })
}

/// Takes an abandoned attempt over, uncounted (it was counted when it was reserved). Says whether it was still there
/// to take.
///
/// # Errors
/// When the database cannot do it.
pub async fn take_over(
    conn: &mut PgConnection,
    attempt_id: &[u8; 32],
    owner: &[u8; 16],
    owner_deadline_ms: u64,
) -> Result<bool, DbError> {
    let rows = sqlx::query!(
        "UPDATE attempt SET owner = $2, owner_deadline = clock_timestamp() + $3::bigint * interval '1 millisecond'
         WHERE attempt_id = $1 AND settled_at IS NULL AND owner_deadline <= clock_timestamp()",
        attempt_id.as_slice(),
        owner.as_slice(),
        signed(owner_deadline_ms)
    )
    .execute(conn)
    .await?
    .rows_affected();
    Ok(rows == 1)
}

/// Forgets a reservation that turned out not to be a guess: the password was right, and there is no session to act on.
///
/// # Errors
/// When it is settled already (its row was not locked), or the database cannot do it.
pub async fn withdraw(conn: &mut PgConnection, attempt_id: &[u8; 32]) -> Result<(), DbError> {
    let rows = sqlx::query!("DELETE FROM attempt WHERE attempt_id = $1 AND settled_at IS NULL", attempt_id.as_slice())
        .execute(conn)
        .await?
        .rows_affected();
    affected(rows, 1, "an attempt that was settled twice")
}
