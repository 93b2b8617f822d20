//! One login, delivered any number of times (G4, G5).

use std::collections::BTreeSet;
use std::thread;

use edgekeep_tests::client::{Client, wrong};
use edgekeep_tests::http::{Request, Response};
use edgekeep_tests::random_hex;
use edgekeep_tests::shape::assert_problem;
use serde_json::{Value, json};
use xtask::state::User;

use crate::world;

fn session_id(response: &Response) -> Value {
    response.json()["session"]["id"].clone()
}

fn attempts_of(user: &User, what: &str) -> i64 {
    let query =
        format!("SELECT count(*) FROM attempt JOIN users USING (subject) WHERE name = '{}' AND {what}", user.name);
    world().sql().number(&query)
}

#[test]
fn a_login_that_is_repeated_elsewhere_is_the_same_session() {
    let world = world();
    let (user, key) = (world.user("again"), random_hex(16));
    let first = Client::new().login_with_key(world.edge(0), &user, &key).expect(200);
    for edge in world.edges() {
        let mut client = Client::new();
        let again = client.login_with_key(*edge, &user, &key).expect(200);
        assert_eq!(session_id(&again), session_id(&first));
        assert_eq!(client.get(*edge, "/dashboard").status, 200);
    }
    assert_eq!(attempts_of(&user, "true"), 1);
    assert_eq!(world.sessions_of(&user), 1);
}

#[test]
fn parallel_deliveries_of_one_login_make_one_session() {
    let world = world();
    let (user, key) = (world.user("parallel"), random_hex(16));
    let ids: BTreeSet<String> = thread::scope(|scope| {
        let deliveries: Vec<_> = (0..15)
            .map(|n| {
                let (user, key) = (&user, key.as_str());
                scope.spawn(move || {
                    let mut client = Client::new();
                    let response = client.login_with_key(world.edge(n % 3), user, key).expect(200);
                    session_id(&response).to_string()
                })
            })
            .collect();
        deliveries.into_iter().map(|delivery| delivery.join().unwrap()).collect()
    });
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert_eq!((attempts_of(&user, "true"), world.sessions_of(&user)), (1, 1));
}

#[test]
fn a_failure_that_is_repeated_is_the_same_failure_and_counts_once() {
    let world = world();
    let (user, key) = (world.user("fails"), random_hex(16));
    let guess = wrong(&user);
    for n in 0..9 {
        let response = Client::new().login_with_key(world.edge(n % 3), &guess, &key);
        assert_problem(&response, 401, "invalid_credentials");
    }
    assert_eq!(attempts_of(&user, "counted"), 1);
    // It locked nobody out.
    assert_eq!(Client::new().login(world.edge(0), &user).status, 200);
}

#[test]
fn a_replayed_failure_is_401_even_while_the_account_is_locked() {
    let world = world();
    let (user, key) = (world.user("locked"), random_hex(16));
    let guess = wrong(&user);
    assert_problem(&Client::new().login_with_key(world.edge(0), &guess, &key), 401, "invalid_credentials");
    for _ in 0..4 {
        assert_eq!(Client::new().login(world.edge(1), &wrong(&user)).status, 401);
    }
    assert_problem(&Client::new().login(world.edge(2), &user), 429, "locked");
    assert_problem(&Client::new().login_with_key(world.edge(2), &guess, &key), 401, "invalid_credentials");
}

#[test]
fn another_password_under_the_same_key_is_another_attempt() {
    let world = world();
    let (user, key) = (world.user("key"), random_hex(16));
    assert_eq!(Client::new().login_with_key(world.edge(0), &wrong(&user), &key).status, 401);
    assert_eq!(Client::new().login_with_key(world.edge(1), &wrong(&user), &key).status, 401);
    assert_eq!(Client::new().login_with_key(world.edge(2), &user, &key).status, 200);
    assert_eq!(attempts_of(&user, "true"), 3);
}

#[test]
fn a_login_whose_session_has_ended_is_gone_and_sets_no_cookie() {
    let world = world();
    let (user, key) = (world.user("over"), random_hex(16));
    let mut client = Client::new();
    let _ = client.login_with_key(world.edge(0), &user, &key).expect(200);
    let _ = client.logout(world.edge(1)).expect(200);
    for edge in world.edges() {
        let replay = Client::new().login_with_key(*edge, &user, &key);
        assert_problem(&replay, 410, "session_ended");
        assert_eq!(replay.json()["reason"], "signed_out");
        assert_eq!(replay.header("Set-Cookie"), None);
    }
    // Also when another login ended it: a late retry does not win the session back.
    let (late, newest) = (random_hex(16), random_hex(16));
    let _ = Client::new().login_with_key(world.edge(0), &user, &late).expect(200);
    let mut winner = Client::new();
    let _ = winner.login_with_key(world.edge(1), &user, &newest).expect(200);
    let replay = Client::new().login_with_key(world.edge(2), &user, &late);
    assert_problem(&replay, 410, "session_ended");
    assert_eq!(replay.json()["reason"], "signed_in_elsewhere");
    assert_eq!(winner.get(world.edge(2), "/strict").status, 200);
}

#[test]
fn logout_everywhere_is_one_operation_however_often_it_is_sent() {
    let world = world();
    let (user, _) = world.someone("everywhere");
    let key = random_hex(16);
    let send = |edge: usize| {
        let body = json!({"username": user.name, "password": user.password});
        Client::new()
            .send(world.edge(edge), Request::json("/auth/logout-everywhere", &body).key(&key))
            .expect(200)
            .json()
    };
    let first = send(0);
    // Signed in again meanwhile: the late retry must not end that session.
    let mut newer = world.login(1, &user);
    let again = send(2);
    assert_eq!(first["effective_at"], again["effective_at"]);
    assert_eq!(newer.get(world.edge(0), "/strict").status, 200);
    assert_eq!(attempts_of(&user, "operation = 'logout_everywhere'"), 1);
}

#[test]
fn a_password_change_whose_answer_was_lost_can_be_repeated() {
    let world = world();
    let (user, client) = world.someone("lostchange");
    let (key, new_password) = (random_hex(16), xtask::paths::random_password().unwrap());
    // The client never sees an answer, so it sends the same with the cookie that it had.
    let send = |edge: usize| {
        let body = json!({"current_password": user.password, "new_password": new_password});
        let mut client = client.steal();
        let response = client.send(world.edge(edge), Request::json("/auth/password", &body).key(&key));
        (response, client)
    };
    let (first, _) = send(0);
    let first = first.expect(200);
    // By now every edge knows that the old session is over.
    for edge in world.edges() {
        edgekeep_tests::until("the edge knows", || (client.steal().session(*edge).0 == 401).then_some(()));
    }
    let (again, mut new) = send(1);
    assert_eq!(session_id(&again.expect(200)), session_id(&first));
    assert_eq!(new.get(world.edge(2), "/dashboard").status, 200);
    assert_eq!(world.sessions_of(&user), 1);
}
