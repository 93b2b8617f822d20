//! Edges whose clocks are off. Edge time is used for differences only.

use edgekeep_tests::client::Client;
use edgekeep_tests::http::Request;
use edgekeep_tests::shape::time_ms;
use edgekeep_tests::until;

use crate::{accepts, pass_time, probe, world};

const HOUR_S: i64 = 3_600;

#[test]
fn an_edge_with_its_clock_an_hour_off_behaves_the_same() {
    let mut world = world("hour", 2);
    world.edgekeep(&["settings", "set", "proof_life_ms=2000"], "");
    let right = world.add_edge(|_| ());
    let (ahead, _ahead_clock) = world.add_edge_with_clock(HOUR_S, |_| ());
    let (behind, _behind_clock) = world.add_edge_with_clock(-HOUR_S, |_| ());
    let edges = [right, ahead, behind];
    for edge in edges {
        let user = world.user("clock");
        // Signed in here, seen everywhere, with the database's times.
        let before_ms = world.sql().now_ms();
        let mut client = Client::new();
        let login = client.login(world.edge(edge), &user).expect(200);
        let began_ms = time_ms(&login.json()["session"]["authenticated_at"]);
        assert!((before_ms..before_ms + 60_000).contains(&began_ms), "{before_ms} {began_ms}");
        let max_age = login.header("Set-Cookie").unwrap().split("Max-Age=").nth(1).unwrap().split(';').next().unwrap();
        assert!((86_000..=86_400).contains(&max_age.parse::<u64>().unwrap()), "{max_age}");
        for each in edges {
            let session = client.get(world.edge(each), "/auth/session").expect(200).json();
            assert_eq!(session["session"]["id"], login.json()["session"]["id"]);
            let check = &session["check"];
            assert!(check["view_age_ms"].as_u64() <= check["max_staleness_ms"].as_u64(), "{check}");
            let echo = client.get(world.edge(each), "/echo").expect(200).json();
            assert_eq!(echo["assertion"]["verified"], true, "{}", echo["assertion"]);
        }
        // Renewed here when the proof is due, and not before.
        until("a renewal", || {
            let response = client.steal().get(world.edge(edge), "/dashboard");
            assert_eq!(response.status, 200, "{}", response.text());
            response.header("Set-Cookie").map(|_| ())
        });
        // A form that is shown here may be sent anywhere.
        for other in edges {
            let mut browser = Client::new();
            let page = browser.send(world.edge(edge), Request::navigate("/auth/login")).expect(200).text();
            let at = page.find("name=\"form_key\" value=\"").unwrap();
            let form_key = page[at..].split('"').nth(3).unwrap();
            let fields = [("form_key", form_key), ("username", &user.name), ("password", &user.password)];
            assert_eq!(browser.send(world.edge(other), Request::form("/auth/login", &fields)).status, 303);
        }
        // Ended by a login elsewhere: refused here as fast as anywhere.
        let victim = world.login(edge, &user);
        for each in edges {
            accepts(&world, each, &victim);
        }
        let probe = probe(&world, &edges, &victim);
        let mut second = Client::new();
        let receipt = second.login(world.edge(right), &user).expect(200).received;
        probe.wait_for(401, receipt);
        let report = probe.finish();
        report.assert_revoked("clocks an hour off", receipt, world.bound());
        assert_eq!(report.reasons(), ["signed_in_elsewhere"]);
    }
}

#[test]
fn a_clock_that_is_stepped_while_the_edge_is_cut_off_extends_nothing() {
    let mut world = world("step", 1);
    let near = world.add_edge(|_| ());
    let link = edgekeep_tests::proxy::Proxy::to(world.coordinator(0));
    let (far, clock) = world.add_edge_with_clock(0, |setup| setup.coordinator_urls = vec![link.url()]);
    for step_s in [-HOUR_S, HOUR_S, -5, -1] {
        let (_, client) = world.someone("step");
        accepts(&world, far, &client);
        let probe = probe(&world, &[far], &client);
        link.silence();
        let receipt = client.steal().logout(world.edge(near)).expect(200).received;
        clock.set(step_s);
        pass_time(receipt, world.bound() * 2);
        link.mend();
        probe.wait_for(401, receipt);
        let report = probe.finish();
        report.assert_revoked(&format!("clock stepped by {step_s} s while cut off"), receipt, world.bound());
        clock.set(0);
    }
}
