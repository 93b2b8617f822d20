//! What people see, as far as it can be told without a browser (`tests/browser/` has one).

use edgekeep_tests::client::{Client, wrong};
use edgekeep_tests::http::{Request, Response};
use edgekeep_tests::until;
use serde_json::json;

use crate::world;

fn assert_page(response: &Response, status: u16) -> String {
    let text = response.text();
    assert_eq!(response.status, status, "{text}");
    assert_eq!(response.header("Content-Type"), Some("text/html; charset=utf-8"));
    assert_eq!(response.header("Cache-Control"), Some("no-store"));
    let policy = response.header("Content-Security-Policy").unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    for (name, value) in [
        ("X-Content-Type-Options", "nosniff"),
        ("X-Frame-Options", "DENY"),
        ("Referrer-Policy", "same-origin"),
        ("Cross-Origin-Opener-Policy", "same-origin"),
    ] {
        assert_eq!(response.header(name), Some(value), "{name}");
    }
    for forbidden in ["<script", " onclick", "javascript:", " style=\"", "http://", "https://"] {
        assert!(!text.contains(forbidden), "{forbidden} in {text}");
    }
    text
}

#[test]
fn people_are_led_to_the_form_and_scripts_get_the_error() {
    let world = world();
    let mut browser = Client::new();
    let response = browser.send(world.edge(0), Request::navigate("/dashboard?tab=2")).expect(303);
    assert_eq!(response.header("Location"), Some("/auth/login?return_to=/dashboard%3Ftab%3D2"));
    assert_eq!(response.header("Cache-Control"), Some("no-store"));
    let script = Request::new("GET", "/dashboard").header("Accept", "*/*").header("Sec-Fetch-Mode", "cors");
    assert_eq!(browser.send(world.edge(0), script).status, 401);
    let page = assert_page(&browser.send(world.edge(1), Request::navigate("/auth/login")), 200);
    assert!(page.contains("<form method=\"post\" action=\"/auth/login\">"));
}

#[test]
fn the_form_says_why_a_session_ended() {
    let world = world();
    let (user, mut first) = world.someone("why");
    let _second = world.login(1, &user);
    for edge in world.edges() {
        until("the edge refuses", || (first.steal().session(*edge).0 == 401).then_some(()));
        let page = first.browse(*edge, Request::navigate("/dashboard"));
        let text = assert_page(&page, 200);
        assert!(text.contains("another device"), "{text}");
    }
}

#[test]
fn problems_are_readable_pages() {
    let world = world();
    let (_, mut client) = world.someone("readable");
    assert_page(&client.send(world.edge(0), Request::navigate("/admin")), 403);
    assert_page(&client.send(world.edge(0), Request::navigate("/a%2fb")), 400);
    assert_page(&client.send(world.edge(0), Request::navigate("/auth/nothing")), 404);
    let form = Request::form("/auth/login", &[("username", "a")]).only_header("Sec-Fetch-Site", "cross-site");
    assert_page(&client.send(world.edge(0), form), 403);
    let page = assert_page(&client.send(world.edge(0), Request::navigate("/auth/account")), 200);
    assert!(page.contains("readable-"), "the account page names the user");
}

#[test]
fn a_wrong_password_shows_the_form_again_without_it() {
    let world = world();
    let user = wrong(&world.user("typo"));
    let mut browser = Client::new();
    let page = browser.send(world.edge(0), Request::navigate("/auth/login")).text();
    let at = page.find("name=\"form_key\" value=\"").unwrap();
    let form_key = page[at..].split('"').nth(3).unwrap().to_owned();
    let fields = [("form_key", form_key.as_str()), ("username", user.name.as_str()), ("password", &user.password)];
    let response = browser.send(world.edge(1), Request::form("/auth/login", &fields));
    let page = assert_page(&response, 401);
    assert!(page.contains(&user.name) && !page.contains(&user.password));
    assert!(page.contains("role=\"alert\""), "{page}");
}

#[test]
fn what_people_type_is_text_and_never_markup() {
    let world = world();
    let mut browser = Client::new();
    let page = browser.send(world.edge(0), Request::navigate("/auth/login?return_to=/x%22%3E%3Cb%3E")).text();
    assert!(!page.contains("<b>"), "{page}");
    let body = "username=%3Cb%3E%22%27&password=x&form_key=y";
    let request =
        Request::form("/auth/login", &[]).without("Content-Type").body("application/x-www-form-urlencoded", body);
    let page = assert_page(&browser.send(world.edge(0), request), 400);
    assert!(!page.contains("<b>"), "{page}");
}

#[test]
fn the_account_page_changes_the_password_by_form() {
    let world = world();
    let (user, mut browser) = world.someone("account");
    let page = assert_page(&browser.send(world.edge(0), Request::navigate("/auth/account")), 200);
    let at = page.find("name=\"form_key\" value=\"").unwrap();
    let form_key = page[at..].split('"').nth(3).unwrap().to_owned();
    let new_password = xtask::paths::random_password().unwrap();
    let fields =
        [("form_key", form_key.as_str()), ("current_password", &user.password), ("new_password", &new_password)];
    let done = browser.browse(world.edge(1), Request::form("/auth/password", &fields));
    assert!(assert_page(&done, 200).contains("password was changed"));
    let login = json!({"username": user.name, "password": new_password});
    let request = Request::json("/auth/login", &login).key("after-the-change");
    assert_eq!(Client::new().send(world.edge(2), request).status, 200);
}
