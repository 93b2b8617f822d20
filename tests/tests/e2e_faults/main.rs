//! What breaks, and what holds all the same: lost answers, dead and frozen coordinators, a database that is away,
//! transactions held open, clocks that are off, a panic in the isolate.
//!
//! Each test has a cluster of its own and breaks it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod busy;
mod clocks;
mod coordinators;
mod database;
mod links;
mod lost_answers;
mod open_transactions;
mod origin;
mod panics;
mod relays;

use std::time::{Duration, Instant};

use edgekeep_tests::client::Client;
use edgekeep_tests::oracle::{Probe, Report};
use edgekeep_tests::shape::assert_problem;
use edgekeep_tests::until;
use edgekeep_tests::world::World;
use xtask::state::User;

/// A cluster whose bound is two seconds, so that waiting for it is short. It has no edges yet.
fn world(name: &str, coordinators: usize) -> World {
    World::start(name, |options| {
        options.coordinators = coordinators;
        options.edges = 0;
        options.max_staleness_ms = Some(2_000);
    })
}

/// Lets this much time pass: where the passing of time itself is what a test is about.
fn pass_time(since: Instant, length: Duration) {
    std::thread::sleep(length.saturating_sub(since.elapsed()));
}

/// Probes these edges with a session that stands.
fn probe(world: &World, edges: &[usize], client: &Client) -> Probe {
    let edges: Vec<_> = edges.iter().map(|edge| world.edge(*edge)).collect();
    let probe = Probe::start(&edges, "/dashboard", &client.jar.header().unwrap());
    probe.wait_for(200, Instant::now());
    probe
}

/// The edge takes the session once more.
fn accepts(world: &World, edge: usize, client: &Client) {
    until("the edge accepts", || (client.steal().get(world.edge(edge), "/dashboard").status == 200).then_some(()));
}

/// G8: while nobody could know the session was neither accepted past the bound nor taken for ended; every refusal says
/// when to come back and leaves the cookie alone. `cut` is when knowledge ended.
fn assert_failed_closed(what: &str, report: &Report, cut: Instant, until: Instant, bound: Duration) {
    let during: Vec<_> = report.records.iter().filter(|r| r.sent > cut && r.received < until).collect();
    assert!(during.iter().any(|record| record.status == 200), "{what}: edges go on from memory first");
    let last = during.iter().filter(|record| record.status == 200).map(|record| record.sent).max().unwrap();
    edgekeep_tests::print_figure(&format!(
        "{what}: edges went on for {:.0} ms (bound {} ms)",
        (last - cut).as_secs_f64() * 1_000.0,
        bound.as_millis()
    ));
    assert!(last <= cut + bound, "{what}: accepted {:?} after knowledge had ended", last - cut);
    assert!(during.iter().any(|record| record.status == 503), "{what}: then they say that they cannot know");
    for record in during.iter().filter(|record| record.status != 200) {
        assert_eq!(record.status, 503, "{what}: {record:?}");
        assert!(record.retry_after && !record.set_cookie, "{what}: {record:?}");
    }
}

/// Signing in and out has nobody to ask, and says so. Whether the logout has happened nobody knows (it may yet), so the
/// cookie stays; do not count on that session any more.
fn assert_operations_unavailable(world: &World, edge: usize, user: &User, leaving: &Client) {
    let address = world.edge(edge);
    std::thread::scope(|scope| {
        let login = scope.spawn(|| Client::new().login(address, user));
        let logout = scope.spawn(|| leaving.steal().logout(address));
        for refused in [login.join().unwrap(), logout.join().unwrap()] {
            assert_problem(&refused, 503, "unavailable");
            assert_eq!(refused.header("Set-Cookie"), None);
        }
    });
}
