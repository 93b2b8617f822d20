//! How often the reader beats and reads: at once when somebody needs it, and no more than that.

use std::time::{Duration, Instant};

use edgekeep::config::FeedConfig;

use crate::database::Database;
use crate::rig::{Rig, feed_config, question, until, users};

/// A reader for whom nothing is due by itself for more than a minute.
async fn quiet(database: &Database) -> Rig {
    database.sql("UPDATE settings SET max_staleness_ms = 600000").await;
    let config = FeedConfig { heartbeat_every_ms: 600_000, ..feed_config() };
    let rig = Rig::start_unready(database, config, 1_000);
    rig.ready().await;
    rig
}

/// The most that can have happened since then, once in so many milliseconds: two more were due or under way at the start,
/// and one is at the end.
fn most_since(began: Instant, every_ms: u64) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap() / every_ms + 3
}

#[tokio::test]
async fn nothing_is_read_unless_somebody_needs_it() {
    let database = Database::fresh().await;
    let rig = quiet(&database).await;
    let before = rig.metrics.feed_reads.get();
    for turn in 1..=20 {
        rig.feed.poke();
        until("read", || rig.metrics.feed_reads.get() >= before + turn).await;
    }
    // If a poll were held, ten more would be due.
    tokio::time::sleep(Duration::from_millis(10 * feed_config().read_every_ms)).await;
    assert_eq!((rig.metrics.feed_reads.get() - before, rig.metrics.feed_heartbeats.get()), (20, 1));
}

#[tokio::test]
async fn polls_that_are_answered_at_once_share_the_reads_of_polls_that_are_held() {
    let database = Database::fresh().await;
    let rig = quiet(&database).await;
    let at = rig.load().await;
    let (began, before) = (Instant::now(), rig.metrics.feed_reads.get());
    while rig.metrics.feed_reads.get() < before + 10 {
        rig.after(&at, 0).await;
        assert!(began.elapsed() < Duration::from_secs(20), "they must be read for all the same");
        tokio::task::yield_now().await;
    }
    let reads = rig.metrics.feed_reads.get() - before;
    let most = most_since(began, feed_config().read_every_ms);
    assert!(reads <= most, "{reads} reads where {most} are enough");
}

#[tokio::test]
async fn what_is_committed_elsewhere_is_read_while_a_poll_is_held() {
    let database = Database::fresh().await;
    database.users(1).await;
    let rig = quiet(&database).await;
    let at = rig.load().await;
    let (began, before) = (Instant::now(), rig.metrics.feed_reads.get());
    let question = question(Some(&at), 20_000);
    let (answer, ()) = tokio::join!(rig.ask(&question), async {
        until("some reads", || rig.metrics.feed_reads.get() >= before + 10).await;
        // A commit of another coordinator pokes nobody here.
        database.raise(1).await;
    });
    let answer = answer.unwrap();
    assert_eq!(users(&answer), [1]);
    assert!(answer.head.held_ms < 20_000, "the commit answers it, not the end of its hold");
    let reads = rig.metrics.feed_reads.get() - before;
    let most = most_since(began, feed_config().read_every_ms);
    assert!(reads <= most, "{reads} reads where {most} are enough");
    assert_eq!(rig.metrics.feed_heartbeats.get(), 1);
}

#[tokio::test]
async fn a_cursor_from_ahead_makes_it_beat() {
    let database = Database::fresh().await;
    let rig = quiet(&database).await;
    // It began later, so its heartbeat has a higher transaction id, and no row tells of that one.
    let other = quiet(&database).await;
    let question = question(Some(&other.load().await), 60_000);
    let (answer, ()) = tokio::join!(rig.ask(&question), async {
        until("it has beaten for this question", || rig.metrics.feed_heartbeats.get() == 2).await;
        let reads = rig.metrics.feed_reads.get();
        until("and read", || rig.metrics.feed_reads.get() > reads).await;
        rig.feed.drain();
    });
    let to = answer.unwrap().head.to;
    assert!(question.from.is_some_and(|from| to.covers(&from)), "{to:?}");
}

#[tokio::test]
async fn it_beats_often_enough_for_a_small_bound() {
    let database = Database::fresh().await;
    let rig = quiet(&database).await;
    database.sql("UPDATE settings SET max_staleness_ms = 800").await;
    let (began, before) = (Instant::now(), rig.metrics.feed_heartbeats.get());
    rig.feed.poke();
    until("beats", || rig.metrics.feed_heartbeats.get() >= before + 10).await;
    let beats = rig.metrics.feed_heartbeats.get() - before;
    let most = most_since(began, 800 / 8);
    assert!(beats <= most, "{beats} beats where {most} are enough");
}
