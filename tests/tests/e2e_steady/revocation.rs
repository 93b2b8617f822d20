//! Ending sessions: every edge refuses the old cookie within the bound, says why, and never takes it back.

use std::time::Instant;

use edgekeep_tests::client::Client;
use edgekeep_tests::http::{Request, Response};
use edgekeep_tests::oracle::{Probe, Report};
use edgekeep_tests::{random_hex, until};
use serde_json::json;
use xtask::state::User;

use crate::world;

/// Probes all edges with the client's cookies while `revoke` runs, until all refuse. Checks the bound.
fn revoked_while_probed(what: &str, victim: &Client, revoke: impl FnOnce()) -> Report {
    let world = world();
    let cookies = victim.jar.header().unwrap();
    let probe = Probe::start(world.edges(), "/dashboard", &cookies);
    probe.wait_for(200, Instant::now());
    revoke();
    let receipt = Instant::now();
    probe.wait_for(401, receipt);
    let report = probe.finish();
    report.assert_revoked(what, receipt, world.bound());
    assert_eq!(report.statuses(), [200, 401], "{what}: nothing but accepted, then refused");
    report
}

fn signed_in_again(user: &User, edge: usize) -> Client {
    world().login(edge, user)
}

#[test]
fn a_second_login_ends_the_first_on_all_edges_and_says_why() {
    let (user, victim) = world().someone("second");
    let mut second = None;
    let report = revoked_while_probed("second login", &victim, || second = Some(signed_in_again(&user, 1)));
    assert_eq!(report.reasons(), ["signed_in_elsewhere"]);
    let mut second = second.unwrap();
    for edge in world().edges() {
        assert_eq!(second.get(*edge, "/dashboard").status, 200);
    }
}

#[test]
fn a_logout_ends_a_stolen_copy_on_other_edges() {
    let (user, mut client) = world().someone("thief");
    let mut thief = client.steal();
    let report = revoked_while_probed("logout", &thief, || {
        let response = client.logout(world().edge(0)).expect(200);
        assert_eq!(response.json()["signed_out"], true);
    });
    assert_eq!(report.reasons(), ["signed_out"]);
    assert!(client.jar.session_names().is_empty(), "the cookie is cleared");
    assert_eq!(world().sessions_of(&user), 0);
    assert_eq!(thief.session(world().edge(2)), (401, Some("signed_out".into())));
}

#[test]
fn logout_everywhere_from_a_device_without_a_session() {
    let (user, victim) = world().someone("lost");
    let report = revoked_while_probed("logout-everywhere", &victim, || {
        let _ = logout_everywhere(&user, &random_hex(8)).expect(200);
    });
    assert_eq!(report.reasons(), ["signed_out"]);
    assert_eq!(world().sessions_of(&user), 0);
}

fn logout_everywhere(user: &User, key: &str) -> Response {
    let body = json!({"username": user.name, "password": user.password});
    Client::new().send(world().edge(1), Request::json("/auth/logout-everywhere", &body).key(key))
}

#[test]
fn a_password_change_ends_stolen_copies_and_makes_a_new_session() {
    let (mut user, mut client) = world().someone("change");
    let thief = client.steal();
    let new_password = xtask::paths::random_password().unwrap();
    let report = revoked_while_probed("password change", &thief, || {
        let body = json!({"current_password": user.password, "new_password": new_password});
        let request = Request::json("/auth/password", &body).key(&random_hex(8));
        let response = client.send(world().edge(2), request).expect(200);
        assert!(response.json()["previous_session"]["ends_everywhere_at"].is_string());
    });
    assert_eq!(report.reasons(), ["password_changed"]);
    for edge in world().edges() {
        assert_eq!(client.get(*edge, "/dashboard").status, 200);
    }
    assert_eq!(Client::new().login(world().edge(0), &user).status, 401, "the old password is over");
    user.password = new_password;
    assert_eq!(Client::new().login(world().edge(0), &user).status, 200);
}

#[test]
fn an_administrator_ends_a_session() {
    let (user, victim) = world().someone("revoked");
    let report = revoked_while_probed("session revoke (command line)", &victim, || {
        world().edgekeep(&["session", "revoke", &user.name], "");
    });
    assert_eq!(report.reasons(), ["revoked"]);
    assert_eq!(Client::new().login(world().edge(0), &user).status, 200, "the user may sign in again");
}

#[test]
fn disabling_or_deleting_a_user_ends_the_session() {
    for command in ["disable", "delete"] {
        let (user, victim) = world().someone(command);
        let report = revoked_while_probed(&format!("user {command}"), &victim, || {
            world().edgekeep(&["user", command, &user.name], "");
        });
        assert_eq!(report.reasons(), ["disabled"], "{command}");
        assert_eq!(Client::new().login(world().edge(0), &user).status, 401);
    }
}

#[test]
fn a_role_that_is_taken_away_is_gone_on_all_edges_and_the_session_stays() {
    let world = world();
    let user = world.user_with_role("demoted", "admin");
    let mut client = world.login(0, &user);
    let session = client.get(world.edge(0), "/auth/session").expect(200).json()["session"]["id"].clone();
    let cookies = client.jar.header().unwrap();
    let probe = Probe::start(world.edges(), "/admin", &cookies);
    probe.wait_for(200, Instant::now());
    world.edgekeep(&["user", "roles", &user.name, "reader"], "");
    let receipt = Instant::now();
    probe.wait_for(403, receipt);
    let report = probe.finish();
    report.assert_revoked("role change", receipt, world.bound());
    let after = client.get(world.edge(1), "/auth/session").expect(200).json();
    assert_eq!((&after["session"]["id"], &after["user"]["roles"]), (&session, &json!(["reader"])));
    assert_eq!(client.get(world.edge(2), "/dashboard").status, 200);
}

#[test]
fn a_strict_route_refuses_with_the_very_next_request() {
    let world = world();
    for round in 0..5 {
        let (_, mut client) = world.someone("strict");
        let mut thief = client.steal();
        assert_eq!(thief.get(world.edge(1), "/strict").status, 200);
        let _ = client.logout(world.edge(round % 3)).expect(200);
        for edge in world.edges() {
            let refused = thief.get(*edge, "/strict");
            assert_eq!((refused.status, refused.reason().as_deref()), (401, Some("signed_out")), "round {round}");
        }
    }
}

#[test]
fn many_users_are_revoked_at_once() {
    let world = world();
    let users: Vec<User> = (0..6).map(|_| world.user("many")).collect();
    let victims: Vec<Client> = users.iter().map(|user| world.login(0, user)).collect();
    std::thread::scope(|scope| {
        for (index, mut client) in victims.iter().cloned().enumerate() {
            scope.spawn(move || client.logout(world.edge(index % 3)).expect(200));
        }
    });
    let receipt = Instant::now();
    for victim in &victims {
        for edge in world.edges() {
            until("the session is over", || {
                let response = victim.steal().get(*edge, "/dashboard");
                if response.status == 200 {
                    assert!(response.sent <= receipt + world.bound(), "accepted past the bound");
                    return None;
                }
                assert_eq!(response.reason().as_deref(), Some("signed_out"));
                Some(())
            });
        }
    }
}
