//! `feed`: S10. Idle polls, with nothing new past their cursor, against an axum hello world.

use anyhow::Result;
use edgekeep_shared::feed::CONTENT_TYPE;

use crate::coordinator::Coordinator;
use crate::load::{Contender, Drive, Requests, Series, rounds};
use crate::polls::{follow, poll, question};
use crate::results::Bench;
use crate::stats::Spread;
use crate::workerd::at;
use crate::world::World;
use crate::{peers, say, sql};

const FEW: u64 = 1_000;
const MANY: u64 = 1_000_000;
/// Users in one transaction of the seeding.
const BATCH: u64 = 100_000;

/// Runs it.
///
/// # Errors
/// If a part does not come up or answers wrongly.
pub fn run(drive: Drive, bench: &mut Bench) -> Result<()> {
    let binary = peers::build("axum-hello")?;
    let hello = peers::axum_hello(&binary, "axum hello", 0)?;
    // Two deployments side by side, so that few and many entries take turns.
    let worlds = [seeded("feed-few", FEW)?, seeded("feed-many", MANY)?];
    let mut contenders = Vec::new();
    for (world, count) in worlds.iter().zip([FEW, MANY]) {
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
    Ok(())
}

/// A deployment with so many users who have a recent revocation, all of them read by its coordinator.
fn seeded(name: &str, count: u64) -> Result<World> {
    let mut world = World::start(name, |options| {
        options.edges = 0;
        options.users = Vec::new();
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
