//! Requests that change state come from this site's own pages, or are JSON with an idempotency key (design 2.4).

use edgekeep_tests::client::{Client, login_request};
use edgekeep_tests::http::Request;
use edgekeep_tests::random_hex;
use edgekeep_tests::shape::assert_problem;
use serde_json::json;

use crate::world;

/// Every door that changes state.
const DOORS: [&str; 5] =
    ["/auth/login", "/auth/logout", "/auth/logout-everywhere", "/auth/password", "/auth/sessions/end"];

fn form(door: &str) -> Request {
    Request::new("POST", door)
        .header("Accept", "application/json")
        .body("application/x-www-form-urlencoded", "username=a&password=b")
}

#[test]
fn a_form_without_any_evidence_is_refused() {
    let (_, client) = world().someone("csrf");
    for door in DOORS {
        assert_problem(&client.steal().send(world().edge(0), form(door)), 403, "cross_site");
        // An idempotency key alone helps only JSON: a page of another site can send a form, not a header.
        let plain = Request::new("POST", door).header("Accept", "application/json").body("text/plain", "{}").key("k");
        assert_problem(&client.steal().send(world().edge(1), plain), 403, "cross_site");
        let json = Request::json(door, &json!({}));
        assert_problem(&client.steal().send(world().edge(2), json), 403, "cross_site");
    }
    assert_eq!(client.steal().get(world().edge(0), "/strict").status, 200, "nothing has happened");
}

#[test]
fn other_sites_are_refused_whatever_they_send() {
    let (_, client) = world().someone("csrf");
    let host = world().edge(0);
    let same = format!("http://{host}");
    for door in DOORS {
        for evidence in [
            vec![("Sec-Fetch-Site", "cross-site")],
            vec![("Sec-Fetch-Site", "same-site")],
            vec![("Sec-Fetch-Site", "none")],
            // The browser's own word counts more than an origin.
            vec![("Sec-Fetch-Site", "cross-site"), ("Origin", &same)],
            vec![("Origin", "https://evil.test")],
            vec![("Origin", "null")],
            vec![("Origin", "http://127.0.0.1:1")],
        ] {
            let mut request = Request::json(door, &json!({})).key("k");
            for (name, value) in &evidence {
                request = request.header(name, value);
            }
            assert_problem(&client.steal().send(host, request), 403, "cross_site");
        }
    }
    assert_eq!(client.steal().get(host, "/strict").status, 200, "nothing has happened");
}

#[test]
fn pages_of_this_site_may() {
    let (user, client) = world().someone("own");
    let host = world().edge(0);
    let by_origin = login_request(&user, &random_hex(8)).header("Origin", &format!("http://{host}"));
    assert_eq!(Client::new().send(host, by_origin).status, 200);
    let by_fetch = login_request(&user, &random_hex(8)).header("Sec-Fetch-Site", "same-origin");
    assert_eq!(Client::new().send(host, by_fetch).status, 200);
    let logout = Request::form("/auth/logout", &[]);
    assert_eq!(client.steal().send(host, logout).status, 303);
}

#[test]
fn nobody_is_allowed_to_ask_across_origins() {
    let preflight = Request::new("OPTIONS", "/auth/login")
        .header("Origin", "https://evil.test")
        .header("Access-Control-Request-Method", "POST")
        .header("Access-Control-Request-Headers", "content-type,idempotency-key");
    let response = Client::new().send(world().edge(0), preflight);
    assert!(response.status >= 400, "{}", response.status);
    assert!(response.headers.iter().all(|(name, _)| !name.to_lowercase().starts_with("access-control-")));
}
