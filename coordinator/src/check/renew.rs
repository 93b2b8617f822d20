//! Renewals that write: `proof_until` is raised and committed before anything is signed up to it (design 2.1).
//!
//! What this module guarantees:
//! - Renewals that come together share one transaction: its locks are taken in the order of users, like everybody's, and
//!   what is decided behind them is [`edgekeep_shared::raise`].
//! - A user whose row somebody holds for long, or that cannot be read, fails nobody else: a batch waits for
//!   [`LOCKS_TOGETHER_MS`] for each lock, those who come later wait for [`LONGEST_TURN`], and what failed together is tried
//!   one by one, a few at a time. A commit whose outcome is unknown is unknown to all of them.

use std::sync::Arc;
use std::time::Duration;

use edgekeep_shared::gather::{Askers, GATHER_LIMIT_MS};
use edgekeep_shared::problem::Reason;
use edgekeep_shared::raise::{Raises, Renewed, Write};
use edgekeep_shared::renewal::{Lifetimes, SessionTimes};
use edgekeep_shared::revision::Revision;
use edgekeep_shared::token::Claims;
use edgekeep_shared::verdict::{Found, FoundSession, FoundUser, Verdict};
use sqlx::{PgConnection, PgPool};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use super::batch;
use crate::db::users::UserState;
use crate::db::{self, DbError, outcomes, run_tx};

/// The most renewals in one transaction: what failed together is tried one by one.
const TOGETHER: usize = 64;

/// How many of those that failed together are tried alone at a time: the other connections are for everybody else.
const ALONE: usize = 4;
/// How long those who come together wait for each lock that somebody else holds, in milliseconds.
const LOCKS_TOGETHER_MS: &str = "100";

/// How long those who come later wait for a transaction to end.
const LONGEST_TURN: Duration = Duration::from_millis(150);

/// What a renewal came to.
pub(super) type Outcome = Result<Renewed, Verdict>;

/// One renewal, and where its outcome goes.
pub(super) struct Ask {
    pub claims: Claims,
    pub reply: oneshot::Sender<Result<Outcome, DbError>>,
}

/// Raises sessions until their senders are gone.
pub(super) async fn run(mut questions: mpsc::Receiver<Ask>, pool: PgPool) {
    let mut waiting = Vec::with_capacity(TOGETHER);
    let mut askers = Askers::new(TOGETHER);
    let alone = Arc::new(Semaphore::new(ALONE));
    while questions.recv_many(&mut waiting, TOGETHER).await > 0 {
        batch::gather(&mut questions, &mut waiting, &askers, Duration::from_millis(GATHER_LIMIT_MS)).await;
        waiting.retain(|ask| !ask.reply.is_closed());
        let asks = std::mem::take(&mut waiting);
        let count = asks.len();
        if count > 0 {
            // Goes on by itself: who waits for a lock keeps nobody waiting who comes later.
            let _ = timeout(LONGEST_TURN, tokio::spawn(answer(asks, pool.clone(), Arc::clone(&alone)))).await;
        }
        askers.answered(count, questions.len());
    }
}

async fn answer(asks: Vec<Ask>, pool: PgPool, alone: Arc<Semaphore>) {
    let (claims, replies): (Vec<_>, Vec<_>) = asks.into_iter().map(|ask| (ask.claims, ask.reply)).unzip();
    match raise(&pool, &claims).await {
        Ok(outcomes) => {
            for (reply, outcome) in replies.into_iter().zip(outcomes) {
                // A receiver that is gone has given up.
                let _ = reply.send(Ok(outcome));
            }
        }
        // Nothing has happened, and it may have been for one of them.
        Err(error) if claims.len() > 1 && !matches!(error, DbError::CommitUnknown(_)) => {
            for (claims, reply) in claims.into_iter().zip(replies) {
                let (pool, alone) = (pool.clone(), Arc::clone(&alone));
                tokio::spawn(async move {
                    // It is never closed.
                    let _place = alone.acquire().await;
                    if !reply.is_closed() {
                        let _ = reply.send(raise_one(&pool, &claims).await);
                    }
                });
            }
        }
        Err(error) => {
            for reply in replies {
                let _ = reply.send(Err(error.clone()));
            }
        }
    }
}

async fn raise_one(pool: &PgPool, claims: &Claims) -> Result<Outcome, DbError> {
    let outcomes = raise(pool, std::slice::from_ref(claims)).await?;
    outcomes.into_iter().next().ok_or(DbError::Corrupt("a renewal without an outcome"))
}

/// Raises these sessions' times in one transaction: epoch, settings and the users' rows first; then sessions, roles,
/// settings and clock are read behind those locks.
///
/// # Errors
/// When the database cannot do it, or nobody knows whether it did.
async fn raise(pool: &PgPool, all: &[Claims]) -> Result<Vec<Outcome>, DbError> {
    run_tx!(pool, "renew", async |conn| renew(conn, all).await).await
}

async fn renew(conn: &mut PgConnection, all: &[Claims]) -> Result<Vec<Outcome>, DbError> {
    if all.len() > 1 {
        // Nobody waits long for somebody else's lock: who is left then is tried alone, and may wait as long as usual.
        sqlx::query!("SELECT set_config('lock_timeout', $1, true)", LOCKS_TOGETHER_MS).fetch_one(&mut *conn).await?;
    }
    let users: Vec<_> = all.iter().map(|claims| claims.user_id).collect();
    let (epoch, states) = outcomes::lock_users(conn, &users).await?;
    let (found, lifetimes) = look(conn, all, epoch, &states).await?;
    let mut raises = Raises::default();
    let decided = all.iter().zip(found).map(|(claims, found)| raises.decide(claims, found, &lifetimes)).collect();
    let writes: Vec<Write> = raises.writes().copied().collect();
    if !writes.is_empty() {
        store(conn, &writes).await?;
    }
    Ok(decided)
}

/// Sessions, users, settings and clock, or why a session is over. All of one statement that begins when the users' state rows
/// are locked: nobody changes any of a user's sessions, or roles, without that lock.
async fn look(
    conn: &mut PgConnection,
    all: &[Claims],
    epoch: u16,
    states: &[UserState],
) -> Result<(Vec<Found>, Lifetimes), DbError> {
    let sessions: Vec<Vec<u8>> = all.iter().map(|claims| claims.session_id.0.to_vec()).collect();
    let users: Vec<i64> = all.iter().map(|claims| db::signed(claims.user_id.0)).collect();
    let rows = sqlx::query!(
        r#"SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS "now_ms!",
                  s.proof_life_ms, s.idle_timeout_ms, s.absolute_timeout_ms,
                  u.name AS "name?", u.roles AS "roles?", u.disabled_at IS NOT NULL AS "disabled!",
                  floor(extract(epoch FROM x.authenticated_at) * 1000)::bigint AS "authenticated_at_ms?",
                  ceil(extract(epoch FROM x.proof_until) * 1000)::bigint AS "proof_until_ms?",
                  floor(extract(epoch FROM x.idle_expires_at) * 1000)::bigint AS "idle_expires_at_ms?",
                  floor(extract(epoch FROM x.expires_at) * 1000)::bigint AS "expires_at_ms?",
                  e.reason AS "reason?"
           FROM unnest($1::bytea[], $2::bigint[]) WITH ORDINALITY AS q (session_id, user_id, place)
           JOIN settings s ON s.only_row
           LEFT JOIN users u ON u.user_id = q.user_id AND u.deleted_at IS NULL
           LEFT JOIN session x ON x.session_id = q.session_id AND x.user_id = q.user_id
           LEFT JOIN ended_session e ON e.session_id = q.session_id
           ORDER BY q.place"#,
        &sessions,
        &users
    )
    .fetch_all(conn)
    .await?;
    let mut lifetimes = None;
    let mut all_found = Vec::with_capacity(all.len());
    if rows.len() != all.len() {
        return Err(DbError::Corrupt("renewals without a row each"));
    }
    for (claims, row) in all.iter().zip(rows) {
        lifetimes = Some(Lifetimes {
            proof_life_ms: db::unsigned(i64::from(row.proof_life_ms))?,
            idle_timeout_ms: db::unsigned(row.idle_timeout_ms)?,
            absolute_timeout_ms: db::unsigned(row.absolute_timeout_ms)?,
        });
        let revision = states.iter().find(|state| state.user_id == claims.user_id).map(|state| state.feed.revision);
        let user = revision.map(|revision: Revision| FoundUser {
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
        all_found.push(Found { epoch, now_ms: db::unsigned(row.now_ms)?, user, session, ended: ended.transpose()? });
    }
    Ok((all_found, lifetimes.ok_or(DbError::Corrupt("no settings"))?))
}

/// Writes the new times; `proof_until` never goes down, whatever the settings became.
async fn store(conn: &mut PgConnection, writes: &[Write]) -> Result<(), DbError> {
    let each = |value: fn(&Write) -> u64| writes.iter().map(|write| db::signed(value(write))).collect::<Vec<i64>>();
    let sessions: Vec<Vec<u8>> = writes.iter().map(|write| write.session_id.0.to_vec()).collect();
    let stored = sqlx::query!(
        "UPDATE session AS x
         SET proof_until = greatest(proof_until, timestamptz 'epoch' + w.proof_until_ms * interval '1 millisecond'),
             idle_expires_at = timestamptz 'epoch' + w.idle_expires_at_ms * interval '1 millisecond',
             last_seen_at = timestamptz 'epoch' + w.now_ms * interval '1 millisecond'
         FROM unnest($1::bigint[], $2::bytea[], $3::bigint[], $4::bigint[], $5::bigint[])
              AS w (user_id, session_id, proof_until_ms, idle_expires_at_ms, now_ms)
         WHERE x.user_id = w.user_id AND x.session_id = w.session_id",
        &each(|write| write.user_id.0),
        &sessions,
        &each(|write| write.times.proof_until_ms),
        &each(|write| write.times.idle_expires_at_ms),
        &each(|write| write.now_ms),
    )
    .execute(conn)
    .await?;
    db::affected(stored.rows_affected(), writes.len(), "a session whose user was locked is gone")
}
