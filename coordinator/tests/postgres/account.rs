//! Signing out, everywhere too; changing the password; seeing and ending sessions.

use edgekeep::account;
use edgekeep::failure::Failure;
use edgekeep_shared::api::{
    Client, EndSessionRequest, LoginRequest, LogoutEverywhereRequest, LogoutRequest, PasswordRequest, SessionsRequest,
};
use edgekeep_shared::ids::SessionId;
use edgekeep_shared::problem::Reason;

use crate::support::{Cluster, PASSWORD, admin, failure, request};

const NEW_PASSWORD: &str = "an entirely different one";

fn everywhere(name: &str, password: &str, key: &str) -> LogoutEverywhereRequest {
    LogoutEverywhereRequest {
        username: name.into(),
        password: password.into(),
        idempotency_key: key.into(),
        client: Client::default(),
        wait_s: None,
    }
}

fn change(token: &str, current: &str, new: &str, key: &str) -> PasswordRequest {
    PasswordRequest {
        token: token.into(),
        current_password: current.into(),
        new_password: new.into(),
        idempotency_key: key.into(),
        client: Client::default(),
        wait_s: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logout_ends_its_session_only_and_repeats_its_answer() {
    let cluster = Cluster::new().await;
    cluster.user("ann", &[]).await;
    cluster.set(&[("sessions_per_user", "2")]).await;
    let one = cluster.signed_in("ann", "key-1").await;
    let two = cluster.signed_in("ann", "key-2").await;
    let first = cluster.logout(&[&one.token]).await.unwrap();
    let again = cluster.logout(&[&one.token]).await.unwrap();
    assert_eq!(first.effective_at_ms, again.effective_at_ms);
    assert!(!first.effective_everywhere && first.effective_at_ms > first.now_ms + 4_000);
    assert_eq!(cluster.reason(&one.token).await, Some(Reason::SignedOut));
    assert_eq!(cluster.reason(&two.token).await, None);
    assert_eq!(cluster.number("SELECT count(*) FROM user_state WHERE revision > 0").await, 1);
    let none = cluster.logout(&[]).await.unwrap();
    assert!(none.effective_everywhere);
    cluster.logout(&["1.garbage"]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn logout_takes_expired_proofs_and_waits_when_asked() {
    let cluster = Cluster::new().await;
    cluster.user("ann", &[]).await;
    let answer = cluster.signed_in("ann", "key-1").await;
    cluster.set(&[("max_staleness_ms", "500")]).await;
    cluster
        .execute(
            "UPDATE settings SET previous_staleness_until = '-infinity';
             UPDATE session SET proof_until = clock_timestamp() - interval '1 minute'",
        )
        .await;
    let request = LogoutRequest { tokens: vec![answer.token.clone()], wait_s: Some(10) };
    let receipt = account::logout(&cluster.app, request).await.unwrap();
    assert!(receipt.effective_everywhere && receipt.now_ms >= receipt.effective_at_ms);
    assert_eq!(cluster.reason(&answer.token).await, Some(Reason::SignedOut));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_ends_when_it_holds_everywhere_or_when_its_time_is_up() {
    let cluster = Cluster::new().await;
    cluster.user("ann", &[]).await;
    let tokens = vec![cluster.signed_in("ann", "key-1").await.token];
    // The bound is five seconds: one is too short, and the answer says so.
    let early = account::logout(&cluster.app, LogoutRequest { tokens, wait_s: Some(1) }).await.unwrap();
    assert!(!early.effective_everywhere && early.now_ms < early.effective_at_ms);
    cluster.set(&[("max_staleness_ms", "1500")]).await;
    cluster.execute("UPDATE settings SET previous_staleness_until = '-infinity'").await;
    cluster.signed_in("ann", "key-2").await;
    let request = LogoutEverywhereRequest { wait_s: Some(10), ..everywhere("ann", PASSWORD, "out") };
    let held = account::logout_everywhere(&cluster.app, request).await.unwrap();
    assert!(held.effective_everywhere && held.now_ms >= held.effective_at_ms);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_a_failover_lost_is_signed_out_for_good() {
    let cluster = Cluster::new().await;
    cluster.user("ann", &[]).await;
    let answer = cluster.signed_in("ann", "key-1").await;
    cluster.execute("DELETE FROM session").await;
    let unknown = account::list_sessions(&cluster.app, SessionsRequest { token: answer.token.clone() }).await;
    // The same word as a check's, which proved with a write that this is the primary.
    assert!(matches!(failure(unknown), Failure::NoSession(Reason::Revoked)));
    cluster.logout(&[&answer.token]).await.unwrap();
    assert_eq!(cluster.reason(&answer.token).await, Some(Reason::SignedOut));
    let covered = "SELECT count(*) FROM user_state WHERE revision > 0 AND needed_until >= clock_timestamp() + interval '59 minutes'";
    assert_eq!(cluster.number(covered).await, 1, "edges hear of it for as long as the proof could live");
    cluster.logout(&[&answer.token]).await.unwrap();
    assert_eq!(cluster.number("SELECT revision % 65536 FROM user_state").await, 1, "and only once");
}

/// A failover to an asynchronous standby: the new epoch knows nothing of the latest login. Found by the model.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_raise_in_an_epoch_covers_sessions_that_the_failover_lost() {
    let cluster = Cluster::new().await;
    let covered = "SELECT count(*) FROM user_state
                   WHERE revision >> 48 = (SELECT epoch FROM cluster) AND needed_until >= clock_timestamp() + interval '59 minutes'";
    // The session that came back has a proof that ends long before the lost one's.
    cluster.user("ann", &[]).await;
    cluster.signed_in("ann", "key-1").await;
    cluster.execute("UPDATE session SET proof_until = clock_timestamp() + interval '1 second'").await;
    cluster.execute("UPDATE cluster SET epoch = epoch + 1").await;
    cluster.signed_in("ann", "key-2").await;
    assert_eq!(cluster.number(covered).await, 1, "a login that takes over");
    // Everything was lost: there is no row to end.
    lose_everything(&cluster).await;
    account::logout_everywhere(&cluster.app, everywhere("ann", PASSWORD, "out-1")).await.unwrap();
    assert_eq!(cluster.number(covered).await, 1, "a logout everywhere");
    let admin = admin(&cluster.app);
    lose_everything(&cluster).await;
    admin.set_roles("ann", &["admin".to_owned()]).await.unwrap();
    assert_eq!(cluster.number(covered).await, 1, "a change of roles");
    lose_everything(&cluster).await;
    admin.revoke_sessions("ann").await.unwrap();
    assert_eq!(cluster.number(covered).await, 1, "an administrator's revocation");
    lose_everything(&cluster).await;
    admin.disable("ann").await.unwrap();
    assert_eq!(cluster.number(covered).await, 1, "a user who is disabled");
}

/// An epoch begins that knows the user, and of sessions nothing.
async fn lose_everything(cluster: &Cluster) {
    cluster.execute("DELETE FROM session").await;
    cluster.execute("UPDATE user_state SET needed_until = '-infinity'").await;
    cluster.execute("UPDATE cluster SET epoch = epoch + 1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_presents_a_lost_session_ends_it_for_good() {
    let covered = "SELECT name FROM users JOIN user_state USING (user_id)
                   WHERE needed_until >= clock_timestamp() + interval '59 minutes'";
    // Users are taken in the order of their ids: the owner of the lost session is the first, then the second.
    for of_owner in [0, 1] {
        let cluster = Cluster::new().await;
        cluster.user("ann", &[]).await;
        cluster.user("ben", &[]).await;
        let names: Vec<String> =
            sqlx::query_scalar("SELECT name FROM users ORDER BY user_id").fetch_all(&cluster.app.pool).await.unwrap();
        let (owner, other) = (&names[of_owner], &names[1 - of_owner]);
        let lost = cluster.signed_in(owner, "key-1").await;
        cluster.execute("DELETE FROM session").await;
        let login = LoginRequest { presented: vec![lost.token.clone()], ..request(other, PASSWORD, "key-2") };
        let new = cluster.login(login).await.unwrap();
        assert_eq!(cluster.reason(&lost.token).await, Some(Reason::SignedOut));
        assert_eq!(cluster.reason(&new.token).await, None);
        // Edges hear of it for as long as a proof of it could live, and of its owner only.
        let told: Vec<String> = sqlx::query_scalar(covered).fetch_all(&cluster.app.pool).await.unwrap();
        assert_eq!(&told[..], [owner.as_str()]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_session_that_is_presented_beside_a_live_one_ends_as_well() {
    let cluster = Cluster::new().await;
    cluster.user("ann", &[]).await;
    cluster.set(&[("sessions_per_user", "3")]).await;
    let lost = cluster.signed_in("ann", "key-1").await;
    let live = cluster.signed_in("ann", "key-2").await;
    cluster.execute("DELETE FROM session WHERE slot = 0").await;
    let presented = vec![live.token.clone(), lost.token.clone()];
    let new = cluster.login(LoginRequest { presented, ..request("ann", PASSWORD, "key-3") }).await.unwrap();
    for over in [&lost, &live] {
        assert_eq!(cluster.reason(&over.token).await, Some(Reason::SignedOut));
    }
    assert_eq!(cluster.reason(&new.token).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn logout_everywhere_needs_the_password_and_is_one_attempt() {
    let cluster = Cluster::new().await;
    cluster.user("ann", &[]).await;
    cluster.set(&[("sessions_per_user", "3")]).await;
    let one = cluster.signed_in("ann", "key-1").await;
    let two = cluster.signed_in("ann", "key-2").await;
    let wrong = account::logout_everywhere(&cluster.app, everywhere("ann", "not the right password", "out-1")).await;
    assert!(matches!(failure(wrong), Failure::InvalidCredentials));
    assert_eq!(cluster.reason(&one.token).await, None);
    let done = account::logout_everywhere(&cluster.app, everywhere("ann", PASSWORD, "out-1")).await.unwrap();
    let three = cluster.signed_in("ann", "key-3").await;
    let again = account::logout_everywhere(&cluster.app, everywhere("ann", PASSWORD, "out-1")).await.unwrap();
    assert_eq!(done.effective_at_ms, again.effective_at_ms);
    assert_eq!(cluster.reason(&three.token).await, None, "a replay ends nothing that came later");
    for token in [&one.token, &two.token] {
        assert_eq!(cluster.reason(token).await, Some(Reason::SignedOut));
    }
    assert!(matches!(
        failure(cluster.login(request("ann", PASSWORD, "key-1")).await),
        Failure::SessionEnded(Reason::SignedOut)
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn logout_everywhere_gives_its_own_place_back_and_clears_no_other() {
    let cluster = Cluster::new().await;
    cluster.user("ann", &[]).await;
    for n in 0..4 {
        failure(cluster.login(request("ann", "not the right password", &format!("key-{n}"))).await);
    }
    for n in 0..3 {
        account::logout_everywhere(&cluster.app, everywhere("ann", PASSWORD, &format!("out-{n}"))).await.unwrap();
    }
    let counted =
        "SELECT count(*) FROM attempt JOIN subject_state USING (subject) WHERE counted AND seq >= window_from_seq";
    assert_eq!(cluster.number(counted).await, 4);
    failure(cluster.login(request("ann", "not the right password", "key-5")).await);
    let locked = account::logout_everywhere(&cluster.app, everywhere("ann", PASSWORD, "out-9")).await;
    assert!(matches!(failure(locked), Failure::Locked { .. }), "it goes through the same counter");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_change_makes_a_new_session_and_ends_all_others() {
    let cluster = Cluster::new().await;
    cluster.user("ann", &[]).await;
    cluster.set(&[("sessions_per_user", "2")]).await;
    let other = cluster.signed_in("ann", "key-1").await;
    let asking = cluster.signed_in("ann", "key-2").await;
    let wrong = change(&asking.token, "not the right password", NEW_PASSWORD, "change-1");
    assert!(matches!(failure(account::change_password(&cluster.app, wrong).await), Failure::InvalidCredentials));
    let right = || change(&asking.token, PASSWORD, NEW_PASSWORD, "change-1");
    let changed = account::change_password(&cluster.app, right()).await.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(changed.previous_ends_everywhere_at_ms.is_some());
    for token in [&other.token, &asking.token] {
        assert_eq!(cluster.reason(token).await, Some(Reason::PasswordChanged));
    }
    assert_eq!(cluster.reason(&changed.token).await, None);
    // A retry whose own session is gone by now gets the same new session.
    let again = account::change_password(&cluster.app, right()).await.unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(changed.session.id, again.session.id);
    // Also when the rules have become stricter meanwhile, or are stricter at another coordinator.
    cluster.set(&[("password_min_chars", "128")]).await;
    let again = account::change_password(&cluster.app, right()).await.unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(changed.session.id, again.session.id);
    assert_eq!(cluster.number("SELECT password_version FROM users").await, 2);
    assert!(matches!(failure(cluster.login(request("ann", PASSWORD, "key-3")).await), Failure::InvalidCredentials));
    let new = cluster.login(request("ann", NEW_PASSWORD, "key-4")).await;
    new.unwrap_or_else(|failure| panic!("{failure}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_change_without_a_current_session_or_with_a_bad_password_counts_nothing() {
    let cluster = Cluster::new().await;
    cluster.user("ann", &[]).await;
    let asking = cluster.signed_in("ann", "key-1").await;
    for bad in ["short", "correct horse battery staple", "annannannannannann", PASSWORD] {
        let refused = account::change_password(&cluster.app, change(&asking.token, PASSWORD, bad, "change")).await;
        assert!(matches!(failure(refused), Failure::Invalid(_)), "{bad}");
    }
    cluster.logout(&[&asking.token]).await.unwrap();
    let gone = account::change_password(&cluster.app, change(&asking.token, PASSWORD, NEW_PASSWORD, "change")).await;
    assert!(matches!(failure(gone), Failure::NoSession(Reason::SignedOut)));
    let garbage = account::change_password(&cluster.app, change("1.x", PASSWORD, NEW_PASSWORD, "change")).await;
    assert!(matches!(failure(garbage), Failure::NoSession(Reason::Invalid)));
    assert_eq!(cluster.number("SELECT count(*) FROM attempt").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_ends_during_a_password_change_leaves_no_outcome() {
    let cluster = Cluster::new().await;
    cluster.user("ann", &[]).await;
    cluster.set(&[("sessions_per_user", "2")]).await;
    let asking = cluster.signed_in("ann", "key-1").await;
    let other = cluster.signed_in("ann", "key-2").await;
    let mut blocker = cluster.database.connect().await;
    sqlx::raw_sql("BEGIN; SELECT FROM user_state FOR UPDATE").execute(&mut blocker).await.unwrap();
    let changing = {
        let (app, request) = (cluster.app.clone(), change(&asking.token, PASSWORD, NEW_PASSWORD, "change"));
        tokio::spawn(async move { account::change_password(&app, request).await })
    };
    while cluster.number("SELECT count(*) FROM attempt").await < 3 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    // Under the lock that the change waits for.
    sqlx::raw_sql(
        "WITH ended AS (DELETE FROM session WHERE slot = 0 RETURNING session_id, user_id, expires_at)
         INSERT INTO ended_session (session_id, user_id, reason, expires_at)
         SELECT session_id, user_id, 'revoked', expires_at FROM ended; COMMIT",
    )
    .execute(&mut blocker)
    .await
    .unwrap();
    assert!(matches!(failure(changing.await.unwrap()), Failure::NoSession(Reason::Revoked)));
    assert_eq!(cluster.number("SELECT count(*) FROM attempt").await, 2, "the reservation is withdrawn");
    assert_eq!(cluster.number("SELECT password_version FROM users").await, 1);
    assert_eq!(cluster.reason(&other.token).await, None, "that another session lives on does not help");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_session_asks_for_nothing_though_its_row_is_still_there() {
    let cluster = Cluster::new().await;
    cluster.user("ann", &[]).await;
    let session = cluster.signed_in("ann", "key-1").await;
    cluster.execute("UPDATE session SET idle_expires_at = clock_timestamp() - interval '1 second'").await;
    assert_eq!(cluster.reason(&session.token).await, Some(Reason::Expired));
    let request = change(&session.token, PASSWORD, NEW_PASSWORD, "change");
    let refused = account::change_password(&cluster.app, request).await;
    assert!(matches!(failure(refused), Failure::NoSession(Reason::Expired)));
    assert_eq!(cluster.number("SELECT count(*) FROM session").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_listed_and_ended_by_their_user_only() {
    let cluster = Cluster::new().await;
    cluster.user("ann", &[]).await;
    cluster.user("bob", &[]).await;
    cluster.set(&[("sessions_per_user", "2")]).await;
    let one = cluster.signed_in("ann", "key-1").await;
    let two = cluster.signed_in("ann", "key-2").await;
    let bob = cluster.signed_in("bob", "key-3").await;
    let listed = account::list_sessions(&cluster.app, SessionsRequest { token: two.token.clone() }).await;
    let listed = listed.unwrap_or_else(|failure| panic!("{failure}"));
    let shown: Vec<_> = listed.sessions.iter().map(|item| (item.session.id, item.this_one)).collect();
    assert_eq!(shown, [(two.session.id, true), (one.session.id, false)]);
    assert_eq!((listed.sessions_per_user, listed.sessions[0].device.as_str()), (2, "a test"));
    let end = |token: &str, session_id| EndSessionRequest { token: token.into(), session_id };
    for foreign in [bob.session.id, SessionId([7; 16])] {
        let refused = account::end_session(&cluster.app, end(&two.token, foreign)).await;
        assert!(matches!(failure(refused), Failure::Invalid(_)));
    }
    let ended = account::end_session(&cluster.app, end(&two.token, one.session.id)).await.unwrap();
    let again = account::end_session(&cluster.app, end(&two.token, one.session.id)).await.unwrap();
    assert_eq!(ended.effective_at_ms, again.effective_at_ms);
    assert_eq!(cluster.reason(&one.token).await, Some(Reason::SignedOut));
    assert_eq!(cluster.reason(&bob.token).await, None);
    let over = account::end_session(&cluster.app, end(&one.token, two.session.id)).await;
    assert!(matches!(failure(over), Failure::NoSession(Reason::SignedOut)));
    assert_eq!(cluster.reason(&two.token).await, None);
}
