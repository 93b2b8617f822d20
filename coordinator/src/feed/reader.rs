//! The reader: one loop on one dedicated connection.
//!
//! Turn by turn: a heartbeat when one is due or asked for, then a read of what is past the last position, then a wait
//! until somebody needs the next. A connection that hangs is given up on a deadline of this side; nothing is ever
//! cancelled on the server.

use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use edgekeep_shared::ids::UserId;
use edgekeep_shared::position::Position;
use edgekeep_shared::revision::Revision;
use edgekeep_shared::source::{Behind, Read, Row, Source, durable_after};
use sqlx::{Connection as _, PgConnection};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use super::heartbeat::{Beat, BeatError, Heartbeat, random_instance};
use super::moment::{self, Moment};
use super::{EdgeSettings, Options, Shared};
use crate::db::{self, DbError, RefusedServer};
use crate::epoch;

/// How long opening the connection may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// How long a read of what is new may take.
const READ_LIMIT: Duration = Duration::from_secs(2);
/// How long a read of everything may take.
const FULL_READ_LIMIT: Duration = Duration::from_secs(120);
/// The least time from one read's start to the next one's, so that many local commits share a read.
const READ_SPACING: Duration = Duration::from_millis(2);
/// The pause after the first failed connection; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause between two connections.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Why a session on one connection ended.
enum End {
    /// Connect again.
    Again(String),
    /// Stop this coordinator.
    Stop(String),
}

impl From<DbError> for End {
    fn from(error: DbError) -> Self {
        Self::Again(error.to_string())
    }
}

impl From<BeatError> for End {
    fn from(error: BeatError) -> Self {
        match error {
            BeatError::Database(error) => error.into(),
            BeatError::WentBack { .. } => Self::Stop(error.to_string()),
        }
    }
}

/// Reads until this coordinator must stop.
pub(super) async fn run(shared: Arc<Shared>, options: Options) {
    let mut reader = Reader { shared, options, heartbeat: None, durable: 0, session_epoch: None };
    let mut pause = FIRST_PAUSE;
    loop {
        let began = Instant::now();
        let end = match reader.session().await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        match end {
            End::Stop(reason) => return reader.shared.stop(reason), // Again does no harm.
            End::Again(reason) => {
                tracing::warn!(reason, "the feed's connection ended; connecting again");
                reader.shared.metrics.feed_reconnects.inc();
            }
        }
        if began.elapsed() > LONGEST_PAUSE {
            pause = FIRST_PAUSE;
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

struct Reader {
    shared: Arc<Shared>,
    options: Options,
    heartbeat: Option<Heartbeat>,
    /// The highest transaction id that is known durable in this epoch.
    durable: u64,
    /// The epoch that `heartbeat` and `durable` belong to.
    session_epoch: Option<u16>,
}

impl Reader {
    /// Everything on one connection, until it fails.
    async fn session(&mut self) -> Result<Infallible, End> {
        let mut connection = self.connect().await?;
        self.enter_epoch(&mut connection).await?;
        let mut beat = self.beat(&mut connection).await?;
        let mut is_first = true;
        loop {
            let read_began = Instant::now();
            self.read(&mut connection, beat).await?;
            if std::mem::take(&mut is_first) {
                expect_little(&mut connection).await?;
            }
            let every = self.beat_every();
            let next_beat = Instant::now() + every.saturating_sub(moment::elapsed(beat.began));
            self.wait(read_began, next_beat).await;
            let wanted = self.shared.beat_wanted.swap(false, Ordering::Relaxed);
            if wanted || Instant::now() >= next_beat {
                beat = self.beat(&mut connection).await?;
            }
        }
    }

    async fn connect(&self) -> Result<PgConnection, End> {
        let opening = async {
            let mut connection = PgConnection::connect_with(&self.options.connect).await.map_err(DbError::from)?;
            db::check_server(&mut connection).await?;
            // Everything may have to be read first, and the planner sees that. Compiling a statement that takes a fraction
            // of a millisecond took a second.
            sqlx::query!(
                "SELECT set_config('plan_cache_mode', 'force_custom_plan', false) AS plans, set_config('jit', 'off', false) AS jit"
            )
                .fetch_all(&mut connection)
                .await
                .map_err(DbError::from)?;
            Ok(connection)
        };
        match timeout(CONNECT_LIMIT, opening).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(RefusedServer::Database(error))) => Err(error.into()),
            Ok(Err(refused)) => Err(End::Stop(refused.to_string())),
            Err(_) => Err(End::Again(format!("no connection within {} s", CONNECT_LIMIT.as_secs()))),
        }
    }

    /// Raises the epoch if this is another database or timeline. A new epoch begins a new heartbeat row (the old
    /// one's counter may rightly be behind after a failover) and a full read.
    async fn enter_epoch(&mut self, connection: &mut PgConnection) -> Result<(), End> {
        let raising = async {
            let mut transaction = connection.begin().await?;
            let epoch = epoch::checked(&mut transaction).await?;
            transaction.commit().await.map_err(|error| DbError::CommitUnknown(error.to_string()))?;
            Ok::<_, DbError>(epoch)
        };
        let epoch = timeout(FULL_READ_LIMIT, raising)
            .await
            .map_err(|_| End::Again(format!("no feed epoch within {} s", FULL_READ_LIMIT.as_secs())))??;
        if self.session_epoch != Some(epoch) {
            self.session_epoch = Some(epoch);
            self.heartbeat = None;
            self.durable = 0;
            *self.shared.loaded.write().unwrap_or_else(PoisonError::into_inner) = None;
        }
        Ok(())
    }

    async fn beat(&mut self, connection: &mut PgConnection) -> Result<Beat, End> {
        let heartbeat = match &mut self.heartbeat {
            Some(heartbeat) => heartbeat,
            None => self.heartbeat.insert(Heartbeat::new(random_instance()?)),
        };
        let beat = heartbeat.beat(connection).await?;
        self.durable = self.durable.max(beat.xid);
        self.shared.metrics.feed_heartbeats.inc();
        Ok(beat)
    }

    /// The beat's period: as configured, and often enough for a small bound.
    fn beat_every(&self) -> Duration {
        let configured = self.options.config.heartbeat_every_ms;
        let bound = self.shared.with_loaded(|loaded| loaded.map(|loaded| loaded.settings().max_staleness_ms));
        Duration::from_millis(bound.map_or(configured, |bound| configured.min(u64::from(bound) / 8)))
    }

    /// Waits until somebody needs the next turn: a poke, a heartbeat that is due, or the next read while polls wait.
    async fn wait(&self, read_began: Instant, next_beat: Instant) {
        let next_read = next_beat.min(read_began + Duration::from_millis(self.options.config.read_every_ms));
        let waiting = self.shared.waiting.load(Ordering::Relaxed) > 0;
        let poked = if waiting {
            timeout_at(next_read, self.shared.wake.notified()).await.is_ok()
        } else {
            tokio::select! {
                () = self.shared.wake.notified() => true,
                // Not at once, or polls that are not held would each cost a read.
                () = self.shared.asked.notified() => timeout_at(next_read, self.shared.wake.notified()).await.is_ok(),
                () = sleep_until(next_beat) => false,
            }
        };
        if poked {
            sleep_until(read_began + READ_SPACING).await;
        }
    }

    /// One read, published.
    async fn read(&mut self, connection: &mut PgConnection, beat: Beat) -> Result<(), End> {
        let began = moment::now();
        let cursor = self.shared.with_loaded(|loaded| loaded.map(|loaded| loaded.position().clone()));
        let limit = if cursor.is_some() { READ_LIMIT } else { FULL_READ_LIMIT };
        let found = timeout(limit, fetch(connection, cursor.as_ref()))
            .await
            .map_err(|_| End::Again(format!("no read within {} s", limit.as_secs())))??;
        let Some(Found { read, edges }) = found else {
            return Err(End::Again("the feed epoch must be raised".to_owned()));
        };
        let epoch = read.epoch;
        if self.session_epoch != Some(epoch) {
            return Err(End::Again(format!("the feed epoch is {epoch} now")));
        }
        // Before the feed names a version, this coordinator must be able to deliver it.
        if !self.options.keys.is_at(read.keys_version) {
            timeout(READ_LIMIT, self.options.keys.load(connection))
                .await
                .map_err(|_| End::Again("the key set was not read in time".to_owned()))??;
        }
        self.options.keys.confirm(read.keys_version, began);
        if !self.options.edges.is_at(&edges) {
            timeout(READ_LIMIT, self.options.edges.load(connection, &edges))
                .await
                .map_err(|_| End::Again("the edges' credentials were not read in time".to_owned()))??;
        }
        self.durable = durable_after(self.durable, &read.rows);
        self.publish(read, began, beat)
    }

    /// Puts what was read in the place of what was there: entries and position together.
    fn publish(&self, mut read: Read, began: Moment, beat: Beat) -> Result<(), End> {
        let behind = Behind { read_began: began, beat_began: beat.began, durable_xid: self.durable };
        let fresh = u64::from_be_bytes(first_eight(random_instance()?));
        // A full load is put in order before anybody has to wait for it.
        let first = self.shared.with_loaded(|loaded| loaded.is_none());
        let told = *self.shared.changes.borrow();
        let prepared = first.then(|| Source::load(fresh, &mut read, behind, told, moment::now()));
        self.shared
            .publish(prepared, |source, waiting| source.publish(read, behind, waiting, fresh, moment::now()))
            .map_err(End::Stop)
    }
}

/// From now on a read finds a handful of rows by their index. Planned once: that took Postgres longer than to run it. The one
/// plan knows no transaction id, so it would take them for a third of the table, and read all of it, or start processes to help.
async fn expect_little(connection: &mut PgConnection) -> Result<(), End> {
    let planned_once = sqlx::query!(
        "SELECT set_config('plan_cache_mode', 'force_generic_plan', false) AS plans,
                set_config('enable_seqscan', 'off', false) AS scans,
                set_config('max_parallel_workers_per_gather', '0', false) AS workers"
    )
    .fetch_all(connection);
    match timeout(READ_LIMIT, planned_once).await {
        Ok(done) => done.map(|_| ()).map_err(|error| DbError::from(error).into()),
        Err(_) => Err(End::Again("no answer in time".to_owned())),
    }
}

fn first_eight(bytes: [u8; 16]) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h, ..] = bytes;
    [a, b, c, d, e, f, g, h]
}

/// What one read found.
struct Found {
    read: Read,
    /// Differs whenever the set of edge credentials that count does. (Of their contents, not of times: of two changes
    /// the one that took its time earlier may commit later.)
    edges: String,
}

/// The one statement: position, time, epoch, versions and entries of one snapshot. `None`: the epoch must be raised first.
async fn fetch(connection: &mut PgConnection, cursor: Option<&Position>) -> Result<Option<Found>, DbError> {
    let xmax = cursor.map_or(0, |position| db::signed(position.xmax));
    let xip: Vec<i64> = cursor.map_or_else(Vec::new, |position| position.xip.iter().copied().map(db::signed).collect());
    let row = sqlx::query!(
        r#"SELECT pg_current_snapshot()::text AS "snapshot!",
                  ceil(extract(epoch FROM now()) * 1000)::bigint AS "read_at_ms!",
                  c.epoch AS "epoch?", c.cursors_from_epoch AS "cursors_from_epoch?",
                  c.system_identifier = (SELECT system_identifier FROM pg_control_system())
                  AND c.timeline = left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) AS "same?",
                  s.version AS settings_version, s.site, s.max_staleness_ms, s.sessions_per_user, s.password_min_chars,
                  k.version AS keys_version,
                  (SELECT concat(count(*), ' ', sum(hashtextextended(edge_id || encode(secret_hash, 'hex'), 0)))
                   FROM edge_credential WHERE revoked_at IS NULL) AS "edges!",
                  e.user_ids AS "user_ids!", e.revisions AS "revisions!", e.needed AS "needed!", e.xids AS "xids!"
           FROM settings s JOIN key_set k ON s.only_row AND k.only_row LEFT JOIN cluster c ON c.only_row
           CROSS JOIN LATERAL (
               SELECT coalesce(array_agg(user_id), '{}') AS user_ids, coalesce(array_agg(revision), '{}') AS revisions,
                      coalesce(array_agg(ceil(extract(epoch FROM needed_until) * 1000)::bigint), '{}') AS needed,
                      coalesce(array_agg(feed_xid), '{}') AS xids
               FROM user_state
               WHERE needed_until > now() AND (feed_xid >= $1 OR feed_xid = ANY($2))
           ) e"#,
        xmax,
        &xip[..],
    )
    .fetch_one(connection)
    .await?;
    let mut rows = Vec::with_capacity(row.user_ids.len());
    for (((user_id, revision), needed), xid) in row.user_ids.iter().zip(&row.revisions).zip(&row.needed).zip(&row.xids)
    {
        rows.push(Row {
            user_id: UserId(db::unsigned(*user_id)?),
            revision: Revision(db::unsigned(*revision)?),
            needed_until_ms: db::unsigned(*needed)?,
            feed_xid: db::unsigned(*xid)?,
        });
    }
    let epoch = row.epoch.filter(|_| row.same == Some(true)).map(epoch::stored_epoch).transpose()?;
    let Some(epoch) = epoch else { return Ok(None) };
    let read = Read {
        epoch,
        cursors_from_epoch: row.cursors_from_epoch.map(epoch::stored_epoch).transpose()?.unwrap_or(0),
        position: Position::from_pg_snapshot(&row.snapshot)
            .map_err(|_| DbError::Corrupt("a snapshot that is not one, or with too many open transactions"))?,
        read_at_ms: db::unsigned(row.read_at_ms)?,
        settings: EdgeSettings {
            version: db::unsigned(row.settings_version)?,
            site: row.site,
            max_staleness_ms: small(row.max_staleness_ms)?,
            sessions_per_user: small(row.sessions_per_user)?,
            password_min_chars: small(row.password_min_chars)?,
        },
        keys_version: db::unsigned(row.keys_version)?,
        rows,
    };
    Ok(Some(Found { read, edges: row.edges }))
}

fn small(value: i32) -> Result<u32, DbError> {
    u32::try_from(value).map_err(|_| DbError::Corrupt("a negative setting"))
}
