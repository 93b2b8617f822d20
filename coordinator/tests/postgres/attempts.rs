//! G4: one attempt, however often and wherever it is delivered.

use std::time::Duration;

use edgekeep::db::attempts::Outcome;
use edgekeep::failure::Failure;
use edgekeep::login;
use edgekeep_shared::api::LoginRequest;
use edgekeep_shared::problem::Code;

use crate::support::{Cluster, PASSWORD, failure, request, start};

#[tokio::test(flavor = "multi_thread")]
async fn twenty_deliveries_at_once_make_one_session() {
    let cluster = Cluster::new().await;
    cluster.user("ann", &[]).await;
    let other = start(cluster.config.clone()).await;
    let deliveries: Vec<_> = (0..20)
        .map(|n| {
            let app = if n % 2 == 0 { cluster.app.clone() } else { other.clone() };
            tokio::spawn(async move { login::login(&app, request("ann", PASSWORD, "one-key")).await })
        })
        .collect();
    let mut ids = Vec::new();
    for delivery in deliveries {
        ids.push(delivery.await.unwrap().unwrap_or_else(|failure| panic!("{failure}")).session.id);
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
    assert_eq!(cluster.number("SELECT count(*) FROM session").await, 1);
    assert_eq!(cluster.number("SELECT count(*) FROM ended_session").await, 0);
    assert_eq!(cluster.app.hasher.evaluations() + other.hasher.evaluations(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_wrong_deliveries_at_once_count_one_failure() {
    let cluster = Cluster::new().await;
    cluster.user("ann", &[]).await;
    let other = start(cluster.config.clone()).await;
    let deliveries: Vec<_> = (0..20)
        .map(|n| {
            let app = if n % 2 == 0 { cluster.app.clone() } else { other.clone() };
            tokio::spawn(async move { login::login(&app, request("ann", "not the right password", "one-key")).await })
        })
        .collect();
    for delivery in deliveries {
        assert!(matches!(failure(delivery.await.unwrap()), Failure::InvalidCredentials));
    }
    assert_eq!(cluster.number("SELECT count(*) FROM attempt WHERE counted").await, 1);
    assert_eq!(cluster.app.hasher.evaluations() + other.hasher.evaluations(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_in_flight_elsewhere_is_waited_for_and_then_reported() {
    let cluster = Cluster::with(|config| config.login.in_flight_wait_ms = 300).await;
    cluster.user("ann", &[]).await;
    failure(cluster.login(request("ann", "not the right password", "one-key")).await);
    // As if another coordinator had reserved it and were still hashing.
    cluster
        .execute("UPDATE attempt SET settled_at = NULL, outcome = NULL, owner_deadline = clock_timestamp() + interval '1 hour'")
        .await;
    let waiting = failure(cluster.login(request("ann", "not the right password", "one-key")).await);
    assert!(matches!(waiting, Failure::InFlight));
    let problem = waiting.problem();
    assert_eq!((problem.status, problem.code, problem.retry_after_s), (409, Code::LoginInFlight, Some(1)));
    assert_eq!(cluster.app.hasher.evaluations(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abandoned_attempt_is_taken_over_uncounted() {
    let cluster = Cluster::new().await;
    cluster.user("ann", &[]).await;
    // A coordinator reserved and crashed: the attempt is there, unsettled, its owner's deadline long past.
    cluster.signed_in("ann", "one-key").await;
    cluster
        .execute(
            "DELETE FROM session;
             UPDATE subject_state SET window_from_seq = 1;
             UPDATE attempt SET settled_at = NULL, outcome = NULL, counted = true, session_id = NULL, user_id = NULL,
                                owner_deadline = clock_timestamp() - interval '1 second'",
        )
        .await;
    let answer = cluster.signed_in("ann", "one-key").await;
    assert_eq!(cluster.reason(&answer.token).await, None);
    assert_eq!(cluster.number("SELECT count(*) FROM attempt").await, 1);
    assert_eq!(cluster.number("SELECT next_seq FROM subject_state").await, 2, "no second place was taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abandoned_attempt_is_taken_over_while_locked() {
    let cluster = Cluster::new().await;
    cluster.user("ann", &[]).await;
    cluster.signed_in("ann", "one-key").await;
    // It had its place before the lock, so it is no further guess.
    cluster
        .execute(
            "DELETE FROM session;
             UPDATE subject_state SET locked_until = clock_timestamp() + interval '1 hour';
             UPDATE attempt SET settled_at = NULL, outcome = NULL, counted = true, session_id = NULL, user_id = NULL,
                                owner_deadline = clock_timestamp() - interval '1 second'",
        )
        .await;
    cluster.signed_in("ann", "one-key").await;
    assert!(matches!(failure(cluster.login(request("ann", PASSWORD, "another")).await), Failure::Locked { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_past_its_deadline_takes_the_outcome_of_the_one_that_was_faster() {
    // The first delivery's hash takes longer than its deadline; a retry takes over meanwhile.
    let slow = Cluster::with(|config| {
        config.login.owner_deadline_ms = 1_000;
        config.argon2.memory_kib = 19_456;
        config.argon2.passes = 60;
        config.hashing.permits = 1;
    })
    .await;
    slow.admin.add("ann", edgekeep::admin::NewPassword::None, &[]).await.unwrap();
    let mut quick = slow.config.clone();
    quick.argon2.passes = 1;
    quick.argon2.memory_kib = 1024;
    let quick = start(quick).await;
    let hash =
        quick.hasher.hash(quick.hasher.permit().await.unwrap(), crate::support::password(PASSWORD)).await.unwrap();
    sqlx::query("UPDATE users SET password_hash = $1").bind(hash).execute(&slow.app.pool).await.unwrap();
    // Keep the slow one's only permit busy? No: it holds the permit and is told to wait by a lock on the user's row.
    let mut blocker = slow.database.connect().await;
    sqlx::raw_sql("BEGIN; SELECT FROM user_state FOR UPDATE").execute(&mut blocker).await.unwrap();
    let first = {
        let app = slow.app.clone();
        tokio::spawn(async move { login::login(&app, request("ann", PASSWORD, "one-key")).await })
    };
    tokio::time::sleep(Duration::from_millis(1_300)).await;
    let second = {
        let app = quick.clone();
        tokio::spawn(async move { login::login(&app, request("ann", PASSWORD, "one-key")).await })
    };
    tokio::time::sleep(Duration::from_millis(300)).await;
    sqlx::raw_sql("ROLLBACK").execute(&mut blocker).await.unwrap();
    let first = first.await.unwrap().unwrap_or_else(|failure| panic!("{failure}"));
    let second = second.await.unwrap().unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(first.session.id, second.session.id);
    assert_eq!(slow.number("SELECT count(*) FROM session").await, 1);
    assert_eq!(slow.number("SELECT count(*) FROM attempt").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_attempt_key_can_change_while_both_are_known() {
    let cluster = Cluster::new().await;
    cluster.user("ann", &[]).await;
    let first = cluster.signed_in("ann", "one-key").await;
    let mut changed = cluster.config.clone();
    changed.secrets.attempt_key_previous = changed.secrets.attempt_key.take();
    changed.secrets.attempt_key = Some(edgekeep::secrets::fresh().unwrap().to_string());
    let changed = start(changed).await;
    let again = login::login(&changed, request("ann", PASSWORD, "one-key")).await;
    assert_eq!(again.unwrap_or_else(|failure| panic!("{failure}")).session.id, first.session.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn outcomes_have_the_names_that_the_schema_knows() {
    let cluster = Cluster::new().await;
    let rule: String = sqlx::query_scalar(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'attempt_outcome_check'",
    )
    .fetch_one(&cluster.app.pool)
    .await
    .unwrap();
    for outcome in [Outcome::Succeeded, Outcome::InvalidCredentials, Outcome::RefusedSecond, Outcome::PasswordRejected]
    {
        assert!(rule.contains(&format!("'{}'", outcome.as_str())), "{rule}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_are_refused_before_anything_is_stored() {
    let cluster = Cluster::new().await;
    for (name, password, key) in [
        ("", PASSWORD, "key"),
        ("two words", PASSWORD, "key"),
        ("ann", "", "key"),
        ("ann", &*"x".repeat(1025), "key"),
        ("ann", PASSWORD, ""),
        ("ann", PASSWORD, "with space"),
    ] {
        assert!(matches!(failure(cluster.login(request(name, password, key)).await), Failure::Invalid(_)));
    }
    // Each presented proof of an unknown key costs a look at the database: eight are looked at, nine are not.
    let presenting = |count| LoginRequest {
        presented: vec!["1.garbage".to_owned(); count],
        ..request("ann", "not the right password", "key")
    };
    assert!(matches!(failure(cluster.login(presenting(9)).await), Failure::Invalid(_)));
    assert_eq!(cluster.number("SELECT count(*) FROM subject_state").await, 0);
    assert!(matches!(failure(cluster.login(presenting(8)).await), Failure::InvalidCredentials));
}
