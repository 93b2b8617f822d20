//! What reaches the site behind the edge, and what comes back.

use edgekeep_tests::client::Client;
use edgekeep_tests::http::{self, Request};
use edgekeep_tests::websocket;
use serde_json::Value;

use crate::world;

/// All values of a header as the site received it.
fn received(echo: &Value, name: &str) -> Vec<String> {
    let pairs = echo["headers"].as_array().unwrap();
    let of_name = pairs.iter().filter(|pair| pair[0].as_str().unwrap().eq_ignore_ascii_case(name));
    of_name.map(|pair| pair[1].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_site_learns_who_is_asking_and_can_verify_it() {
    let world = world();
    let user = world.user_with_role("who", "admin");
    let mut client = world.login(0, &user);
    for edge in world.edges() {
        let session = client.get(*edge, "/auth/session").expect(200).json();
        let echo = client.get(*edge, "/echo").expect(200).json();
        assert_eq!(received(&echo, "Edgekeep-User"), [user.name.as_str()]);
        assert_eq!(received(&echo, "Edgekeep-Roles"), ["admin"]);
        assert_eq!(received(&echo, "Edgekeep-Session"), [session["session"]["id"].as_str().unwrap()]);
        assert_eq!(received(&echo, "Edgekeep-Request-Id").len(), 1);
        let assertion = &echo["assertion"];
        assert_eq!(assertion["verified"], true, "{assertion}");
        let claims = &assertion["claims"];
        assert_eq!(claims["name"], user.name.as_str());
        assert_eq!(claims["roles"], serde_json::json!(["admin"]));
        assert_eq!(claims["sid"], session["session"]["id"]);
        assert_eq!(claims["sub"].as_str(), received(&echo, "Edgekeep-User-Id").first().map(String::as_str));
        let life_s = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
        assert!((1..=120).contains(&life_s), "seconds of life: {life_s}");
    }
}

#[test]
fn no_spelling_of_an_identity_header_gets_through() {
    let world = world();
    let (user, client) = world.someone("forger");
    let spellings = [
        "Edgekeep-User",
        "edgekeep-user",
        "EDGEKEEP-USER",
        "Edgekeep_User",
        "EDGEKEEP_USER",
        "edgekeep.user",
        "Edgekeep-Roles",
        "edgekeep_roles",
        "Edgekeep.Roles",
        "Edgekeep-Session",
        "Edgekeep_Session",
        "Edgekeep-Assertion",
        "edgekeep_assertion",
        "Edgekeep-User-Id",
        "edgekeep_user_id",
        "Edgekeep-Anything",
        "Edgekeep-Request-Id",
        "edgekeep",
    ];
    let overrides = [
        "X-HTTP-Method-Override",
        "X-HTTP-Method",
        "X-Method-Override",
        "x_http_method_override",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-Original-Uri",
    ];
    let mut request = Request::get("/echo");
    for name in spellings.iter().chain(&overrides) {
        request = request.header(name, "forged");
    }
    for request in [request.clone(), request.header("Connection", "close, Edgekeep-User, Edgekeep-Assertion, Cookie")] {
        let echo = client.steal().send(world.edge(1), request).expect(200).json();
        assert!(!echo["headers"].to_string().contains("forged"), "{}", echo["headers"]);
        assert_eq!(received(&echo, "Edgekeep-User"), [user.name.as_str()]);
        assert_eq!(echo["assertion"]["verified"], true);
        assert_eq!(echo["method"], "GET");
    }
    // On a public page nobody is anybody: the forged headers do not arrive there either.
    let page = Client::new().send(
        world.edge(0),
        Request::get("/").header("Edgekeep-User", "forged").header("Edgekeep-Assertion", "forged"),
    );
    assert_eq!(page.status, 200);
    assert!(!page.text().contains("forged"));
}

#[test]
fn our_cookies_do_not_reach_the_site_and_others_do() {
    let world = world();
    let (_, client) = world.someone("crumbs");
    let ours = client.jar.header().unwrap();
    let secret = ours.split('=').nth(1).unwrap().to_owned();
    let cookies = format!("a=1; {ours}; theme=dark; __Host-ek-form=abc; __host-EDGEKEEP-x=y; b=2");
    let echo = Client::new().send(world.edge(0), Request::get("/echo").header("Cookie", &cookies)).expect(200).json();
    assert_eq!(received(&echo, "Cookie"), ["a=1; theme=dark; b=2"]);
    assert!(!echo.to_string().contains(&secret));
    let echo = client.steal().get(world.edge(1), "/echo").json();
    assert!(received(&echo, "Cookie").is_empty(), "{}", echo["headers"]);
}

#[test]
fn the_path_arrives_exactly_as_it_was_decided_on() {
    let world = world();
    let (_, mut client) = world.someone("paths");
    for path in ["/echo/a%20b", "/echo/caf%C3%A9?q=%2F%2e%2e&x=//y;z", "/echo/%7Euser/", "/echo/a+b?", "/echo/%41"] {
        let echo = client.get(world.edge(0), path).expect(200).json();
        let arrived = echo["path"].as_str().unwrap();
        assert_eq!(arrived.trim_end_matches('?'), path.trim_end_matches('?'));
    }
}

#[test]
fn methods_and_bodies_pass() {
    let world = world();
    let (_, mut client) = world.someone("bodies");
    let million = vec![b'x'; 1_000_000];
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        let request = Request::new(method, "/echo").body("application/octet-stream", million.clone());
        let echo = client.send(world.edge(0), request).expect(200).json();
        assert_eq!((&echo["method"], &echo["body_bytes"]), (&method.into(), &1_000_000.into()));
        assert_eq!(received(&echo, "Content-Type"), ["application/octet-stream"]);
    }
    let bytes = client.get(world.edge(1), "/bytes?n=1000000").expect(200);
    assert_eq!(bytes.body.len(), 1_000_000);
    let head = client.send(world.edge(1), Request::new("HEAD", "/bytes?n=1000000")).expect(200);
    assert_eq!((head.header("Content-Length"), head.body.len()), (Some("1000000"), 0));
}

#[test]
fn answers_stream() {
    let world = world();
    let (_, client) = world.someone("stream");
    let request = client.with_cookies(Request::get("/stream?n=5&ms=300"));
    let mut exchange = http::open(world.edge(2), &request).unwrap();
    assert_eq!(exchange.status, 200);
    let first = String::from_utf8(exchange.read_some().unwrap()).unwrap();
    assert!(first.starts_with("1 of 5") && !first.contains("5 of 5"), "it came all at once: {first}");
    let rest = exchange.finish().unwrap().text();
    assert!(rest.ends_with("5 of 5\n"), "{rest}");
}

#[test]
fn websockets_pass_for_those_who_may() {
    let world = world();
    let (user, client) = world.someone("socket");
    let mut socket = websocket::open(&client, world.edge(0), "/ws").unwrap();
    assert_eq!(socket.receive(), format!("hello {}", user.name));
    for text in ["one", "two", "größer"] {
        socket.send(text);
        assert_eq!(socket.receive(), text);
    }
    assert_eq!(websocket::open(&Client::new(), world.edge(0), "/ws").unwrap_err(), 401);
}

#[test]
fn what_a_session_was_needed_for_is_stored_by_nobody() {
    let world = world();
    let (_, mut client) = world.someone("store");
    assert_eq!(client.get(world.edge(0), "/dashboard").header("Cache-Control"), Some("no-store"));
    assert_eq!(client.get(world.edge(0), "/assets/style.css").header("Cache-Control"), Some("public, max-age=300"));
}

#[test]
fn many_requests_of_one_session_pass_side_by_side() {
    let world = world();
    let (_, client) = world.someone("busy");
    std::thread::scope(|scope| {
        for n in 0..12 {
            let mut client = client.steal();
            scope.spawn(move || {
                for _ in 0..10 {
                    assert_eq!(client.get(world.edge(n % 3), "/dashboard").status, 200);
                }
            });
        }
    });
}
