//! The system says yes, the client saw no (G4).

use edgekeep_tests::client::{Client, login_request, logout_request};
use edgekeep_tests::http::Request;
use edgekeep_tests::proxy::{Fault, Proxy};
use edgekeep_tests::random_hex;
use serde_json::json;

use crate::world;

#[test]
fn a_client_that_lost_the_answer_gets_the_same_session_through_another_edge_and_coordinator() {
    let mut world = world("lost-client", 2);
    let (first, second) = (world.add_edge_of(0), world.add_edge_of(1));
    let lossy = Proxy::to(world.edge(first));
    let (user, key) = (world.user("lost"), random_hex(16));
    lossy.rule("POST /auth/login", Fault::LoseAnswer, 1);
    let mut client = Client::new();
    assert!(client.try_send(lossy.address, login_request(&user, &key)).is_err(), "the answer was lost");
    let made = world.sql().rows("SELECT encode(session_id, 'hex') FROM session");
    assert_eq!(made.len(), 1, "the login has happened");
    // The same again, elsewhere.
    let response = client.send(world.edge(second), login_request(&user, &key)).expect(200);
    assert_eq!(response.json()["session"]["id"], made[0][0].as_str());
    for edge in [first, second] {
        assert_eq!(client.get(world.edge(edge), "/dashboard").status, 200);
    }
    assert_eq!((world.sessions_of(&user), world.sql().number("SELECT count(*) FROM attempt")), (1, 1));

    // A logout whose answer is lost has happened as well, and says so again.
    lossy.rule("POST /auth/logout", Fault::LoseAnswer, 1);
    let thief = client.steal();
    assert!(client.try_send(lossy.address, logout_request()).is_err());
    assert_eq!(world.sessions_of(&user), 0);
    let again = client.send(world.edge(second), logout_request()).expect(200).json();
    assert_eq!(again["signed_out"], true);
    assert_eq!(thief.steal().get(world.edge(first), "/strict").status, 401);
}

#[test]
fn an_edge_that_lost_the_answer_asks_the_other_coordinator() {
    let mut world = world("lost-edge", 2);
    let (edge, links) = world.add_edge_behind_proxies(&[0, 1]);
    let user = world.user("retry");
    // Whichever it asks first, the answer is lost; and once more at the other.
    for link in &links {
        link.rule("POST /v1/login", Fault::LoseAnswer, 1);
    }
    let mut client = world.login(edge, &user);
    let asked: usize = links.iter().map(|link| link.seen("POST /v1/login")).sum();
    assert!(asked >= 3, "asked {asked} times");
    assert_eq!((world.sessions_of(&user), world.sql().number("SELECT count(*) FROM attempt")), (1, 1));
    assert_eq!(client.get(world.edge(edge), "/strict").status, 200);

    for path in ["/v1/logout-everywhere", "/v1/password", "/v1/logout", "/v1/check"] {
        for link in &links {
            link.rule(&format!("POST {path}"), Fault::LoseAnswer, 1);
        }
    }
    let new_password = xtask::paths::random_password().unwrap();
    let body = json!({"current_password": user.password, "new_password": new_password});
    let changed = client.send(world.edge(edge), Request::json("/auth/password", &body).key(&random_hex(8))).expect(200);
    assert_eq!(client.get(world.edge(edge), "/strict").status, 200);
    let body = json!({"username": user.name, "password": new_password});
    let request = Request::json("/auth/logout-everywhere", &body).key(&random_hex(8));
    assert_eq!(client.send(world.edge(edge), request).expect(200).json()["signed_out"], true);
    assert_eq!(world.sessions_of(&user), 0, "{}", changed.text());
    assert_eq!(client.logout(world.edge(edge)).status, 200);
}

#[test]
fn an_answer_that_comes_late_makes_no_second_session() {
    let mut world = world("late", 2);
    let (slow, links) = world.add_edge_behind_proxies(&[0]);
    let other = world.add_edge_of(1);
    let (user, key) = (world.user("late"), random_hex(16));
    links[0].rule("POST /v1/login", Fault::HoldAnswer, 1);
    let edge = world.edge(slow);
    let (late, early) = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| Client::new().login_with_key(edge, &user, &key));
        links[0].wait_caught(1);
        let early = Client::new().login_with_key(world.edge(other), &user, &key).expect(200);
        links[0].release();
        (waiting.join().unwrap().expect(200), early)
    });
    assert_eq!(late.json()["session"]["id"], early.json()["session"]["id"]);
    assert_eq!(world.sessions_of(&user), 1);
}
