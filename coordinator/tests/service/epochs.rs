//! Epochs: another timeline, another database, a restore.

use edgekeep::epoch;
use edgekeep::failure::Failure;
use edgekeep::feed::Readiness;
use edgekeep_shared::revision::Revision;

use crate::database::Database;
use crate::rig::{Rig, question, until, users};

#[tokio::test]
async fn another_timeline_raises_the_epoch_and_old_cursors_go_on() {
    let database = Database::fresh().await;
    database.users(3).await;
    let rig = Rig::start(&database).await;
    let start = rig.load().await;
    assert_eq!(start.head.epoch, 1);
    database.raise(1).await;
    let old = rig.after(&start, 2_000).await;
    // What a promoted standby looks like: the stored timeline is another one.
    database.sql("UPDATE cluster SET timeline = '0000000F'").await;
    until("the epoch was raised", || rig.feed.epoch() == Some(2)).await;
    rig.ready().await;
    let quiet = rig.after(&old, 300).await;
    assert!(quiet.entries.is_empty(), "an old cursor of the same database reloads nothing");
    assert_eq!((quiet.head.epoch, quiet.head.from.as_ref()), (2, Some(&old.head.to)));

    database.raise(2).await;
    rig.feed.poke();
    let new = rig.after(&quiet, 2_000).await;
    assert_eq!(users(&new), [2]);
    assert_eq!(new.entries[0].revision, Revision::first_of_epoch(2).raised());
    // A cursor of the old epoch that "sees" the new transaction's id still gets it: ids may have been used twice.
    let mut blind = old.clone();
    blind.head.to = new.head.to.clone();
    let told = rig.after(&blind, 300).await;
    assert_eq!(users(&told), [2]);
}

#[tokio::test]
async fn another_system_rewrites_every_transaction_id_and_old_cursors_start_over() {
    let database = Database::fresh().await;
    database.users(3).await;
    let rig = Rig::start(&database).await;
    let start = rig.load().await;
    database.raise(1).await;
    let old = rig.after(&start, 2_000).await;
    database.sql("UPDATE cluster SET system_identifier = 1").await;
    until("the epoch was raised", || rig.feed.epoch() == Some(2)).await;
    rig.ready().await;
    let all = rig.after(&old, 300).await;
    assert_eq!((all.head.from.as_ref(), users(&all)), (None, vec![1]));
    let rewritten = database.number("SELECT count(DISTINCT feed_xid) FROM user_state").await;
    assert_eq!(rewritten, 1);
    assert_eq!(database.number("SELECT cursors_from_epoch::bigint FROM cluster").await, 2);
}

#[tokio::test]
async fn a_cursor_from_a_later_epoch_is_unknown_here() {
    let database = Database::fresh().await;
    let rig = Rig::start(&database).await;
    let mut ahead = rig.load().await;
    ahead.head.epoch = 9;
    assert!(matches!(rig.ask(&question(Some(&ahead), 0)).await, Err(Failure::Unknown)));
}

#[tokio::test]
async fn of_many_who_find_another_timeline_one_raises() {
    let database = Database::fresh().await;
    let mut connection = database.connection().await;
    assert_eq!(epoch::checked(&mut connection).await.unwrap(), 1);
    database.sql("UPDATE cluster SET timeline = '0000000F'").await;
    let tries = (0..8).map(|_| async {
        let mut transaction = database.pool.begin().await.unwrap();
        let epoch = epoch::checked(&mut transaction).await.unwrap();
        transaction.commit().await.unwrap();
        epoch
    });
    let epochs = futures_util::future::join_all(tries).await;
    assert_eq!(epochs, [2; 8]);
    assert_eq!(database.number("SELECT count(*) FROM audit WHERE action = 'epoch_raised'").await, 1);
}

#[tokio::test]
async fn after_a_restore_every_session_is_over_and_every_proof_asks() {
    let database = Database::fresh().await;
    database.users(3).await;
    let mut connection = database.connection().await;
    epoch::checked(&mut connection).await.unwrap();
    database
        .sql(
            "INSERT INTO session SELECT 1, 0, decode(repeat('01', 16), 'hex'), now(), now(), now() + interval '1 hour',
                     now() + interval '1 day', now() + interval '5 minutes', ''",
        )
        .await;
    database.sql("INSERT INTO heartbeat VALUES (decode(repeat('02', 16), 'hex'), 5, now())").await;
    let refused = epoch::after_restore(&mut connection, None).await;
    assert!(matches!(refused, Err(Failure::Invalid(_))), "a coordinator is running");
    database.sql("UPDATE heartbeat SET beat_at = now() - interval '1 minute'").await;

    let mut transaction = database.pool.begin().await.unwrap();
    let done = epoch::after_restore(&mut transaction, Some(7)).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!((done.epoch, done.sessions_ended), (7, 1));
    let first = Revision::first_of_epoch(7).0 + 1;
    for (text, expected) in [
        ("SELECT count(*) FROM session", 0),
        ("SELECT count(*) FROM ended_session WHERE reason = 'revoked'", 1),
        ("SELECT count(*) FROM user_state WHERE needed_until > now() + interval '4 minutes'", 3),
        ("SELECT min(revision) FROM user_state", i64::try_from(first).unwrap()),
        ("SELECT count(DISTINCT feed_xid) FROM user_state", 1),
        ("SELECT cursors_from_epoch::bigint FROM cluster", 7),
        ("SELECT count(*) FROM heartbeat", 0),
        ("SELECT count(*) FROM audit WHERE action = 'session_ended' AND user_id = 1", 1),
        ("SELECT version >> 32 FROM key_set", 7),
    ] {
        assert_eq!(database.number(text).await, expected, "{text}");
    }
    let rig = Rig::start(&database).await;
    assert!(matches!(rig.feed.readiness(), Readiness::Ready { .. }));
    assert_eq!(users(&rig.load().await), [1, 2, 3]);
}
