//! S8: far more logins than the machine has hashes for, and what becomes of everybody else meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use xtask::state::User;

use crate::coordinator::Coordinator;
use crate::http::{Connection, request};
use crate::load::{Contender, Requests};
use crate::results::Bench;
use crate::seed::{self, Signer};
use crate::stats::Spread;
use crate::workerd::at;
use crate::world::{self, World};
use crate::{cpu, say};

/// Of each kind offered meanwhile, a second.
const CHECKS_PER_S: f64 = 100.0;
/// Clients of each kind, so that one slow answer does not keep the others from asking.
const CLIENTS: usize = 10;
/// Answers that come later are not good.
const IN_TIME: Duration = Duration::from_secs(1);
/// Those who renew have signed in so long ago: by half an hour's life (half of the idle timeout), more than half of it is over.
const SIGNED_IN_AGO: Duration = Duration::from_secs(20 * 60);

/// How much to offer.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Logins per second at the most.
    pub peak: f64,
    /// How long the overload lasts, and the measurement before it.
    pub length: Duration,
    /// Senders of the overload; each waits for its answer, so there are never more logins under way.
    pub senders: usize,
}

impl Plan {
    /// Far more senders than the coordinator's queue takes.
    #[must_use]
    pub const fn usual(peak: f64) -> Self {
        Self { peak, length: Duration::from_secs(10), senders: 512 }
    }
}

/// Somebody who goes on asking at a steady rate.
#[derive(Clone)]
struct Probe {
    port: u16,
    requests: Arc<Requests>,
    is_good: fn(u16, &[u8]) -> bool,
}

/// Runs it. Of `all`, the last is signed in and goes on; the others try to sign in again and again.
///
/// # Errors
/// If a part answers wrongly.
pub fn run(
    plan: &Plan,
    world: &World,
    coordinator: &Coordinator,
    all: &[User],
    logins: &Contender,
    bench: &mut Bench,
) -> Result<()> {
    say("  overload");
    let (visitor, others) = all.split_last().context("no user")?;
    let probes = probes(plan, world, coordinator, visitor)?;
    let count = logins.requests.count();
    let again: Vec<Vec<u8>> =
        others.iter().cycle().take(count).map(|user| coordinator.login(user)).collect::<Result<_>>()?;
    let calm = together(&probes, plan.length)?;

    let stop = Arc::new(AtomicBool::new(false));
    let (good, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let requests = Requests::new(again);
    let pause = Duration::from_secs_f64(plan.senders as f64 / (10.0 * plan.peak));
    let begun = Instant::now();
    let senders: Vec<_> = (0..plan.senders)
        .map(|index| {
            let (stop, good, refused) = (stop.clone(), good.clone(), refused.clone());
            let (requests, address) = (requests.clone(), logins.address);
            let first = pause.mul_f64(index as f64 / plan.senders as f64);
            std::thread::spawn(move || -> Result<()> {
                let mut connection = Connection::open(address)?;
                let mut due = Instant::now() + first;
                while !stop.load(Ordering::Relaxed) {
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    due += pause;
                    let answer = connection.exchange(requests.next(), None)?;
                    let counter = if answer.status == 200 { &good } else { &refused };
                    counter.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            })
        })
        .collect();
    let busy = together(&probes, plan.length)?;
    let lasted = begun.elapsed().as_secs_f64();
    let goodput = good.load(Ordering::Relaxed) as f64 / lasted;
    stop.store(true, Ordering::Relaxed);
    for sender in senders {
        sender.join().map_err(|_| anyhow::anyhow!("a sender panicked"))??;
    }
    let offered = format!(
        "{} senders at a pace of {:.0} logins/s (10 × the peak of {:.1}), each waiting for its answer: {goodput:.1}/s \
         succeeded, {:.1}/s were refused",
        plan.senders,
        10.0 * plan.peak,
        plan.peak,
        refused.load(Ordering::Relaxed) as f64 / lasted
    );
    bench.note("S8", Some(Spread::exactly(goodput / plan.peak)), &[&offered, "the senders share the same cores"]);
    for ((id, what), (busy, calm)) in [
        ("S8-strict", "answered with 200"),
        ("S8-edge", "answered with 200"),
        ("S8-renew", "each of another session that is due, answered with a new proof"),
    ]
    .into_iter()
    .zip(busy.into_iter().zip(calm))
    {
        anyhow::ensure!(calm > 0.0, "{id}: nothing was good even before the overload");
        let note = format!(
            "{CHECKS_PER_S:.0}/s offered by {CLIENTS} clients, {what} within a second: {calm:.1}/s before, {busy:.1}/s meanwhile"
        );
        bench.note(id, Some(Spread::exactly(busy / calm)), &[&note]);
    }
    let memory = cpu::peak_memory_bytes(world.coordinator_pids(0)[0]).unwrap_or_default() as f64 / 1e6;
    bench.note("S8-memory", Some(Spread::exactly(memory)), &["peak of the coordinator's resident memory"]);
    Ok(())
}

/// Strict checks, checks at the edge, and renewals.
fn probes(plan: &Plan, world: &World, coordinator: &Coordinator, visitor: &User) -> Result<[Probe; 3]> {
    let edge = world.cluster.edges.first().context("no edge")?.port;
    let cookie = world::login(edge, visitor)?;
    let token = cookie.split_once('=').context("no cookie")?.1;
    // Each renewal is of another session, so that each writes: for both measurements, and a little more.
    let renewals = (2.2 * CHECKS_PER_S * plan.length.as_secs_f64()).ceil();
    seed::users(world, renewals as u64, visitor, SIGNED_IN_AGO)?;
    let signer = Signer::of(coordinator)?;
    let due = seed::choose(world, renewals as usize)?
        .iter()
        .map(|visitor| coordinator.check(&signer.proof(visitor)?, true))
        .collect::<Result<_>>()?;
    let is_200 = |status: u16, _: &[u8]| status == 200;
    Ok([
        Probe { port: coordinator.port, requests: Requests::one(coordinator.check(token, false)?), is_good: is_200 },
        Probe {
            port: edge,
            requests: Requests::one(request("GET", "/auth/session", &[("Cookie", &cookie)], b"")),
            is_good: is_200,
        },
        Probe {
            port: coordinator.port,
            requests: Requests::new(due),
            is_good: |status, body| status == 200 && seed::renewed(body),
        },
    ])
}

/// All of them at once; gives how many good answers each had per second.
fn together(probes: &[Probe; 3], length: Duration) -> Result<Vec<f64>> {
    let all = probes.clone().map(|probe| {
        let clients = (0..CLIENTS).map(|index| {
            let probe = probe.clone();
            std::thread::spawn(move || paced(&probe, index, length))
        });
        clients.collect::<Vec<_>>()
    });
    let mut good_per_s = Vec::new();
    for clients in all {
        let mut good = 0;
        for client in clients {
            good += client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
        }
        good_per_s.push(f64::from(good) / length.as_secs_f64());
    }
    Ok(good_per_s)
}

/// One client's share of a steady rate, for a while; gives how many answers were good and in time. What could not be asked in time
/// is asked later, and counts only if that is before the end.
fn paced(probe: &Probe, index: usize, length: Duration) -> Result<u32> {
    let mut connection = Connection::open(at(probe.port))?;
    let pause = Duration::from_secs_f64(CLIENTS as f64 / CHECKS_PER_S);
    let end = Instant::now() + length;
    let mut due = Instant::now() + pause.mul_f64(index as f64 / CLIENTS as f64);
    let (mut good, mut body) = (0, Vec::new());
    while due < end && Instant::now() < end {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        due += pause;
        body.clear();
        let sent = Instant::now();
        let answer = connection.exchange(probe.requests.next(), Some(&mut body))?;
        good += u32::from(sent.elapsed() < IN_TIME && (probe.is_good)(answer.status, &body));
    }
    Ok(good)
}
