//! Guesses are counted before they are tried (G6).

use std::collections::BTreeMap;
use std::thread;

use edgekeep_tests::client::{Client, wrong};
use edgekeep_tests::print_figure;
use edgekeep_tests::shape::assert_problem;
use xtask::state::User;

use crate::world;

/// `guess_limit` as it comes.
const LIMIT: i64 = 5;

fn evaluated(user: &User) -> i64 {
    world()
        .sql()
        .number(&format!("SELECT count(*) FROM attempt JOIN users USING (subject) WHERE name = '{}'", user.name))
}

#[test]
fn two_hundred_parallel_guesses_with_different_keys_evaluate_no_more_than_the_limit() {
    let world = world();
    let user = world.user("guessed");
    let mut live = world.login(0, &user);
    let before = evaluated(&user);
    let statuses: Vec<u16> = thread::scope(|scope| {
        let guesses: Vec<_> = (0..200)
            .map(|n| {
                let user = &user;
                scope.spawn(move || Client::new().login(world.edge(n % 3), &wrong(user)).status)
            })
            .collect();
        guesses.into_iter().map(|guess| guess.join().unwrap()).collect()
    });
    let mut counts: BTreeMap<u16, usize> = BTreeMap::new();
    for status in statuses {
        *counts.entry(status).or_default() += 1;
    }
    let tried = evaluated(&user) - before;
    print_figure(&format!("200 parallel wrong guesses: {tried} evaluated (limit {LIMIT}), answers {counts:?}"));
    assert!(tried <= LIMIT, "{tried} passwords were evaluated");
    assert!(counts.get(&401).copied().unwrap_or(0) as i64 <= LIMIT, "{counts:?}");
    assert!(!counts.contains_key(&200) && !counts.contains_key(&500), "{counts:?}");
    // The right password does not get through either, and is told when to come back; the live session lives on.
    let locked = Client::new().login(world.edge(0), &user);
    assert_problem(&locked, 429, "locked");
    assert!(locked.header("Retry-After").is_some());
    assert_eq!(live.get(world.edge(1), "/strict").status, 200);
}

#[test]
fn an_administrator_unlocks() {
    let world = world();
    let user = world.user("unlock");
    for n in 0..5 {
        assert_problem(&Client::new().login(world.edge(n % 3), &wrong(&user)), 401, "invalid_credentials");
    }
    assert_problem(&Client::new().login(world.edge(0), &user), 429, "locked");
    world.edgekeep(&["user", "unlock", &user.name], "");
    assert_eq!(Client::new().login(world.edge(1), &user).status, 200);
}

#[test]
fn names_that_nobody_has_lock_the_same() {
    let world = world();
    let nobody = User { name: format!("nobody-{}", edgekeep_tests::random_hex(6)), ..world.user("somebody") };
    for n in 0..5 {
        assert_problem(&Client::new().login(world.edge(n % 3), &wrong(&nobody)), 401, "invalid_credentials");
    }
    assert_problem(&Client::new().login(world.edge(0), &nobody), 429, "locked");
}

#[test]
fn a_success_gives_the_failures_before_it_back() {
    let world = world();
    let user = world.user("back");
    for _ in 0..3 {
        for n in 0..4 {
            assert_eq!(Client::new().login(world.edge(n % 3), &wrong(&user)).status, 401);
        }
        assert_eq!(Client::new().login(world.edge(0), &user).status, 200);
    }
}

#[test]
fn every_operation_with_a_password_counts_in_the_same_place() {
    use edgekeep_tests::http::Request;
    use serde_json::json;
    let world = world();
    let (user, mut client) = world.someone("mixed");
    let key = || edgekeep_tests::random_hex(8);
    let guess = || wrong(&user).password;
    for n in 0..5 {
        let request = match n % 3 {
            0 => Request::json("/auth/login", &json!({"username": user.name, "password": guess()})),
            1 => Request::json("/auth/logout-everywhere", &json!({"username": user.name, "password": guess()})),
            _ => Request::json(
                "/auth/password",
                &json!({"current_password": guess(), "new_password": "a new one that is long enough"}),
            ),
        };
        // A login would end the session that it presents; a failing one must not.
        let response = client.send(world.edge(n % 3), request.key(&key()));
        assert_problem(&response, 401, "invalid_credentials");
    }
    assert_problem(&Client::new().login(world.edge(0), &user), 429, "locked");
    assert_eq!(client.get(world.edge(1), "/strict").status, 200);
}
