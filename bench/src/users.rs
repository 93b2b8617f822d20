//! `users`: S12. What one active user costs the coordinator and Postgres in an hour, in databases of three sizes side by side.
//!
//! **An active user's hour**, at the default lifetimes: the user goes on clicking, so a proof is renewed when it is over, every five
//! minutes: 12 renewals, each of which writes. A session lasts 24 hours at most, so each hour has its share, 1 / 24, of one
//! sign-out and of one sign-in (with argon2 as it ships). Lifetimes say nothing about strict routes: 6 strict checks an hour are
//! an assumption. Everything else that a user does is answered by edges, and costs nothing here.
//!
//! A burst of that mix, over users chosen at random, is measured and divided by the hours that it stands for. Polls of the edges,
//! reads of the feed and heartbeats do not grow with users: what they take per hour of a deployment is told beside it.
//!
//! Three things are set otherwise than by default, so that a short burst tells what a long hour costs:
//! - Proofs live for a second. In a small database the same user renews again after some hundred others, and must write again, as
//!   it would five minutes later. That every renewal has written is checked.
//! - No whole pages in Postgres's log (`full_page_writes`). It writes one at a page's first change after a checkpoint. With a
//!   checkpoint and a renewal every five minutes that is one page for some forty renewals at any size; but in a burst it would be
//!   one for each renewal in a large database, and none in a small one.
//! - No `autovacuum`, which would fall into some rounds and not into others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use edgekeep_shared::api::{CheckAnswer, CheckVerdict};
use xtask::cluster::Database;
use xtask::state::User;

use crate::coordinator::{Coordinator, users};
use crate::http::Connection;
use crate::load::{Drive, Series};
use crate::polls::Polls;
use crate::results::Bench;
use crate::seed::{self, Signer, Visitor};
use crate::stats::{Spread, largest_to_smallest, quantile};
use crate::workerd::at;
use crate::world::World;
use crate::{cpu, say};

const SIZES: [u64; 3] = [1_000, 100_000, 1_000_000];
/// Of an active user's hour.
const RENEWALS: usize = 12;
const STRICT_CHECKS: usize = 6;
/// A session lasts so many hours.
const SESSION_HOURS: usize = 24;
/// User hours in a burst. Its renewals must be fewer than the users of the smallest database.
const HOURS: usize = 48;
/// A proof's life here, and the pause before users are asked for again.
const PROOF_LIFE: Duration = Duration::from_secs(1);
/// Edges whose polls are held where the standing cost is measured.
const EDGES: usize = 3;

/// How much to measure.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// Users of each database.
    pub sizes: &'a [u64],
    /// Bursts at each.
    pub rounds: usize,
    /// User hours in a burst.
    pub hours: usize,
    /// Connections that are busy at once.
    pub connections: usize,
    /// How long nothing but polls is measured.
    pub standing: Duration,
}

/// Runs it.
///
/// # Errors
/// If a part does not come up or answers wrongly.
pub fn run(drive: Drive, bench: &mut Bench) -> Result<()> {
    let plan = Plan {
        sizes: &SIZES,
        rounds: drive.rounds,
        hours: HOURS,
        connections: drive.connections,
        standing: Duration::from_secs(5),
    };
    measure(&plan, bench)
}

/// All of it in small, with a check of the figures themselves.
///
/// # Errors
/// If it does not work.
pub fn smoke(bench: &mut Bench) -> Result<()> {
    let standing = Duration::from_millis(500);
    measure(&Plan { sizes: &[320, 640], rounds: 1, hours: SESSION_HOURS, connections: 4, standing }, bench)
}

/// One question of the mix.
enum Op {
    Renew(Vec<u8>),
    Check(Vec<u8>),
    /// A session ends and the next one begins.
    NewSession {
        logout: Vec<u8>,
        login: Vec<u8>,
    },
}

/// A deployment with its database.
struct Deployment {
    size: u64,
    world: World,
    coordinator: Coordinator,
    signer: Signer,
    /// Whose password all have.
    template: User,
    /// Those who are asked about, in turns.
    staying: Vec<Visitor>,
    next: usize,
    /// Those whose session ends, once.
    leaving: Vec<Visitor>,
    coordinator_ms: Vec<f64>,
    postgres_ms: Vec<f64>,
    rows: [Series; 2],
}

/// Processor time of one deployment, in seconds: its coordinator's, and that of all of Postgres.
fn used_s(world: &World) -> Result<[f64; 2]> {
    let postgres = world.cluster.postgres.as_ref().context("no Postgres")?.pid();
    Ok([cpu::seconds(&world.coordinator_pids(0)), cpu::seconds(&cpu::family(postgres))])
}

fn since(before: [f64; 2], now: [f64; 2]) -> [f64; 2] {
    [now[0] - before[0], now[1] - before[1]]
}

/// Measures it.
///
/// # Errors
/// If a part does not come up or answers wrongly.
pub fn measure(plan: &Plan<'_>, bench: &mut Bench) -> Result<()> {
    let mut all = plan.sizes.iter().map(|size| Deployment::start(*size, plan)).collect::<Result<Vec<_>>>()?;
    let standing_s = all.iter().map(|one| one.standing_s_per_hour(plan.standing)).collect::<Result<Vec<_>>>()?;
    for round in 0..=plan.rounds {
        // A proof must be past half of its life again where it was renewed in the round before.
        std::thread::sleep(PROOF_LIFE);
        for one in &mut all {
            one.burst(plan, round > 0).with_context(|| format!("{} users", one.size))?;
        }
        say(&match round {
            0 => "  warmed up".to_owned(),
            _ => format!("  round {round} of {}", plan.rounds),
        });
    }
    let both: Vec<Vec<f64>> = all.iter().map(Deployment::both_ms).collect();
    let shares = |share: fn(&Deployment) -> &Vec<f64>| all.iter().map(|one| share(one).clone()).collect::<Vec<_>>();
    let mix = format!(
        "an active user's hour: {RENEWALS} renewals that write, {STRICT_CHECKS} strict checks, 1/{SESSION_HOURS} of a sign-out \
         and a sign-in; bursts of {} such hours",
        plan.hours
    );
    let median = |values: &[f64]| quantile(values, 0.5).unwrap_or_default();
    let each: Vec<String> = all
        .iter()
        .map(|one| {
            let (coordinator, postgres) = (median(&one.coordinator_ms), median(&one.postgres_ms));
            format!("{} users: {coordinator:.2} ms in the coordinator, {postgres:.2} ms in Postgres", one.size)
        })
        .collect();
    let each = each.join("; ");
    say(&format!("  {each}"));
    bench.note("S12", largest_to_smallest(&both), &[&mix, &each]);
    bench.note("S12-coordinator", largest_to_smallest(&shares(|one| &one.coordinator_ms)), &[]);
    bench.note("S12-postgres", largest_to_smallest(&shares(|one| &one.postgres_ms)), &[]);
    bench.note("S12-cost", both.last().and_then(|rounds| Spread::of(rounds)), &["coordinator and Postgres together"]);
    let standing: Vec<String> = all
        .iter()
        .zip(&standing_s)
        .map(|(one, [coordinator, postgres])| {
            format!("{} users: {coordinator:.0} s in the coordinator, {postgres:.0} s in Postgres", one.size)
        })
        .collect();
    let last = standing_s.last().map(|[coordinator, postgres]| Spread::exactly(coordinator + postgres));
    let polls = format!("{EDGES} edges' polls held, reads of the feed every 25 ms, heartbeats");
    bench.note("S12-standing", last, &[&polls, &standing.join("; ")]);
    let rows: Vec<Series> = all.into_iter().flat_map(|one| one.rows).collect();
    bench.table("The mix of active users", &rows);
    Ok(())
}

impl Deployment {
    fn start(size: u64, plan: &Plan<'_>) -> Result<Self> {
        let world = World::start(&format!("users-{size}"), |options| {
            options.edges = 0;
            options.users = users(1);
            options.settings = vec![("proof_life_ms".into(), PROOF_LIFE.as_millis().to_string())];
            options.database = Database::Own(vec!["autovacuum=off".into(), "full_page_writes=off".into()]);
        })?;
        let coordinator = Coordinator::first(&world.cluster)?;
        let template = world.cluster.user("user-0").context("no user")?.clone();
        // Long enough ago that their proofs are over, and not so long that anybody is idle.
        seed::users(&world, size, &template, Duration::from_secs(60))?;
        let leaving = (plan.rounds + 1) * plan.hours.div_ceil(SESSION_HOURS);
        let in_burst = plan.hours * RENEWALS;
        let mut staying = seed::choose(&world, leaving + in_burst * (plan.rounds + 1))?;
        let leaving = staying.split_off(staying.len().saturating_sub(leaving));
        anyhow::ensure!(staying.len() >= in_burst, "{size} users are too few for {in_burst} renewals");
        let row = |part: &str| Series { name: format!("edgekeep: {size} users, {part}"), ..Series::default() };
        Ok(Self {
            size,
            signer: Signer::of(&coordinator)?,
            rows: [row("coordinator"), row("Postgres")],
            world,
            coordinator,
            template,
            staying,
            next: 0,
            leaving,
            coordinator_ms: Vec::new(),
            postgres_ms: Vec::new(),
        })
    }

    /// What it takes in an hour while nobody does anything, though edges poll.
    fn standing_s_per_hour(&self, length: Duration) -> Result<[f64; 2]> {
        let polls = Polls::hold(&self.coordinator, EDGES, self.world.cluster.max_staleness_ms())?;
        let (before, begun) = (used_s(&self.world)?, Instant::now());
        std::thread::sleep(length);
        let (used, lasted_s) = (since(before, used_s(&self.world)?), begun.elapsed().as_secs_f64());
        polls.end()?;
        Ok(used.map(|used_s| used_s / lasted_s * 3600.0))
    }

    fn both_ms(&self) -> Vec<f64> {
        self.coordinator_ms
            .iter()
            .zip(&self.postgres_ms)
            .map(|(coordinator, postgres)| coordinator + postgres)
            .collect()
    }

    fn next_staying(&mut self) -> Result<String> {
        let at = self.next % self.staying.len();
        self.next += 1;
        self.signer.proof(&self.staying[at])
    }

    /// The mix of so many user hours, evenly interleaved; nobody is renewed twice.
    fn mix(&mut self, hours: usize) -> Result<Vec<Op>> {
        let mut ops = Vec::new();
        for renewal in 0..hours * RENEWALS {
            let proof = self.next_staying()?;
            ops.push(Op::Renew(self.coordinator.check(&proof, true)?));
            if renewal % (RENEWALS / STRICT_CHECKS) == 0 {
                // Of somebody whose renewal is long over, or far ahead: asking alters nothing.
                let other = &self.staying[(self.next + self.staying.len() / 2) % self.staying.len()];
                ops.push(Op::Check(self.coordinator.check(&self.signer.proof(other)?, false)?));
            }
            if renewal % (SESSION_HOURS * RENEWALS) == 0 {
                let visitor = self.leaving.pop().context("nobody is left to sign out")?;
                let logout = self.coordinator.logout(&self.signer.proof(&visitor)?)?;
                let user = User { name: visitor.name, ..self.template.clone() };
                ops.push(Op::NewSession { logout, login: self.coordinator.login(&user)? });
            }
        }
        Ok(ops)
    }

    fn burst(&mut self, plan: &Plan<'_>, counts: bool) -> Result<()> {
        let ops = Arc::new(self.mix(plan.hours)?);
        let next = Arc::new(AtomicUsize::new(0));
        let open =
            (0..plan.connections).map(|_| Connection::open(at(self.coordinator.port))).collect::<Result<Vec<_>>>()?;
        let (before, begun) = (used_s(&self.world)?, Instant::now());
        let workers: Vec<_> = open
            .into_iter()
            .map(|connection| {
                let (ops, next) = (ops.clone(), next.clone());
                std::thread::spawn(move || work(connection, &ops, &next))
            })
            .collect();
        let mut latencies_ms = Vec::new();
        for worker in workers {
            latencies_ms.extend(worker.join().map_err(|_| anyhow::anyhow!("a connection's thread panicked"))??);
        }
        let (wall_s, used) = (begun.elapsed().as_secs_f64(), since(before, used_s(&self.world)?));
        if !counts {
            return Ok(());
        }
        let asked = latencies_ms.len() as f64;
        for (used_s, row) in used.iter().zip(&mut self.rows) {
            row.per_second.push(asked / wall_s);
            row.per_cpu_second.push(asked / used_s.max(1e-6));
            row.median_ms.push(quantile(&latencies_ms, 0.5).unwrap_or_default());
            row.p99_ms.push(quantile(&latencies_ms, 0.99).unwrap_or_default());
        }
        let [coordinator_ms, postgres_ms] = used.map(|used_s| used_s * 1e3 / plan.hours as f64);
        self.coordinator_ms.push(coordinator_ms);
        self.postgres_ms.push(postgres_ms);
        Ok(())
    }
}

/// Takes one question after the other until none is left; gives the latency of each request.
fn work(mut connection: Connection, ops: &[Op], next: &AtomicUsize) -> Result<Vec<f64>> {
    let (mut latencies_ms, mut body) = (Vec::new(), Vec::new());
    let mut ask = |sent: &[u8], body: &mut Vec<u8>| -> Result<()> {
        body.clear();
        let begun = Instant::now();
        let answer = connection.exchange(sent, Some(body))?;
        latencies_ms.push(begun.elapsed().as_secs_f64() * 1e3);
        anyhow::ensure!(answer.status == 200, "answered {}: {}", answer.status, String::from_utf8_lossy(body));
        Ok(())
    };
    while let Some(op) = ops.get(next.fetch_add(1, Ordering::Relaxed)) {
        match op {
            Op::Renew(sent) => {
                ask(sent, &mut body)?;
                anyhow::ensure!(seed::renewed(&body), "a renewal wrote nothing: {}", String::from_utf8_lossy(&body));
            }
            Op::Check(sent) => {
                ask(sent, &mut body)?;
                let answer: CheckAnswer = serde_json::from_slice(&body)?;
                let current = matches!(answer.verdict, CheckVerdict::Current { token: None, .. });
                anyhow::ensure!(current, "a strict check found {}", String::from_utf8_lossy(&body));
            }
            Op::NewSession { logout, login } => {
                ask(logout, &mut body)?;
                ask(login, &mut body)?;
            }
        }
    }
    Ok(latencies_ms)
}
