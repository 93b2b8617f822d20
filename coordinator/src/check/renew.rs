//! Renewals that write: `proof_until` is raised and committed before anything is signed up to it (design 2.1).

use edgekeep_shared::problem::Reason;
use edgekeep_shared::renewal::{Renewal, SessionTimes};
use edgekeep_shared::token::Claims;
use edgekeep_shared::verdict::{Current, Found, FoundSession, FoundUser, Verdict, decide};
use sqlx::{PgConnection, PgPool};

use crate::db::{self, DbError, run_tx, sessions, settings, users};
use crate::epoch;

/// A session after a renewal: what may be signed now.
pub(super) struct Renewed {
    /// As the transaction read and wrote it.
    pub current: Current,
    /// Coordinator time of the transaction, after its locks.
    pub now_ms: u64,
    /// A new proof may reach until here.
    pub renew_after_ms: u64,
}

/// Raises the session's times in one transaction: epoch first, then the user's row, then the session's, and roles,
/// revision and clock are read after those locks.
///
/// `Err(verdict)`: the session is not current any more.
///
/// # Errors
/// When the database cannot do it, or nobody knows whether it did.
pub(super) async fn raise(pool: &PgPool, claims: &Claims) -> Result<Result<Renewed, Verdict>, DbError> {
    run_tx!(pool, "renew", async |conn| renew(conn, claims).await).await
}

async fn renew(conn: &mut PgConnection, claims: &Claims) -> Result<Result<Renewed, Verdict>, DbError> {
    let epoch = epoch::checked(conn).await?;
    let state = users::lock(conn, &[claims.user_id]).await?;
    let rows = sessions::lock_of_users(conn, &[claims.user_id]).await?;
    let user = users::by_id(conn, claims.user_id).await?;
    let settings = settings::load(conn).await?;
    let now_ms = db::now_ms(conn).await?;
    let row = rows.into_iter().find(|row| row.id == claims.session_id);
    let ended = if row.is_none() { sessions::ended_reason(conn, claims.session_id).await? } else { None };
    let found = Found {
        epoch,
        now_ms,
        user: state.first().map(|state| FoundUser {
            revision: state.feed.revision,
            disabled: user.as_ref().is_none_or(|user| user.disabled),
            roles: user.as_ref().map(|user| user.roles.clone()).unwrap_or_default(),
            name: user.map(|user| user.name),
        }),
        session: row.map(|row| FoundSession {
            user_id: row.user_id,
            authenticated_at_ms: row.authenticated_at_ms,
            times: SessionTimes {
                proof_until_ms: row.proof_until_ms,
                idle_expires_at_ms: row.idle_expires_at_ms,
                expires_at_ms: row.expires_at_ms,
            },
        }),
        ended,
    };
    let mut current = match decide(claims, found) {
        Verdict::Current(current) => current,
        verdict => return Ok(Err(verdict)),
    };
    match settings.lifetimes.renew(current.times, now_ms) {
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
