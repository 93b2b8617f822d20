//! Sessions: how they begin, replace each other, and are replayed.

use edgekeep::failure::Failure;
use edgekeep_shared::ids::SiteId;
use edgekeep_shared::problem::Reason;
use edgekeep_shared::token::UntrustedToken;

use crate::support::{Cluster, PASSWORD, failure, request};

#[tokio::test(flavor = "multi_thread")]
async fn a_right_password_makes_a_session_that_says_who_it_is() {
    let cluster = Cluster::new().await;
    cluster.user("Ann", &["staff", "admin"]).await;
    let answer = cluster.signed_in("ann", "key-1").await;
    assert_eq!((answer.name.as_str(), &answer.roles[..]), ("Ann", &["admin".to_owned(), "staff".to_owned()][..]));
    assert_eq!(answer.previous_ends_everywhere_at_ms, None);
    let token = UntrustedToken::parse(&answer.token).unwrap();
    let token = token.verify(&cluster.app.keys.ring(), SiteId::of("main")).unwrap();
    let claims = token.claims();
    assert_eq!((claims.user_id, claims.session_id), (answer.user_id, answer.session.id));
    assert_eq!(claims.renew_after_ms, claims.authenticated_at_ms + 300_000);
    assert_eq!(claims.idle_expires_at_ms, claims.authenticated_at_ms + 3_600_000);
    assert_eq!(claims.expires_at_ms, claims.authenticated_at_ms + 86_400_000);
    // The stored times are exactly those of the proof: `needed_until` covers it.
    assert_eq!(
        cluster.number("SELECT (extract(epoch FROM proof_until) * 1000)::bigint FROM session").await,
        i64::try_from(claims.renew_after_ms).unwrap()
    );
    assert_eq!(cluster.reason(&answer.token).await, None);
    assert_eq!(
        cluster.number("SELECT revision & ((1::bigint << 48) - 1) FROM user_state").await,
        0,
        "a login that ends nothing raises nothing"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_gets_the_same_session() {
    let cluster = Cluster::new().await;
    cluster.user("ann", &[]).await;
    let first = cluster.signed_in("ann", "key-1").await;
    let again = cluster.signed_in("ann", "key-1").await;
    assert_eq!(first.session.id, again.session.id);
    assert_eq!(cluster.number("SELECT count(*) FROM session").await, 1);
    assert_eq!(cluster.number("SELECT count(*) FROM attempt").await, 1);
    assert_eq!(cluster.app.hasher.evaluations(), 1, "a replay evaluates nothing");
    // Another password under the same key is another attempt.
    assert!(matches!(
        failure(cluster.login(request("ann", "wrong password wrong", "key-1")).await),
        Failure::InvalidCredentials
    ));
    assert_eq!(cluster.number("SELECT count(*) FROM attempt").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_is_signed_like_a_renewal() {
    let cluster = Cluster::new().await;
    cluster.user("ann", &[]).await;
    cluster.signed_in("ann", "key-1").await;
    cluster.admin.set_roles("ann", &["late".to_owned()]).await.unwrap();
    // The first proof is nearly used up.
    cluster.execute("UPDATE session SET proof_until = clock_timestamp() + interval '1 second'").await;
    let again = cluster.signed_in("ann", "key-1").await;
    assert_eq!(again.roles, ["late"]);
    let claims = UntrustedToken::parse(&again.token).unwrap();
    let claims = claims.verify(&cluster.app.keys.ring(), SiteId::of("main")).unwrap();
    assert!(claims.claims().renew_after_ms > again.now_ms + 290_000);
    let row: (i64, i64) = sqlx::query_as(
        "SELECT (extract(epoch FROM proof_until) * 1000)::bigint, revision FROM session JOIN user_state USING (user_id)",
    )
    .fetch_one(&cluster.app.pool)
    .await
    .unwrap();
    assert_eq!(row.0.unsigned_abs(), claims.claims().renew_after_ms, "never past what the row says");
    assert_eq!(row.1.unsigned_abs(), claims.claims().revision.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_login_wins_and_the_other_device_learns_why() {
    let cluster = Cluster::new().await;
    cluster.user("ann", &[]).await;
    let first = cluster.signed_in("ann", "key-1").await;
    let second = cluster.signed_in("ann", "key-2").await;
    let ends = second.previous_ends_everywhere_at_ms.expect("a session ended");
    assert!(ends >= second.now_ms, "the receipt lies ahead by the bound");
    assert!(ends <= second.now_ms + 5_000 + 1_000);
    assert_eq!(cluster.number("SELECT count(*) FROM session").await, 1);
    assert_eq!(cluster.reason(&first.token).await, Some(Reason::SignedInElsewhere));
    assert_eq!(cluster.reason(&second.token).await, None);
    let token = UntrustedToken::parse(&second.token).unwrap();
    let token = token.verify(&cluster.app.keys.ring(), SiteId::of("main")).unwrap();
    let stored = cluster.number("SELECT revision FROM user_state").await.unsigned_abs();
    assert_eq!(token.claims().revision.0, stored, "G7: no entry exceeds the new proof");
    assert_eq!(
        cluster.number("SELECT count(*) FROM user_state WHERE feed_xid > 0 AND needed_until > now()").await,
        1,
        "the feed has the entry"
    );
    // The same receipt for every delivery.
    let again = cluster.signed_in("ann", "key-2").await;
    assert_eq!(again.previous_ends_everywhere_at_ms, Some(ends));
    // The first login's replay is over, for good.
    let over = failure(cluster.login(request("ann", PASSWORD, "key-1")).await);
    assert!(matches!(over, Failure::SessionEnded(Reason::SignedInElsewhere)));
    assert_eq!(over.problem().status, 410);
    assert_eq!(cluster.reason(&second.token).await, None, "and it ended nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_login_can_be_refused_and_costs_no_guess() {
    let cluster = Cluster::new().await;
    cluster.user("ann", &[]).await;
    cluster.set(&[("takeover", "refuse_second")]).await;
    let first = cluster.signed_in("ann", "key-1").await;
    for key in 0..8 {
        let refused = failure(cluster.login(request("ann", PASSWORD, &format!("other-{key}"))).await);
        assert!(matches!(refused, Failure::SignedInElsewhere));
    }
    assert!(matches!(failure(cluster.login(request("ann", PASSWORD, "other-0")).await), Failure::SignedInElsewhere));
    assert_eq!(cluster.number("SELECT count(*) FROM attempt WHERE counted").await, 0);
    assert_eq!(cluster.reason(&first.token).await, None);
    // A session that the request presents makes room: it is this very device.
    let mut same_device = request("ann", PASSWORD, "same-device");
    same_device.presented = vec![first.token.clone()];
    let second = cluster.login(same_device).await.unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(cluster.reason(&first.token).await, Some(Reason::SignedOut));
    // So does one whose time is up.
    cluster.execute("UPDATE session SET idle_expires_at = clock_timestamp() - interval '1 second'").await;
    cluster.signed_in("ann", "key-3").await;
    assert_eq!(cluster.reason(&second.token).await, Some(Reason::Expired));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_ends_the_sessions_that_its_request_presents_whoevers_they_are() {
    let cluster = Cluster::new().await;
    cluster.user("ann", &[]).await;
    cluster.user("bob", &[]).await;
    let ann = cluster.signed_in("ann", "key-1").await;
    let mut wrong = request("bob", "not the right password", "key-2");
    wrong.presented = vec![ann.token.clone()];
    failure(cluster.login(wrong).await);
    assert_eq!(cluster.reason(&ann.token).await, None, "a failed login ends nothing");
    let mut right = request("bob", PASSWORD, "key-3");
    right.presented = vec!["1.garbage".to_owned(), ann.token.clone(), ann.token.clone()];
    let bob = cluster.login(right).await.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(bob.previous_ends_everywhere_at_ms.is_some());
    assert_eq!(cluster.reason(&ann.token).await, Some(Reason::SignedOut));
    assert_eq!(cluster.reason(&bob.token).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_ends_the_session_that_it_presents_and_no_other_of_that_user() {
    let cluster = Cluster::new().await;
    cluster.user("ann", &[]).await;
    cluster.set(&[("sessions_per_user", "3")]).await;
    let one = cluster.signed_in("ann", "key-1").await;
    let two = cluster.signed_in("ann", "key-2").await;
    let mut again = request("ann", PASSWORD, "key-3");
    again.presented = vec![one.token.clone()];
    let new = cluster.login(again).await.unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(cluster.reason(&one.token).await, Some(Reason::SignedOut));
    assert_eq!((cluster.reason(&two.token).await, cluster.reason(&new.token).await), (None, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn several_sessions_per_user_and_the_oldest_goes() {
    let cluster = Cluster::new().await;
    cluster.user("ann", &[]).await;
    cluster.set(&[("sessions_per_user", "3")]).await;
    let mut answers = Vec::new();
    for key in 0..4 {
        answers.push(cluster.signed_in("ann", &format!("key-{key}")).await);
    }
    assert_eq!(cluster.reason(&answers[0].token).await, Some(Reason::SignedInElsewhere));
    for answer in &answers[1..] {
        assert_eq!(cluster.reason(&answer.token).await, None);
    }
    cluster.set(&[("sessions_per_user", "1")]).await;
    assert_eq!(cluster.number("SELECT count(*) FROM session").await, 1);
    assert_eq!(cluster.reason(&answers[2].token).await, Some(Reason::Revoked));
    assert_eq!(cluster.reason(&answers[3].token).await, None, "the newest stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn prefer_wait_holds_the_answer_until_it_holds_everywhere() {
    let cluster = Cluster::new().await;
    cluster.user("ann", &[]).await;
    cluster.set(&[("max_staleness_ms", "1500")]).await;
    // The lowered bound binds receipts only after leases under the old one have run out.
    let first = cluster.signed_in("ann", "key-1").await;
    let second = cluster.signed_in("ann", "key-2").await;
    assert!(second.previous_ends_everywhere_at_ms.unwrap() > second.now_ms + 4_000);
    cluster.execute("UPDATE settings SET previous_staleness_until = '-infinity'").await;
    let mut third = request("ann", PASSWORD, "key-3");
    third.wait_s = Some(5);
    let third = cluster.login(third).await.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(third.now_ms >= third.previous_ends_everywhere_at_ms.unwrap());
    // The deployment can make that the default.
    cluster.set(&[("login_wait_ms", "5000")]).await;
    let fourth = cluster.signed_in("ann", "key-4").await;
    assert!(fourth.now_ms >= fourth.previous_ends_everywhere_at_ms.unwrap());
    assert_eq!(cluster.reason(&first.token).await, Some(Reason::SignedInElsewhere));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hash_of_todays_parameters_is_kept() {
    let cluster = Cluster::new().await;
    cluster.user("ann", &[]).await;
    let hash = || async {
        let hash: String =
            sqlx::query_scalar("SELECT password_hash FROM users").fetch_one(&cluster.app.pool).await.unwrap();
        hash
    };
    let before = hash().await;
    for key in 0..4 {
        cluster.signed_in("ann", &format!("key-{key}")).await;
    }
    assert_eq!(hash().await, before, "hashing it again costs a place in the queue");
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_of_one_user_at_once_leave_one_session() {
    let cluster = Cluster::new().await;
    cluster.user("ann", &[]).await;
    let logins = (0..5).map(|key| {
        let app = cluster.app.clone();
        tokio::spawn(async move { edgekeep::login::login(&app, request("ann", PASSWORD, &format!("key-{key}"))).await })
    });
    let mut made = Vec::new();
    for login in logins.collect::<Vec<_>>() {
        made.push(login.await.unwrap().unwrap_or_else(|failure| panic!("{failure}")));
    }
    assert_eq!(cluster.number("SELECT count(*) FROM session").await, 1);
    let mut current = 0;
    for answer in &made {
        current += u32::from(cluster.reason(&answer.token).await.is_none());
    }
    assert_eq!(current, 1);
    assert_eq!(cluster.number("SELECT count(*) FROM ended_session").await, 4);
    assert_eq!(cluster.number("SELECT count(*) FROM audit WHERE action = 'login'").await, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_says_what_every_attempt_came_to_and_the_login_its_time() {
    let cluster = Cluster::new().await;
    cluster.user("ann", &[]).await;
    cluster.execute("DELETE FROM audit").await;
    cluster.signed_in("ann", "first").await;
    cluster.signed_in("ann", "second").await;
    failure(cluster.login(request("ann", "not the right password", "third")).await);
    failure(cluster.login(request("nobody", "not the right password", "fourth")).await);
    let entries: Vec<String> = sqlx::query_scalar(
        "SELECT concat_ws(' ', action, user_id IS NOT NULL, subject IS NOT NULL, session_id IS NOT NULL, detail)
         FROM audit ORDER BY audit_id",
    )
    .fetch_all(&cluster.app.pool)
    .await
    .unwrap();
    assert_eq!(
        entries,
        [
            r#"login t t t {"outcome": "succeeded", "operation": "login"}"#,
            r#"session_ended t f t {"by": "user", "reason": "signed_in_elsewhere"}"#,
            r#"login t t t {"outcome": "succeeded", "operation": "login"}"#,
            r#"refused t t f {"outcome": "invalid_credentials", "operation": "login"}"#,
            r#"refused f t f {"outcome": "invalid_credentials", "operation": "login"}"#,
        ]
    );
    let times = "SELECT count(*) FROM users JOIN session USING (user_id) WHERE last_login_at = authenticated_at";
    assert_eq!(cluster.number(times).await, 1);
}
