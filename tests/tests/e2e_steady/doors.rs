//! What the doors refuse, and how: every bad input has its status and its code.

use edgekeep_tests::client::Client;
use edgekeep_tests::http::{Request, Response};
use edgekeep_tests::random_hex;
use edgekeep_tests::shape::assert_problem;
use serde_json::json;

use crate::world;

/// Doors with a body that has to be there, and a body that would do.
fn bodies() -> [(&'static str, &'static str); 4] {
    [
        ("/auth/login", r#"{"username":"nobody","password":"a password that is wrong"}"#),
        ("/auth/logout-everywhere", r#"{"username":"nobody","password":"a password that is wrong"}"#),
        ("/auth/password", r#"{"current_password":"a wrong one","new_password":"a new password of good length"}"#),
        ("/auth/sessions/end", r#"{"session_id":"00000000000000000000000000000000"}"#),
    ]
}

fn post(door: &str, content_type: &str, body: impl Into<Vec<u8>>) -> Request {
    Request::new("POST", door)
        .header("Accept", "application/json")
        .header("Sec-Fetch-Site", "same-origin")
        .key(&random_hex(8))
        .body(content_type, body)
}

fn sender(prefix: &str) -> impl Fn(Request) -> Response {
    let (_, client) = world().someone(prefix);
    move |request| client.steal().send(world().edge(0), request)
}

#[test]
fn a_body_that_is_too_large_is_413() {
    let send = sender("large");
    for (door, _) in bodies() {
        let large = format!(r#"{{"username":"a","password":"{}"}}"#, "x".repeat(16 * 1024));
        assert_problem(&send(post(door, "application/json", large.clone())), 413, "too_large");
        // The same without saying so beforehand.
        let chunked = format!("{:x}\r\n{large}\r\n0\r\n\r\n", large.len());
        let request = post(door, "application/json", chunked).header("Transfer-Encoding", "chunked");
        assert_problem(&send(request), 413, "too_large");
    }
    let long = "y".repeat(5_000);
    let body = json!({"username": "a", "password": long});
    assert_problem(&send(post("/auth/login", "application/json", body.to_string())), 413, "too_large");
    let body = json!({"username": &long[..300], "password": "p"});
    assert_problem(&send(post("/auth/login", "application/json", body.to_string())), 413, "too_large");
}

#[test]
fn a_wrong_content_type_is_415() {
    let send = sender("type");
    for (door, body) in bodies() {
        for content_type in ["text/plain", "multipart/form-data; boundary=x", "application/xml", "application/jsonp"] {
            assert_problem(&send(post(door, content_type, body)), 415, "unsupported_media_type");
        }
        assert_problem(&send(post(door, "", body).without("Content-Type")), 415, "unsupported_media_type");
    }
}

#[test]
fn malformed_bodies_are_400() {
    let send = sender("bad");
    for (door, body) in bodies() {
        let twice = format!("{},{}", &body[..body.len() - 1], &body[1..]);
        let cut = &body[..body.len() - 1];
        for bad in [twice.as_str(), cut, "", "{}", "[]", "null", "\"x\"", &format!("{body}{body}"), "{\"a\":", "\u{1}"]
        {
            assert_problem(&send(post(door, "application/json", bad)), 400, "invalid_request");
        }
        assert_problem(
            &send(post(door, "application/json", b"{\"username\":\"\xff\"}".to_vec())),
            400,
            "invalid_request",
        );
        let form = "username=a&password=b&username=c&current_password=x&new_password=y&session_id=z";
        for bad in [form, "username=a&user%6eame=a&password=b", "username=%zz", "username=%ff&password=b", "", "a=%"] {
            let request = post(door, "application/x-www-form-urlencoded", bad);
            assert_problem(&send(request), 400, "invalid_request");
        }
    }
    for field in [json!(1), json!(null), json!(true), json!(["a"]), json!({"a": "b"}), json!("")] {
        let body = json!({"username": "a", "password": field});
        assert_problem(&send(post("/auth/login", "application/json", body.to_string())), 400, "invalid_request");
    }
}

#[test]
fn an_idempotency_key_has_to_be_there_and_be_one() {
    let send = sender("keys");
    for (door, body) in &bodies()[..3] {
        let without = post(door, "application/json", *body).without("Idempotency-Key");
        assert_problem(&send(without.clone()), 400, "invalid_request");
        for key in ["", "two words", "\"open", "\"\"", &"k".repeat(256), "ä"] {
            assert_problem(&send(without.clone().key(key)), 400, "invalid_request");
        }
        // A form's key that nobody has sealed.
        let form = "username=a&password=b&current_password=c&new_password=d&form_key=made-up";
        assert_problem(&send(post(door, "application/x-www-form-urlencoded", form)), 400, "invalid_request");
    }
    // With and without the quotes of a structured field it is the same key.
    let (user, key) = (world().user("quoted"), random_hex(8));
    let first = Client::new().login_with_key(world().edge(0), &user, &key).expect(200).json();
    let again = Client::new().login_with_key(world().edge(1), &user, &format!("\"{key}\"")).expect(200).json();
    assert_eq!(first["session"]["id"], again["session"]["id"]);
}

#[test]
fn user_names_that_no_name_can_be_are_400() {
    let send = sender("names");
    for name in ["a b", "a\nb", "a\u{0}b", "\u{202e}abc", &"n".repeat(200)] {
        let body = json!({"username": name, "password": "a password that is wrong"});
        assert_problem(&send(post("/auth/login", "application/json", body.to_string())), 400, "invalid_request");
    }
}

#[test]
fn a_method_that_a_door_does_not_take_is_405_and_says_what_it_takes() {
    let send = sender("method");
    let read = "GET, HEAD";
    let read_and_post = "GET, HEAD, POST";
    for (door, allow) in [
        ("/auth/login", read_and_post),
        ("/auth/logout", "POST"),
        ("/auth/logout-everywhere", read_and_post),
        ("/auth/password", read_and_post),
        ("/auth/session", read),
        ("/auth/account", read),
        ("/auth/sessions/end", "POST"),
        ("/auth/style.css", read),
    ] {
        for method in ["DELETE", "PUT", "PATCH", "OPTIONS"] {
            let response = send(Request::new(method, door).header("Accept", "application/json"));
            assert_problem(&response, 405, "method_not_allowed");
            assert_eq!(response.header("Allow"), Some(allow), "{method} {door}");
        }
        let wrong = if allow == "POST" { "GET" } else { "" };
        if !wrong.is_empty() {
            let response = send(Request::new(wrong, door).header("Accept", "application/json"));
            assert_problem(&response, 405, "method_not_allowed");
        }
        if allow != "POST" {
            let head = send(Request::new("HEAD", door));
            assert_eq!((head.status, head.body.len()), (200, 0), "HEAD counts as GET: {door}");
        }
    }
}

#[test]
fn there_is_nothing_at_other_addresses_of_the_doors() {
    let send = sender("other");
    for path in ["/auth", "/auth/nothing", "/auth/login/x", "/auth/sessions", "/auth/fault/panic", "/auth/LOGIN"] {
        let response = send(Request::get(path));
        assert_eq!(response.status, 404, "{path}");
        assert_eq!(response.header("Content-Type"), Some("application/problem+json"));
    }
    // A neighbour of the prefix is the site's.
    assert_eq!(send(Request::get("/authors")).status, 404);
    assert_eq!(Client::new().get(world().edge(0), "/authors").status, 401);
}

#[test]
fn a_new_password_keeps_the_rules() {
    let (user, mut client) = world().someone("rules");
    for bad in ["short", "password1234567", "123456789012345", &"p".repeat(3_000)] {
        let body = json!({"current_password": user.password, "new_password": bad});
        let response = client.send(world().edge(0), post("/auth/password", "application/json", body.to_string()));
        assert_problem(&response, 400, "invalid_request");
    }
    assert_eq!(client.get(world().edge(1), "/strict").status, 200, "the session stays");
    assert_eq!(Client::new().login(world().edge(0), &user).status, 200, "and so does the password");
}
