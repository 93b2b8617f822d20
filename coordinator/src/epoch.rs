//! The feed epoch: raised whenever this is another database, or another timeline of it, than before (design 2.2).
//!
//! What this module guarantees:
//! - [`checked`] returns the epoch of the database as it is *now*: if the system identifier or the timeline differs
//!   from what is stored with the epoch, the epoch is raised in the caller's own transaction, by one guarded update.
//!   Every transaction that raises a revision or signs a proof calls it before it locks anything else.
//! - With another system identifier (a logical copy, a dump that was loaded elsewhere) transaction ids mean nothing
//!   any more: every `feed_xid` becomes the current one and older cursors start over.
//! - [`after_restore`] does the same for a restore that the database cannot tell, and ends every session.

use edgekeep_shared::renewal::MAX_PROOF_LIFE_MS;
use edgekeep_shared::revision::Revision;
use sqlx::PgConnection;

use crate::db::DbError;
use crate::failure::Failure;

/// How often a raise that somebody else won is looked at again.
const TRIES: u32 = 3;

/// The current feed epoch, raised first if this database is another one than it was, or on another timeline.
///
/// Call it inside of the transaction that raises or signs, before that locks any row.
///
/// # Errors
/// When the database cannot be asked.
pub async fn checked(connection: &mut PgConnection) -> Result<u16, DbError> {
    for _ in 0..TRIES {
        let stored = sqlx::query!(
            r#"SELECT c.epoch, c.system_identifier, c.timeline,
                      c.system_identifier = (SELECT system_identifier FROM pg_control_system())
                      AND c.timeline = left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) AS "same!"
               FROM cluster c"#
        )
        .fetch_optional(&mut *connection)
        .await?;
        match stored {
            Some(stored) if stored.same => return stored_epoch(stored.epoch),
            Some(stored) => {
                raise(connection, stored.epoch, stored.system_identifier, &stored.timeline).await?;
            }
            None => begin(connection).await?,
        }
    }
    Err(DbError::Conflict("the feed epoch is being raised by others again and again".to_owned()))
}

/// An epoch as the database stores it.
pub(crate) fn stored_epoch(epoch: i32) -> Result<u16, DbError> {
    u16::try_from(epoch).map_err(|_| DbError::Corrupt("the feed epoch is out of range"))
}

/// The first epoch of a new deployment.
async fn begin(connection: &mut PgConnection) -> Result<(), DbError> {
    sqlx::query!(
        "INSERT INTO cluster (epoch, system_identifier, timeline, cursors_from_epoch)
         SELECT 1, system_identifier, left(pg_walfile_name(pg_current_wal_insert_lsn()), 8), 1 FROM pg_control_system()
         ON CONFLICT DO NOTHING"
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Raises the epoch, guarded by the old values: of several who try, one does it and the others find it done.
async fn raise(connection: &mut PgConnection, epoch: i32, system: i64, timeline: &str) -> Result<(), DbError> {
    let raised = sqlx::query!(
        r#"UPDATE cluster c
           SET epoch = c.epoch + 1,
               system_identifier = s.system_identifier,
               timeline = left(pg_walfile_name(pg_current_wal_insert_lsn()), 8),
               cursors_from_epoch = CASE WHEN c.system_identifier = s.system_identifier
                                         THEN c.cursors_from_epoch ELSE c.epoch + 1 END,
               raised_at = clock_timestamp()
           FROM pg_control_system() s
           WHERE c.epoch = $1 AND c.system_identifier = $2 AND c.timeline = $3
           RETURNING c.epoch, c.cursors_from_epoch"#,
        epoch,
        system,
        timeline,
    )
    .fetch_all(&mut *connection)
    .await?;
    let Some(raised) = raised.first() else { return Ok(()) };
    let another_system = raised.cursors_from_epoch == raised.epoch;
    if another_system {
        sqlx::query!("UPDATE user_state SET feed_xid = pg_current_xact_id()::text::bigint")
            .execute(&mut *connection)
            .await?;
    }
    sqlx::query!(
        "INSERT INTO audit (action, detail) VALUES ('epoch_raised', jsonb_build_object('epoch', $1::integer, 'another_system', $2::boolean))",
        raised.epoch,
        another_system,
    )
    .execute(&mut *connection)
    .await?;
    tracing::warn!(epoch = raised.epoch, another_system, "the feed epoch was raised");
    Ok(())
}

/// What [`after_restore`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AfterRestore {
    /// The new epoch.
    pub epoch: u16,
    /// How many sessions it ended.
    pub sessions_ended: u64,
}

/// After a restore in place, which the database itself cannot tell: raises the epoch (to at least `at_least`, for a
/// backup that is older than epochs which edges have seen), ends every session as revoked, makes every proof that
/// may be out there ask first, and withdraws all signing keys. Run it inside of one transaction, with all
/// coordinators stopped; any that still runs finds its heartbeat gone and stops.
///
/// # Errors
/// [`Failure::Invalid`] while a coordinator is running; else when the database cannot be asked.
pub async fn after_restore(connection: &mut PgConnection, at_least: Option<u16>) -> Result<AfterRestore, Failure> {
    let running = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM heartbeat WHERE beat_at > clock_timestamp() - interval '10 seconds'"#
    )
    .fetch_one(&mut *connection)
    .await
    .map_err(DbError::from)?;
    if running > 0 {
        return Err(Failure::Invalid(format!(
            "{running} heartbeat(s) within the last 10 seconds: stop every coordinator first, then try again"
        )));
    }
    checked(connection).await?;
    let stored = sqlx::query_scalar!(
        "UPDATE cluster SET epoch = greatest(epoch + 1, $1), cursors_from_epoch = greatest(epoch + 1, $1),
                raised_at = clock_timestamp()
         RETURNING epoch",
        i32::from(at_least.unwrap_or(0)),
    )
    .fetch_one(&mut *connection)
    .await
    .map_err(DbError::from)?;
    let epoch = stored_epoch(stored)?;
    let sessions_ended = end_every_session(connection, epoch).await?;
    make_everything_newer(connection, epoch).await?;
    sqlx::query!(
        "INSERT INTO audit (action, detail)
         VALUES ('after_restore', jsonb_build_object('epoch', $1::integer, 'sessions_ended', $2::bigint))",
        stored,
        i64::try_from(sessions_ended).unwrap_or(i64::MAX),
    )
    .execute(&mut *connection)
    .await
    .map_err(DbError::from)?;
    Ok(AfterRestore { epoch, sessions_ended })
}

/// Ends every session, and raises every user: sessions of after the backup are not in the restored tables, so any
/// user may have proofs out there. None of them lives longer than a proof can (the settings are as old as the backup).
async fn end_every_session(connection: &mut PgConnection, epoch: u16) -> Result<u64, DbError> {
    let first_of_epoch = i64::try_from(Revision::first_of_epoch(epoch).0)
        .map_err(|_| DbError::Corrupt("the feed epoch is out of range"))?;
    sqlx::query!("SELECT user_id FROM user_state ORDER BY user_id FOR UPDATE").fetch_all(&mut *connection).await?;
    sqlx::query!(
        "UPDATE user_state u
         SET revision = greatest(u.revision, $1) + 1,
             feed_xid = pg_current_xact_id()::text::bigint,
             needed_until = greatest(u.needed_until,
                 clock_timestamp() + $2::bigint * interval '1 millisecond',
                 (SELECT max(proof_until) FROM session WHERE session.user_id = u.user_id))",
        first_of_epoch,
        i64::try_from(MAX_PROOF_LIFE_MS).unwrap_or(i64::MAX),
    )
    .execute(&mut *connection)
    .await?;
    let ended = sqlx::query!(
        "WITH ended AS (DELETE FROM session RETURNING user_id, session_id, expires_at),
              noted AS (INSERT INTO ended_session (session_id, user_id, reason, expires_at)
                        SELECT session_id, user_id, 'revoked', expires_at FROM ended
                        ON CONFLICT (session_id) DO NOTHING)
         INSERT INTO audit (user_id, action, session_id, detail)
         SELECT user_id, 'session_ended', session_id, jsonb_build_object('reason', 'revoked', 'by', 'after_restore')
         FROM ended ORDER BY user_id",
    )
    .execute(&mut *connection)
    .await?;
    Ok(ended.rows_affected())
}

/// Versions of key set and settings continue above everything that edges may have seen since the backup; all signing
/// keys are withdrawn (a new one is made by the next coordinator that starts); running coordinators lose their heartbeat.
async fn make_everything_newer(connection: &mut PgConnection, epoch: u16) -> Result<(), DbError> {
    let above = i64::from(epoch) << 32;
    sqlx::query!(
        "UPDATE signing_key SET withdrawn_at = coalesce(withdrawn_at, clock_timestamp()),
                                retired_at = coalesce(retired_at, clock_timestamp())"
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!("UPDATE key_set SET version = greatest(version + 1, $1)", above).execute(&mut *connection).await?;
    sqlx::query!("UPDATE settings SET version = greatest(version + 1, $1)", above).execute(&mut *connection).await?;
    sqlx::query!("DELETE FROM heartbeat").execute(&mut *connection).await?;
    Ok(())
}
