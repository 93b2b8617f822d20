//! The batch: many questions behind one database write.
//!
//! One task on one connection takes every question that waits and asks them all in a single autocommit statement that
//! also writes a heartbeat. The statement's snapshot is from after the questions, and its commit shows that this server
//! still was the primary after they were asked. Questions that arrive meanwhile make the next batch; how long that waits
//! for more of them is decided by [`edgekeep_shared::gather`].

use std::time::Duration;

use edgekeep_shared::gather::{Askers, GATHER_LIMIT_MS};
use edgekeep_shared::ids::{SessionId, UserId};
use edgekeep_shared::problem::Reason;
use edgekeep_shared::renewal::{Lifetimes, SessionTimes};
use edgekeep_shared::revision::Revision;
use edgekeep_shared::verdict::{Found, FoundSession, FoundUser};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::db::{self, DbError};
use crate::epoch;
use crate::feed::FeedHandle;
use crate::feed::doubt::watched;
use crate::feed::heartbeat::{BEAT_LIMIT, BeatError, Heartbeat, random_instance};
use crate::feed::moment::{self, Moment};
use crate::metrics::Metrics;

/// The most questions in one statement.
const BATCH: usize = 256;
/// How long opening the connection may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// One question, and where its answer goes.
pub(super) struct Ask {
    pub session_id: SessionId,
    pub user_id: UserId,
    pub reply: oneshot::Sender<Result<Batched, DbError>>,
}

/// What the statement found for one question.
pub(super) struct Batched {
    /// When the statement was begun.
    pub began: Moment,
    pub keys_version: u64,
    pub max_staleness_ms: u32,
    pub lifetimes: Lifetimes,
    pub found: Found,
}

/// Everything that the task holds on to between batches.
struct Batcher {
    connect: PgConnectOptions,
    feed: FeedHandle,
    metrics: Metrics,
    open: Option<PgConnection>,
    heartbeat: Option<Heartbeat>,
    epoch: Option<u16>,
}

/// Answers questions until their senders are gone.
pub(super) async fn run(
    mut questions: mpsc::Receiver<Ask>,
    connect: PgConnectOptions,
    feed: FeedHandle,
    metrics: Metrics,
) {
    let mut batcher = Batcher { connect, feed, metrics, open: None, heartbeat: None, epoch: None };
    let mut waiting = Vec::with_capacity(BATCH);
    let mut askers = Askers::new(BATCH);
    while questions.recv_many(&mut waiting, BATCH).await > 0 {
        gather(&mut questions, &mut waiting, &askers, Duration::from_millis(GATHER_LIMIT_MS)).await;
        // Whoever gave up meanwhile needs no answer.
        waiting.retain(|ask| !ask.reply.is_closed());
        if waiting.is_empty() {
            continue;
        }
        let answered = waiting.len();
        batcher.metrics.check_batch.observe(answered as f64);
        match batcher.answer(&waiting).await {
            Ok(found) => {
                for (ask, found) in waiting.drain(..).zip(found) {
                    // A receiver that is gone has given up.
                    let _ = ask.reply.send(Ok(found));
                }
            }
            Err(error) => {
                let text = error.to_string();
                for ask in waiting.drain(..) {
                    let _ = ask.reply.send(Err(DbError::Unavailable(text.clone())));
                }
            }
        }
        askers.answered(answered, questions.len());
    }
}

/// Waits for those who probably ask again, within the limit.
pub(super) async fn gather<T>(
    questions: &mut mpsc::Receiver<T>,
    waiting: &mut Vec<T>,
    askers: &Askers,
    limit: Duration,
) {
    let more = async {
        loop {
            let missing = askers.missing(waiting.len());
            if missing == 0 || questions.recv_many(waiting, missing).await == 0 {
                break;
            }
        }
    };
    // However it ended: whoever is there by now is asked about.
    let _ = timeout(limit, more).await;
}

impl Batcher {
    /// Asks once, and once more if that was on a connection that may have died while nobody asked, or if the epoch
    /// had to be raised first.
    async fn answer(&mut self, asks: &[Ask]) -> Result<Vec<Batched>, BeatError> {
        let reused = self.open.is_some();
        let first = self.once(asks).await;
        match first {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => {}
            Err(BeatError::Database(DbError::Unavailable(_))) if reused => {}
            Err(error) => return Err(self.note(error)),
        }
        match self.once(asks).await {
            Ok(Some(found)) => Ok(found),
            Ok(None) => Err(DbError::Conflict("the feed epoch is being raised".to_owned()).into()),
            Err(error) => Err(self.note(error)),
        }
    }

    fn note(&self, error: BeatError) -> BeatError {
        match &error {
            BeatError::WentBack { .. } => self.feed.stop(error.to_string()),
            BeatError::Database(error) => Metrics::count(&self.metrics.database_errors, error.as_str()),
        }
        error
    }

    /// One statement; `None`: the epoch must be raised first, which a new connection does. The connection is kept
    /// only if all went well.
    async fn once(&mut self, asks: &[Ask]) -> Result<Option<Vec<Batched>>, BeatError> {
        if self.heartbeat.as_ref().is_some_and(|heartbeat| !heartbeat.is_kept()) {
            // Nobody has asked for long, so clean-up may have dropped the row: that is no database that went back in time.
            (self.open, self.heartbeat) = (None, None);
        }
        let mut connection = match self.open.take() {
            Some(connection) => connection,
            None => timeout(CONNECT_LIMIT + BEAT_LIMIT, self.connect())
                .await
                .map_err(|_| DbError::Unavailable("no connection in time".to_owned()))??,
        };
        let Some(heartbeat) = &mut self.heartbeat else {
            return Err(DbError::Corrupt("no heartbeat").into());
        };
        let asked = timeout(BEAT_LIMIT, ask(&mut connection, heartbeat, asks))
            .await
            .map_err(|_| DbError::Unavailable(format!("no answer within {} s", BEAT_LIMIT.as_secs())))??;
        if asked.is_some() {
            self.open = Some(connection);
        }
        Ok(asked)
    }

    async fn connect(&mut self) -> Result<PgConnection, BeatError> {
        let mut connection = PgConnection::connect_with(&self.connect).await.map_err(DbError::from)?;
        db::check_server(&mut connection).await.map_err(|refused| DbError::Unavailable(refused.to_string()))?;
        // Compiling the statement takes far longer than running it, and so does planning it, which is done once. The plan may
        // be of a time when there was nothing to look up; it must be good for a million rows too.
        sqlx::query!(
            "SELECT set_config('jit', 'off', false) AS jit, set_config('plan_cache_mode', 'force_generic_plan', false) AS plans,
                    set_config('enable_seqscan', 'off', false) AS scans"
        )
            .fetch_all(&mut connection)
            .await
            .map_err(DbError::from)?;
        let mut transaction = connection.begin().await.map_err(DbError::from)?;
        let epoch = epoch::checked(&mut transaction).await?;
        transaction.commit().await.map_err(|error| DbError::CommitUnknown(error.to_string()))?;
        if self.epoch != Some(epoch) {
            // After a failover the old row's counter may rightly be behind.
            self.epoch = Some(epoch);
            self.heartbeat = None;
        }
        let heartbeat = match &mut self.heartbeat {
            Some(heartbeat) => heartbeat,
            None => self.heartbeat.insert(Heartbeat::new(random_instance()?)),
        };
        heartbeat.beat(&mut connection).await?;
        Ok(connection)
    }
}

/// Heartbeat and answers in one statement that commits by itself; all of it is read, down to the server's "ready",
/// which comes after the commit.
async fn ask(
    connection: &mut PgConnection,
    heartbeat: &mut Heartbeat,
    asks: &[Ask],
) -> Result<Option<Vec<Batched>>, BeatError> {
    let began = moment::now();
    let sessions: Vec<Vec<u8>> = asks.iter().map(|ask| ask.session_id.0.to_vec()).collect();
    let users: Vec<i64> = asks.iter().map(|ask| db::signed(ask.user_id.0)).collect();
    let answered = sqlx::query!(
        r#"WITH beat AS (
               UPDATE heartbeat SET counter = counter + 1, beat_at = clock_timestamp()
               WHERE instance = $1 AND counter >= $2 RETURNING counter
           )
           SELECT (SELECT counter FROM beat) AS "beat?",
                  floor(extract(epoch FROM statement_timestamp()) * 1000)::bigint AS "now_ms!",
                  c.epoch AS "epoch?",
                  c.system_identifier = (SELECT system_identifier FROM pg_control_system())
                  AND c.timeline = left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) AS "same?",
                  k.version AS keys_version, s.max_staleness_ms, s.proof_life_ms, s.idle_timeout_ms, s.absolute_timeout_ms,
                  st.revision AS "revision?", u.name AS "name?", u.roles AS "roles?",
                  u.disabled_at IS NOT NULL OR u.deleted_at IS NOT NULL AS "disabled!",
                  x.user_id AS "session_user?",
                  floor(extract(epoch FROM x.authenticated_at) * 1000)::bigint AS "authenticated_at_ms?",
                  floor(extract(epoch FROM x.proof_until) * 1000)::bigint AS "proof_until_ms?",
                  floor(extract(epoch FROM x.idle_expires_at) * 1000)::bigint AS "idle_expires_at_ms?",
                  floor(extract(epoch FROM x.expires_at) * 1000)::bigint AS "expires_at_ms?",
                  e.reason AS "reason?"
           FROM unnest($3::bytea[], $4::bigint[]) WITH ORDINALITY AS q (session_id, user_id, place)
           JOIN settings s ON s.only_row JOIN key_set k ON k.only_row LEFT JOIN cluster c ON c.only_row
           LEFT JOIN session x ON x.session_id = q.session_id
           LEFT JOIN users u ON u.user_id = q.user_id
           LEFT JOIN user_state st ON st.user_id = q.user_id
           LEFT JOIN ended_session e ON e.session_id = q.session_id
           ORDER BY q.place"#,
        &heartbeat.instance()[..],
        db::signed(heartbeat.counter()),
        &sessions,
        &users,
    )
    .fetch_all(connection);
    let rows = watched(answered).await?;
    let same = rows.first().is_some_and(|row| row.same == Some(true) && row.epoch.is_some());
    if !same || rows.len() != asks.len() {
        return Ok(None);
    }
    heartbeat.acknowledged(rows.first().and_then(|row| row.beat), began)?;
    let mut answers = Vec::with_capacity(rows.len());
    for row in rows {
        let session = match (row.session_user, row.authenticated_at_ms, row.proof_until_ms) {
            (Some(user), Some(authenticated), Some(proof_until)) => Some(FoundSession {
                user_id: db::user_id(user)?,
                authenticated_at_ms: db::unsigned(authenticated)?,
                times: SessionTimes {
                    proof_until_ms: db::unsigned(proof_until)?,
                    idle_expires_at_ms: db::unsigned(row.idle_expires_at_ms.unwrap_or(0))?,
                    expires_at_ms: db::unsigned(row.expires_at_ms.unwrap_or(0))?,
                },
            }),
            _ => None,
        };
        let user = match row.revision {
            Some(revision) => Some(FoundUser {
                revision: Revision(db::unsigned(revision)?),
                name: row.name,
                roles: row.roles.unwrap_or_default(),
                disabled: row.disabled,
            }),
            None => None,
        };
        let ended = row
            .reason
            .map(|reason| Reason::from_name(&reason).ok_or(DbError::Corrupt("an unknown reason")))
            .transpose()?;
        answers.push(Batched {
            began,
            keys_version: db::unsigned(row.keys_version)?,
            max_staleness_ms: u32::try_from(row.max_staleness_ms)
                .map_err(|_| DbError::Corrupt("a negative setting"))?,
            lifetimes: Lifetimes {
                proof_life_ms: db::unsigned(i64::from(row.proof_life_ms))?,
                idle_timeout_ms: db::unsigned(row.idle_timeout_ms)?,
                absolute_timeout_ms: db::unsigned(row.absolute_timeout_ms)?,
            },
            found: Found {
                epoch: epoch::stored_epoch(row.epoch.unwrap_or(0))?,
                now_ms: db::unsigned(row.now_ms)?,
                user,
                session,
                ended,
            },
        });
    }
    Ok(Some(answers))
}
