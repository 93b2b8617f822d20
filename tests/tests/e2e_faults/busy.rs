//! More than can be worked on in time, operations that are still being decided, coordinators that are away: what
//! clients are told, and that the same operation sent once more has its one outcome (G4).

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpStream};
use std::thread;

use edgekeep_tests::client::{Client, login_request};
use edgekeep_tests::contract::{check, listed};
use edgekeep_tests::http::{Request, Response};
use edgekeep_tests::world::World;
use edgekeep_tests::{random_hex, until};
use serde_json::json;

/// One coordinator with these settings, and an edge.
fn world_with(name: &str, settings: &[(&str, &str)]) -> World {
    World::start(name, |options| {
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        options.coordinator_environment = settings.collect();
    })
}

/// The form of a page, with its key, ready to be sent.
fn form(world: &World, client: &mut Client, door: &str, fields: &[(&str, &str)]) -> Request {
    let page = client.send(world.edge(0), Request::navigate(door)).expect(200).text();
    let at = page.find("name=\"form_key\" value=\"").unwrap();
    let key = page[at..].split('"').nth(3).unwrap();
    Request::form(door, &fields.iter().copied().chain([("form_key", key)]).collect::<Vec<_>>())
}

/// Each from a client of its own, all at once.
fn at_once(edge: SocketAddr, requests: &[(Client, Request)]) -> Vec<Response> {
    thread::scope(|scope| {
        let send = |(client, request): &(Client, Request)| client.steal().send(edge, request.clone());
        let running: Vec<_> = requests.iter().map(|one| scope.spawn(move || send(one))).collect();
        running.into_iter().map(|one| one.join().unwrap()).collect()
    })
}

/// What came, as the public description calls it.
fn names(requests: &[(Client, Request)], answers: &[Response]) -> BTreeSet<String> {
    requests.iter().zip(answers).filter_map(|((_, request), answer)| check(request, answer)).collect()
}

#[test]
fn an_operation_that_is_not_decided_yet_is_in_flight_and_has_its_outcome_later() {
    let world = world_with(
        "in-flight",
        &[
            ("EDGEKEEP_DATABASE__LOCK_TIMEOUT_MS", "60000"),
            ("EDGEKEEP_LOGIN__OWNER_DEADLINE_MS", "60000"),
            ("EDGEKEEP_LOGIN__IN_FLIGHT_WAIT_MS", "0"),
        ],
    );
    let mut requests = Vec::new();
    for door in ["/auth/login", "/auth/logout-everywhere", "/auth/password"] {
        for by_form in [false, true] {
            let (user, mut client) = world.someone("flight");
            let new = random_hex(12);
            let credentials = [("username", user.name.as_str()), ("password", user.password.as_str())];
            let change = [("current_password", user.password.as_str()), ("new_password", new.as_str())];
            let fields = if door == "/auth/password" { change } else { credentials };
            let request = if by_form {
                form(&world, &mut client, door, &fields)
            } else {
                let [(first, one), (second, other)] = fields;
                Request::json(door, &json!({first: one, second: other})).key(&random_hex(8))
            };
            requests.push((client, request));
        }
    }
    // Nothing can be settled while somebody has the users' rows.
    let mut holder = world.sql();
    holder.run("BEGIN; SELECT * FROM user_state FOR UPDATE");
    let in_flight = |name: &String| name.ends_with("login_in_flight") || name.ends_with("409 text/html");
    let wanted: BTreeSet<String> = listed().into_iter().filter(in_flight).collect();
    assert_eq!(wanted.len(), 6, "{wanted:?}");
    let mut seen = BTreeSet::new();
    // An edge that runs out of time while it asks says 503 instead: it does not know even that much.
    until("all of them are told", || {
        let answers = at_once(world.edge(0), &requests);
        assert!(answers.iter().all(|answer| [409, 503].contains(&answer.status)), "nothing is decided: {answers:?}");
        seen.extend(names(&requests, &answers));
        wanted.is_subset(&seen).then_some(())
    });
    holder.run("ROLLBACK");
    for (client, request) in &requests {
        let done = if request.headers.iter().any(|(name, _)| name == "Idempotency-Key") { 200 } else { 303 };
        until("it is decided", || (client.steal().send(world.edge(0), request.clone()).status == done).then_some(()));
    }
    assert_eq!(world.sql().number("SELECT count(*) FROM session"), 4, "one of each login and password change");
}

#[test]
fn more_logins_than_there_is_room_for_are_told_to_come_back() {
    let world = world_with("busy", &[("EDGEKEEP_HASHING__PERMITS", "1"), ("EDGEKEEP_HASHING__QUEUE_LENGTH", "0")]);
    let user = world.user("busy");
    let fields = [("username", user.name.as_str()), ("password", user.password.as_str())];
    let crowd: Vec<_> = (0..24)
        .map(|number| {
            let mut client = Client::new();
            let request = if number % 2 == 0 {
                login_request(&user, &random_hex(8))
            } else {
                form(&world, &mut client, "/auth/login", &fields)
            };
            (client, request)
        })
        .collect();
    let answers = at_once(world.edge(0), &crowd);
    let seen = names(&crowd, &answers);
    for name in ["POST /login 503 application/problem+json overloaded", "POST /login 503 text/html"] {
        assert!(seen.contains(name), "{seen:?}");
    }
    // Nothing was counted, and the same attempt comes through once there is room.
    for (client, request) in &crowd[..2] {
        until("there is room", || {
            let status = client.steal().send(world.edge(0), request.clone()).status;
            // A later login has ended the session of one that came through before.
            assert!([200, 303, 410, 503].contains(&status), "{status}");
            (status != 503).then_some(())
        });
    }
}

#[test]
fn a_door_that_can_ask_nobody_says_so() {
    let mut world = world_with("away", &[]);
    let (_, client) = world.someone("away");
    // It starts anew while its coordinator is away, so it has no keys either.
    let (edge, links) = world.add_edge_behind_proxies(&[0]);
    links[0].cut();
    world.cluster.edges[edge].kill();
    world.cluster.edges[edge].part.start_again().unwrap();
    until("it listens", || TcpStream::connect(world.edge(edge)).ok());
    let unavailable = |name: &String| name.ends_with("unavailable") || name.ends_with("503 text/html");
    let wanted: BTreeSet<String> = listed().into_iter().filter(unavailable).collect();
    let operations: BTreeSet<_> =
        wanted.iter().filter_map(|name| name.split_once(" 503")).map(|(one, _)| one).collect();
    let mut requests = Vec::new();
    for operation in operations {
        let (method, path) = operation.split_once(' ').unwrap();
        let door = format!("/auth{path}");
        let both = if method == "GET" {
            [Request::get(&door), Request::navigate(&door)]
        } else {
            [Request::json(&door, &json!({})).key("k"), Request::form(&door, &[])]
        };
        requests.extend(both.map(|request| (client.clone(), request)));
    }
    let answers = at_once(world.edge(edge), &requests);
    assert!(answers.iter().all(|answer| answer.header("Set-Cookie").is_none()), "the cookies stay");
    let seen = names(&requests, &answers);
    let missing: Vec<_> = wanted.difference(&seen).collect();
    assert!(missing.is_empty(), "{missing:#?}; seen {seen:#?}");
}
