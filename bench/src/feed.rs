//! `feed`: S10. Idle polls, with nothing new past their cursor, against an axum hello world; and of S5 the cold sync over the
//! network: an edge that has just started loads everything from a coordinator.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use edgekeep_shared::feed::CONTENT_TYPE;

use crate::coordinator::{Coordinator, metric, users};
use crate::http::{Connection, request};
use crate::load::{Contender, Drive, Requests, Series, rounds};
use crate::polls::{follow, poll, question};
use crate::results::Bench;
use crate::stats::Spread;
use crate::workerd::at;
use crate::world::{self, World};
use crate::{cpu, peers, say, sql};

const FEW: u64 = 1_000;
const MANY: u64 = 1_000_000;
/// Users in one transaction of the seeding.
const BATCH: u64 = 100_000;
/// How often an edge is started cold.
const COLD_STARTS: usize = 3;
/// How long a cold sync may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// A poll that is held for so long without another one is one with nothing left to load.
const HELD: Duration = Duration::from_millis(100);

/// Runs it.
///
/// # Errors
/// If a part does not come up or answers wrongly.
pub fn run(drive: Drive, bench: &mut Bench) -> Result<()> {
    let binary = peers::build("axum-hello")?;
    let hello = peers::axum_hello(&binary, "axum hello", 0)?;
    // Two deployments side by side, so that few and many entries take turns.
    let [few, mut many] = [seeded("feed-few", FEW)?, seeded("feed-many", MANY)?];
    let mut contenders = Vec::new();
    for (world, count) in [(&few, FEW), (&many, MANY)] {
        let coordinator = Coordinator::first(&world.cluster)?;
        let (cursor, entries) = follow(&coordinator)?;
        anyhow::ensure!(entries as u64 == count, "the feed has {entries} entries, not {count}");
        let asked = question(Some(&cursor), 0);
        let (answer, bytes) = poll(&coordinator, &asked)?;
        anyhow::ensure!(answer.entries.is_empty(), "an idle poll has entries");
        bench.note(
            "S10-bytes",
            Some(Spread::exactly(bytes as f64)),
            &["the body; entries past the cursor take 22 bytes each"],
        );
        contenders.push(Contender {
            name: format!("edgekeep: idle polls, {count} entries retained"),
            address: at(coordinator.port),
            requests: Requests::one(coordinator.ask("/v1/feed", CONTENT_TYPE, &asked.encode())),
            status: 200,
            min_body_bytes: 50,
            pids: world.coordinator_pids(0),
        });
    }
    let sent = contenders[0].requests.clone();
    contenders.push(Contender {
        name: "axum hello world, the same request".into(),
        address: at(hello.port),
        requests: sent,
        status: 200,
        min_body_bytes: 5,
        pids: vec![hello.part.pid()],
    });
    let all = rounds(&contenders, drive)?;
    let by_cpu = "per second of the process's own processor time";
    let rate = |series: &Series| series.per_cpu_second.clone();
    bench.note("S10", Spread::of_ratio(&rate(&all[0]), &rate(&all[2])), &[by_cpu]);
    bench.note("S10-flat", Spread::of_ratio(&rate(&all[0]), &rate(&all[1])), &[by_cpu]);
    bench.table("Idle polls", &all);
    drop(few);
    cold_syncs(&mut many, COLD_STARTS, bench)
}

/// The cold sync alone, in small.
///
/// # Errors
/// If it does not work.
pub fn smoke(bench: &mut Bench) -> Result<()> {
    cold_syncs(&mut seeded("feed-many", 20 * FEW)?, 1, bench)
}

/// Starts edges, one after the other, which know nothing, and waits until each has loaded everything.
fn cold_syncs(world: &mut World, count: usize, bench: &mut Bench) -> Result<()> {
    say("  cold syncs");
    let coordinator = Coordinator::first(&world.cluster)?;
    let (_, entries) = follow(&coordinator)?;
    let (mut wall_s, mut edge_s, mut coordinator_s, mut peak_mb) = (Vec::new(), Vec::new(), Vec::new(), 0.0_f64);
    for _ in 0..count {
        let sync = cold_sync(world, &coordinator)?;
        wall_s.push(sync.wall_s);
        edge_s.push(sync.edge_s);
        coordinator_s.push(sync.coordinator_s);
        peak_mb = peak_mb.max(sync.peak_mb);
    }
    let spent = |all: &[f64]| Spread::of(all).map_or(0.0, |all| all.median);
    let how = format!(
        "{entries} entries in pages; {:.2} s of the edge's CPU and {:.2} s of the coordinator's; the edge's process had {peak_mb:.0} MB \
         at the most",
        spent(&edge_s),
        spent(&coordinator_s)
    );
    bench.note(
        "S5-network",
        Spread::of(&wall_s),
        &[&how, "from the first request with a session until the edge's poll is held"],
    );
    Ok(())
}

struct Sync {
    wall_s: f64,
    edge_s: f64,
    coordinator_s: f64,
    peak_mb: f64,
}

fn cold_sync(world: &mut World, coordinator: &Coordinator) -> Result<Sync> {
    let user = world.cluster.user("user-0").context("no user")?.clone();
    let place = world.cluster.add_edge(|_| ())?;
    let (port, pid) = (world.cluster.edges[place].port, world.cluster.edges[place].part.pid());
    // The login is answered by the coordinator; only a request that presents a session makes the edge follow the feed.
    let cookie = world::login(port, &user)?;
    let asked = request("GET", "/auth/session", &[("Cookie", &cookie)], b"");
    let coordinator_pids = world.coordinator_pids(0);
    let used_s = || (cpu::seconds(&[pid]), cpu::seconds(&coordinator_pids));
    let (before, begun) = (used_s(), Instant::now());
    let mut connection = Connection::open(at(port))?;
    let ask = |connection: &mut Connection| -> Result<()> {
        let status = connection.exchange(&asked, None)?.status;
        anyhow::ensure!(status == 200, "a cold edge answered {status}");
        Ok(())
    };
    ask(&mut connection)?;
    let polls = || metric(coordinator.port, "edgekeep_http_requests_total", "/v1/feed");
    // Its polls are answered at once as long as there is something to load, then one is held.
    let (mut answered, mut since) = (polls()?, Instant::now());
    let loaded = loop {
        std::thread::sleep(Duration::from_millis(5));
        let (now, held) = (polls()?, metric(coordinator.port, "edgekeep_feed_held_polls", "")?);
        if now != answered || held < 1.0 {
            (answered, since) = (now, Instant::now());
        } else if since.elapsed() >= HELD {
            break since;
        }
        anyhow::ensure!(begun.elapsed() < PATIENCE, "the edge has not loaded everything");
    };
    let after = used_s();
    // It answers from memory now: the coordinator is not asked about the session any more.
    let checks = || metric(coordinator.port, "edgekeep_checks_total", "");
    let checked = checks()?;
    ask(&mut connection)?;
    anyhow::ensure!(checks()? == checked, "an edge that has loaded everything asks about a session");
    let peak_mb = cpu::peak_memory_bytes(pid).unwrap_or_default() as f64 / 1e6;
    world.cluster.edges[place].kill();
    Ok(Sync {
        wall_s: loaded.saturating_duration_since(begun).as_secs_f64(),
        edge_s: after.0 - before.0,
        coordinator_s: after.1 - before.1,
        peak_mb,
    })
}

/// A deployment with so many users who have a recent revocation, all of them read by its coordinator.
fn seeded(name: &str, count: u64) -> Result<World> {
    let mut world = World::start(name, |options| {
        options.edges = 0;
        options.users = users(1);
    })?;
    say(&format!("  seeding {count} revocations"));
    let mut at = 0;
    while at < count {
        let until = (at + BATCH).min(count);
        sql::run(&world.tools, world.cluster.database_url(), &sql::revoked_users(at, until))?;
        at = until;
    }
    // A restart, so that it reads them as one that comes up does.
    world.cluster.coordinators[0].kill();
    world.cluster.coordinators[0].start_again()?;
    Ok(world)
}
