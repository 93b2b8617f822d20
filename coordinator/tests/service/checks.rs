//! Strict checks and renewals.

use std::time::{Duration, Instant};

use edgekeep::failure::Failure;
use edgekeep::keys::{KeyStore, admin};
use edgekeep_shared::api::{CheckAnswer, CheckRequest, CheckVerdict};
use edgekeep_shared::ids::{KeyId, Nonce, SessionId, SiteId, UserId};
use edgekeep_shared::keyring::{RingKey, Secret};
use edgekeep_shared::problem::Reason;
use edgekeep_shared::revision::Revision;
use edgekeep_shared::token::{Claims, sign};
use sqlx::Connection as _;

use crate::database::{Database, execute};
use crate::rig::{Rig, SEAL_KEY, until};

const MINUTE_MS: u64 = 60_000;

/// A database with a user who has a session, a rig on it, and the claims of that session's proof.
pub struct SignedIn {
    pub database: Database,
    pub rig: Rig,
    pub claims: Claims,
}

impl SignedIn {
    pub async fn new() -> Self {
        let database = Database::fresh().await;
        database.users(2).await;
        let rig = Rig::start(&database).await;
        rotate(&database, false).await;
        rig.feed.poke();
        until("there is a key", || rig.keys.version() > 1).await;
        database
            .sql(
                "INSERT INTO session
                  SELECT 1, 0, decode(repeat('01', 16), 'hex'), t, t, t + interval '1 hour', t + interval '1 day',
                         t + interval '5 minutes', 'a browser' FROM (SELECT date_trunc('milliseconds', now()) t) now",
            )
            .await;
        let at = |column: &str| format!("SELECT (extract(epoch FROM {column}) * 1000)::bigint FROM session");
        let ms = async |column| u64::try_from(database.number(&at(column)).await).unwrap();
        let claims = Claims {
            site: SiteId::of("main"),
            user_id: UserId(1),
            revision: Revision::first_of_epoch(1),
            session_id: SessionId([1; 16]),
            authenticated_at_ms: ms("authenticated_at").await,
            renew_after_ms: ms("proof_until").await,
            idle_expires_at_ms: ms("idle_expires_at").await,
            expires_at_ms: ms("expires_at").await,
            name: "user1".into(),
            roles: vec!["member".into()],
        };
        Self { database, rig, claims }
    }

    pub fn token(&self, claims: &Claims) -> String {
        self.rig.keys.sign(claims, self.rig.feed.now_ms().unwrap() + 1_000).unwrap()
    }

    pub async fn check(&self, token: String, renew: bool) -> Result<CheckAnswer, Failure> {
        self.rig.checks.check(CheckRequest { nonce: Nonce([5; 16]), token, renew }).await
    }

    async fn verdict(&self, claims: &Claims, renew: bool) -> CheckVerdict {
        self.check(self.token(claims), renew).await.unwrap().verdict
    }

    async fn proof_until(&self) -> u64 {
        let text = "SELECT (extract(epoch FROM proof_until) * 1000)::bigint FROM session";
        u64::try_from(self.database.number(text).await).unwrap()
    }

    fn claims_of(&self, token: &str) -> Claims {
        self.rig.keys.verify(token, SiteId::of("main")).unwrap().claims().clone()
    }
}

pub async fn rotate(database: &Database, at_once: bool) -> bool {
    let config = edgekeep::config::KeysConfig { rotate_every_s: 86_400, announce_s: 60 };
    let mut transaction = database.pool.begin().await.unwrap();
    let changed = admin::rotate(&mut transaction, &Secret(SEAL_KEY), &config, at_once).await.unwrap();
    transaction.commit().await.unwrap();
    changed
}

fn ended(verdict: &CheckVerdict) -> Option<Reason> {
    match verdict {
        CheckVerdict::Ended { reason } => Some(*reason),
        _ => None,
    }
}

fn new_token(verdict: CheckVerdict) -> Option<String> {
    match verdict {
        CheckVerdict::Current { token, .. } => token,
        CheckVerdict::Ended { reason } => panic!("ended: {reason:?}"),
        CheckVerdict::Unknown => panic!("unknown"),
    }
}

#[tokio::test]
async fn a_check_says_what_the_database_says_now() {
    let t = SignedIn::new().await;
    let answer = t.check(t.token(&t.claims), false).await.unwrap();
    assert_eq!((answer.epoch, answer.nonce, answer.max_staleness_ms), (1, Nonce([5; 16]), 5_000));
    assert_eq!(answer.keys_version, t.rig.keys.version());
    assert!(answer.age_ms < 2_000 && answer.read_at_ms >= t.claims.authenticated_at_ms);
    let CheckVerdict::Current { token: None, revision, roles, session, name, user_id } = answer.verdict else {
        panic!("current, without a new proof")
    };
    assert_eq!((revision, roles, name.as_str(), user_id), (1 << 48, vec!["member".to_owned()], "user1", UserId(1)));
    assert_eq!((session.id, session.expires_at_ms), (t.claims.session_id, t.claims.expires_at_ms));

    // The instant that it is gone, it is gone.
    t.database.sql("DELETE FROM session").await;
    t.database
        .sql(
            "INSERT INTO ended_session VALUES (decode(repeat('01', 16), 'hex'), 1, 'signed_in_elsewhere', now(),
                                                now() + interval '1 day')",
        )
        .await;
    assert_eq!(ended(&t.verdict(&t.claims, true).await), Some(Reason::SignedInElsewhere));
    t.database.sql("DELETE FROM ended_session").await;
    assert_eq!(ended(&t.verdict(&t.claims, true).await), Some(Reason::Revoked));
}

#[tokio::test]
async fn expiry_and_disabling_end_a_session_whose_row_is_still_there() {
    let t = SignedIn::new().await;
    t.database.sql("UPDATE users SET disabled_at = now()").await;
    assert_eq!(ended(&t.verdict(&t.claims, true).await), Some(Reason::Disabled));
    t.database.sql("UPDATE users SET disabled_at = NULL").await;
    t.database.sql("UPDATE session SET idle_expires_at = now()").await;
    assert_eq!(ended(&t.verdict(&t.claims, true).await), Some(Reason::Expired));
    t.database.sql("UPDATE session SET idle_expires_at = now() + interval '1 hour', expires_at = now()").await;
    assert_eq!(ended(&t.verdict(&t.claims, true).await), Some(Reason::Expired));
}

#[tokio::test]
async fn a_proof_newer_than_the_row_and_a_forged_one() {
    let t = SignedIn::new().await;
    let newer = Claims { revision: Revision(t.claims.revision.0 + 1), ..t.claims.clone() };
    assert!(matches!(t.verdict(&newer, true).await, CheckVerdict::Unknown));
    let mut forged = t.token(&t.claims);
    let last = forged.pop().unwrap();
    forged.push(if last == 'A' { 'B' } else { 'A' });
    assert_eq!(ended(&t.check(forged, true).await.unwrap().verdict), Some(Reason::Invalid));
    let elsewhere = Claims { site: SiteId::of("another"), ..t.claims.clone() };
    assert_eq!(ended(&t.verdict(&elsewhere, true).await), Some(Reason::Invalid));
}

#[tokio::test]
async fn a_key_is_unknown_only_if_it_was_looked_for_after_the_question_came() {
    let t = SignedIn::new().await;
    let unknown = sign(&t.claims, &RingKey::new(KeyId(77), &Secret([9; 32]), false)).unwrap();
    assert_eq!(ended(&t.check(unknown.clone(), true).await.unwrap().verdict), Some(Reason::Invalid));
    // A moment later a key is made elsewhere that signs at once.
    let mut transaction = t.database.pool.begin().await.unwrap();
    admin::withdraw_all(&mut transaction, &Secret(SEAL_KEY)).await.unwrap();
    transaction.commit().await.unwrap();
    let elsewhere = KeyStore::new(&Secret(SEAL_KEY));
    elsewhere.load(&mut t.database.connection().await).await.unwrap();
    let new = elsewhere.sign(&t.claims, t.rig.feed.now_ms().unwrap() + 1_000).unwrap();
    assert!(matches!(t.check(new, true).await.unwrap().verdict, CheckVerdict::Current { .. }));
    // Many share one look.
    let began = std::time::Instant::now();
    let many = (0..20).map(|_| t.check(unknown.clone(), true));
    for answer in futures_util::future::join_all(many).await {
        assert_eq!(ended(&answer.unwrap().verdict), Some(Reason::Invalid));
    }
    assert!(began.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn a_fresh_proof_is_not_renewed_and_an_old_one_is_without_a_write_while_the_row_reaches_far() {
    let t = SignedIn::new().await;
    assert_eq!(new_token(t.verdict(&t.claims, true).await), None);
    // A proof near its end, while another one of the same session was renewed already.
    let old = Claims { renew_after_ms: t.claims.renew_after_ms - 4 * MINUTE_MS, ..t.claims.clone() };
    assert_eq!(new_token(t.verdict(&old, false).await), None, "not asked for");
    let renewed = t.claims_of(&new_token(t.verdict(&old, true).await).expect("a new proof"));
    assert_eq!(renewed, t.claims, "up to what the row says, nothing else changed");
    assert_eq!(t.proof_until().await, t.claims.renew_after_ms, "nothing was written");
}

#[tokio::test]
async fn a_renewal_raises_the_row_before_it_signs_and_twenty_at_once_write_once() {
    let t = SignedIn::new().await;
    t.database.sql("UPDATE session SET proof_until = now() + interval '1 minute'").await;
    let near_end = Claims { renew_after_ms: t.claims.renew_after_ms - 4 * MINUTE_MS, ..t.claims.clone() };
    let before = t.database.number("SELECT xmin::text::bigint FROM session").await;
    let tries = (0..20).map(|_| t.verdict(&near_end, true));
    let verdicts = futures_util::future::join_all(tries).await;
    let proof_until = t.proof_until().await;
    assert!(proof_until > t.claims.renew_after_ms);
    for verdict in verdicts {
        let renewed = t.claims_of(&new_token(verdict).expect("a new proof"));
        assert_eq!(renewed.renew_after_ms, proof_until);
        assert_eq!((renewed.session_id, renewed.expires_at_ms), (t.claims.session_id, t.claims.expires_at_ms));
        assert!(renewed.idle_expires_at_ms > t.claims.idle_expires_at_ms);
    }
    assert_ne!(t.database.number("SELECT xmin::text::bigint FROM session").await, before);
    assert_eq!(t.database.number("SELECT count(*) FROM user_state WHERE revision > 0").await, 0, "no raise");
}

#[tokio::test]
async fn a_revised_user_gets_the_new_roles_and_revision() {
    let t = SignedIn::new().await;
    t.database.sql("UPDATE users SET roles = ARRAY['admin']").await;
    t.database.raise(1).await;
    let renewed = t.claims_of(&new_token(t.verdict(&t.claims, true).await).expect("a new proof"));
    assert_eq!(renewed.roles, ["admin"]);
    assert_eq!(renewed.revision, Revision(t.claims.revision.0 + 1));
    let CheckVerdict::Current { token, roles, .. } = t.verdict(&t.claims, false).await else { panic!("current") };
    assert_eq!((token, roles), (None, vec!["admin".to_owned()]), "they bind even without a new proof");
}

#[tokio::test]
async fn a_proof_of_a_withdrawn_key_is_renewed_with_another() {
    let t = SignedIn::new().await;
    let token = t.token(&t.claims);
    let old = t.rig.keys.verify(&token, SiteId::of("main")).unwrap();
    let mut transaction = t.database.pool.begin().await.unwrap();
    admin::withdraw(&mut transaction, &Secret(SEAL_KEY), old.key_id()).await.unwrap();
    transaction.commit().await.unwrap();
    let version = t.rig.keys.version();
    t.rig.feed.poke();
    until("it is known", || t.rig.keys.version() > version).await;
    assert!(t.rig.keys.verify(&token, SiteId::of("main")).unwrap().key_withdrawn());
    let renewed = new_token(t.check(token, true).await.unwrap().verdict).expect("a new proof");
    let renewed = t.rig.keys.verify(&renewed, SiteId::of("main")).unwrap();
    assert!(renewed.key_id() != old.key_id() && !renewed.key_withdrawn());
    assert_eq!(renewed.claims(), &t.claims);
}

#[tokio::test]
async fn many_questions_share_one_write() {
    let t = SignedIn::new().await;
    let token = t.token(&t.claims);
    t.check(token.clone(), false).await.unwrap();
    let beats = "SELECT sum(counter)::bigint FROM heartbeat";
    let (before, feed_before) = (t.database.number(beats).await, t.rig.metrics.feed_heartbeats.get());
    let checks = (0..400).map(|_| t.check(token.clone(), false));
    for answer in futures_util::future::join_all(checks).await {
        assert!(matches!(answer.unwrap().verdict, CheckVerdict::Current { .. }));
    }
    let (after, feed_after) = (t.database.number(beats).await, t.rig.metrics.feed_heartbeats.get());
    let writes = after - before - i64::try_from(feed_after - feed_before).unwrap();
    println!("400 checks, {writes} writes");
    assert!((1..=100).contains(&writes));
}

#[tokio::test]
async fn who_ask_again_and_again_share_each_write() {
    let t = SignedIn::new().await;
    let token = t.token(&t.claims);
    let beats = "SELECT sum(counter)::bigint FROM heartbeat";
    let (before, feed_before) = (t.database.number(beats).await, t.rig.metrics.feed_heartbeats.get());
    let askers = (0..8).map(async |asker| {
        for _ in 0..50 {
            t.check(token.clone(), false).await.unwrap();
            // Over the network nobody asks again in the very same moment.
            for _ in 0..asker {
                tokio::task::yield_now().await;
            }
        }
    });
    futures_util::future::join_all(askers).await;
    let (after, feed_after) = (t.database.number(beats).await, t.rig.metrics.feed_heartbeats.get());
    let writes = after - before - i64::try_from(feed_after - feed_before).unwrap();
    println!("8 times 50 checks, {writes} writes");
    assert!((50..75).contains(&writes), "{writes} writes; 100 if each batch had half of them");
}

#[tokio::test]
async fn a_user_whose_row_is_held_keeps_no_other_from_renewing() {
    let t = SignedIn::new().await;
    t.database
        .sql(
            "INSERT INTO session
              SELECT 2, 0, decode(repeat('02', 16), 'hex'), authenticated_at, last_seen_at, idle_expires_at, expires_at,
                     proof_until, device FROM session",
        )
        .await;
    let due = Claims { renew_after_ms: t.claims.renew_after_ms - 4 * MINUTE_MS, ..t.claims.clone() };
    let other = Claims { user_id: UserId(2), session_id: SessionId([2; 16]), name: "user2".into(), ..due.clone() };
    let mut holder = t.database.connection().await;
    // Together with the one that must wait, and while that waits.
    for later in [Duration::ZERO, Duration::from_millis(50)] {
        t.database.sql("UPDATE session SET proof_until = now() + interval '1 minute'").await;
        let (held, free) = (t.token(&due), t.token(&other));
        let mut transaction = holder.begin().await.unwrap();
        execute(&mut transaction, "SELECT FROM user_state WHERE user_id = 1 FOR UPDATE").await;
        let renewed = async {
            tokio::time::sleep(later).await;
            let begun = Instant::now();
            let answer = t.check(free, true).await.unwrap();
            assert!(new_token(answer.verdict).is_some());
            // The other one would wait for five seconds (`lock_timeout_ms`).
            assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
            transaction.rollback().await.unwrap();
        };
        let (first, ()) = tokio::join!(t.check(held, true), renewed);
        assert!(new_token(first.unwrap().verdict).is_some(), "once it is free it renews");
    }
}

#[tokio::test]
async fn checks_use_the_indexes_however_the_tables_have_grown() {
    let t = SignedIn::new().await;
    let token = t.token(&t.claims);
    let tables = ["users", "user_state"];
    for table in tables {
        t.database.sql(&format!("ANALYZE {table}")).await;
    }
    for _ in 0..10 {
        t.check(token.clone(), false).await.unwrap();
    }
    t.database.add_users(10, 20_000).await;
    let mut before = Vec::new();
    for table in tables {
        before.push(t.database.scanned(table).await);
    }
    for _ in 0..10 {
        t.check(token.clone(), false).await.unwrap();
    }
    for (table, before) in tables.into_iter().zip(before) {
        assert_eq!(t.database.scanned(table).await, before, "rows of {table} that were read without an index");
    }
}

#[tokio::test]
async fn a_dead_connection_costs_one_try_and_a_lost_heartbeat_stops_the_coordinator() {
    let t = SignedIn::new().await;
    t.database.sql("CREATE TABLE heartbeat_of_the_feed AS SELECT instance FROM heartbeat").await;
    t.check(t.token(&t.claims), false).await.unwrap();
    t.database
        .number(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                 WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '%WITH ORDINALITY%'",
        )
        .await;
    t.check(t.token(&t.claims), false).await.expect("answered on a new connection");
    // The checks' own: the feed's reader, which would stop as well, finds nothing wrong.
    t.database
        .sql("UPDATE heartbeat SET counter = 0 WHERE instance NOT IN (SELECT instance FROM heartbeat_of_the_feed)")
        .await;
    assert!(t.check(t.token(&t.claims), false).await.is_err());
    tokio::time::timeout(Duration::from_secs(20), t.rig.feed.stopped()).await.expect("stopped");
}
