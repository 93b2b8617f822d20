//! What a login does where no slot is free.

use edgekeep_tests::client::{Client, login_request};
use edgekeep_tests::http::Request;
use edgekeep_tests::shape::{assert_problem, time_ms};
use edgekeep_tests::{random_hex, until};
use serde_json::json;

use crate::world_with;

#[test]
fn a_second_login_can_be_refused_and_there_is_a_way_out() {
    let world = world_with(&[("takeover", "refuse_second")]);
    let user = world.user("refused");
    let mut first = world.login(0, &user);
    let key = random_hex(8);
    for edge in world.edges() {
        // The same key again: the same outcome.
        let refused = Client::new().login_with_key(*edge, &user, &key);
        assert_problem(&refused, 409, "signed_in_elsewhere");
        assert_eq!(refused.header("Set-Cookie"), None);
    }
    assert_eq!(first.get(world.edge(1), "/strict").status, 200);
    // Not a failure: the password was right.
    for _ in 0..6 {
        assert_problem(&Client::new().login(world.edge(0), &user), 409, "signed_in_elsewhere");
    }
    // A wrong password does not learn that there is a session.
    let wrong = edgekeep_tests::client::wrong(&user);
    assert_problem(&Client::new().login(world.edge(0), &wrong), 401, "invalid_credentials");
    let everywhere = json!({"username": user.name, "password": user.password});
    let request = Request::json("/auth/logout-everywhere", &everywhere).key(&random_hex(8));
    let _ = Client::new().send(world.edge(1), request).expect(200);
    let mut second = world.login(1, &user);
    until("the first is over", || (first.session(world.edge(0)).0 == 401).then_some(()));
    assert_eq!(second.session(world.edge(0)).0, 200);
    // From the same browser it is no second device: the session that it presents ends.
    assert_eq!(second.login(world.edge(0), &user).status, 200);
}

#[test]
fn an_expired_occupant_is_a_free_slot() {
    let world = world_with(&[("takeover", "refuse_second"), ("proof_life_ms", "1000"), ("idle_timeout_ms", "1500")]);
    let user = world.user("expired");
    let _first = world.login(0, &user);
    assert_eq!(Client::new().login(world.edge(0), &user).status, 409);
    until("the slot is free", || (Client::new().login(world.edge(1), &user).status == 200).then_some(()));
}

#[test]
fn a_deployment_can_let_every_login_wait_until_the_other_device_is_out() {
    let world = world_with(&[("login_wait_ms", "10000")]);
    let mut sql = world.sql();
    let user = world.user("nowait");
    let first = world.login(0, &user);
    let mut second = Client::new();
    let answer = second.send(world.edge(1), login_request(&user, &random_hex(8))).expect(200).json();
    assert!(sql.now_ms() >= time_ms(&answer["previous_session"]["ends_everywhere_at"]));
    for edge in world.edges() {
        assert_eq!(first.steal().session(*edge).0, 401);
    }
}
