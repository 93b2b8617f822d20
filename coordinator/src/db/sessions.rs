//! Sessions, and how they end.
//!
//! [`end`] is the one place where sessions end: the row goes, the reason stays until the session's absolute expiry
//! has passed, and the user's revision is raised in the same transaction (G2, G5), as
//! [`edgekeep_shared::revocation`] decides. Its callers hold the lock on the user's state row.

use edgekeep_shared::ids::{SessionId, UserId};
use edgekeep_shared::problem::Reason;
use edgekeep_shared::renewal::{SessionTimes, is_expired};
use edgekeep_shared::revocation::{FeedRow, Reach};
use sqlx::PgConnection;

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
        is_expired(&self.times(), now_ms)
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
           FROM session WHERE user_id = ANY(ARRAY(SELECT unnest($1::bigint[]))) ORDER BY user_id, slot FOR UPDATE"#,
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

/// Puts a new session into a slot that is free, and records the time of a login, if it is of one.
///
/// # Errors
/// When the slot is taken after all (G1: the primary key refuses a second one), or the database cannot do it.
pub async fn insert(conn: &mut PgConnection, session: &SessionRow, is_login: bool) -> Result<(), DbError> {
    let rows = sqlx::query!(
        "WITH unit AS (SELECT timestamptz 'epoch' AS epoch, interval '1 millisecond' AS ms),
              begun AS (INSERT INTO session (user_id, slot, session_id, authenticated_at, last_seen_at, idle_expires_at,
                                             expires_at, proof_until, device)
                        SELECT $1, $2, $3, epoch + $4 * ms, epoch + $5 * ms, epoch + $6 * ms, epoch + $7 * ms,
                               epoch + $8 * ms, $9
                        FROM unit)
         UPDATE users SET last_login_at = epoch + $4 * ms FROM unit WHERE user_id = $1 AND $10",
        signed(session.user_id.0),
        i32::try_from(session.slot).map_err(|_| DbError::Corrupt("a slot out of range"))?,
        session.id.0.as_slice(),
        signed(session.authenticated_at_ms) as _,
        signed(session.last_seen_at_ms) as _,
        signed(session.idle_expires_at_ms) as _,
        signed(session.expires_at_ms) as _,
        signed(session.proof_until_ms) as _,
        session.device,
        is_login
    )
    .execute(conn)
    .await?
    .rows_affected();
    affected(rows, usize::from(is_login), "a login of nobody")
}

/// A session that ends, and why.
#[derive(Clone, Copy, Debug)]
pub struct Ending<'a> {
    /// Its row, locked.
    pub session: &'a SessionRow,
    /// Why; a session whose time was up already ends as `expired`, whatever is said here.
    pub reason: Reason,
}

/// A session that this database has no row of, though a proof names it. Usually it has ended before. One that was never
/// heard of here was lost with a failover to an asynchronous standby, and its proofs may still be accepted.
#[derive(Clone, Copy, Debug)]
pub struct Rowless {
    /// The session that the proof names.
    pub id: SessionId,
    /// How far its proofs may reach (see [`edgekeep_shared::revocation::times_of_lost`]).
    pub times: SessionTimes,
}

/// What ends at once of one user.
#[derive(Clone, Copy, Debug)]
pub struct Endings<'a> {
    /// Sessions with rows.
    pub sessions: &'a [Ending<'a>],
    /// Sessions without.
    pub rowless: &'a [Rowless],
    /// Whether these are all that the user can have.
    pub reach: Reach,
    /// Who ends them, for the audit log.
    pub by: &'static str,
}

/// Ends sessions of one user: the rows go, the reasons stay, the revision is raised. Returns whether it was raised,
/// which a session that nobody could still use does not need. `state` must be locked.
///
/// # Errors
/// When a row is not there any more (it was not locked), or the database cannot do it.
pub async fn end(
    conn: &mut PgConnection,
    epoch: u16,
    now_ms: u64,
    state: &mut UserState,
    endings: &Endings<'_>,
) -> Result<bool, DbError> {
    let mut times: Vec<SessionTimes> = endings.sessions.iter().map(|ending| ending.session.times()).collect();
    for lost in endings.rowless {
        if !is_expired(&lost.times, now_ms) && note_lost(conn, lost, state.user_id, endings.by).await? {
            times.push(lost.times);
        }
    }
    let mut raised = state.feed.revoke(epoch, endings.reach, &times, now_ms);
    if sabotage::breaks(sabotage::Rule::EndRaisesNothing) {
        raised = None;
    }
    match (endings.sessions, raised) {
        ([], None) => {}
        ([], Some(raised)) => users::store_raised(conn, state.user_id, raised).await?,
        (sessions, raised) => end_rows(conn, now_ms, state.user_id, sessions, endings.by, raised).await?,
    }
    if let Some(raised) = raised {
        state.feed = raised;
    }
    Ok(raised.is_some())
}

/// Ends sessions with rows, and stores the user's raised revision with them.
///
/// One statement may do it all: the raise was decided from the locked rows before, and no write looks at what another
/// one has written.
async fn end_rows(
    conn: &mut PgConnection,
    now_ms: u64,
    user: UserId,
    sessions: &[Ending<'_>],
    by: &str,
    raised: Option<FeedRow>,
) -> Result<(), DbError> {
    let ids: Vec<Vec<u8>> = sessions.iter().map(|ending| ending.session.id.0.to_vec()).collect();
    let reasons: Vec<String> = sessions
        .iter()
        .map(|ending| if ending.session.expired(now_ms) { Reason::Expired } else { ending.reason })
        .map(|reason| reason.as_str().to_owned())
        .collect();
    let written = sqlx::query!(
        r#"WITH why (session_id, reason) AS (SELECT * FROM unnest($2::bytea[], $3::text[])),
                ended AS (DELETE FROM session WHERE user_id = $1 AND session_id IN (SELECT session_id FROM why)
                          RETURNING session_id, expires_at),
                kept AS (INSERT INTO ended_session (session_id, user_id, reason, expires_at)
                         SELECT session_id, $1, reason, expires_at FROM ended JOIN why USING (session_id)),
                noted AS (INSERT INTO audit (user_id, action, session_id, detail)
                          SELECT $1, 'session_ended', session_id, jsonb_build_object('reason', reason, 'by', $4::text)
                          FROM ended JOIN why USING (session_id) RETURNING audit_id),
                needed AS (SELECT timestamptz 'epoch' + $6::bigint * interval '1 millisecond' AS until),
                raised AS (UPDATE user_state
                           SET revision = $5, needed_until = needed.until, feed_xid = pg_current_xact_id()::text::bigint
                           FROM needed
                           WHERE user_id = $1 AND revision < $5 AND needed_until <= needed.until RETURNING user_id)
           SELECT (SELECT count(*) FROM noted) AS "ended!", (SELECT count(*) FROM raised) AS "raised!""#,
        signed(user.0),
        &ids,
        &reasons,
        by,
        raised.map(|raised| signed(raised.revision.0)),
        raised.map(|raised| signed(raised.needed_until_ms))
    )
    .fetch_one(conn)
    .await?;
    affected(unsigned(written.ended)?, sessions.len(), "a session that ended twice")?;
    affected(unsigned(written.raised)?, usize::from(raised.is_some()), "a revision that was not raised")
}

/// Notes a session that this database has never heard of as signed out. Says whether that was new.
async fn note_lost(conn: &mut PgConnection, lost: &Rowless, user: UserId, by: &str) -> Result<bool, DbError> {
    let rows = sqlx::query!(
        "WITH noted AS (INSERT INTO ended_session (session_id, user_id, reason, expires_at)
                        VALUES ($1, $2, 'signed_out', timestamptz 'epoch' + $3::bigint * interval '1 millisecond')
                        ON CONFLICT DO NOTHING RETURNING session_id)
         INSERT INTO audit (user_id, action, session_id, detail)
         SELECT $2, 'session_ended', session_id, jsonb_build_object('reason', 'signed_out', 'by', $4::text, 'lost', true)
         FROM noted",
        lost.id.0.as_slice(),
        signed(user.0),
        signed(lost.times.expires_at_ms),
        by
    )
    .execute(conn)
    .await?
    .rows_affected();
    Ok(rows == 1)
}

/// Revokes the proofs of these sessions of one user, as [`FeedRow::revoke`] decides. Returns whether there is something
/// to tell. `state` must be locked.
///
/// [`FeedRow::revoke`]: edgekeep_shared::revocation::FeedRow::revoke
///
/// # Errors
/// When the database cannot do it.
pub async fn revoke(
    conn: &mut PgConnection,
    epoch: u16,
    now_ms: u64,
    state: &mut UserState,
    reach: Reach,
    sessions: &[SessionTimes],
) -> Result<bool, DbError> {
    let Some(raised) = state.feed.revoke(epoch, reach, sessions, now_ms) else { return Ok(false) };
    users::store_raised(conn, state.user_id, raised).await?;
    state.feed = raised;
    Ok(true)
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
