//! A panic wipes the isolate's memory. An empty memory means "cannot know", never "nothing revoked" (G8).

use std::sync::atomic::{AtomicBool, Ordering};

use edgekeep_tests::client::Client;
use edgekeep_tests::http::Request;
use edgekeep_tests::until;
use edgekeep_tests::world::World;
use xtask::artifacts::EdgeBuild;

use crate::accepts;

#[test]
fn a_panic_in_the_isolate_leads_to_refusal_and_not_to_acceptance() {
    let mut world = World::start("panic", |options| {
        options.edges = 0;
        options.edge_build = EdgeBuild::FaultInjection;
        options.max_staleness_ms = Some(60_000);
    });
    let (edge, links) = world.add_edge_behind_proxies(&[0]);
    let panic = || {
        let response = Client::new().get(world.edge(edge), "/auth/fault/panic");
        assert_eq!(response.status, 500);
    };
    let ((_, victim), (_, bystander)) = (world.someone("victim"), world.someone("bystander"));
    accepts(&world, edge, &victim);
    let _ = victim.steal().logout(world.edge(edge)).expect(200);
    until("the edge has the entry", || (victim.steal().session(world.edge(edge)).0 == 401).then_some(()));

    // With a coordinator at hand the next request asks, and everything goes on.
    panic();
    assert_eq!(victim.steal().session(world.edge(edge)), (401, Some("signed_out".into())));
    panic();
    let session = bystander.steal().get(world.edge(edge), "/auth/session").expect(200).json();
    assert_eq!(session["check"]["how"], "coordinator", "not from an empty memory");
    accepts(&world, edge, &bystander);

    // Without one nobody can know: not the ended session, and not the one that stands either. Its lease would have
    // lasted for a minute.
    links[0].silence();
    assert_eq!(bystander.steal().get(world.edge(edge), "/dashboard").status, 200, "from memory");
    panic();
    for client in [&victim, &bystander] {
        for _ in 0..3 {
            let response = client.steal().get(world.edge(edge), "/dashboard");
            assert_eq!(response.status, 503, "{}", response.text());
            assert!(response.header("Retry-After").is_some() && response.header("Set-Cookie").is_none());
        }
    }
    links[0].mend();
    accepts(&world, edge, &bystander);
    assert_eq!(victim.steal().session(world.edge(edge)), (401, Some("signed_out".into())));
}

#[test]
fn requests_in_flight_at_a_panic_are_not_accepted_by_accident() {
    let mut world = World::start("panic-busy", |options| {
        options.edges = 0;
        options.edge_build = EdgeBuild::FaultInjection;
    });
    let edge = world.add_edge(|_| ());
    let ((_, victim), (_, bystander)) = (world.someone("victim"), world.someone("bystander"));
    accepts(&world, edge, &bystander);
    let _ = victim.steal().logout(world.edge(edge)).expect(200);
    until("the edge has the entry", || (victim.steal().session(world.edge(edge)).0 == 401).then_some(()));
    let (address, done) = (world.edge(edge), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let victims = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                // A request that the panic tears down may get no answer at all.
                let status =
                    victim.steal().try_send(address, Request::get("/dashboard")).map_or(0, |answer| answer.status);
                assert_ne!(status, 200);
            }
        });
        for _ in 0..20 {
            let _ = Client::new().try_send(address, Request::get("/auth/fault/panic"));
        }
        done.store(true, Ordering::Relaxed);
        victims.join().unwrap();
    });
    accepts(&world, edge, &bystander);
}
