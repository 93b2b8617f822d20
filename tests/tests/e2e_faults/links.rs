//! An edge that is cut off from the coordinators (G2, G8).

use std::time::Instant;

use edgekeep_tests::client::{Client, login_request, logout_request};
use edgekeep_tests::print_figure;
use edgekeep_tests::random_hex;
use edgekeep_tests::shape::assert_problem;

use crate::{accepts, assert_failed_closed, probe, world};

#[test]
fn an_edge_that_is_cut_off_refuses_within_the_bound_and_recovers_by_itself() {
    let mut world = world("cut", 1);
    let (edge, links) = world.add_edge_behind_proxies(&[0]);
    let (_, client) = world.someone("cut");
    let (user, leaving) = world.someone("leaving");
    for silent in [false, true] {
        accepts(&world, edge, &client);
        let probe = probe(&world, &[edge], &client);
        let cut = Instant::now();
        if silent {
            links[0].silence()
        } else {
            links[0].cut()
        }
        probe.wait_for(503, cut);
        crate::assert_operations_unavailable(&world, edge, &user, &leaving);
        assert_problem(&client.steal().get(world.edge(edge), "/strict"), 503, "unavailable");
        let mended = Instant::now();
        links[0].mend();
        probe.wait_for(200, mended);
        let report = probe.finish();
        let what = if silent { "silent link" } else { "cut link" };
        assert_failed_closed(what, &report, cut, mended, world.bound());
        assert_eq!(client.steal().get(world.edge(edge), "/strict").status, 200);
    }
}

#[test]
fn waiting_logouts_and_logins_hold_for_an_edge_that_is_cut_off() {
    let mut world = world("wait", 1);
    let near = world.add_edge(|_| ());
    let (far, links) = world.add_edge_behind_proxies(&[0]);
    let mut accepted_without = 0;
    for wait in [false, true] {
        for login in [false, true] {
            let (user, client) = world.someone("wait");
            accepts(&world, far, &client);
            links[0].silence();
            let probe = probe(&world, &[far], &client);
            let request = if login { login_request(&user, &random_hex(8)) } else { logout_request() };
            let request = if wait { request.header("Prefer", "wait=20") } else { request };
            let mut sender = if login { Client::new() } else { client.steal() };
            let receipt = sender.send(world.edge(near), request).expect(200).received;
            if wait {
                // The edge knows nothing of it, and yet nothing is accepted any more.
                probe.wait_for(503, receipt);
                let last = probe.finish().last_acceptance(receipt);
                assert!(last.is_zero(), "accepted {last:?} after a receipt that had waited");
            } else {
                probe.wait_for(503, receipt);
                let report = probe.finish();
                report.assert_revoked("edge cut off, receipt without waiting", receipt, world.bound());
                accepted_without += report.records.iter().filter(|r| r.status == 200 && r.sent > receipt).count();
            }
            links[0].mend();
            edgekeep_tests::until("the edge knows", || {
                (client.steal().session(world.edge(far)).0 == 401).then_some(())
            });
        }
    }
    print_figure(&format!("without waiting the edge that was cut off accepted {accepted_without} more requests"));
}

#[test]
fn answers_that_were_held_up_extend_nothing() {
    let mut world = world("held", 1);
    let near = world.add_edge(|_| ());
    let (far, links) = world.add_edge_behind_proxies(&[0]);
    let (_, client) = world.someone("held");
    accepts(&world, far, &client);
    // Every answer of the feed is kept back from now on, and all come at once after the bound.
    links[0].rule("POST /v1/feed", edgekeep_tests::proxy::Fault::HoldAnswer, usize::MAX);
    links[0].wait_caught(1);
    let probe = probe(&world, &[far], &client);
    let receipt = client.steal().logout(world.edge(near)).expect(200).received;
    crate::pass_time(receipt, world.bound() * 2);
    links[0].release();
    probe.wait_for(401, receipt);
    let report = probe.finish();
    report.assert_revoked("feed answers held up", receipt, world.bound());
}
