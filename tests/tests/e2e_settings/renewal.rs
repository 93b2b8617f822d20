//! Proofs are short-lived and renewed in line; nobody notices.

use std::thread;

use edgekeep_tests::client::Client;
use edgekeep_tests::http::Request;
use edgekeep_tests::proxy::{Fault, Proxy};
use edgekeep_tests::until;

use crate::world_with;

/// A proof lives for a second.
const SHORT: [(&str, &str); 1] = [("proof_life_ms", "1000")];

/// Waits until the client's proof is due, without renewing it: a copy is renewed instead.
fn wait_until_due(client: &Client, edge: std::net::SocketAddr) {
    until("the proof is due", || client.steal().get(edge, "/dashboard").header("Set-Cookie").map(|_| ()));
}

fn session_id(client: &mut Client, edge: std::net::SocketAddr) -> String {
    let session = client.get(edge, "/auth/session").expect(200).json();
    session["session"]["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_session_outlives_its_proofs_under_one_name_and_id() {
    let world = world_with(&SHORT);
    let (_, mut client) = world.someone("long");
    let (id, names) = (session_id(&mut client, world.edge(0)), client.jar.session_names().len());
    for round in 0..3 {
        // Asked until it is due: an edge that learns the time more exactly may find a proof good for a moment longer.
        let response = until("a new proof", || {
            let response = client.get(world.edge(round % 2), "/dashboard").expect(200);
            response.header("Set-Cookie").is_some().then_some(response)
        });
        let cookie = response.header("Set-Cookie").unwrap();
        assert!(cookie.starts_with(&format!("__Host-edgekeep-{}=", &id[..8])), "{cookie}");
        assert_eq!(response.header("Cache-Control"), Some("no-store"));
        assert_eq!(session_id(&mut client, world.edge(1)), id);
    }
    assert_eq!(client.jar.session_names().len(), names);
}

#[test]
fn twenty_parallel_renewals_of_one_proof_are_harmless() {
    let world = world_with(&SHORT);
    let (_, client) = world.someone("crowd");
    let id = session_id(&mut client.steal(), world.edge(0));
    wait_until_due(&client, world.edge(0));
    thread::scope(|scope| {
        for n in 0..20 {
            let (mut client, id, world) = (client.steal(), &id, &world);
            scope.spawn(move || {
                assert_eq!(client.get(world.edge(n % 2), "/dashboard").status, 200);
                assert_eq!(&session_id(&mut client, world.edge(0)), id);
            });
        }
    });
}

#[test]
fn a_public_route_never_renews() {
    let world = world_with(&SHORT);
    let (_, client) = world.someone("public");
    wait_until_due(&client, world.edge(0));
    let page = client.steal().get(world.edge(0), "/");
    assert_eq!((page.status, page.header("Set-Cookie")), (200, None));
}

#[test]
fn an_ended_session_is_not_renewed() {
    let world = world_with(&SHORT);
    let (user, client) = world.someone("ended");
    // Of this user alone: the world is shared, and the entries of others live longer.
    let needed = format!(
        "SELECT count(*) FROM user_state JOIN users USING (user_id)
         WHERE name = '{}' AND needed_until > clock_timestamp()",
        user.name
    );
    let _ = client.steal().logout(world.edge(0)).expect(200);
    for edge in world.edges() {
        until("it is over", || (client.steal().session(*edge).0 == 401).then_some(()));
    }
    // Also long after the proof is due and the entry may be forgotten.
    until("the proof is long over", || {
        let response = client.steal().get(world.edge(1), "/dashboard");
        assert_eq!((response.status, response.reason().as_deref()), (401, Some("signed_out")));
        (world.sql().number(&needed) == 0).then_some(())
    });
    for edge in world.edges() {
        let response = client.steal().get(*edge, "/dashboard");
        assert_eq!((response.status, response.reason().as_deref()), (401, Some("signed_out")));
    }
}

#[test]
fn a_delayed_renewal_displaces_no_newer_login() {
    let world = world_with(&SHORT);
    for same_user in [true, false] {
        let (user, mut browser) = world.someone("delayed");
        wait_until_due(&browser, world.edge(0));
        // The renewal's answer is on its way and takes its time…
        let slow = Proxy::to(world.edge(0));
        slow.rule("GET /dashboard", Fault::HoldAnswer, 1);
        let old = browser.steal();
        let late = thread::scope(|scope| {
            let request = old.with_cookies(Request::get("/dashboard"));
            let address = slow.address;
            let renewal = scope.spawn(move || edgekeep_tests::http::send(address, &request).unwrap());
            slow.wait_caught(1);
            // …while the same browser signs in again.
            let next = if same_user { user.clone() } else { world.user("next") };
            assert_eq!(browser.login(world.edge(1), &next).status, 200);
            slow.release();
            renewal.join().unwrap()
        });
        let newest = session_id(&mut browser.clone(), world.edge(0));
        assert_eq!(late.status, 200, "it was accepted before");
        assert!(late.header("Set-Cookie").is_some(), "and renewed");
        browser.jar.take(&late);
        assert_eq!(browser.jar.session_names().len(), 2, "both cookies are in the jar now");
        for edge in world.edges() {
            let mut browser = browser.clone();
            assert_eq!(session_id(&mut browser, *edge), newest);
            assert_eq!(browser.jar.session_names().len(), 1, "the old one is cleared");
            assert_eq!(browser.get(*edge, "/strict").status, 200);
        }
    }
}
