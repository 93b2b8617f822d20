//! G6: guesses are counted before they are tried.

use std::time::Duration;

use edgekeep::failure::Failure;
use edgekeep::login;
use edgekeep_shared::problem::Code;

use crate::support::{Cluster, PASSWORD, failure, request, start};

async fn wrong(cluster: &Cluster, name: &str, key: &str) -> Failure {
    failure(cluster.login(request(name, "not the right password", key)).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_guesses_at_once_evaluate_at_most_five() {
    let cluster = Cluster::new().await;
    cluster.user("ann", &[]).await;
    let other = start(cluster.config.clone()).await;
    let guesses: Vec<_> = (0..200)
        .map(|n| {
            let app = if n % 2 == 0 { cluster.app.clone() } else { other.clone() };
            let guess = request("ann", &format!("guess number {n:05}"), &format!("key-{n}"));
            tokio::spawn(async move { login::login(&app, guess).await })
        })
        .collect();
    let (mut invalid, mut locked, mut other_answers) = (0, 0, 0);
    for guess in guesses {
        match failure(guess.await.unwrap()) {
            Failure::InvalidCredentials => invalid += 1,
            Failure::Locked { retry_after_ms: Some(_) } => locked += 1,
            Failure::InFlight | Failure::Overloaded => other_answers += 1,
            unexpected => panic!("{unexpected}"),
        }
    }
    assert_eq!(cluster.app.hasher.evaluations() + other.hasher.evaluations(), 5);
    assert_eq!(invalid, 5);
    assert_eq!(invalid + locked + other_answers, 200);
    assert_eq!(cluster.number("SELECT count(*) FROM attempt").await, 5);
    let refused = failure(cluster.login(request("ann", PASSWORD, "the-right-one")).await);
    assert_eq!((refused.problem().status, refused.problem().code), (429, Code::Locked));
    assert!(refused.problem().retry_after_s.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_failure_is_the_same_answer_even_while_locked() {
    let cluster = Cluster::new().await;
    cluster.user("ann", &[]).await;
    for n in 0..5 {
        assert!(matches!(wrong(&cluster, "ann", &format!("key-{n}")).await, Failure::InvalidCredentials));
    }
    assert!(matches!(wrong(&cluster, "ann", "key-9").await, Failure::Locked { .. }));
    for n in 0..5 {
        assert!(matches!(wrong(&cluster, "ann", &format!("key-{n}")).await, Failure::InvalidCredentials));
    }
    assert_eq!(cluster.app.hasher.evaluations(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_begins_with_the_last_failure_and_is_noted_once() {
    let cluster = Cluster::new().await;
    cluster.user("ann", &[]).await;
    let locked = "SELECT count(*) FROM subject_state WHERE locked_until > now()";
    let noted = "SELECT count(*) FROM audit WHERE action = 'locked'";
    for n in 0..5 {
        assert_eq!((cluster.number(locked).await, cluster.number(noted).await), (0, 0), "{n} failures");
        assert!(matches!(wrong(&cluster, "ann", &format!("key-{n}")).await, Failure::InvalidCredentials));
    }
    // Without a further attempt: the wait counts from here.
    assert_eq!((cluster.number(locked).await, cluster.number(noted).await), (1, 1));
    assert!(matches!(wrong(&cluster, "ann", "one-more").await, Failure::Locked { .. }));
    assert_eq!(cluster.number(noted).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_of_abandoned_attempts_locks_once_and_not_for_ever() {
    let cluster = Cluster::new().await;
    cluster.user("ann", &[]).await;
    for n in 0..2 {
        wrong(&cluster, "ann", &format!("key-{n}")).await;
    }
    // A coordinator reserved both and crashed: nobody settles them, and their passwords may have been tried.
    cluster
        .execute(
            "UPDATE attempt SET settled_at = NULL, outcome = NULL, counted = true,
                                owner_deadline = clock_timestamp() - interval '1 second'",
        )
        .await;
    cluster.set(&[("lockout_base_ms", "300"), ("guess_limit", "2")]).await;
    let refused = failure(cluster.login(request("ann", PASSWORD, "right")).await);
    let Failure::Locked { retry_after_ms: Some(ms) } = refused else { panic!("{refused}") };
    assert_eq!(cluster.number("SELECT count(*) FROM audit WHERE action = 'locked'").await, 1);
    tokio::time::sleep(Duration::from_millis(ms + 20)).await;
    cluster.signed_in("ann", "right").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_ends_no_session_and_passes_with_growing_waits() {
    let cluster = Cluster::new().await;
    cluster.user("ann", &[]).await;
    cluster.set(&[("lockout_base_ms", "300"), ("guess_limit", "2"), ("consecutive_failure_cap", "5")]).await;
    let session = cluster.signed_in("ann", "before").await;
    let mut evaluated = cluster.app.hasher.evaluations();
    for (run, wait_ms) in [(0, 300), (1, 600)] {
        for n in 0..2 {
            assert!(matches!(wrong(&cluster, "ann", &format!("run-{run}-{n}")).await, Failure::InvalidCredentials));
        }
        let Failure::Locked { retry_after_ms: Some(ms) } = wrong(&cluster, "ann", "one-more").await else {
            panic!("locked")
        };
        assert!(ms > wait_ms / 3 && ms <= wait_ms, "{ms} of {wait_ms}");
        assert_eq!(cluster.reason(&session.token).await, None);
        tokio::time::sleep(Duration::from_millis(ms + 20)).await;
    }
    // The cap leaves one place in the third run; then only an administrator unlocks.
    assert!(matches!(wrong(&cluster, "ann", "fifth").await, Failure::InvalidCredentials));
    assert!(matches!(wrong(&cluster, "ann", "sixth").await, Failure::Locked { retry_after_ms: None }));
    evaluated += 5;
    assert_eq!(cluster.app.hasher.evaluations(), evaluated);
    assert_eq!(cluster.reason(&session.token).await, None, "a lock ends no session");
    assert_eq!(cluster.admin.show("ann").await.unwrap().locked.as_deref(), Some("until an administrator unlocks"));
    cluster.admin.unlock("ann").await.unwrap();
    cluster.signed_in("ann", "after").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_success_clears_what_was_reserved_before_it_and_nothing_after() {
    let cluster = Cluster::new().await;
    cluster.user("ann", &[]).await;
    for n in 0..4 {
        wrong(&cluster, "ann", &format!("early-{n}")).await;
    }
    // The right one takes the fifth place; while it is being worked on nothing else fits, so put the later guesses in
    // afterwards with numbers of their own, as a second coordinator would have with more places.
    cluster.set(&[("guess_limit", "10")]).await;
    let mut blocker = cluster.database.connect().await;
    sqlx::raw_sql("BEGIN; SELECT FROM user_state FOR UPDATE").execute(&mut blocker).await.unwrap();
    let right = {
        let app = cluster.app.clone();
        tokio::spawn(async move { login::login(&app, request("ann", PASSWORD, "right")).await })
    };
    while cluster.number("SELECT count(*) FROM attempt").await < 5 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let late: Vec<_> = (0..3)
        .map(|n| {
            let app = cluster.app.clone();
            let guess = request("ann", "not the right password", &format!("late-{n}"));
            tokio::spawn(async move { login::login(&app, guess).await })
        })
        .collect();
    while cluster.number("SELECT count(*) FROM attempt").await < 8 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    sqlx::raw_sql("ROLLBACK").execute(&mut blocker).await.unwrap();
    right.await.unwrap().unwrap_or_else(|failure| panic!("{failure}"));
    for guess in late {
        assert!(matches!(failure(guess.await.unwrap()), Failure::InvalidCredentials));
    }
    assert_eq!(
        cluster
            .number(
                "SELECT count(*) FROM attempt JOIN subject_state USING (subject) WHERE counted AND seq >= window_from_seq"
            )
            .await,
        3,
        "the later guesses still count, the four before do not"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_users_look_the_same_count_the_same_and_lock_the_same() {
    let cluster = Cluster::new().await;
    cluster.user("ann", &[]).await;
    for name in ["ann", "nobody"] {
        for n in 0..5 {
            let answer = wrong(&cluster, name, &format!("key-{n}")).await.problem();
            assert_eq!((answer.status, answer.code), (401, Code::InvalidCredentials));
        }
        assert!(matches!(wrong(&cluster, name, "key-6").await, Failure::Locked { retry_after_ms: Some(_) }));
    }
    assert_eq!(cluster.app.hasher.evaluations(), 10);
    assert_eq!(
        cluster.number("SELECT count(*) FROM audit WHERE detail::text LIKE '%nobody%' OR action LIKE '%nobody%'").await,
        0
    );
    // The right password of a disabled user is a wrong one.
    cluster.user("carl", &[]).await;
    cluster.admin.disable("carl").await.unwrap();
    assert!(matches!(failure(cluster.login(request("carl", PASSWORD, "key")).await), Failure::InvalidCredentials));
    assert_eq!(cluster.number("SELECT count(*) FROM attempt WHERE NOT counted").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn crashed_attempts_count_as_failures_and_fill_the_run() {
    let cluster = Cluster::new().await;
    cluster.user("ann", &[]).await;
    for n in 0..5 {
        wrong(&cluster, "ann", &format!("key-{n}")).await;
    }
    cluster
        .execute(
            "UPDATE subject_state SET locked_until = NULL, runs = 0, consecutive_failures = 0;
             UPDATE attempt SET settled_at = NULL, outcome = NULL, owner_deadline = clock_timestamp() + interval '1 hour'",
        )
        .await;
    let busy = failure(
        login::login(&start_impatient(&cluster).await, request("ann", PASSWORD, "while-they-are-in-flight")).await,
    );
    assert!(matches!(busy, Failure::InFlight), "places taken by attempts in flight never lock: {busy}");
    cluster.execute("UPDATE attempt SET owner_deadline = clock_timestamp() - interval '1 second'").await;
    assert!(matches!(
        failure(cluster.login(request("ann", PASSWORD, "after-they-crashed")).await),
        Failure::Locked { retry_after_ms: Some(_) }
    ));
    assert_eq!(cluster.app.hasher.evaluations(), 5);
}

async fn start_impatient(cluster: &Cluster) -> std::sync::Arc<edgekeep::App> {
    let mut config = cluster.config.clone();
    config.login.in_flight_wait_ms = 200;
    start(config).await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_client_address_is_limited_across_accounts_and_a_replay_is_free() {
    let cluster = Cluster::with(|config| {
        config.login.address_burst = 3;
        config.login.address_per_minute = 1;
    })
    .await;
    cluster.user("ann", &[]).await;
    let from = |key: &str, address: &str| {
        let mut guess = request("ann", PASSWORD, key);
        guess.client.address = Some(address.to_owned());
        guess
    };
    for n in 0..3 {
        cluster.login(from(&format!("key-{n}"), "2001:db8::1")).await.unwrap_or_else(|failure| panic!("{failure}"));
    }
    let limited = failure(cluster.login(from("key-3", "2001:db8::2")).await);
    assert_eq!((limited.problem().status, limited.problem().code), (429, Code::RateLimited));
    cluster.login(from("key-2", "2001:db8::3")).await.unwrap_or_else(|failure| panic!("a replay: {failure}"));
    cluster.login(from("key-4", "192.0.2.1")).await.unwrap_or_else(|failure| panic!("another client: {failure}"));
    assert_eq!(cluster.number("SELECT count(*) FROM attempt").await, 4, "nothing was counted for the account");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_and_counts_nothing() {
    let cluster = Cluster::with(|config| {
        config.hashing.permits = 1;
        config.hashing.queue_length = 0;
    })
    .await;
    cluster.user("ann", &[]).await;
    let held = cluster.app.hasher.permit().await.unwrap();
    let refused = failure(cluster.login(request("ann", PASSWORD, "key")).await);
    assert_eq!((refused.problem().status, refused.problem().code), (503, Code::Overloaded));
    assert_eq!(cluster.number("SELECT count(*) FROM attempt").await, 0);
    drop(held);
    cluster.signed_in("ann", "key").await;
}
