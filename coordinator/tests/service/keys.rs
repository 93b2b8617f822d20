//! Signing keys and edge credentials.

use edgekeep::edges;
use edgekeep::failure::Failure;
use edgekeep::keys::{KeyStore, admin};
use edgekeep_shared::ids::SiteId;
use edgekeep_shared::keyring::Secret;

use crate::checks::{SignedIn, rotate};
use crate::database::Database;
use crate::rig::{Rig, SEAL_KEY, question, until};

#[tokio::test]
async fn of_many_coordinators_that_start_one_makes_the_first_key() {
    let database = Database::fresh().await;
    let starts = (0..8).map(|_| rotate(&database, false));
    let changed = futures_util::future::join_all(starts).await;
    assert_eq!(changed.into_iter().filter(|changed| *changed).count(), 1);
    assert_eq!(database.number("SELECT count(*) FROM signing_key").await, 1);
}

#[tokio::test]
async fn a_rotation_announces_first_and_logs_nobody_out() {
    let t = SignedIn::new().await;
    let site = SiteId::of("main");
    let old_token = t.token(&t.claims);
    let old_key = t.rig.keys.verify(&old_token, site).unwrap().key_id();
    let version = t.rig.keys.version();
    // A poll that waits learns of the new set at once.
    let at = t.rig.load().await;
    let held = question(Some(&at), 10_000);
    let (answer, changed) = tokio::join!(t.rig.ask(&held), async {
        until("it is held", || t.rig.feed.held() == 1).await;
        rotate(&t.database, true).await
    });
    assert!(changed);
    let answer = answer.unwrap();
    assert_eq!((answer.head.keys_version, answer.entries.len()), (version + 1, 0));
    assert!(answer.head.held_ms < 1_250);
    assert_eq!(t.rig.keys.version(), version + 1, "this coordinator can deliver what the feed names");
    assert!(!rotate(&t.database, true).await, "one successor is announced already");

    let still = t.rig.keys.verify(&t.token(&t.claims), site).unwrap();
    assert_eq!(still.key_id(), old_key, "announced, not signing yet");
    // A minute later.
    t.database.sql("UPDATE signing_key SET signs_from = signs_from - interval '61 seconds'").await;
    assert!(rotate(&t.database, false).await, "the old key retires");
    t.rig.feed.poke();
    until("it is known", || t.rig.keys.version() > version + 1).await;
    let new_token = t.token(&t.claims);
    assert_ne!(t.rig.keys.verify(&new_token, site).unwrap().key_id(), old_key);
    let old = t.rig.keys.verify(&old_token, site).unwrap();
    assert!(!old.key_withdrawn(), "a retired key verifies on");

    // It goes when no session of its time is left.
    t.database
        .sql("UPDATE signing_key SET retired_at = now() - interval '26 hours' WHERE retired_at IS NOT NULL")
        .await;
    t.database.sql("UPDATE session SET authenticated_at = now() - interval '27 hours'").await;
    assert!(!rotate(&t.database, false).await, "a session of its time is still there");
    t.database.sql("UPDATE session SET authenticated_at = now()").await;
    assert!(rotate(&t.database, false).await);
    assert_eq!(t.database.number("SELECT count(*) FROM signing_key").await, 1);
}

#[tokio::test]
async fn keys_are_sealed_and_another_deployment_cannot_open_them() {
    let database = Database::fresh().await;
    rotate(&database, false).await;
    let mut connection = database.connection().await;
    assert!(KeyStore::new(&Secret(SEAL_KEY)).load(&mut connection).await.is_ok());
    assert!(KeyStore::new(&Secret([8; 32])).load(&mut connection).await.is_err());
    let listed = admin::list(&mut connection).await.unwrap();
    assert_eq!((listed.len(), listed[0].state), (1, "signing"));
    let missing = admin::withdraw(&mut connection, &Secret(SEAL_KEY), edgekeep_shared::ids::KeyId(1)).await;
    assert!(matches!(missing, Err(Failure::Invalid(_))));
}

#[tokio::test]
async fn a_revoked_edge_is_refused_and_its_keys_are_withdrawn() {
    let database = Database::fresh().await;
    rotate(&database, false).await;
    let mut connection = database.connection().await;
    let one = edges::add(&mut connection, "edge-1").await.unwrap();
    let two = edges::add(&mut connection, "edge-2").await.unwrap();
    assert!(matches!(edges::add(&mut connection, "edge-1").await, Err(Failure::Invalid(_))));
    assert!(matches!(edges::add(&mut connection, "Edge 3").await, Err(Failure::Invalid(_))));
    let rig = Rig::start(&database).await;
    assert_eq!(rig.edges.authenticate(&one).as_deref(), Some("edge-1"));
    let signing = rig.keys.version();

    let mut transaction = database.pool.begin().await.unwrap();
    edges::revoke(&mut transaction, &Secret(SEAL_KEY), "edge-1").await.unwrap();
    transaction.commit().await.unwrap();
    rig.feed.poke();
    until("it is refused", || rig.edges.authenticate(&one).is_none()).await;
    assert_eq!(rig.edges.authenticate(&two).as_deref(), Some("edge-2"));
    assert!(rig.keys.version() > signing);
    assert_eq!(database.number("SELECT count(*) FROM signing_key WHERE withdrawn_at IS NOT NULL").await, 1);
    assert_eq!(database.number("SELECT count(*) FROM signing_key WHERE withdrawn_at IS NULL").await, 1);
    let again = edges::revoke(&mut connection, &Secret(SEAL_KEY), "edge-1").await;
    assert!(matches!(again, Err(Failure::Invalid(_))));
    let anew = edges::add(&mut connection, "edge-1").await.unwrap();
    rig.feed.poke();
    until("the new one counts", || rig.edges.authenticate(&anew).is_some()).await;
    assert!(rig.edges.authenticate(&one).is_none());
    // A change that began earlier and is committed later is noticed too.
    let mut earlier = database.pool.begin().await.unwrap();
    edges::revoke(&mut earlier, &Secret(SEAL_KEY), "edge-2").await.unwrap();
    let three = edges::add(&mut connection, "edge-3").await.unwrap();
    rig.feed.poke();
    until("the third one counts", || rig.edges.authenticate(&three).is_some()).await;
    earlier.commit().await.unwrap();
    rig.feed.poke();
    until("the second one is refused", || rig.edges.authenticate(&two).is_none()).await;
    edges::add(&mut connection, "edge-2").await.unwrap();
    let listed = edges::list(&mut connection).await.unwrap();
    assert!(listed.iter().all(|edge| edge.revoked_at_ms.is_none()) && listed.len() == 3);
}
