//! Coordinators that die, and ones that stop and wake up.

use std::time::Instant;

use edgekeep_tests::client::{Client, login_request};
use edgekeep_tests::shape::assert_problem;
use edgekeep_tests::world::World;
use edgekeep_tests::{random_hex, until};

use crate::{accepts, assert_failed_closed, pass_time, probe, world};

#[test]
fn a_coordinator_that_is_killed_in_the_middle_of_a_login_leaves_one_session() {
    let mut world = World::start("killed", |options| {
        options.coordinators = 2;
        options.edges = 0;
        options.coordinator_environment = vec![("EDGEKEEP_LOGIN__OWNER_DEADLINE_MS".into(), "3000".into())];
    });
    let (first, second) = (world.add_edge_of(0), world.add_edge_of(1));
    let (user, key) = (world.user("killed"), random_hex(16));
    // The second transaction of the login has to wait for this lock.
    let (mut holder, mut watcher) = (world.sql(), world.sql());
    holder.run("BEGIN; SELECT 1 FROM user_state FOR UPDATE");
    let edge = world.edge(first);
    let delivery = {
        let (user, key) = (user.clone(), key.clone());
        std::thread::spawn(move || Client::new().try_send(edge, login_request(&user, &key)))
    };
    until("the attempt is counted, and waits", || {
        (watcher.number("SELECT count(*) FROM attempt WHERE settled_at IS NULL AND counted") == 1).then_some(())
    });
    until("the second transaction waits for the lock", || {
        (watcher.number("SELECT count(*) FROM pg_locks WHERE NOT granted") > 0).then_some(())
    });
    world.cluster.coordinators[0].kill();
    holder.run("ROLLBACK");
    world.cluster.coordinators[0].start_again().unwrap();
    // The same login again: through the other coordinator, until the dead one's claim has run out.
    let session = until("the login", || {
        let response = Client::new().login_with_key(world.edge(second), &user, &key);
        assert!(matches!(response.status, 200 | 409 | 503), "{}", response.text());
        (response.status == 200).then(|| response.json()["session"]["id"].clone())
    });
    // The first delivery asks again by itself: it gets the same session, or has given up.
    let first_answer = delivery.join().unwrap().unwrap();
    match first_answer.status {
        200 => assert_eq!(first_answer.json()["session"]["id"], session),
        _ => assert_eq!(first_answer.status, 503, "{}", first_answer.text()),
    }
    let again = Client::new().login_with_key(world.edge(first), &user, &key).expect(200);
    assert_eq!(again.json()["session"]["id"], session);
    assert_eq!((watcher.number("SELECT count(*) FROM attempt"), world.sessions_of(&user)), (1, 1));
}

#[test]
fn a_coordinator_that_was_stopped_for_longer_than_the_bound_gives_no_edge_an_old_view() {
    let mut world = world("stopped", 2);
    let (edge, other) = (world.add_edge_of(0), world.add_edge_of(1));
    let ((_, victim), (_, bystander)) = (world.someone("victim"), world.someone("bystander"));
    for client in [&victim, &bystander] {
        accepts(&world, edge, client);
    }
    let (victims, bystanders) = (probe(&world, &[edge], &victim), probe(&world, &[edge], &bystander));
    let stopped = Instant::now();
    world.cluster.coordinators[0].part.freeze();
    let receipt = victim.steal().logout(world.edge(other)).expect(200).received;
    bystanders.wait_for(503, stopped);
    pass_time(receipt, world.bound() * 3);
    let woken = Instant::now();
    world.cluster.coordinators[0].part.thaw();
    victims.wait_for(401, woken);
    bystanders.wait_for(200, woken);
    let report = victims.finish();
    report.assert_revoked("coordinator stopped and woken", receipt, world.bound());
    assert_eq!(report.reasons(), ["signed_out"]);
    let report = bystanders.finish();
    assert_failed_closed("coordinator stopped", &report, stopped, woken, world.bound());
    assert!(report.records.iter().all(|record| record.status != 401), "nobody else was signed out");
}

#[test]
fn edges_go_over_to_a_coordinator_that_is_left() {
    let mut world = world("left", 2);
    let edges = [world.add_edge(|_| ()), world.add_edge(|_| ())];
    let (_, client) = world.someone("left");
    let report = {
        let probe = probe(&world, &edges, &client);
        for dead in [0, 1] {
            world.cluster.coordinators[dead].kill();
            let killed = Instant::now();
            // New sessions and strict checks go on with the one that is left…
            let (_, mut newcomer) = until("a login", || {
                let user = world.user("newcomer");
                let mut client = Client::new();
                let response = client.login(world.edge(0), &user);
                if response.status != 200 {
                    assert_problem(&response, 503, "unavailable");
                    return None;
                }
                Some((user, client))
            });
            until("a strict check", || (newcomer.get(world.edge(1), "/strict").status == 200).then_some(()));
            // …and so do revocations.
            let thief = newcomer.steal();
            let receipt = newcomer.logout(world.edge(1)).expect(200).received;
            for edge in edges {
                until("the session is over", || {
                    let response = thief.steal().get(world.edge(edge), "/dashboard");
                    assert!(response.status != 200 || response.sent <= receipt + world.bound());
                    (response.status == 401).then_some(())
                });
            }
            pass_time(killed, world.bound() * 2);
            world.cluster.coordinators[dead].start_again().unwrap();
            probe.wait_for(200, Instant::now());
        }
        probe.finish()
    };
    let refused = report.records.iter().filter(|record| record.status != 200).count();
    edgekeep_tests::print_figure(&format!(
        "one of two coordinators killed, twice: {refused} of {} requests of a live session were not accepted",
        report.records.len()
    ));
    assert!(report.statuses().iter().all(|status| matches!(status, 200 | 503)), "{:?}", report.statuses());
}
