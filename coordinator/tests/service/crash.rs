//! After a crash Postgres hands out transaction ids again that it had given to transactions which left nothing behind.
//! A server of its own, killed and started again.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr as _;
use std::time::Duration;

use edgekeep::feed::Readiness;
use edgekeep_shared::feed::Answer;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection, Row as _};

use crate::database::{Database, server_url};
use crate::rig::{Rig, question, until, users};

/// Postgres refuses to run as root.
const NOBODY: u32 = 65_534;

struct Cluster {
    programs: PathBuf,
    folder: PathBuf,
    port: u16,
    running: Option<Child>,
}

impl Cluster {
    /// With the programs of the server that the other tests use.
    async fn new() -> Self {
        let options = PgConnectOptions::from_str(&server_url()).unwrap();
        let mut connection = PgConnection::connect_with(&options).await.unwrap();
        let row = sqlx::query("SELECT setting FROM pg_config WHERE name = 'BINDIR'").fetch_one(&mut connection).await;
        let programs = PathBuf::from(row.expect("the test server must allow pg_config").get::<String, _>(0));
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = std::env::temp_dir().join(format!("edgekeep-crash-{}-{port}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        if is_root() {
            std::os::unix::fs::chown(&folder, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let cluster = Self { programs, folder, port, running: None };
        let made = cluster
            .command("initdb")
            .args(["-D", "data", "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8", "--locale=C"])
            .stdout(Stdio::null())
            .status()
            .expect("initdb stands beside the running server");
        assert!(made.success());
        cluster
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(&self.folder).stdin(Stdio::null());
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    async fn start(&mut self) {
        let port = self.port.to_string();
        let child = self
            .command("postgres")
            .args(["-D", "data", "-p", &port, "-k", "", "-c", "listen_addresses=127.0.0.1", "-c", "autovacuum=off"])
            // Read only where `recovery.signal` asks for a recovery: nothing comes from an archive.
            .args(["-c", "checkpoint_timeout=1h", "-c", "wal_writer_delay=10s", "-c", "restore_command=false"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.running = Some(child);
        for _ in 0..400 {
            if let Ok(connection) = PgConnection::connect_with(&self.options()).await {
                connection.close().await.unwrap();
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("the server did not start");
    }

    fn options(&self) -> PgConnectOptions {
        PgConnectOptions::new().host("127.0.0.1").port(self.port).username("postgres").database("postgres")
    }

    /// Sends a signal to every process of it.
    fn signal(&self, signal: &str) {
        for pid in descendants(self.running.as_ref().unwrap().id()) {
            // A backend that has ended by itself is gone already.
            let _ = Command::new("kill").args([signal, &pid.to_string()]).stderr(Stdio::null()).status();
        }
    }

    /// As a power cut would: every process of it at once, nothing flushed.
    fn crash(&mut self) {
        self.signal("-9");
        self.running.take().unwrap().wait().unwrap();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.running.is_some() {
            self.crash();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// A process of ours and its children.
fn descendants(of: u32) -> Vec<u32> {
    let children = std::fs::read_to_string(Path::new("/proc").join(format!("{of}/task/{of}/children")));
    let children = children.unwrap_or_default();
    std::iter::once(of).chain(children.split_whitespace().filter_map(|pid| pid.parse().ok())).collect()
}

async fn next_xid(database: &Database) -> i64 {
    database.number("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint").await
}

#[tokio::test]
async fn an_id_that_is_used_again_after_a_crash_is_not_skipped() {
    let mut cluster = Cluster::new().await;
    cluster.start().await;
    let database = Database::on(cluster.options()).await;
    database.users(3).await;
    let rig = Rig::start(&database).await;
    let start = rig.load().await;
    database.raise(1).await;
    let before = rig.after(&start, 2_000).await;
    assert_eq!(users(&before), [1]);

    // Whether a crash forgets ids depends on what was flushed last: crash until one does.
    let mut start = before;
    for round in 1..=10 {
        let (cursor, given_out) = traceless_ids(&database, &rig, &start).await;
        cluster.crash();
        cluster.start().await;
        let after = next_xid(database_again(&database).await).await;
        println!("next id before the crash {given_out}, after it {after}, the cursor's xmax {}", cursor.head.to.xmax);
        assert!(u64::try_from(after).unwrap() >= cursor.head.to.xmax, "the cursor names no id that is given out again");
        until("it reads again", || rig.metrics.feed_reconnects.get() >= round).await;
        rig.ready().await;
        database.raise(2).await;
        let raised_by = database.number("SELECT max(feed_xid) FROM user_state").await;
        rig.feed.poke();
        let told = rig.after(&cursor, 2_000).await;
        assert_eq!(users(&told), [2]);
        if raised_by < given_out {
            return; // A cursor with the snapshot's own xmax would have called this raise seen.
        }
        start = told;
    }
    panic!("no crash handed out an id again");
}

/// Gives out ids that leave no trace (nothing of a rolled-back transaction need be durable); the cursor of an answer
/// after that, and the next id. Were its xmax not lowered to what is known durable, it would count them as seen.
async fn traceless_ids(database: &Database, rig: &Rig, start: &Answer) -> (Answer, i64) {
    for _ in 0..200 {
        database.sql("DO $$ BEGIN FOR id IN 1..40 LOOP PERFORM pg_current_xact_id(); ROLLBACK; END LOOP; END $$").await;
        rig.feed.poke();
        let given_out = next_xid(database).await;
        let cursor = rig.after(start, 0).await;
        assert!(cursor.entries.is_empty());
        if i64::try_from(cursor.head.to.xmax).unwrap() + 30 < given_out {
            return (cursor, given_out);
        }
    }
    panic!("no cursor below what was given out");
}

/// The pool's connections died with the server: wait until it has new ones.
async fn database_again(database: &Database) -> &Database {
    for _ in 0..100 {
        if sqlx::query("SELECT 1").execute(&database.pool).await.is_ok() {
            return database;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("no connection after the crash");
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up_and_found_again() {
    let mut cluster = Cluster::new().await;
    cluster.start().await;
    let database = Database::on(cluster.options()).await;
    database.users(2).await;
    database.sql("UPDATE settings SET max_staleness_ms = 2000").await;
    let rig = Rig::start(&database).await;
    let at = rig.load().await;
    // Connections stay open and say nothing: a stopped machine, a link that is cut without a word.
    cluster.signal("-STOP");
    let began = std::time::Instant::now();
    until("it is too old", || matches!(rig.feed.readiness(), Readiness::TooOld { .. })).await;
    println!("polls are refused {:?} after the server hung", began.elapsed());
    assert!(began.elapsed() > Duration::from_millis(700) && rig.ask(&question(Some(&at), 5_000)).await.is_err());
    until("its connection was given up", || rig.metrics.feed_reconnects.get() >= 2).await;
    cluster.signal("-CONT");
    until("ready again", || matches!(rig.feed.readiness(), Readiness::Ready { .. })).await;
    database.raise(2).await;
    assert_eq!(users(&rig.after(&at, 500).await), [2]);
    drop(database);
}

/// With a synchronous standby that is not there nothing is acknowledged; and a wait for it that somebody cancels, which
/// Postgres calls success, is no heartbeat either.
#[tokio::test]
async fn without_its_synchronous_standby_a_primary_proves_nothing() {
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::util::SubscriberInitExt as _;
    // As `edgekeep serve` does. Another test may have done so.
    let _ = tracing_subscriber::registry().with(edgekeep::feed::doubt::Watch).try_init();
    let mut cluster = Cluster::new().await;
    cluster.start().await;
    let database = Database::on(cluster.options()).await;
    database.users(1).await;
    database.sql("UPDATE settings SET max_staleness_ms = 2000").await;
    let rig = Rig::start(&database).await;
    let at = rig.load().await;
    database.sql("ALTER SYSTEM SET synchronous_standby_names = 'gone'").await;
    database.number("SELECT pg_reload_conf()::int::bigint").await;
    until("it is too old", || matches!(rig.feed.readiness(), Readiness::TooOld { .. })).await;
    let beats = rig.metrics.feed_heartbeats.get();
    let cancel = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    let mut cancelled = 0;
    for _ in 0..40 {
        cancelled += database.number(cancel).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(cancelled > 0, "somebody waited for the standby");
    assert_eq!(rig.metrics.feed_heartbeats.get(), beats, "no beat was counted");
    assert!(rig.ask(&question(Some(&at), 0)).await.is_err());
    // The standby is given up for good: that is the operator's word, and everything goes on.
    database.sql("ALTER SYSTEM RESET synchronous_standby_names").await;
    database.number("SELECT pg_reload_conf()::int::bigint").await;
    until("ready again", || matches!(rig.feed.readiness(), Readiness::Ready { .. })).await;
    drop(database);
}

/// A real new timeline, as after a promotion: the stopped server is recovered, which ends in a timeline of its own.
#[tokio::test]
async fn a_promoted_server_raises_the_epoch_by_itself_and_cursors_go_on() {
    let mut cluster = Cluster::new().await;
    cluster.start().await;
    let database = Database::on(cluster.options()).await;
    database.users(3).await;
    let rig = Rig::start(&database).await;
    let start = rig.load().await;
    database.raise(1).await;
    let old = rig.after(&start, 1_000).await;
    assert_eq!((old.head.epoch, users(&old)), (1, vec![1]));

    cluster.crash();
    std::fs::write(cluster.folder.join("data/recovery.signal"), "").unwrap();
    cluster.start().await;
    until("the epoch was raised", || rig.feed.epoch() == Some(2)).await;
    rig.ready().await;
    assert_eq!(
        database_again(&database).await.number("SELECT ('x' || timeline)::bit(32)::bigint FROM cluster").await,
        2
    );
    let quiet = rig.after(&old, 300).await;
    assert_eq!((quiet.head.epoch, users(&quiet)), (2, vec![]), "nothing is loaded again");
    database.raise(2).await;
    let new = rig.after(&quiet, 1_000).await;
    assert_eq!(users(&new), [2]);
    // Whatever the cursor of the old epoch claims to have seen of the new one's ids, it gets what is of the new epoch.
    let mut claims_more = old.clone();
    claims_more.head.to = new.head.to.clone();
    assert_eq!(users(&rig.after(&claims_more, 0).await), [2]);
    drop(database);
}
