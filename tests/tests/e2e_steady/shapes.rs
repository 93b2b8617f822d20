//! The JSON that clients may rely on.

use edgekeep_tests::client::Client;
use edgekeep_tests::shape::{assert_fields, assert_no_session, time_ms};
use serde_json::{Value, json};

use crate::world;

#[track_caller]
fn assert_user_and_session(value: &Value, name: &str, roles: &Value) {
    assert_fields(&value["user"], &["name", "roles"]);
    assert_eq!((&value["user"]["name"], &value["user"]["roles"]), (&json!(name), roles));
    let session = &value["session"];
    assert_fields(session, &["id", "authenticated_at", "expires_at", "idle_expires_at"]);
    let id = session["id"].as_str().unwrap();
    assert!(id.len() == 32 && id.bytes().all(|digit| digit.is_ascii_hexdigit()), "{id}");
    let began_ms = time_ms(&session["authenticated_at"]);
    // The defaults: a day, and an hour without use.
    assert_eq!(time_ms(&session["expires_at"]) - began_ms, 86_400_000);
    assert_eq!(time_ms(&session["idle_expires_at"]) - began_ms, 3_600_000);
}

#[test]
fn a_login_and_a_session_look_as_promised() {
    let world = world();
    let mut sql = world.sql();
    let user = world.user_with_role("shape", "admin");
    let mut client = Client::new();
    let before_ms = sql.now_ms();
    let response = client.login(world.edge(0), &user).expect(200);
    let after_ms = sql.now_ms();
    assert_eq!(response.header("Content-Type"), Some("application/json"));
    let login = response.json();
    assert_fields(&login, &["user", "session", "previous_session"]);
    assert_user_and_session(&login, &user.name, &json!(["admin"]));
    assert!(login["previous_session"].is_null());
    // The database's clock, and nobody else's.
    let began_ms = time_ms(&login["session"]["authenticated_at"]);
    assert!((before_ms..=after_ms).contains(&began_ms), "{before_ms} {began_ms} {after_ms}");

    for edge in world.edges() {
        let response = client.get(*edge, "/auth/session").expect(200);
        assert_eq!(response.header("Content-Type"), Some("application/json"));
        assert_eq!(response.header("Cache-Control"), Some("no-store"));
        let session = response.json();
        assert_fields(&session, &["user", "session", "check"]);
        assert_eq!((&session["user"], &session["session"]), (&login["user"], &login["session"]));
        let check = &session["check"];
        assert_fields(check, &["how", "view_age_ms", "max_staleness_ms"]);
        assert!(["local", "coordinator"].contains(&check["how"].as_str().unwrap()), "{check}");
        assert_eq!(check["max_staleness_ms"], u64::try_from(world.bound().as_millis()).unwrap());
        assert!(check["view_age_ms"].as_u64().unwrap() <= check["max_staleness_ms"].as_u64().unwrap(), "{check}");
    }

    let second = Client::new().login(world.edge(1), &user).expect(200).json();
    assert_fields(&second["previous_session"], &["ends_everywhere_at"]);
    assert!(time_ms(&second["previous_session"]["ends_everywhere_at"]) > began_ms);

    let logout = world.login(2, &user).logout(world.edge(0)).expect(200).json();
    assert_fields(&logout, &["signed_out", "effective_at", "effective_everywhere"]);
    assert_eq!(logout["signed_out"], true);
    assert!(time_ms(&logout["effective_at"]) > began_ms && logout["effective_everywhere"].is_boolean());
}

#[test]
fn a_warm_edge_checks_from_memory() {
    let world = world();
    let (_, mut client) = world.someone("warm");
    for edge in world.edges() {
        edgekeep_tests::until("the edge checks from memory", || {
            let session = client.get(*edge, "/auth/session").expect(200).json();
            (session["check"]["how"] == "local").then_some(())
        });
    }
}

#[test]
fn without_a_session_the_reason_is_named() {
    let world = world();
    assert_no_session(&Client::new().get(world.edge(0), "/auth/session"), "none");
    let mut odd = Client::new();
    odd.jar.set("__Host-edgekeep-00000000=1.x; Path=/");
    assert_no_session(&odd.get(world.edge(1), "/auth/session"), "invalid");
    // JSON for everybody, in a browser's address bar too.
    let browser = edgekeep_tests::http::Request::navigate("/auth/session");
    assert_no_session(&Client::new().send(world.edge(2), browser), "none");
}
