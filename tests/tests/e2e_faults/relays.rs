//! Relays of the feed: edges behind one in front of two coordinators, while each of them fails.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use edgekeep_shared::credential::feed_credential;
use edgekeep_tests::feed::Follower;
use edgekeep_tests::http::{Request, send};
use edgekeep_tests::proxy::Proxy;
use edgekeep_tests::until;
use edgekeep_tests::world::{World, at};
use rustix::process::Signal;

use crate::{assert_failed_closed, pass_time, probe, world};

/// How long a relay believes that a credential counts.
const COUNTS_FOR: Duration = Duration::from_secs(5);

/// What there is on every link of an edge behind a relay.
struct Links {
    /// From the edges to the relay.
    relay: Proxy,
    /// From the edges to the coordinators.
    coordinators: Vec<Proxy>,
    /// From the relay to the coordinators.
    upstream: Vec<Proxy>,
}

impl Links {
    fn polls_at_coordinators(&self) -> usize {
        self.coordinators.iter().map(|proxy| proxy.seen("POST /v1/feed ")).sum()
    }
}

/// Two coordinators, a relay in front of both, two edges behind it (0 and 1), and one that knows no relay (2).
fn relayed(name: &str) -> (World, Links) {
    let mut world = world(name, 2);
    let to_coordinators = |world: &World| (0..2).map(|index| Proxy::to(world.coordinator(index))).collect::<Vec<_>>();
    let (coordinators, upstream) = (to_coordinators(&world), to_coordinators(&world));
    let urls = |proxies: &[Proxy]| proxies.iter().map(Proxy::url).collect::<Vec<_>>();
    let relay = world.cluster.add_relay(&urls(&upstream)).unwrap_or_else(|error| panic!("no relay: {error:#}"));
    let relay = Proxy::to(at(world.cluster.relays[relay].port));
    for _ in 0..2 {
        world.add_edge(|setup| {
            setup.relay_urls = vec![relay.url()];
            setup.coordinator_urls = urls(&coordinators);
        });
    }
    world.add_edge(|_| ());
    (world, Links { relay, coordinators, upstream })
}

fn relay(world: &World) -> SocketAddr {
    at(world.cluster.relays[0].port)
}

#[test]
fn a_logout_reaches_edges_through_a_relay() {
    let (world, links) = relayed("relayed");
    let (_, mut victim) = world.someone("relayed");
    let thief = victim.steal();
    let probe = probe(&world, &[0, 1], &thief);
    let polls = links.relay.seen("POST /v1/feed ");
    until("a poll is held at the relay", || (links.relay.seen("POST /v1/feed ") > polls).then_some(()));
    let receipt = victim.logout(world.edge(2)).expect(200).received;
    probe.wait_for(401, receipt);
    let report = probe.finish();
    report.assert_revoked("logout through a relay", receipt, world.bound());
    assert_eq!(report.reasons(), ["signed_out"]);
    assert_eq!(links.polls_at_coordinators(), 0, "while the relay answers, edges ask coordinators for no feed");
    assert!(links.coordinators.iter().any(|proxy| proxy.seen("POST /v1/keys ") > 0), "keys come from coordinators");
}

#[test]
fn edges_go_on_through_coordinators_while_the_relay_is_dead() {
    let (mut world, links) = relayed("relay-dead");
    let ((_, mut victim), (_, bystander)) = (world.someone("victim"), world.someone("bystander"));
    let (victims, bystanders) = (probe(&world, &[0, 1], &victim.steal()), probe(&world, &[0, 1], &bystander));
    let killed = Instant::now();
    world.cluster.relays[0].kill();
    // Past the bound nobody can live on what the relay has told.
    pass_time(killed, world.bound() * 2);
    bystanders.wait_for(200, Instant::now());
    assert!(links.polls_at_coordinators() > 0);
    let receipt = victim.logout(world.edge(2)).expect(200).received;
    victims.wait_for(401, receipt);
    victims.finish().assert_revoked("logout while the relay is dead", receipt, world.bound());
    world.cluster.relays[0].start_again().unwrap();
    let polls = links.relay.seen("POST /v1/feed ");
    until("edges ask the relay again", || (links.relay.seen("POST /v1/feed ") > polls + 2).then_some(()));
    bystanders.wait_for(200, Instant::now());
    assert!(bystanders.finish().records.iter().all(|record| matches!(record.status, 200 | 503)));
}

#[test]
fn a_relay_goes_on_with_its_next_upstream() {
    let (world, links) = relayed("relay-next");
    let feed = feed_credential(world.cluster.edge_credential()).unwrap();
    let mut follower = Follower::new(relay(&world), &feed);
    let _ = follower.ask(0);
    for (dead, alive) in [(0, 1), (1, 0)] {
        let (_, mut client) = world.someone("next");
        links.upstream[dead].cut();
        links.upstream[alive].mend();
        let _ = client.logout(world.edge(2)).expect(200);
        until("the relay tells of it", || (!follower.ask(100).entries.is_empty()).then_some(()));
    }
}

#[test]
fn a_relay_that_was_frozen_for_longer_than_the_bound_gives_no_edge_an_old_view() {
    let (mut world, links) = relayed("relay-frozen");
    let ((_, mut victim), (_, bystander)) = (world.someone("victim"), world.someone("bystander"));
    let (victims, bystanders) = (probe(&world, &[0, 1], &victim.steal()), probe(&world, &[0, 1], &bystander));
    // Edges have nobody else to ask: what they do then rests on the relay alone.
    links.coordinators.iter().for_each(Proxy::cut);
    let frozen = Instant::now();
    world.cluster.relays[0].part.freeze();
    let receipt = victim.logout(world.edge(2)).expect(200).received;
    bystanders.wait_for(503, frozen);
    pass_time(receipt, world.bound() * 3);
    let woken = Instant::now();
    world.cluster.relays[0].part.thaw();
    links.coordinators.iter().for_each(Proxy::mend);
    victims.wait_for(401, woken);
    bystanders.wait_for(200, woken);
    victims.finish().assert_revoked("relay frozen and woken", receipt, world.bound());
    let report = bystanders.finish();
    assert_failed_closed("relay frozen", &report, frozen, woken, world.bound());
    assert!(report.records.iter().all(|record| record.status != 401), "nobody else was signed out");
}

#[test]
fn edges_fall_closed_while_the_relays_upstream_is_away() {
    let (world, links) = relayed("relay-upstream");
    let ((_, mut victim), (_, bystander)) = (world.someone("victim"), world.someone("bystander"));
    let (victims, bystanders) = (probe(&world, &[0, 1], &victim.steal()), probe(&world, &[0, 1], &bystander));
    let cut = Instant::now();
    links.coordinators.iter().chain(&links.upstream).for_each(Proxy::cut);
    let receipt = victim.logout(world.edge(2)).expect(200).received;
    bystanders.wait_for(503, cut);
    until("the relay is not ready", || {
        (send(relay(&world), &Request::get("/readyz")).unwrap().status == 503).then_some(())
    });
    pass_time(receipt, world.bound() * 2);
    let mended = Instant::now();
    links.coordinators.iter().chain(&links.upstream).for_each(Proxy::mend);
    victims.wait_for(401, mended);
    bystanders.wait_for(200, mended);
    victims.finish().assert_revoked("upstream away", receipt, world.bound());
    assert_failed_closed("upstream away", &bystanders.finish(), cut, mended, world.bound());
}

/// The relay goes on with answers of a coordinator that are old already: both ages count.
#[test]
fn a_relay_adds_its_age_to_its_upstreams() {
    let (world, links) = relayed("relay-age");
    let (_, client) = world.someone("age");
    let sessions = probe(&world, &[0, 1], &client);
    // Only the first coordinator is left for the relay, and none for the edges.
    links.upstream[1].cut();
    links.coordinators.iter().for_each(Proxy::cut);
    sessions.wait_for(200, Instant::now());
    // It answers from what it has read for half of the bound; then the relay does for as long as it thinks it may.
    let mut sql = world.sql();
    sql.run("BEGIN; LOCK TABLE heartbeat IN EXCLUSIVE MODE");
    let receipt = Instant::now();
    pass_time(receipt, world.bound() * 3);
    let last = sessions.finish().last_acceptance(receipt);
    edgekeep_tests::print_figure(&format!(
        "heartbeats stopped: edges behind a relay went on for {} ms",
        last.as_millis()
    ));
    assert!(last <= world.bound(), "{last:?} after the last heartbeat");
    sql.run("ROLLBACK");
}

#[test]
fn a_relay_answers_the_feed_to_edges_whose_credential_counts_and_nothing_else() {
    let (mut world, _links) = relayed("relay-doors");
    let own = world.edgekeep(&["edge", "add", "guest"], "").trim().to_owned();
    let feed = feed_credential(&own).unwrap();
    let ask = |credential: &str| Follower::new(relay(&world), credential).ask_raw(0).1.status;
    until("the new credential is known", || (ask(&feed) == 200).then_some(()));
    let answer = Follower::new(relay(&world), &feed).ask(0);
    assert_eq!(answer.head.from, None);
    assert_eq!(ask(&own), 401, "an edge's own credential has no business here");
    assert_eq!(ask("x"), 401);
    assert_eq!(send(relay(&world), &Request::new("POST", "/v1/feed")).unwrap().status, 401);
    for path in ["/v1/login", "/v1/keys", "/v1/check"] {
        let request = Request::new("POST", path).header("Authorization", &format!("Bearer {}", *feed));
        let response = send(relay(&world), &request).unwrap();
        assert_eq!(response.status, 404, "{path}");
        assert!(response.json()["detail"].as_str().unwrap().contains("relay"), "{}", response.text());
        let request = Request::new("POST", path).header("Authorization", &format!("Bearer {}", *feed));
        assert_eq!(send(world.coordinator(0), &request).unwrap().status, 401, "{path} at a coordinator");
    }
    let text = |path: &str| send(relay(&world), &Request::get(path)).unwrap().text();
    assert!(text("/readyz").contains("\"ready\"") && text("/healthz").contains("ok"));
    assert!(text("/metrics").contains("edgekeep_relay_checks_total{outcome=\"counts\"}"), "{}", text("/metrics"));

    // Revoked: no later than its time after the coordinators refuse it.
    let follower = Follower::new(relay(&world), &feed);
    let _ = world.edgekeep(&["edge", "revoke", "guest"], "");
    for index in 0..2 {
        let coordinator = Follower::new(world.coordinator(index), &feed);
        until("the coordinator refuses it", || (coordinator.ask_raw(0).1.status == 401).then_some(()));
    }
    let known = Instant::now();
    let last = until("the relay refuses it", || {
        let sent = Instant::now();
        (follower.ask_raw(0).1.status == 401).then_some(sent)
    });
    assert!(last <= known + COUNTS_FOR, "refused only after {:?}", last - known);

    // It ends when asked to, and answers who waits.
    let feed = feed_credential(world.cluster.edge_credential()).unwrap();
    let mut waiting = Follower::new(relay(&world), &feed);
    let _ = waiting.ask(0);
    let (asked, held) = (Instant::now(), std::thread::spawn(move || waiting.ask_raw(500).1.status));
    pass_time(asked, Duration::from_millis(50));
    let part = &mut world.cluster.relays[0].part;
    part.ask_to_stop(Signal::TERM);
    assert!(part.stop(Signal::TERM, Duration::from_secs(10)), "it ends by itself");
    assert!(matches!(held.join().unwrap(), 200 | 503));
    let own = Request::new("POST", "/v1/feed").header("Authorization", &format!("Bearer {own}"));
    assert_eq!(send(world.coordinator(0), &own).unwrap().status, 401);
}
