//! Clean-up. It only ever drops what nobody needs any more, in small batches, and any coordinator may do it.
//!
//! | what goes | when |
//! |---|---|
//! | attempts | past retention (longer than any idempotency key lives), except those that are being worked on and those that still count in an account's present run of failures |
//! | reasons of ended sessions | an hour after the session's absolute expiry |
//! | sessions whose time is up | a minute after; they end as `expired`, in the user's order like any ending |
//! | state of names that nobody has | after 90 days without an attempt |
//! | audit entries | past retention |
//! | heartbeats of coordinators that are gone | after a day |
//!
//! Sessions in excess of `sessions_per_user` end here too, should an administrator's command have been interrupted.

use std::sync::Arc;
use std::time::Duration;

use edgekeep_shared::ids::UserId;
use edgekeep_shared::problem::Reason;
use edgekeep_shared::revocation::Reach;
use sqlx::PgPool;

use crate::app::App;
use crate::db::sessions::{self, Ending, Endings};
use crate::db::{self, DbError, now_ms, run_tx, user_id, users};
use crate::epoch;
use crate::failure::Failure;

/// Between two rounds.
const EVERY: Duration = Duration::from_secs(60);
/// Rounds between two passes over whole tables.
const SLOW_EVERY: u64 = 10;
/// Rows per statement.
const BATCH: i64 = 1000;
/// Statements of one kind per round: a backlog must not keep a round from ending.
const BATCHES: usize = 50;

/// Cleans up for as long as the coordinator runs. Dropping the future stops it between two statements.
pub async fn run(app: Arc<App>) {
    let mut round = 0_u64;
    loop {
        tokio::time::sleep(EVERY).await;
        round += 1;
        match clean_up(&app.pool, round.is_multiple_of(SLOW_EVERY)).await {
            Ok(cleaned) if cleaned.any() => tracing::info!(?cleaned, "cleaned up"),
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "clean-up was interrupted; the next round goes on"),
        }
    }
}

/// How many rows went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Attempts.
    pub attempts: u64,
    /// Reasons.
    pub ended_sessions: u64,
    /// Sessions whose time was up.
    pub expired_sessions: u64,
    /// Sessions in excess.
    pub excess_sessions: u64,
    /// Names that nobody has.
    pub subjects: u64,
    /// Audit entries.
    pub audit: u64,
    /// Heartbeats.
    pub heartbeats: u64,
}

impl Cleaned {
    fn any(&self) -> bool {
        *self != Self::default()
    }
}

/// One round. `slow`: also what needs a pass over a whole table.
///
/// # Errors
/// When the database cannot do it; what went so far is gone.
pub async fn clean_up(pool: &PgPool, slow: bool) -> Result<Cleaned, Failure> {
    let mut cleaned = Cleaned {
        attempts: batches(pool, Kind::Attempts).await?,
        ended_sessions: batches(pool, Kind::EndedSessions).await?,
        heartbeats: heartbeats(pool).await?,
        ..Cleaned::default()
    };
    if slow {
        cleaned.audit = batches(pool, Kind::Audit).await?;
        cleaned.subjects = batches(pool, Kind::Subjects).await?;
        cleaned.expired_sessions = expire_sessions(pool).await?;
        cleaned.excess_sessions = crate::admin::settings::end_excess(pool).await?;
    }
    Ok(cleaned)
}

/// What goes in batches, one statement each.
#[derive(Clone, Copy)]
enum Kind {
    Attempts,
    EndedSessions,
    Audit,
    Subjects,
}

/// Runs batches until one is not full.
async fn batches(pool: &PgPool, kind: Kind) -> Result<u64, DbError> {
    let mut total = 0;
    for _ in 0..BATCHES {
        let rows = match kind {
            Kind::Attempts => attempts(pool).await?,
            Kind::EndedSessions => ended_sessions(pool).await?,
            Kind::Audit => audit(pool).await?,
            Kind::Subjects => subjects(pool).await?,
        };
        total += rows;
        if rows < BATCH.unsigned_abs() {
            break;
        }
    }
    Ok(total)
}

async fn attempts(pool: &PgPool) -> Result<u64, DbError> {
    let rows = sqlx::query!(
        "DELETE FROM attempt WHERE attempt_id IN (
             SELECT a.attempt_id FROM attempt a JOIN subject_state s USING (subject), settings
             WHERE a.reserved_at < clock_timestamp() - attempt_retention_ms * interval '1 millisecond'
               AND (a.settled_at IS NOT NULL OR a.owner_deadline <= clock_timestamp())
               AND NOT (a.counted AND a.seq >= s.window_from_seq)
             ORDER BY a.reserved_at LIMIT $1 FOR UPDATE OF a SKIP LOCKED)",
        BATCH
    )
    .execute(&mut *db::acquire(pool).await?)
    .await?;
    Ok(rows.rows_affected())
}

async fn ended_sessions(pool: &PgPool) -> Result<u64, DbError> {
    let rows = sqlx::query!(
        "DELETE FROM ended_session WHERE session_id IN (
             SELECT session_id FROM ended_session WHERE expires_at < clock_timestamp() - interval '1 hour'
             ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED)",
        BATCH
    )
    .execute(&mut *db::acquire(pool).await?)
    .await?;
    Ok(rows.rows_affected())
}

/// A coordinator that was cut off must find its row again, or it would think that the database went back in time.
async fn heartbeats(pool: &PgPool) -> Result<u64, DbError> {
    let rows = sqlx::query!("DELETE FROM heartbeat WHERE beat_at < clock_timestamp() - interval '30 days'")
        .execute(&mut *db::acquire(pool).await?)
        .await?;
    Ok(rows.rows_affected())
}

async fn audit(pool: &PgPool) -> Result<u64, DbError> {
    let rows = sqlx::query!(
        "DELETE FROM audit WHERE audit_id IN (
             SELECT audit_id FROM audit, settings
             WHERE at < clock_timestamp() - audit_retention_ms * interval '1 millisecond'
             ORDER BY at LIMIT $1 FOR UPDATE OF audit SKIP LOCKED)",
        BATCH
    )
    .execute(&mut *db::acquire(pool).await?)
    .await?;
    Ok(rows.rows_affected())
}

/// State of names that nobody has (mistyped ones, and passwords typed into the name's field). Its attempts go first;
/// while one is still needed the state stays.
async fn subjects(pool: &PgPool) -> Result<u64, DbError> {
    run_tx!(pool, "tasks.subjects", async |conn| {
        let idle: Vec<Vec<u8>> = sqlx::query_scalar!(
            "SELECT subject FROM subject_state s
             WHERE updated_at < clock_timestamp() - interval '90 days'
               AND NOT EXISTS (SELECT FROM users u WHERE u.subject = s.subject AND u.deleted_at IS NULL)
             LIMIT $1 FOR UPDATE SKIP LOCKED",
            BATCH
        )
        .fetch_all(&mut *conn)
        .await?;
        sqlx::query!(
            "DELETE FROM attempt USING settings
             WHERE subject = ANY($1) AND reserved_at < clock_timestamp() - attempt_retention_ms * interval '1 millisecond'
               AND (settled_at IS NOT NULL OR owner_deadline <= clock_timestamp())",
            &idle
        )
        .execute(&mut *conn)
        .await?;
        let rows = sqlx::query!(
            "DELETE FROM subject_state s WHERE subject = ANY($1)
               AND NOT EXISTS (SELECT FROM attempt a WHERE a.subject = s.subject)",
            &idle
        )
        .execute(&mut *conn)
        .await?;
        Ok(rows.rows_affected())
    })
    .await
}

/// Ends sessions whose time is up, user by user, under the user's lock.
async fn expire_sessions(pool: &PgPool) -> Result<u64, DbError> {
    let mut total = 0;
    for _ in 0..BATCHES {
        let users: Vec<i64> = sqlx::query_scalar!(
            "SELECT DISTINCT user_id FROM session
             WHERE least(idle_expires_at, expires_at) < clock_timestamp() - interval '1 minute' LIMIT $1",
            BATCH
        )
        .fetch_all(&mut *db::acquire(pool).await?)
        .await?;
        if users.is_empty() {
            break;
        }
        for id in users {
            total += expire_of_user(pool, user_id(id)?).await?;
        }
    }
    Ok(total)
}

async fn expire_of_user(pool: &PgPool, id: UserId) -> Result<u64, DbError> {
    run_tx!(pool, "tasks.expire", async |conn| {
        let epoch = epoch::checked(conn).await?;
        let Some(mut state) = users::lock(conn, &[id]).await?.into_iter().next() else { return Ok(0) };
        let rows = sessions::lock_of_users(conn, &[id]).await?;
        let now_ms = now_ms(conn).await?;
        let reason = Reason::Expired;
        let endings: Vec<Ending<'_>> =
            rows.iter().filter(|row| row.expired(now_ms)).map(|session| Ending { session, reason }).collect();
        let all = Endings { sessions: &endings, rowless: &[], reach: Reach::Named, by: "clean-up" };
        sessions::end(conn, epoch, now_ms, &mut state, &all).await?;
        Ok(endings.len() as u64)
    })
    .await
}
