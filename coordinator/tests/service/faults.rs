//! What goes wrong under the reader.

use std::time::{Duration, Instant};

use edgekeep::failure::Failure;
use edgekeep::feed::Readiness;
use sqlx::Connection as _;

use crate::database::{Database, execute};
use crate::rig::{Rig, question, until, users};

#[tokio::test]
async fn without_heartbeats_answers_age_and_stop() {
    let database = Database::fresh().await;
    database.users(1).await;
    database.sql("UPDATE settings SET max_staleness_ms = 2000").await;
    let rig = Rig::start(&database).await;
    let at = rig.load().await;
    // Nothing can be committed to the heartbeat, as on a primary whose synchronous standby has left it.
    let mut blocker = database.connection().await;
    let mut blocking = blocker.begin().await.unwrap();
    execute(&mut blocking, "LOCK TABLE heartbeat IN ACCESS EXCLUSIVE MODE").await;
    until("too old", || matches!(rig.feed.readiness(), Readiness::TooOld { .. })).await;
    let began = Instant::now();
    assert!(matches!(rig.ask(&question(Some(&at), 10_000)).await, Err(Failure::NotReady(_))));
    assert!(began.elapsed() < Duration::from_secs(1), "refused at once, not held");
    database.raise(1).await;
    blocking.rollback().await.unwrap();
    until("ready again", || matches!(rig.feed.readiness(), Readiness::Ready { .. })).await;
    assert_eq!(users(&rig.after(&at, 1_000).await), [1]);
}

#[tokio::test]
async fn a_lost_connection_is_made_anew_and_nothing_is_lost() {
    let database = Database::fresh().await;
    database.users(2).await;
    let rig = Rig::start(&database).await;
    let at = rig.load().await;
    let ended = database
        .number(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                 WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .await;
    assert!(ended >= 1);
    database.raise(2).await;
    until("it was counted", || rig.metrics.feed_reconnects.get() >= 1).await;
    rig.ready().await;
    assert_eq!(users(&rig.after(&at, 1_000).await), [2]);
}

/// The reason for which the coordinator stops.
async fn stopped(rig: &Rig) -> String {
    tokio::time::timeout(Duration::from_secs(20), rig.feed.stopped()).await.expect("it must stop")
}

#[tokio::test]
async fn a_heartbeat_that_went_backwards_stops_the_coordinator() {
    let database = Database::fresh().await;
    let rig = Rig::start(&database).await;
    until("some beats", || rig.metrics.feed_heartbeats.get() >= 3).await;
    database.sql("UPDATE heartbeat SET counter = 1").await;
    let reason = stopped(&rig).await;
    assert!(reason.contains("went back in time") && reason.contains("after-restore"), "{reason}");
    assert_eq!(rig.feed.readiness(), Readiness::NotLoaded);
}

#[tokio::test]
async fn a_heartbeat_that_vanished_stops_the_coordinator() {
    let database = Database::fresh().await;
    let rig = Rig::start(&database).await;
    until("a beat", || rig.metrics.feed_heartbeats.get() >= 1).await;
    database.sql("DELETE FROM heartbeat").await;
    assert!(stopped(&rig).await.contains("went back in time"));
}

#[tokio::test]
async fn acknowledging_before_it_is_durable_is_refused() {
    let database = Database::fresh().await;
    database.sql(&format!("ALTER DATABASE {} SET synchronous_commit = off", database.name)).await;
    let rig = Rig::start_unready(&database, crate::rig::feed_config(), 10);
    assert!(stopped(&rig).await.contains("synchronous_commit"));
}
