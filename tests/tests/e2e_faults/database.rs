//! Postgres away, and back (G5, G8).

use std::time::Instant;

use edgekeep_tests::shape::assert_problem;
use edgekeep_tests::until;

use crate::{accepts, assert_failed_closed, probe, world};

#[test]
fn without_the_database_edges_go_on_for_the_bound_then_say_so_and_recover_by_themselves() {
    let mut world = world("away", 2);
    let edges = [world.add_edge(|_| ()), world.add_edge(|_| ())];
    let (_, client) = world.someone("away");
    let (user, leaving) = world.someone("leaving");
    for crash in [false, true] {
        for edge in edges {
            accepts(&world, edge, &client);
        }
        let probe = probe(&world, &edges, &client);
        let stopping = Instant::now();
        let postgres = world.cluster.postgres.as_mut().unwrap();
        if crash {
            postgres.kill()
        } else {
            postgres.stop()
        }
        // Nothing is known any more from here on at the latest.
        let stopped = Instant::now();
        probe.wait_for(503, stopped);
        for edge in edges {
            assert_problem(&client.steal().get(world.edge(edge), "/strict"), 503, "unavailable");
            assert_problem(&client.steal().get(world.edge(edge), "/dashboard"), 503, "unavailable");
        }
        crate::assert_operations_unavailable(&world, edges[1], &user, &leaving);
        // A public page needs nobody.
        assert_eq!(client.steal().get(world.edge(0), "/").status, 200);
        let back = Instant::now();
        world.cluster.postgres.as_mut().unwrap().start_again().unwrap();
        probe.wait_for(200, back);
        let report = probe.finish();
        let what = if crash { "Postgres killed" } else { "Postgres stopped" };
        assert_failed_closed(what, &report, stopping, back, world.bound() + (stopped - stopping));
        for edge in edges {
            assert_eq!(client.steal().get(world.edge(edge), "/strict").status, 200, "the same session");
        }
    }
}

#[test]
fn a_session_that_ended_just_before_a_crash_stays_ended() {
    let mut world = world("crash", 1);
    let edge = world.add_edge(|_| ());
    let (_, client) = world.someone("crash");
    let (_, bystander) = world.someone("bystander");
    accepts(&world, edge, &client);
    let victims = probe(&world, &[edge], &client);
    let receipt = client.steal().logout(world.edge(edge)).expect(200).received;
    world.cluster.postgres.as_mut().unwrap().kill();
    world.cluster.postgres.as_mut().unwrap().start_again().unwrap();
    accepts(&world, edge, &bystander);
    victims.wait_for(401, receipt);
    // After the crash Postgres gives transaction ids out again: entries of new endings must not be missed for that.
    for _ in 0..3 {
        let (_, next) = world.someone("next");
        until("the edge accepts", || (next.steal().get(world.edge(edge), "/dashboard").status == 200).then_some(()));
        let receipt = next.steal().logout(world.edge(edge)).expect(200).received;
        until("the session is over", || {
            let response = next.steal().get(world.edge(edge), "/dashboard");
            assert!(response.status != 200 || response.sent <= receipt + world.bound());
            (response.status == 401).then_some(())
        });
    }
    let report = victims.finish();
    report.assert_revoked("logout, then a crash of Postgres", receipt, world.bound());
    assert_eq!(report.reasons(), ["signed_out"]);
}
