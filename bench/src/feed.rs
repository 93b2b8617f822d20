//! `feed`: S10. Idle polls, with nothing new past their cursor, against an axum hello world.

use anyhow::{Context as _, Result};
use edgekeep_shared::feed::{Answer, CONTENT_TYPE, Question};
use edgekeep_shared::ids::Nonce;
use edgekeep_shared::position::Position;

use crate::coordinator::Coordinator;
use crate::http::Connection;
use crate::load::{Contender, Drive, Requests, Series, rounds};
use crate::results::Bench;
use crate::stats::Spread;
use crate::workerd::at;
use crate::world::World;
use crate::{peers, say, sql};

const FEW: u64 = 1_000;
const MANY: u64 = 1_000_000;
/// Users in one transaction of the seeding.
const BATCH: u64 = 100_000;

/// A cursor: the epoch and what is covered.
type Cursor = (u16, Position);

fn question(cursor: Option<&Cursor>) -> Question {
    let (epoch, from) = cursor.map_or((0, None), |(epoch, at)| (*epoch, Some(at.clone())));
    Question { nonce: Nonce([5; 16]), epoch, from, page: None, hold_ms: 0 }
}

fn poll(coordinator: &Coordinator, question: &Question) -> Result<(Answer, usize)> {
    let mut body = Vec::new();
    let sent = coordinator.ask("/v1/feed", CONTENT_TYPE, &question.encode());
    let answer = Connection::open(at(coordinator.port))?.exchange(&sent, Some(&mut body))?;
    anyhow::ensure!(answer.status == 200, "a poll was answered with {}", answer.status);
    Ok((Answer::decode(&body).context("not an answer")?, body.len()))
}

/// Follows the feed to its end; gives the cursor and how many entries came by.
fn follow(coordinator: &Coordinator) -> Result<(Cursor, usize)> {
    let mut asked = question(None);
    let mut entries = 0;
    loop {
        let (answer, _) = poll(coordinator, &asked)?;
        entries += answer.entries.len();
        match answer.head.next_page {
            Some(page) => asked.page = Some(page),
            None => return Ok(((answer.head.epoch, answer.head.to), entries)),
        }
    }
}

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
        let asked = question(Some(&cursor));
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
