//! Sessions, and how they end.
//!
//! [`end`] is the one place where sessions end: the row goes, the reason stays until the session's absolute expiry
//! has passed, and the user's revision is raised in the same transaction (G2, G5). Its callers hold the lock on the
//! user's state row.

use edgekeep_shared::ids::{SessionId, UserId};
use edgekeep_shared::problem::Reason;
use edgekeep_shared::renewal::SessionTimes;
use edgekeep_shared::revision::Revision;
use sqlx::PgConnection;

use super::settings;
use super::users::{self, UserState};
use super::{DbError, affected, bytes, signed, unsigned, user_id};
use crate::sabotage;

/// A session's row. Times in coordinator milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRow {
    /// Whose.
    pub user_id: UserId,
    /// Which of the user's slots it holds.
    pub slot: u32,
    /// Never reused.
    pub id: SessionId,
    /// When the password was checked.
    pub authenticated_at_ms: u64,
    /// Last renewal.
    pub last_seen_at_ms: u64,
    /// Without renewal it ends then.
    pub idle_expires_at_ms: u64,
    /// It ends then, whatever happens.
    pub expires_at_ms: u64,
    /// The latest `renew_after` that any proof of it may carry.
    pub proof_until_ms: u64,
    /// User agent, at most 256 characters.
    pub device: String,
}

impl SessionRow {
    /// Its times, for the decision about a renewal.
    #[must_use]
    pub const fn times(&self) -> SessionTimes {
        SessionTimes {
            proof_until_ms: self.proof_until_ms,
            idle_expires_at_ms: self.idle_expires_at_ms,
            expires_at_ms: self.expires_at_ms,
        }
    }

    /// Its time is up: it is not current any more, though its row may still be there.
    #[must_use]
    pub const fn expired(&self, now_ms: u64) -> bool {
        now_ms >= self.idle_expires_at_ms || now_ms >= self.expires_at_ms
    }
}

struct Row {
    user_id: i64,
    slot: i32,
    session_id: Vec<u8>,
    authenticated_at_ms: i64,
    last_seen_at_ms: i64,
    idle_expires_at_ms: i64,
    expires_at_ms: i64,
    proof_until_ms: i64,
    device: String,
}

impl TryFrom<Row> for SessionRow {
    type Error = DbError;
    fn try_from(row: Row) -> Result<Self, DbError> {
        Ok(Self {
            user_id: user_id(row.user_id)?,
            slot: u32::try_from(row.slot).map_err(|_| DbError::Corrupt("a negative slot"))?,
            id: SessionId(bytes(&row.session_id)?),
            authenticated_at_ms: unsigned(row.authenticated_at_ms)?,
            last_seen_at_ms: unsigned(row.last_seen_at_ms)?,
            idle_expires_at_ms: unsigned(row.idle_expires_at_ms)?,
            expires_at_ms: unsigned(row.expires_at_ms)?,
            proof_until_ms: unsigned(row.proof_until_ms)?,
            device: row.device,
        })
    }
}

/// Locks all session rows of these users (whose state rows are locked already), by user and slot.
///
/// # Errors
/// When the database cannot do it.
pub async fn lock_of_users(conn: &mut PgConnection, users: &[UserId]) -> Result<Vec<SessionRow>, DbError> {
    let ids: Vec<i64> = users.iter().map(|id| signed(id.0)).collect();
    sqlx::query_as!(
        Row,
        r#"SELECT user_id, slot, session_id,
                  floor(extract(epoch FROM authenticated_at) * 1000)::bigint AS "authenticated_at_ms!",
                  floor(extract(epoch FROM last_seen_at) * 1000)::bigint AS "last_seen_at_ms!",
                  floor(extract(epoch FROM idle_expires_at) * 1000)::bigint AS "idle_expires_at_ms!",
                  floor(extract(epoch FROM expires_at) * 1000)::bigint AS "expires_at_ms!",
                  ceil(extract(epoch FROM proof_until) * 1000)::bigint AS "proof_until_ms!",
                  device
           FROM session WHERE user_id = ANY($1) ORDER BY user_id, slot FOR UPDATE"#,
        &ids
    )
    .fetch_all(conn)
    .await?
    .into_iter()
    .map(SessionRow::try_from)
    .collect()
}

/// All session rows of one user, newest first, without a lock.
///
/// # Errors
/// When the database cannot say.
pub async fn of_user(conn: &mut PgConnection, user: UserId) -> Result<Vec<SessionRow>, DbError> {
    sqlx::query_as!(
        Row,
        r#"SELECT user_id, slot, session_id,
                  floor(extract(epoch FROM authenticated_at) * 1000)::bigint AS "authenticated_at_ms!",
                  floor(extract(epoch FROM last_seen_at) * 1000)::bigint AS "last_seen_at_ms!",
                  floor(extract(epoch FROM idle_expires_at) * 1000)::bigint AS "idle_expires_at_ms!",
                  floor(extract(epoch FROM expires_at) * 1000)::bigint AS "expires_at_ms!",
                  ceil(extract(epoch FROM proof_until) * 1000)::bigint AS "proof_until_ms!",
                  device
           FROM session WHERE user_id = $1 ORDER BY authenticated_at DESC, slot"#,
        signed(user.0)
    )
    .fetch_all(conn)
    .await?
    .into_iter()
    .map(SessionRow::try_from)
    .collect()
}

/// Puts a new session into a slot that is free (G1: the primary key refuses a second one).
///
/// # Errors
/// When the slot is taken after all, or the database cannot do it.
pub async fn insert(conn: &mut PgConnection, session: &SessionRow) -> Result<(), DbError> {
    sqlx::query!(
        "INSERT INTO session (user_id, slot, session_id, authenticated_at, last_seen_at, idle_expires_at, expires_at,
                              proof_until, device)
         SELECT $1, $2, $3, epoch + $4 * ms, epoch + $5 * ms, epoch + $6 * ms, epoch + $7 * ms, epoch + $8 * ms, $9
         FROM (SELECT timestamptz 'epoch' AS epoch, interval '1 millisecond' AS ms) AS unit",
        signed(session.user_id.0),
        i32::try_from(session.slot).map_err(|_| DbError::Corrupt("a slot out of range"))?,
        session.id.0.as_slice(),
        signed(session.authenticated_at_ms) as _,
        signed(session.last_seen_at_ms) as _,
        signed(session.idle_expires_at_ms) as _,
        signed(session.expires_at_ms) as _,
        signed(session.proof_until_ms) as _,
        session.device
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A session that ends, and why.
#[derive(Clone, Copy, Debug)]
pub struct Ending<'a> {
    /// Its row, locked.
    pub session: &'a SessionRow,
    /// Why; a session whose time was up already ends as `expired`, whatever is said here.
    pub reason: Reason,
}

/// Ends sessions of one user: the rows go, the reasons stay, the revision is raised. Returns whether it was raised,
/// which a session that nobody could still use does not need. `state` must be locked and of the same user; `by` names
/// the operation, for the audit log.
///
/// # Errors
/// When a row is not there any more (it was not locked), or the database cannot do it.
pub async fn end(
    conn: &mut PgConnection,
    epoch: u16,
    now_ms: u64,
    state: &mut UserState,
    endings: &[Ending<'_>],
    by: &str,
) -> Result<bool, DbError> {
    if endings.is_empty() {
        return Ok(false);
    }
    let ids: Vec<Vec<u8>> = endings.iter().map(|ending| ending.session.id.0.to_vec()).collect();
    let reasons: Vec<String> = endings
        .iter()
        .map(|ending| if ending.session.expired(now_ms) { Reason::Expired } else { ending.reason })
        .map(|reason| reason.as_str().to_owned())
        .collect();
    let rows = sqlx::query!(
        "WITH why (session_id, reason) AS (SELECT * FROM unnest($2::bytea[], $3::text[])),
              ended AS (DELETE FROM session WHERE user_id = $1 AND session_id IN (SELECT session_id FROM why)
                        RETURNING session_id, expires_at),
              noted AS (INSERT INTO ended_session (session_id, user_id, reason, expires_at)
                        SELECT session_id, $1, reason, expires_at FROM ended JOIN why USING (session_id))
         INSERT INTO audit (user_id, action, session_id, detail)
         SELECT $1, 'session_ended', session_id, jsonb_build_object('reason', reason, 'by', $4::text)
         FROM ended JOIN why USING (session_id)",
        signed(state.user_id.0),
        &ids,
        &reasons,
        by
    )
    .execute(&mut *conn)
    .await?
    .rows_affected();
    affected(rows, endings.len(), "a session that ended twice")?;
    let needed_until_ms = endings.iter().map(|ending| ending.session.proof_until_ms).max().unwrap_or(0);
    if needed_until_ms <= now_ms && endings.iter().all(|ending| ending.session.expired(now_ms)) {
        return Ok(false);
    }
    if sabotage::breaks(sabotage::Rule::EndRaisesNothing) {
        return Ok(false);
    }
    raise(conn, epoch, state, needed_until_ms).await?;
    Ok(true)
}

/// Raises the user's revision: proofs of a lower one must ask first, for as long as `needed_until_ms` lies ahead.
///
/// The first raise in an epoch covers more: a failover to an asynchronous standby may have lost sessions, whose rows
/// nobody can read `proof_until` from. No proof of theirs lives longer than a proof's life.
///
/// # Errors
/// When the row was not locked first, or the database cannot do it.
pub async fn raise(
    conn: &mut PgConnection,
    epoch: u16,
    state: &mut UserState,
    needed_until_ms: u64,
) -> Result<(), DbError> {
    let raised = Revision::base(state.revision, epoch).raised();
    let needed_until_ms = if is_of_older_epoch(state, epoch) {
        let proof_life_ms = settings::load(conn).await?.lifetimes.proof_life_ms;
        needed_until_ms.max(super::now_ms(conn).await?.saturating_add(proof_life_ms))
    } else {
        needed_until_ms
    };
    users::store_raised(conn, state.user_id, raised, needed_until_ms).await?;
    state.revision = raised;
    Ok(())
}

/// The user was not raised since the feed's epoch was: sessions made in the old one may have been lost with it.
#[must_use]
pub fn is_of_older_epoch(state: &UserState, epoch: u16) -> bool {
    state.revision.epoch() < epoch
}

/// Why this session ended. `None`: it has not ended, never was, or was forgotten after its absolute expiry.
///
/// # Errors
/// When the database cannot say.
pub async fn ended_reason(conn: &mut PgConnection, id: SessionId) -> Result<Option<Reason>, DbError> {
    sqlx::query_scalar!("SELECT reason FROM ended_session WHERE session_id = $1", id.0.as_slice())
        .fetch_optional(conn)
        .await?
        .map(|reason| Reason::from_name(&reason).ok_or(DbError::Corrupt("an unknown reason")))
        .transpose()
}

/// Stores the times of a renewed session, whose row is locked.
///
/// # Errors
/// When the session is not there, or the database cannot do it.
pub async fn store_times(
    conn: &mut PgConnection,
    id: SessionId,
    times: &SessionTimes,
    now_ms: u64,
) -> Result<(), DbError> {
    let rows = sqlx::query!(
        "UPDATE session SET proof_until = epoch + $2 * ms, idle_expires_at = epoch + $3 * ms, last_seen_at = epoch + $4 * ms
         FROM (SELECT timestamptz 'epoch' AS epoch, interval '1 millisecond' AS ms) AS unit
         WHERE session_id = $1",
        id.0.as_slice(),
        signed(times.proof_until_ms) as _,
        signed(times.idle_expires_at_ms) as _,
        signed(now_ms) as _
    )
    .execute(conn)
    .await?
    .rows_affected();
    affected(rows, 1, "a session that was renewed without being there")
}

/// Whether this session has ended and was this user's.
///
/// # Errors
/// When the database cannot say.
pub async fn ended_of(conn: &mut PgConnection, id: SessionId, user: UserId) -> Result<bool, DbError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM ended_session WHERE session_id = $1 AND user_id = $2) AS "ended!""#,
        id.0.as_slice(),
        signed(user.0)
    )
    .fetch_one(conn)
    .await?)
}

/// Notes a session that this database has never heard of as signed out. Says whether that was new.
///
/// # Errors
/// When the database cannot do it.
pub async fn note_lost(
    conn: &mut PgConnection,
    id: SessionId,
    user: UserId,
    expires_at_ms: u64,
) -> Result<bool, DbError> {
    let rows = sqlx::query!(
        "WITH noted AS (INSERT INTO ended_session (session_id, user_id, reason, expires_at)
                        VALUES ($1, $2, 'signed_out', timestamptz 'epoch' + $3::bigint * interval '1 millisecond')
                        ON CONFLICT DO NOTHING RETURNING session_id)
         INSERT INTO audit (user_id, action, session_id, detail)
         SELECT $2, 'session_ended', session_id, '{\"reason\": \"signed_out\", \"by\": \"user\", \"lost\": true}' FROM noted",
        id.0.as_slice(),
        signed(user.0),
        signed(expires_at_ms)
    )
    .execute(conn)
    .await?
    .rows_affected();
    Ok(rows == 1)
}
