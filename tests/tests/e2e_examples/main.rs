//! The example workers, as they ship: `examples/js-worker` asks Edgekeep's gate through a service binding,
//! `examples/rust-worker` has it as a library. Each runs in workerd by its own `config.capnp`; people sign in at an
//! edge of the same site.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::Instant;

use edgekeep_tests::client::Client;
use edgekeep_tests::http::{Request, Response};
use edgekeep_tests::oracle::Probe;
use edgekeep_tests::shape::{assert_no_session, assert_problem};
use edgekeep_tests::until;
use edgekeep_tests::world::{World, at};
use xtask::cluster::Node;
use xtask::{artifacts, wasm};

const EXAMPLES: [&str; 2] = ["js-worker", "rust-worker"];

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let world = World::start("examples", |options| {
        options.max_staleness_ms = Some(2_000);
        // Long enough for what is about something else, short enough to wait for.
        options.settings = vec![("proof_life_ms".into(), "4000".into())];
    });
    if std::env::var_os(artifacts::EDGE_VARIABLE).is_none() {
        // As the edge's, it is built already where `cargo xtask test` runs this.
        wasm::build_example(true).expect("the example");
    }
    world
});

/// An example with the cluster's coordinator, or with one that is not there.
fn start(name: &str, coordinators: &str) -> (Node, SocketAddr) {
    let node = WORLD.cluster.start_example(name, coordinators).unwrap_or_else(|error| panic!("{name}: {error:#}"));
    let address = at(node.port);
    (node, address)
}

/// Each example, running.
fn each(test: impl Fn(&'static World, &str, SocketAddr)) {
    for name in EXAMPLES {
        let coordinator = &WORLD.cluster.coordinators[0].url;
        let (node, address) = start(name, coordinator);
        // Shown with what failed.
        println!("{name}");
        test(&WORLD, name, address);
        drop(node);
    }
}

#[track_caller]
fn assert_greets(response: &Response, text: &str) {
    assert_eq!((response.status, response.text().as_str()), (200, text));
    assert_eq!(response.header("Cache-Control"), Some("no-store"));
}

/// A client's `GET` that claims to be somebody.
fn claiming(target: &str) -> Request {
    let request = Request::get(target).header("Edgekeep-User", "root").header("Edgekeep-Roles", "admin");
    let request = request.header("Edgekeep-User-Id", "0000000000000001").header("Edgekeep-Assertion", "e30.e30.e30");
    request.header("edgekeep_user", "root").header("EDGEKEEP.ROLES", "admin").header("Edgekeep-Session", "1")
}

#[test]
fn nobody_gets_in_without_a_session() {
    each(|_, _, example| {
        let mut nobody = Client::new();
        assert_greets(&nobody.get(example, "/"), "Hello, whoever you are.\n");
        for path in ["/members", "/staff/list", "/not-listed"] {
            assert_no_session(&nobody.get(example, path), "none");
        }
        let person = nobody.send(example, Request::navigate("/members?tab=2"));
        let led = (person.status, person.header("Location"));
        assert_eq!(led, (303, Some("/auth/login?return_to=/members%3Ftab%3D2")));
        assert_problem(&nobody.send(example, Request::new("DELETE", "/members")), 405, "method_not_allowed");
        assert_problem(&nobody.get(example, "/staff;x/list"), 400, "invalid_request");
    });
}

#[test]
fn a_session_is_known_by_its_cookie_alone() {
    each(|world, _, example| {
        let (user, admin) = (world.user("member"), world.user_with_role("staff", "admin"));
        let (mut member, mut staff) = (world.login(0, &user), world.login(0, &admin));
        let (greeting, staff_greeting) =
            (format!("Hello, {}. Your roles: \n", user.name), format!("Hello, {}. Your roles: admin\n", admin.name));
        assert_greets(&member.get(example, "/members"), &greeting);
        assert_greets(&staff.get(example, "/members"), &staff_greeting);
        assert_greets(&staff.get(example, "/staff/list"), &staff_greeting);
        assert_problem(&member.get(example, "/staff/list"), 403, "forbidden");
        assert_eq!(member.send(example, Request::navigate("/staff/list")).status, 403, "nobody to sign in as");
        // What a client says of itself is heard by nobody.
        assert_greets(&member.send(example, claiming("/members")), &greeting);
        assert_problem(&member.send(example, claiming("/staff/list")), 403, "forbidden");
        assert_greets(&Client::new().send(example, claiming("/")), "Hello, whoever you are.\n");
        assert_no_session(&Client::new().send(example, claiming("/members")), "none");
        assert_no_session(&Client::new().send(example, claiming("/staff/list")), "none");
    });
}

#[test]
fn a_cookie_that_nobody_signed_is_refused() {
    each(|world, _, example| {
        let (_, client) = world.someone("forged");
        let cookie = client.jar.header().unwrap();
        let (name, value) = cookie.split_once('=').unwrap();
        let changed = |at: usize| {
            let mut bytes = value.as_bytes().to_vec();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            format!("{name}={}", String::from_utf8(bytes).unwrap())
        };
        let forged = [
            changed(value.len() / 2),
            changed(value.len() - 2),
            format!("__Host-edgekeep-00000000={value}"),
            format!("{cookie}; {name}=1.AAAA"),
            format!("{name}=1.x"),
        ];
        for cookies in forged {
            for path in ["/members", "/staff/list"] {
                assert_no_session(
                    &Client::new().send(example, Request::get(path).header("Cookie", &cookies)),
                    "invalid",
                );
            }
        }
        assert_eq!(client.steal().get(example, "/members").status, 200, "and the cookie itself is good");
    });
}

#[test]
fn after_a_logout_it_is_refused_within_the_bound_with_the_reason() {
    each(|world, name, example| {
        let (user, client) = world.someone("leaver");
        assert_eq!(client.steal().get(example, "/members").status, 200);
        let probe = Probe::start(&[example], "/members", &client.jar.header().unwrap());
        probe.wait_for(200, Instant::now());
        let receipt = client.steal().logout(world.edge(0)).expect(200).received;
        probe.wait_for(401, receipt);
        let report = probe.finish();
        report.assert_revoked(&format!("logout, seen by {name}"), receipt, world.bound());
        assert_eq!(report.reasons(), ["signed_out"]);
        // Another device, too.
        let first = world.login(0, &user);
        let _second = world.login(0, &user);
        until("the first device is refused", || {
            let response = first.steal().get(example, "/members");
            (response.status == 401).then(|| assert_no_session(&response, "signed_in_elsewhere"))
        });
    });
}

#[test]
fn a_renewed_proof_is_handed_through() {
    each(|world, _, example| {
        let (user, mut client) = world.someone("renewed");
        let old = client.jar.clone();
        let renewed = until("the proof is due", || {
            let response = client.steal().get(example, "/members").expect(200);
            response.header("Set-Cookie").is_some().then_some(response)
        });
        assert_greets(&renewed, &format!("Hello, {}. Your roles: \n", user.name));
        client.jar.take(&renewed);
        assert_eq!(client.jar.session_names(), old.session_names(), "the same session");
        assert_ne!(client.jar, old, "with another proof");
        assert_eq!(client.get(world.edge(0), "/strict").status, 200, "which is good everywhere");
    });
}

#[test]
fn where_nobody_can_know_it_says_so() {
    for name in EXAMPLES {
        // Nobody listens there.
        let (_node, example) = start(name, "http://127.0.0.1:9");
        let (_, client) = WORLD.someone("unknown");
        for path in ["/members", "/staff/list"] {
            let response = client.steal().get(example, path);
            assert_problem(&response, 503, "unavailable");
            assert_eq!(response.header("Set-Cookie"), None, "the cookie stays");
        }
        assert_eq!(client.steal().send(example, Request::navigate("/members")).status, 503, "and no login form");
        assert_no_session(&Client::new().get(example, "/members"), "none");
    }
}
