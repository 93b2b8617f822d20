//! What an administrator does takes effect like any revocation.

use edgekeep::admin::NewPassword;
use edgekeep::failure::Failure;
use edgekeep_shared::ids::SiteId;
use edgekeep_shared::problem::Reason;
use edgekeep_shared::token::UntrustedToken;

use crate::support::{Cluster, PASSWORD, failure, password, request};

async fn revision(cluster: &Cluster) -> i64 {
    cluster.number("SELECT revision FROM user_state").await
}

#[tokio::test(flavor = "multi_thread")]
async fn disable_enable_delete() {
    let cluster = Cluster::new().await;
    cluster.user("ann", &[]).await;
    let session = cluster.signed_in("ann", "key-1").await;
    cluster.admin.disable("ann").await.unwrap();
    cluster.admin.disable("ann").await.unwrap();
    assert_eq!(cluster.reason(&session.token).await, Some(Reason::Disabled));
    assert!(matches!(
        failure(cluster.login(request("ann", PASSWORD, "key-1")).await),
        Failure::SessionEnded(Reason::Disabled)
    ));
    cluster.admin.enable("ann").await.unwrap();
    let session = cluster.signed_in("ann", "key-2").await;
    cluster.admin.delete("ann").await.unwrap();
    assert_eq!(cluster.reason(&session.token).await, Some(Reason::Disabled));
    assert!(matches!(failure(cluster.login(request("ann", PASSWORD, "key-3")).await), Failure::InvalidCredentials));
    assert!(cluster.admin.show("ann").await.is_err());
    // The name is free, the id is not.
    cluster.user("ann", &[]).await;
    assert_ne!(cluster.signed_in("ann", "key-4").await.user_id, session.user_id);
    assert_eq!(cluster.number("SELECT count(*) FROM users").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_change_raises_and_sessions_live_on() {
    let cluster = Cluster::new().await;
    cluster.user("ann", &["staff"]).await;
    let session = cluster.signed_in("ann", "key-1").await;
    let token = UntrustedToken::parse(&session.token).unwrap();
    let token = token.verify(&cluster.app.keys.ring(), SiteId::of("main")).unwrap();
    cluster.admin.set_roles("ann", &["staff".into()]).await.unwrap();
    assert_eq!(revision(&cluster).await.unsigned_abs(), token.claims().revision.0, "nothing changed");
    cluster.admin.set_roles("ann", &["staff".into(), "admin".into()]).await.unwrap();
    assert!(revision(&cluster).await.unsigned_abs() > token.claims().revision.0);
    assert_eq!(
        cluster.number("SELECT count(*) FROM user_state u, session s WHERE u.needed_until = s.proof_until").await,
        1
    );
    assert_eq!(cluster.reason(&session.token).await, None);
    assert!(cluster.admin.set_roles("ann", &["Not A Role".into()]).await.is_err());
    assert!(cluster.admin.set_roles("nobody", &[]).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_password_ends_sessions_and_lifts_the_lock() {
    let cluster = Cluster::new().await;
    cluster.user("ann", &[]).await;
    let session = cluster.signed_in("ann", "key-1").await;
    for n in 0..6 {
        failure(cluster.login(request("ann", "not the right password", &format!("guess-{n}"))).await);
    }
    assert!(cluster.admin.set_password("ann", password("short")).await.is_err());
    cluster.admin.set_password("ann", password("a new and good password")).await.unwrap();
    assert_eq!(cluster.reason(&session.token).await, Some(Reason::PasswordChanged));
    let new = cluster.login(request("ann", "a new and good password", "key-2")).await;
    new.unwrap_or_else(|failure| panic!("{failure}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_listed_and_revoked_and_the_audit_log_has_it_all() {
    let cluster = Cluster::new().await;
    cluster.user("ann", &[]).await;
    let session = cluster.signed_in("ann", "key-1").await;
    assert_eq!(cluster.admin.sessions("ann").await.unwrap()[0].id, session.session.id);
    assert_eq!(cluster.admin.revoke_sessions("ann").await.unwrap(), 1);
    assert_eq!(cluster.admin.revoke_sessions("ann").await.unwrap(), 0);
    assert_eq!(cluster.reason(&session.token).await, Some(Reason::Revoked));
    let actions: Vec<String> =
        cluster.admin.audit(Some("ann"), 0, 100).await.unwrap().into_iter().map(|entry| entry.action).collect();
    assert_eq!(actions, ["user_added", "login", "session_ended", "sessions_revoked", "sessions_revoked"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn imported_hashes_sign_in_and_are_replaced() {
    let cluster = Cluster::new().await;
    let bcrypt = bcrypt::hash(PASSWORD, 4).unwrap();
    cluster.admin.add("ann", NewPassword::Imported(bcrypt), &[]).await.unwrap();
    assert!(cluster.admin.show("ann").await.unwrap().imported_hash);
    assert!(cluster.admin.add("bob", NewPassword::Imported("$1$md5$crypt".into()), &[]).await.is_err());
    let first = cluster.signed_in("ann", "key-1").await;
    let replaced = async {
        while cluster.admin.show("ann").await.unwrap().imported_hash {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), replaced).await.expect("rehashed");
    assert_eq!(cluster.number("SELECT password_version FROM users").await, 1, "it is the same password");
    assert_eq!(cluster.reason(&first.token).await, None);
    cluster.signed_in("ann", "key-2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_unique_in_every_spelling() {
    let cluster = Cluster::new().await;
    cluster.user("Ann", &[]).await;
    for same in ["ann", "ANN", "\u{ff21}nn"] {
        assert!(cluster.admin.add(same, NewPassword::None, &[]).await.is_err(), "{same}");
    }
    assert!(cluster.admin.add("two words", NewPassword::None, &[]).await.is_err());
    cluster.admin.add("bob", NewPassword::None, &[]).await.unwrap();
    assert!(matches!(failure(cluster.login(request("bob", PASSWORD, "key")).await), Failure::InvalidCredentials));
    let names: Vec<String> = cluster.admin.list("", 10).await.unwrap().into_iter().map(|user| user.name).collect();
    assert_eq!(names, ["Ann", "bob"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_change_all_or_none_and_within_bounds() {
    let cluster = Cluster::new().await;
    let before = cluster.admin.settings().await.unwrap();
    let set =
        |changes: &[(&str, &str)]| changes.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<Vec<_>>();
    for bad in [
        set(&[("guess_limit", "7"), ("nonsense", "1")]),
        set(&[("guess_limit", "7"), ("max_staleness_ms", "1")]),
        set(&[("guess_limit", "0")]),
        set(&[("takeover", "sometimes")]),
        set(&[("idle_timeout_ms", "86400001")]),
    ] {
        assert!(matches!(failure(cluster.admin.set_settings(&bad).await), Failure::Invalid(_)), "{bad:?}");
    }
    assert_eq!(cluster.admin.settings().await.unwrap(), before);
    let after = cluster.admin.set_settings(&set(&[("max_staleness_ms", "1000")])).await.unwrap();
    assert_eq!((after.max_staleness_ms, after.version), (1000, before.version + 1));
    let until = "SELECT count(*) FROM settings WHERE previous_staleness_ms = 5000
                 AND previous_staleness_until > clock_timestamp() + interval '5 seconds'";
    assert_eq!(cluster.number(until).await, 1);
    // Raised again: the present bound counts at once.
    cluster.admin.set_settings(&set(&[("max_staleness_ms", "9000")])).await.unwrap();
    let mut conn = cluster.app.pool.acquire().await.unwrap();
    assert_eq!(edgekeep::db::settings::load(&mut conn).await.unwrap().receipt_staleness_ms, 9000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_with_the_wrong_pepper_does_not_start() {
    let pepper = || Some(edgekeep::secrets::fresh().unwrap().to_string());
    let cluster = Cluster::with(|config| config.secrets.pepper = pepper()).await;
    cluster.user("ann", &[]).await;
    cluster.signed_in("ann", "key-1").await;
    edgekeep::App::start(cluster.config.clone()).await.unwrap_or_else(|error| panic!("{error}"));
    for wrong in [None, pepper()] {
        let mut config = cluster.config.clone();
        config.secrets.pepper = wrong;
        let Err(error) = edgekeep::App::start(config).await else { panic!("started") };
        assert!(error.to_string().contains("pepper"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_login_gets_past_a_lowered_number_of_sessions() {
    let cluster = Cluster::new().await;
    cluster.user("ann", &[]).await;
    cluster.set(&[("sessions_per_user", "8")]).await;
    let logins: Vec<_> = (0..6)
        .map(|key| {
            let app = cluster.app.clone();
            tokio::spawn(
                async move { edgekeep::login::login(&app, request("ann", PASSWORD, &format!("key-{key}"))).await },
            )
        })
        .collect();
    while cluster.number("SELECT count(*) FROM session").await == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    cluster.set(&[("sessions_per_user", "1")]).await;
    let now = cluster.number("SELECT count(*) FROM session").await;
    for login in logins {
        let _ = login.await.unwrap();
    }
    assert_eq!(now, 1);
    assert_eq!(cluster.number("SELECT count(*) FROM session").await, 1);
}
