//! Signing in: seen at once, once, by one.

use std::thread;

use edgekeep_tests::client::{Client, wrong};
use edgekeep_tests::http::Request;
use edgekeep_tests::shape::assert_problem;
use serde_json::json;

use crate::world;

#[test]
fn a_login_is_seen_at_once_on_all_edges() {
    let world = world();
    let user = world.user("seen");
    // Each login ends the one before, so each proof is newer than an entry that is under way to the edges.
    for round in 0..12 {
        let mut client = world.login(round % 3, &user);
        for edge in world.edges() {
            assert_eq!(client.get(*edge, "/dashboard").said(), (200, String::new()), "round {round}");
        }
    }
}

#[test]
fn many_devices_at_once_leave_one_session() {
    let world = world();
    let user = world.user("crowd");
    let clients: Vec<Client> = thread::scope(|scope| {
        let logins: Vec<_> = (0..12)
            .map(|device| {
                let (edge, user) = (world.edge(device % 3), &user);
                scope.spawn(move || {
                    let mut client = Client::new();
                    let response = client.login(edge, user);
                    // More at once than an account has places for are asked to come again.
                    assert!(matches!(response.status, 200 | 409), "{}", response.text());
                    (response.status == 200).then_some(client)
                })
            })
            .collect();
        logins.into_iter().filter_map(|login| login.join().unwrap()).collect()
    });
    assert!(!clients.is_empty());
    assert_eq!(world.sessions_of(&user), 1);
    for edge in world.edges() {
        let accepted = clients.iter().filter(|client| client.steal().get(*edge, "/strict").status == 200).count();
        assert_eq!(accepted, 1);
    }
}

#[test]
fn a_wrong_password_makes_no_session_and_no_cookie() {
    let world = world();
    let user = world.user("typo");
    let mut client = Client::new();
    let response = client.login(world.edge(0), &wrong(&user));
    assert_problem(&response, 401, "invalid_credentials");
    assert_eq!(response.header("Set-Cookie"), None);
    assert_eq!(world.sessions_of(&user), 0);
    // Nobody is told whether the name or the password was wrong.
    let mut nobody = user.clone();
    nobody.name = "nobody-of-that-name".into();
    let unknown = client.login(world.edge(1), &nobody);
    assert_eq!(unknown.body, response.body);
    // A right password afterwards works.
    assert_eq!(client.login(world.edge(2), &user).status, 200);
}

#[test]
fn a_user_name_is_one_name_in_every_case() {
    let world = world();
    let mut user = world.user("case");
    let registered = user.name.clone();
    user.name = user.name.to_uppercase();
    let response = Client::new().login(world.edge(0), &user).expect(200);
    assert_eq!(response.json()["user"]["name"], registered.as_str());
}

#[test]
fn a_login_ends_the_sessions_that_its_request_presents() {
    let world = world();
    let (first_user, mut client) = world.someone("first");
    let mut copy = client.steal();
    let second_user = world.user("second");
    let response = client.login(world.edge(1), &second_user).expect(200);
    assert!(response.json()["previous_session"]["ends_everywhere_at"].is_string());
    assert_eq!(world.sessions_of(&first_user), 0);
    assert_eq!(client.jar.session_names().len(), 1);
    assert_eq!(client.get(world.edge(2), "/auth/session").json()["user"]["name"], second_user.name.as_str());
    // Strict: the coordinator's own word, without waiting for the feed.
    let refused = copy.get(world.edge(0), "/strict");
    assert_eq!((refused.status, refused.reason().as_deref()), (401, Some("signed_out")));
}

#[test]
fn a_login_by_form_needs_no_script() {
    let world = world();
    let user = world.user("form");
    let mut browser = Client::new();
    // A page that needs a session leads to the form, and the form back to the page.
    let form = browser.browse(world.edge(0), Request::navigate("/dashboard?tab=2")).expect(200);
    let page = form.text();
    let hidden = |name: &str| {
        let at = page.find(&format!("name=\"{name}\" value=\"")).unwrap_or_else(|| panic!("no {name} in {page}"));
        page[at..].split('"').nth(3).unwrap().replace("&amp;", "&")
    };
    let fields = [
        ("form_key", hidden("form_key")),
        ("return_to", hidden("return_to")),
        ("username", user.name.clone()),
        ("password", user.password.clone()),
    ];
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    // Sent twice through different edges, as a nervous double click does: one session.
    let mut other_tab = browser.clone();
    let done = browser.send(world.edge(1), Request::form("/auth/login", &fields)).expect(303);
    assert_eq!(done.header("Location"), Some("/dashboard?tab=2"));
    let again = other_tab.send(world.edge(2), Request::form("/auth/login", &fields)).expect(303);
    assert_eq!(browser.jar.session_names(), other_tab.jar.session_names(), "{again:?}");
    let page = browser.send(world.edge(2), Request::navigate("/dashboard?tab=2")).expect(200);
    assert!(page.text().contains("Your dashboard"));
    // The form belongs to this browser: planted in another one it does not count.
    let planted = Client::new().send(world.edge(0), Request::form("/auth/login", &fields));
    assert_eq!(planted.status, 400);
}

#[test]
fn disabled_users_cannot_sign_in_and_nobody_is_told() {
    let world = world();
    let user = world.user("gone");
    world.edgekeep(&["user", "disable", &user.name], "");
    assert_problem(&Client::new().login(world.edge(0), &user), 401, "invalid_credentials");
    world.edgekeep(&["user", "enable", &user.name], "");
    assert_eq!(Client::new().login(world.edge(0), &user).status, 200);
}

#[test]
fn names_and_passwords_beyond_ascii_work() {
    let world = world();
    let name = format!("zoé-{}", edgekeep_tests::random_hex(4));
    world.edgekeep(&["user", "add", &name], "größe + 100% \"日本語\" 🔑\n");
    let login = |password: &str| {
        let body = json!({"username": name, "password": password});
        Client::new().send(world.edge(0), Request::json("/auth/login", &body).key(&edgekeep_tests::random_hex(8)))
    };
    assert_eq!(login("größe + 100% \"日本語\" 🔑").status, 200);
    // The same text in the other Unicode spelling (NFC and NFD).
    assert_eq!(login("gro\u{308}ße + 100% \"日本語\" 🔑").status, 200);
    assert_eq!(login("grosse + 100% \"日本語\" 🔑").status, 401);
}
