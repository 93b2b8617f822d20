//! Receipts: from when on an ending holds everywhere, and `Prefer: wait` (RFC 7240), which answers only then.

use std::time::Duration;

use edgekeep_tests::client::{login_request, logout_request};
use edgekeep_tests::random_hex;
use edgekeep_tests::shape::time_ms;

use crate::world;

/// Longer than the bound.
const WAIT: &str = "wait=25";

#[test]
fn a_receipt_names_the_moment_from_which_it_holds_everywhere() {
    let world = world();
    let mut sql = world.sql();
    let (_, mut client) = world.someone("receipt");
    let before_ms = sql.now_ms();
    let receipt = client.logout(world.edge(0)).expect(200).json();
    let after_ms = sql.now_ms();
    let bound_ms = i64::try_from(world.bound().as_millis()).unwrap();
    let effective_ms = time_ms(&receipt["effective_at"]);
    assert!((before_ms + bound_ms..=after_ms + bound_ms + 1).contains(&effective_ms), "{receipt}");
    if after_ms < effective_ms {
        assert_eq!(receipt["effective_everywhere"], false);
    }
}

#[test]
fn a_logout_that_waits_answers_when_it_holds_everywhere() {
    let world = world();
    let mut sql = world.sql();
    let (_, mut client) = world.someone("waits");
    let thief = client.steal();
    let response = client.send(world.edge(1), logout_request().header("Prefer", WAIT)).expect(200);
    let now_ms = sql.now_ms();
    let receipt = response.json();
    assert_eq!(response.header("Preference-Applied"), Some(WAIT));
    assert_eq!(receipt["effective_everywhere"], true);
    assert!(now_ms >= time_ms(&receipt["effective_at"]), "answered too early: {receipt}");
    // The first request to each edge after the receipt.
    for edge in world.edges() {
        assert_eq!(thief.steal().session(*edge), (401, Some("signed_out".into())));
    }
}

#[test]
fn a_login_that_waits_leaves_no_overlap_of_two_devices() {
    let world = world();
    let mut sql = world.sql();
    let (user, first) = world.someone("overlap");
    let mut second = edgekeep_tests::client::Client::new();
    let request = login_request(&user, &random_hex(8)).header("Prefer", WAIT);
    let answer = second.send(world.edge(2), request).expect(200).json();
    assert!(sql.now_ms() >= time_ms(&answer["previous_session"]["ends_everywhere_at"]));
    for edge in world.edges() {
        assert_eq!(first.steal().session(*edge), (401, Some("signed_in_elsewhere".into())));
        assert_eq!(second.session(*edge).0, 200);
    }
}

#[test]
fn a_login_that_ends_nothing_does_not_wait() {
    let world = world();
    let user = world.user("alone");
    let mut client = edgekeep_tests::client::Client::new();
    let response =
        client.send(world.edge(0), login_request(&user, &random_hex(8)).header("Prefer", "wait=30")).expect(200);
    assert!(response.json()["previous_session"].is_null());
    assert!(response.received - response.sent < Duration::from_secs(25), "it waited for nothing");
}

#[test]
fn a_repeated_logout_names_the_same_moment() {
    let world = world();
    let (_, client) = world.someone("repeat");
    let first = client.steal().logout(world.edge(0)).expect(200).json();
    for edge in world.edges() {
        // The retry of a client that never saw the answer: it still has the cookie.
        let again = client.steal().logout(*edge).expect(200).json();
        assert_eq!(again["effective_at"], first["effective_at"]);
        assert_eq!(again["signed_out"], true);
    }
    // And without any session at all the answer is the same kind.
    let nothing = edgekeep_tests::client::Client::new().logout(world.edge(1)).expect(200).json();
    assert_eq!((&nothing["signed_out"], &nothing["effective_everywhere"]), (&true.into(), &true.into()));
}

#[test]
fn an_expired_or_foreign_cookie_signs_out_quietly() {
    let world = world();
    let mut client = edgekeep_tests::client::Client::new();
    client.jar.set("__Host-edgekeep-00000000=1.nonsense; Path=/");
    let response = client.logout(world.edge(0)).expect(200);
    assert_eq!(response.json()["signed_out"], true);
    assert!(client.jar.session_names().is_empty());
    assert_eq!(response.header("Clear-Site-Data"), Some("\"cache\""));
}
