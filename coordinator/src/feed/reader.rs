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
use sqlx::{Connection as _, PgConnection};
use tokio::time::{Instant, sleep, timeout};

use super::heartbeat::{Beat, BeatError, Heartbeat, random_instance};
use super::moment::Moment;
use super::poll::coalescing_gap;
use super::store::{Put, Row, Store};
use super::{EdgeSettings, Loaded, Options, Shared};
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
/// Ages within one chain of pages go by the monotonic clock alone while the wall clock agrees with it to this.
const CLOCKS_DISAGREE: Duration = Duration::from_millis(20);
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
        loop {
            let read_began = Instant::now();
            self.read(&mut connection, beat).await?;
            let every = self.beat_every();
            let next_beat = Instant::now() + every.saturating_sub(beat.began.elapsed());
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
            // The range of transaction ids that a read asks for must reach the planner, or it may scan the whole table.
            // Compiling a statement that takes a fraction of a millisecond took a second.
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
        let bound = self.shared.with_loaded(|loaded| loaded.map(|loaded| loaded.settings.max_staleness_ms));
        Duration::from_millis(bound.map_or(configured, |bound| configured.min(u64::from(bound) / 8)))
    }

    /// Waits until somebody needs the next turn: a poke, a heartbeat that is due, or the next read while polls wait.
    async fn wait(&self, read_began: Instant, next_beat: Instant) {
        let every = Duration::from_millis(self.options.config.read_every_ms);
        let waiting = self.shared.waiting.load(Ordering::Relaxed) > 0;
        let until = if waiting { next_beat.min(read_began + every) } else { next_beat };
        if timeout(until.saturating_duration_since(Instant::now()), self.shared.wake.notified()).await.is_ok() {
            sleep((read_began + READ_SPACING).saturating_duration_since(Instant::now())).await;
        }
    }

    /// One read, published.
    async fn read(&mut self, connection: &mut PgConnection, beat: Beat) -> Result<(), End> {
        let began = Moment::now();
        let cursor = self.shared.with_loaded(|loaded| loaded.map(|loaded| loaded.position.clone()));
        let limit = if cursor.is_some() { READ_LIMIT } else { FULL_READ_LIMIT };
        let found = timeout(limit, fetch(connection, cursor.as_ref()))
            .await
            .map_err(|_| End::Again(format!("no read within {} s", limit.as_secs())))??;
        let Found { epoch: Some(epoch), .. } = found else {
            return Err(End::Again("the feed epoch must be raised".to_owned()));
        };
        if self.session_epoch != Some(epoch) {
            return Err(End::Again(format!("the feed epoch is {epoch} now")));
        }
        // Before the feed names a version, this coordinator must be able to deliver it.
        if !self.options.keys.is_at(found.keys_version) {
            timeout(READ_LIMIT, self.options.keys.load(connection))
                .await
                .map_err(|_| End::Again("the key set was not read in time".to_owned()))??;
        }
        self.options.keys.confirm(found.keys_version, began);
        if !self.options.edges.is_at(&found.edges) {
            timeout(READ_LIMIT, self.options.edges.load(connection, &found.edges))
                .await
                .map_err(|_| End::Again("the edges' credentials were not read in time".to_owned()))??;
        }
        self.durable = found.rows.iter().map(|row| row.feed_xid).fold(self.durable, u64::max);
        self.publish(found, epoch, began, beat)
    }

    /// Puts what was read in the place of what was there: entries and position together.
    fn publish(&self, found: Found, epoch: u16, began: Moment, beat: Beat) -> Result<(), End> {
        let as_of = began.earlier(beat.began);
        let position = found.position.lowered_to(self.durable + 1);
        let waiting = self.shared.waiting.load(Ordering::Relaxed);
        let gap = coalescing_gap(waiting, found.settings.max_staleness_ms);
        let first = self.shared.with_loaded(|loaded| loaded.is_none());
        // A full load is put in order before anybody has to wait for it.
        let (mut store, mut rows) = (Store::default(), found.rows);
        if first {
            for row in rows.drain(..) {
                store.put(row);
            }
        }
        let mut slot = self.shared.loaded.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(reason) = self.shared.fatal.borrow().clone() {
            return Err(End::Stop(reason));
        }
        let loaded = match slot.as_mut() {
            Some(loaded) => loaded,
            None => slot.insert(Loaded {
                instance: u64::from_be_bytes(first_eight(random_instance()?)),
                started: as_of,
                epoch,
                cursors_from_epoch: found.cursors_from_epoch,
                position: position.clone(),
                as_of,
                read_at_ms: 0,
                read_began: began,
                settings: found.settings.clone(),
                keys_version: found.keys_version,
                store,
                moved_back_at_ms: None,
                wave_at: Instant::now(),
                change: *self.shared.changes.borrow(),
            }),
        };
        let mut changed = loaded.keys_version != found.keys_version
            || loaded.settings != found.settings
            || loaded.cursors_from_epoch != found.cursors_from_epoch
            || loaded.read_at_ms == 0;
        for row in rows {
            match loaded.store.put(row) {
                Put::Unchanged => {}
                Put::Changed => changed = true,
                Put::MovedBack => {
                    changed = true;
                    loaded.moved_back_at_ms = Some(loaded.started.monotonic_until(as_of).as_millis() as u64 + 1);
                }
            }
        }
        loaded.store.prune(found.read_at_ms);
        if loaded.started.disagreement(as_of) > CLOCKS_DISAGREE {
            // The machine was suspended, or its clock was stepped: page chains from before start over.
            loaded.instance = u64::from_be_bytes(first_eight(random_instance()?));
            loaded.started = as_of;
            loaded.moved_back_at_ms = None;
        }
        let moved_on = loaded.position != position;
        loaded.cursors_from_epoch = found.cursors_from_epoch;
        loaded.position = position;
        loaded.as_of = as_of;
        loaded.read_began = began;
        loaded.read_at_ms = found.read_at_ms.max(loaded.read_at_ms);
        loaded.settings = found.settings;
        loaded.keys_version = found.keys_version;
        if changed {
            // A wave that still lies ahead takes this change along.
            let now = Instant::now();
            if loaded.wave_at <= now {
                loaded.wave_at = now.max(loaded.wave_at + gap);
            }
            loaded.change += 1;
        }
        let (change, entries) = (loaded.change, loaded.store.entries());
        drop(slot);
        self.shared.metrics.feed_entries.set(i64::try_from(entries).unwrap_or(i64::MAX));
        self.shared.metrics.feed_reads.inc();
        if changed || moved_on {
            // Polls that wait for a position look again too; there are few of them.
            self.shared.changes.send_if_modified(|told| {
                let news = *told != change;
                *told = change;
                news || self.shared.behind.load(Ordering::Relaxed) > 0
            });
        }
        Ok(())
    }
}

fn first_eight(bytes: [u8; 16]) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h, ..] = bytes;
    [a, b, c, d, e, f, g, h]
}

/// What one read found.
struct Found {
    /// `None`: it must be raised first.
    epoch: Option<u16>,
    cursors_from_epoch: u16,
    /// As Postgres said it; not yet lowered.
    position: Position,
    read_at_ms: u64,
    settings: EdgeSettings,
    keys_version: u64,
    /// Differs whenever the set of edge credentials that count does. (Of their contents, not of times: of two changes
    /// the one that took its time earlier may commit later.)
    edges: String,
    rows: Vec<Row>,
}

/// The one statement: position, time, epoch, versions and entries of one snapshot.
async fn fetch(connection: &mut PgConnection, cursor: Option<&Position>) -> Result<Found, DbError> {
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
    let same = row.same.unwrap_or(false);
    Ok(Found {
        epoch: row.epoch.filter(|_| same).map(epoch::stored_epoch).transpose()?,
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
        edges: row.edges,
        rows,
    })
}

fn small(value: i32) -> Result<u32, DbError> {
    u32::try_from(value).map_err(|_| DbError::Corrupt("a negative setting"))
}
