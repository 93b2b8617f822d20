//! Sessions that were over and came back, or did not end.

use std::thread;
use std::time::Duration;

use edgekeep_tests::client::{Client, wrong};
use edgekeep_tests::http::{self, Request};
use edgekeep_tests::shape::assert_problem;
use edgekeep_tests::{random_hex, until};
use serde_json::json;

use crate::world;

/// Waits until the client's proof is due, without renewing it: a copy is renewed instead.
fn wait_until_due(client: &Client) {
    until("the proof is due", || client.steal().get(world().edge(0), "/dashboard").header("Set-Cookie").map(|_| ()));
}

/// Nobody accepts these cookies any more: strict routes at once, the others within the bound, and then for good.
fn assert_over(what: &str, client: &Client) {
    for edge in &world().edges()[..2] {
        assert_eq!(client.steal().get(*edge, "/strict").status, 401, "{what}");
        until(what, || (client.steal().get(*edge, "/dashboard").status == 401).then_some(()));
    }
    for round in 0..4 {
        let edge = world().edge(round % 2);
        let refused = client.steal().get(edge, "/dashboard");
        assert_eq!(
            (refused.status, refused.header("Set-Cookie").is_some_and(|cookie| !cookie.contains("Max-Age=0"))),
            (401, false),
            "{what}"
        );
    }
}

/// Rack: a request that was under way wrote its session back after the logout.
#[test]
fn cve_2025_32441_requests_in_flight_resurrect_nothing() {
    for round in 0..4 {
        let (_, client) = world().someone("inflight");
        wait_until_due(&client);
        // Renewals, slow answers and strict checks are under way while the user signs out.
        let taken: Vec<Client> = thread::scope(|scope| {
            let targets = ["/dashboard", "/stream?n=3&ms=200", "/strict", "/auth/session", "/recent", "/auth/account"];
            let under_way: Vec<_> = targets
                .into_iter()
                .map(|target| {
                    let mut copy = client.steal();
                    scope.spawn(move || {
                        let _ = copy.try_send(world().edge(round % 2), Request::get(target));
                        copy
                    })
                })
                .collect();
            thread::sleep(Duration::from_millis(round as u64 * 7));
            let _ = client.steal().logout(world().edge((round + 1) % 2)).expect(200);
            under_way.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert_over("the old cookie", &client);
        for renewed in taken {
            assert_over("a cookie that came back late", &renewed);
        }
    }
}

/// Sessions that outlived what should have ended them, each with a thief who has the cookie and renews it all the time.
#[test]
fn sessions_do_not_survive_password_change_reset_disable_or_delete() {
    for what in ["change", "reset", "disable", "delete"] {
        let (user, mut client) = world().someone(what);
        let mut thief = client.steal();
        wait_until_due(&client);
        assert_eq!(thief.get(world().edge(0), "/dashboard").status, 200, "renewed: a newer proof than its owner has");
        match what {
            "change" => {
                let body = json!({"current_password": user.password, "new_password": "seven unrelated words are quite enough"});
                let _ = client
                    .send(world().edge(1), Request::json("/auth/password", &body).key(&random_hex(8)))
                    .expect(200);
            }
            "reset" => {
                world().edgekeep(&["user", "passwd", &user.name], "eight unrelated words are more than enough\n");
            }
            other => {
                world().edgekeep(&["user", other, &user.name], "");
            }
        }
        assert_over(what, &thief);
        // Long after the stolen proof was due: no renewal brings it back.
        thread::sleep(Duration::from_millis(2_200));
        assert_over(what, &thief);
    }
}

/// A refresh went on working for users who were locked or disabled.
#[test]
fn renewal_by_a_locked_or_disabled_user() {
    let (user, mut client) = world().someone("renewing");
    for _ in 0..5 {
        assert_eq!(Client::new().login(world().edge(0), &wrong(&user)).status, 401);
    }
    assert_problem(&Client::new().login(world().edge(0), &user), 429, "locked");
    // A lock is about guesses: it ends no session, or anybody could sign anybody out.
    wait_until_due(&client);
    assert_eq!(client.get(world().edge(1), "/dashboard").status, 200);
    world().edgekeep(&["user", "disable", &user.name], "");
    assert_over("a disabled user", &client);
    world().edgekeep(&["user", "enable", &user.name], "");
    assert_over("enabled again: the old session stays ended", &client);
    // Neither of the two states lets a replay of the login through.
    assert_problem(&Client::new().login(world().edge(0), &user), 429, "locked");
}

/// A cookie that was made before somebody signed in counted afterwards (session fixation), and a login left the session that
/// it was made from alive.
#[test]
fn a_login_ends_what_was_there_before_it() {
    let (own, attacker) = world().someone("fixed");
    // The attacker's session is planted in the victim's browser; the victim signs in.
    let victim = world().user("planted");
    let mut browser = attacker.steal();
    let _ = browser.login(world().edge(0), &victim).expect(200);
    assert_eq!(browser.jar.session_names().len(), 1, "the planted cookie is cleared");
    let session = browser.get(world().edge(1), "/auth/session").expect(200).json();
    assert_eq!(session["user"]["name"], victim.name.as_str());
    assert_over("the planted session", &attacker);
    assert_eq!(world().sessions_of(&own), 0);
}

/// A held answer must not be what decides: a proof whose renewal was answered before the logout is over as well.
#[test]
fn a_renewal_that_was_answered_before_the_logout_is_over_too() {
    let (_, client) = world().someone("held");
    wait_until_due(&client);
    let mut renewed = client.steal();
    let response = http::send(world().edge(0), &renewed.with_cookies(Request::get("/dashboard"))).unwrap();
    assert!(response.header("Set-Cookie").is_some());
    // The old cookie signs out; the new one is of the same session.
    let _ = client.steal().logout(world().edge(1)).expect(200);
    renewed.jar.take(&response);
    assert_over("the renewed cookie", &renewed);
}
