//! The feed: nothing skipped, nothing sent again, pushed at once.

use std::time::{Duration, Instant};

use edgekeep_shared::feed::Answer;
use sqlx::Connection as _;

use crate::database::{Database, execute, raise};
use crate::rig::{Rig, cursor, feed_config, question, users};

#[tokio::test]
async fn a_held_poll_is_answered_by_the_commit() {
    let database = Database::fresh().await;
    database.users(3).await;
    let rig = Rig::start(&database).await;
    let mut at = rig.load().await;
    assert!(at.entries.is_empty());
    let mut slowest = Duration::ZERO;
    for turn in 0..20 {
        let question = question(Some(&at), 10_000);
        let (answer, committed) = tokio::join!(rig.ask(&question), async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            database.raise(1 + turn % 3).await;
            // As a login or logout on this coordinator does after its commit.
            rig.feed.poke();
            Instant::now()
        });
        slowest = slowest.max(committed.elapsed());
        at = answer.expect("answered");
        assert_eq!(users(&at), [1 + turn % 3]);
        assert!((10..1_250).contains(&at.head.held_ms), "held {}", at.head.held_ms);
    }
    println!("slowest of 20 from acknowledged commit to answer: {slowest:?}");
}

#[tokio::test]
async fn a_poll_is_held_for_a_quarter_of_the_bound_at_most() {
    let database = Database::fresh().await;
    database.sql("UPDATE settings SET max_staleness_ms = 800").await;
    let rig = Rig::start(&database).await;
    let at = rig.load().await;
    let empty = rig.after(&at, 10_000).await;
    assert!(empty.entries.is_empty() && empty.head.held_ms >= 199, "held {}", empty.head.held_ms);
    assert_eq!(empty.head.max_staleness_ms, 800);
    assert!(empty.head.age_ms <= 400, "age {}", empty.head.age_ms);
    assert!(empty.head.to.covers(&at.head.to), "a position never moves backwards");
    let at_once = rig.after(&empty, 0).await;
    assert!(at_once.head.held_ms < 100);
}

#[tokio::test]
async fn a_lower_id_that_commits_later_is_not_skipped() {
    let database = Database::fresh().await;
    database.users(2).await;
    let rig = Rig::start(&database).await;
    let start = rig.load().await;
    let mut early = database.connection().await;
    let mut transaction = early.begin().await.unwrap();
    raise(&mut transaction, 1).await;
    database.raise(2).await;
    let first = rig.after(&start, 2_000).await;
    assert_eq!(users(&first), [2]);
    assert!(!first.head.to.xip.is_empty(), "the open transaction is part of the position");
    transaction.commit().await.unwrap();
    let second = rig.after(&first, 2_000).await;
    assert_eq!(users(&second), [1]);
}

#[tokio::test]
async fn an_open_writing_transaction_delays_nothing_and_resends_nothing() {
    let database = Database::fresh().await;
    database.users(3).await;
    let other = Database::fresh().await;
    other.users(1).await;
    let rig = Rig::start(&database).await;
    let mut at = rig.load().await;

    let mut here = database.connection().await;
    let mut here = here.begin().await.unwrap();
    execute(&mut here, "INSERT INTO audit (action) VALUES ('held open')").await;
    let mut there = other.connection().await;
    let mut there = there.begin().await.unwrap();
    execute(&mut there, "INSERT INTO audit (action) VALUES ('held open')").await;

    for user in [1, 2, 3, 1] {
        database.raise(user).await;
        let began = Instant::now();
        at = rig.after(&at, 5_000).await;
        assert_eq!(users(&at), [user], "exactly the new one");
        assert!(began.elapsed() < Duration::from_secs(1));
    }
    let quiet = rig.after(&at, 300).await;
    assert!(quiet.entries.is_empty(), "nothing is sent again");
    there.rollback().await.unwrap();
    here.rollback().await.unwrap();
    let still_quiet = rig.after(&quiet, 300).await;
    assert!(still_quiet.entries.is_empty());
}

/// All pages of one answer.
async fn pages(rig: &Rig, since: Option<&Answer>) -> Vec<Answer> {
    let at = since.map(|answer| (answer.head.epoch, answer.head.to.clone()));
    let mut pages: Vec<Answer> = Vec::new();
    loop {
        let token = pages.last().and_then(|page| page.head.next_page.clone());
        let page = rig.ask(&cursor(at.clone(), token, 0)).await.expect("a page");
        let more = page.head.next_page.is_some();
        pages.push(page);
        if !more {
            return pages;
        }
    }
}

#[tokio::test]
async fn pages_hold_everything_once_with_the_position_and_age_of_the_first() {
    let database = Database::fresh().await;
    database.users(1_000).await;
    let rig = Rig::start(&database).await;
    let start = rig.load().await;
    database
        .sql(
            "UPDATE user_state SET revision = 1, needed_until = now() + interval '1 minute',
              feed_xid = pg_current_xact_id()::text::bigint WHERE user_id <= 950",
        )
        .await;
    rig.feed.poke();
    rig.after(&start, 2_000).await;
    for since in [None, Some(&start)] {
        let pages = pages(&rig, since).await;
        assert_eq!(pages.len(), 10);
        let mut seen: Vec<u64> = pages.iter().flat_map(users).collect();
        seen.sort_unstable();
        assert_eq!(seen, (1..=950).collect::<Vec<_>>());
        assert!(pages.iter().all(|page| page.head.to == pages[0].head.to));
        assert!(pages.windows(2).all(|pair| pair[0].head.age_ms <= pair[1].head.age_ms + 1), "ages of the first page");
    }
}

#[tokio::test]
async fn a_page_of_another_reader_or_of_a_changed_order_starts_over() {
    let database = Database::fresh().await;
    database.users(300).await;
    let (one, two) = (Rig::start(&database).await, Rig::start(&database).await);
    let start = one.load().await;
    database
        .sql(
            "UPDATE user_state SET revision = 1, needed_until = now() + interval '1 minute',
              feed_xid = pg_current_xact_id()::text::bigint",
        )
        .await;
    one.feed.poke();
    one.after(&start, 2_000).await;
    let first = one.ask(&cursor(None, None, 0)).await.unwrap();
    let token = first.head.next_page.clone().expect("more");
    // The other coordinator knows nothing of this chain.
    two.feed.poke();
    crate::rig::until("the other has read it", || two.metrics.feed_entries.get() == 300).await;
    let elsewhere = two.ask(&cursor(None, Some(token.clone()), 0)).await.unwrap();
    assert_eq!(users(&elsewhere), users(&first), "page one anew");
    assert_ne!(elsewhere.head.next_page.unwrap().instance, token.instance);
    // Here it goes on…
    let second = one.ask(&cursor(None, Some(token.clone()), 0)).await.unwrap();
    assert!(users(&second).iter().all(|user| !users(&first).contains(user)));
    // …until an entry that the chain has not reached moves back to a place that it has passed: a transaction with a
    // lower id that committed later.
    let mut early = database.connection().await;
    let mut transaction = early.begin().await.unwrap();
    execute(&mut transaction, "INSERT INTO audit (action) VALUES ('takes its id early')").await;
    database.raise(299).await;
    one.feed.poke();
    crate::rig::until("it was read", || one.feed.readiness() != edgekeep::feed::Readiness::NotLoaded).await;
    let at = one.after(&first, 2_000).await;
    assert_eq!(users(&at), [299]);
    raise(&mut transaction, 299).await;
    transaction.commit().await.unwrap();
    one.feed.poke();
    let moved = one.after(&at, 2_000).await;
    assert_eq!(users(&moved), [299]);
    let restarted = one.ask(&cursor(None, Some(token), 0)).await.unwrap();
    assert_eq!(restarted.entries.len(), 100);
    assert_eq!(users(&restarted), users(&one.ask(&cursor(None, None, 0)).await.unwrap()), "page one anew");
}

#[tokio::test]
async fn a_cursor_from_another_coordinator_is_caught_up_with() {
    let database = Database::fresh().await;
    database.users(50).await;
    let (one, two) = (Rig::start(&database).await, Rig::start(&database).await);
    let mut at = one.load().await;
    for user in 1..=50 {
        database.raise(user).await;
        let rig = if user % 2 == 0 { &one } else { &two };
        let next = rig.after(&at, 5_000).await;
        assert_eq!(users(&next), [user]);
        assert!(next.head.to.covers(&at.head.to), "the answer's position covers the cursor");
        at = next;
    }
}

#[tokio::test]
async fn too_many_polls_are_refused_and_draining_releases_the_others() {
    let database = Database::fresh().await;
    let rig = Rig::start_unready(&database, feed_config(), 2);
    rig.ready().await;
    let at = rig.load().await;
    let question = question(Some(&at), 60_000);
    let began = Instant::now();
    let (one, two, three, ()) = tokio::join!(
        biased;
        rig.ask(&question),
        rig.ask(&question),
        async {
            crate::rig::until("two are held", || rig.feed.held() == 2).await;
            rig.ask(&question).await
        },
        async {
            crate::rig::until("two are held", || rig.feed.held() == 2).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            rig.feed.drain();
        }
    );
    assert!(one.is_ok() && two.is_ok());
    assert!(matches!(three, Err(edgekeep::Failure::Overloaded)));
    assert!(began.elapsed() < Duration::from_millis(1_200), "released before their hold was over");
    assert_eq!(rig.feed.held(), 0);
}

#[tokio::test]
async fn expired_entries_are_not_sent() {
    let database = Database::fresh().await;
    database.users(2).await;
    let rig = Rig::start(&database).await;
    let at = rig.load().await;
    // In one transaction: the reader must not see the entry with the longer time in between.
    let mut connection = database.connection().await;
    execute(&mut connection, "BEGIN").await;
    raise(&mut connection, 1).await;
    execute(
        &mut connection,
        "UPDATE user_state SET needed_until = clock_timestamp() + interval '300 milliseconds' WHERE user_id = 1; COMMIT",
    )
    .await;
    let got = rig.after(&at, 2_000).await;
    assert_eq!(users(&got), [1]);
    crate::rig::until("it expired", || rig.metrics.feed_entries.get() == 0).await;
    let fresh = rig.load().await;
    assert!(fresh.entries.is_empty());
    assert!(fresh.head.read_at_ms >= got.entries[0].needed_until_ms);
}

#[tokio::test]
async fn many_polls_with_one_cursor_get_the_same_answer() {
    let database = Database::fresh().await;
    database.users(5).await;
    let rig = Rig::start(&database).await;
    let at = rig.load().await;
    let polls = (0..500).map(|_| async {
        let question = question(Some(&at), 10_000);
        rig.ask(&question).await
    });
    let (answers, ()) = tokio::join!(futures_util::future::join_all(polls), async {
        crate::rig::until("all are held", || rig.feed.held() == 500).await;
        database.raise(4).await;
        rig.feed.poke();
    });
    for answer in answers {
        assert_eq!(users(&answer.unwrap()), [4]);
    }
}

#[tokio::test]
async fn reads_use_the_index() {
    let database = Database::fresh().await;
    database.users(20_000).await;
    database.sql("ANALYZE user_state").await;
    let rig = Rig::start(&database).await;
    let mut at = rig.load().await;
    let scanned = database.scanned("user_state").await;
    for turn in 0..10 {
        database.raise(10 + turn).await;
        at = rig.after(&at, 5_000).await;
        assert_eq!(users(&at), [10 + turn]);
    }
    assert_eq!(database.scanned("user_state").await, scanned, "rows that were read without an index");
}
