//! Everything that `docs/openapi/public.json` lists is served. (That nothing else is, the client checks in every test:
//! see `edgekeep_tests::contract`.)

use std::collections::BTreeSet;

use edgekeep_tests::client::{Client, login_request, wrong};
use edgekeep_tests::contract::{check, listed};
use edgekeep_tests::http::{Request, Response};
use edgekeep_tests::random_hex;
use serde_json::{Value, json};
use xtask::state::User;

use crate::world;

/// Codes that other suites bring about: they take a coordinator that is away or busy (`e2e_faults`, `busy.rs`), another
/// takeover policy or a limit per client address (`e2e_settings`). `overloaded` and `rate_limited` come of a login there.
const ELSEWHERE: [&str; 5] = ["login_in_flight", "signed_in_elsewhere", "rate_limited", "overloaded", "unavailable"];
/// The pages of these are for those codes alone.
const ELSEWHERE_PAGES: [&str; 2] = ["409 text/html", "503 text/html"];

const POSTS: [&str; 5] =
    ["/auth/login", "/auth/logout", "/auth/logout-everywhere", "/auth/password", "/auth/sessions/end"];
const GETS: [&str; 7] = [
    "/auth/login",
    "/auth/logout-everywhere",
    "/auth/password",
    "/auth/session",
    "/auth/account",
    "/auth/style.css",
    "/auth/icon.svg",
];

/// What has come so far.
#[derive(Default)]
struct Tour {
    seen: BTreeSet<String>,
}

impl Tour {
    #[track_caller]
    fn send(&mut self, client: &mut Client, request: Request, status: u16) -> Response {
        let response = client.send(world().edge(0), request.clone()).expect(status);
        self.seen.extend(check(&request, &response));
        response
    }

    /// A program's `POST`.
    #[track_caller]
    fn program(&mut self, client: &mut Client, door: &str, body: &Value, status: u16) -> Response {
        self.send(client, Request::json(door, body).key(&random_hex(8)), status)
    }

    /// The key of a form that is shown to the client.
    #[track_caller]
    fn form_key(&mut self, client: &mut Client, page: &str) -> String {
        let page = self.send(client, Request::navigate(page), 200).text();
        let at = page.find("name=\"form_key\" value=\"").expect("a form with a key");
        page[at..].split('"').nth(3).expect("a value").to_owned()
    }

    /// A person opens the page and sends its form; gives the request too, to send it once more.
    #[track_caller]
    fn person(&mut self, client: &mut Client, door: &str, fields: &[(&str, &str)], status: u16) -> Request {
        let key = self.form_key(client, door);
        let fields: Vec<_> = fields.iter().copied().chain([("form_key", key.as_str())]).collect();
        let request = Request::form(door, &fields);
        self.send(client, request.clone(), status);
        request
    }
}

fn credentials(user: &User) -> Value {
    json!({"username": user.name, "password": user.password})
}

fn change(old: &str, new: &str) -> Value {
    json!({"current_password": old, "new_password": new})
}

/// What a script of a page sends: no navigation, though a page is welcome.
fn script(door: &str) -> Request {
    Request::new("GET", door).header("Accept", "text/html").header("Sec-Fetch-Mode", "cors")
}

#[test]
fn everything_that_is_listed_is_served() {
    let mut tour = Tour::default();
    signing_in_and_out(&mut tour);
    sessions(&mut tour);
    passwords(&mut tour);
    sessions_that_are_over(&mut tour);
    guesses(&mut tour);
    bad_requests(&mut tour);

    let elsewhere = |name: &String| {
        ELSEWHERE.iter().any(|code| name.ends_with(code)) || ELSEWHERE_PAGES.iter().any(|page| name.ends_with(page))
    };
    let missing: Vec<String> = listed().difference(&tour.seen).filter(|name| !elsewhere(name)).cloned().collect();
    assert!(missing.is_empty(), "listed, and never served: {missing:#?}");
}

fn signing_in_and_out(tour: &mut Tour) {
    let user = world().user("tour");
    let everywhere = credentials(&user);
    let fields = [("username", user.name.as_str()), ("password", user.password.as_str())];
    let (mut program, mut person) = (Client::new(), Client::new());
    tour.program(&mut program, "/auth/login", &credentials(&user), 200);
    tour.person(&mut person, "/auth/login", &fields, 303);
    tour.program(&mut program, "/auth/logout", &json!({}), 200);
    tour.send(&mut person, Request::form("/auth/logout", &[("return_to", "/")]), 303);
    tour.program(&mut program, "/auth/logout-everywhere", &everywhere, 200);
    tour.person(&mut person, "/auth/logout-everywhere", &fields, 303);
    // Waiting is granted, and said to be.
    let request = login_request(&user, &random_hex(8)).header("Prefer", "wait=1");
    assert_eq!(tour.send(&mut program, request, 200).header("Preference-Applied"), Some("wait=1"));
}

fn sessions(tour: &mut Tour) {
    let (user, mut first) = world().someone("tour-session");
    let session = tour.send(&mut first, Request::get("/auth/session"), 200).json();
    // The other session has ended by this login already, which is as good.
    let (mut client, mut nobody) = (world().login(0, &user), Client::new());
    let other = json!({"session_id": session["session"]["id"]});
    tour.send(&mut nobody, Request::get("/auth/session"), 401);
    tour.send(&mut client, Request::navigate("/auth/account"), 200);
    for door in ["/auth/account", "/auth/password"] {
        tour.send(&mut nobody, Request::get(door), 401);
        tour.send(&mut nobody, script(door), 401);
        tour.send(&mut nobody, Request::navigate(door), 303);
    }
    tour.send(&mut client, Request::get("/auth/style.css"), 200);
    tour.send(&mut client, Request::get("/auth/icon.svg"), 200);
    tour.program(&mut client, "/auth/sessions/end", &other, 200);
    let fields = [("session_id", other["session_id"].as_str().unwrap())];
    tour.send(&mut client, Request::form("/auth/sessions/end", &fields), 303);
    tour.program(&mut nobody, "/auth/sessions/end", &other, 401);
    tour.send(&mut nobody, Request::form("/auth/sessions/end", &fields), 401);
}

fn passwords(tour: &mut Tour) {
    let (user, mut client) = world().someone("tour-password");
    let (second, third) = (random_hex(12), random_hex(12));
    tour.program(&mut client, "/auth/password", &change(&user.password, &second), 200);
    let fields = [("current_password", second.as_str()), ("new_password", &third), ("repeat_password", &third)];
    tour.person(&mut client, "/auth/password", &fields, 303);
    tour.program(&mut client, "/auth/password", &change(&second, &third), 401);
    tour.program(&mut Client::new(), "/auth/password", &change(&second, &third), 401);
    tour.person(&mut client, "/auth/password", &fields, 401);
}

/// Each operation that made a session, repeated after that session has ended.
fn sessions_that_are_over(tour: &mut Tour) {
    let user = world().user("tour-over");
    let mut client = Client::new();
    let login = login_request(&user, &random_hex(8));
    tour.send(&mut client, login.clone(), 200);
    tour.program(&mut client, "/auth/logout", &json!({}), 200);
    tour.send(&mut client, login, 410);
    let fields = [("username", user.name.as_str()), ("password", user.password.as_str())];
    let login = tour.person(&mut client, "/auth/login", &fields, 303);
    // A change of the password, and what asked for it.
    let (second, third) = (random_hex(12), random_hex(12));
    let mut before = client.steal();
    let changed = Request::json("/auth/password", &change(&user.password, &second)).key(&random_hex(8));
    tour.send(&mut client, changed.clone(), 200);
    let mut between = client.steal();
    let fields = [("current_password", second.as_str()), ("new_password", &third), ("repeat_password", &third)];
    let changed_by_form = tour.person(&mut client, "/auth/password", &fields, 303);
    tour.program(&mut client.steal(), "/auth/logout", &json!({}), 200);
    tour.send(&mut before, changed, 410);
    tour.send(&mut between, changed_by_form, 410);
    tour.send(&mut client, login, 410);
}

/// Wrong passwords, until there are too many.
fn guesses(tour: &mut Tour) {
    let (user, mut client) = world().someone("tour-guess");
    let bad = wrong(&user);
    let fields = [("username", bad.name.as_str()), ("password", bad.password.as_str())];
    let mut nobody = Client::new();
    tour.program(&mut nobody, "/auth/login", &credentials(&bad), 401);
    tour.person(&mut nobody, "/auth/login", &fields, 401);
    tour.program(&mut nobody, "/auth/logout-everywhere", &credentials(&wrong(&user)), 401);
    tour.person(&mut nobody, "/auth/logout-everywhere", &fields, 401);
    tour.program(&mut nobody, "/auth/login", &credentials(&wrong(&user)), 401);
    tour.program(&mut nobody, "/auth/login", &credentials(&user), 429);
    tour.person(&mut nobody, "/auth/login", &fields, 429);
    tour.program(&mut nobody, "/auth/logout-everywhere", &credentials(&user), 429);
    tour.person(&mut nobody, "/auth/logout-everywhere", &fields, 429);
    let new = random_hex(12);
    tour.program(&mut client, "/auth/password", &change(&user.password, &new), 429);
    let fields = [("current_password", user.password.as_str()), ("new_password", &new)];
    tour.person(&mut client, "/auth/password", &fields, 429);
}

/// What no door takes, told to programs and to people.
fn bad_requests(tour: &mut Tour) {
    let (_, mut client) = world().someone("tour-bad");
    let large = "x".repeat(17 * 1024);
    for door in POSTS {
        let program = |body: &str| Request::new("POST", door).key(&random_hex(8)).body("application/json", body);
        let person = |body: &str| Request::form(door, &[]).without("Content-Type").body(FORM, body);
        for (status, request) in [
            (400, program("{")),
            (400, person("a=%")),
            (403, program("{}").header("Sec-Fetch-Site", "cross-site")),
            (403, person("").only_header("Sec-Fetch-Site", "cross-site")),
            (413, program(&large)),
            (413, person(&large)),
            (415, Request::new("POST", door).header("Sec-Fetch-Site", "same-origin").body("text/plain", "a")),
            (415, person("a").only_header("Content-Type", "text/plain")),
        ] {
            tour.send(&mut client, request, status);
        }
    }
    for door in GETS {
        for request in [Request::get(door), Request::navigate(door)] {
            let mut full = Client::new();
            tour.send(&mut full, request.header("Cookie", &format!("a={}", "x".repeat(33 * 1024))), 413);
        }
    }
}

const FORM: &str = "application/x-www-form-urlencoded";
