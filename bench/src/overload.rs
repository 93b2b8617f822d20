//! S8: far more logins than the machine has hashes for, and what becomes of everybody else meanwhile.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use xtask::state::User;

use crate::coordinator::Coordinator;
use crate::http::{Connection, request};
use crate::load::Requests;
use crate::results::Bench;
use crate::seed::{self, Signer, Visitor};
use crate::stats::Spread;
use crate::workerd::at;
use crate::world::{self, World};
use crate::{cpu, say};

/// Of each kind offered meanwhile, a second.
const CHECKS_PER_S: f64 = 100.0;
/// Clients of each kind, so that one slow answer does not keep the others from asking.
const CLIENTS: usize = 10;
/// Users who sign in: more than senders, so that nobody waits for another attempt of the same user.
const WHO_SIGN_IN: usize = 1_024;
/// Enough for the whole run: a request that is sent twice would be answered without a hash.
const LOGINS: usize = 16_384;
/// Answers that come later are not good.
const IN_TIME: Duration = Duration::from_secs(1);
/// Those who renew have signed in so long ago: by half an hour's life (half of the idle timeout), more than half of it is over.
const SIGNED_IN_AGO: Duration = Duration::from_secs(20 * 60);

/// How much to offer.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How long the overload lasts, and each of the measurements before it.
    pub length: Duration,
    /// Senders at the peak: enough that no hash has to wait for the network.
    pub few: usize,
    /// Senders of the overload; each waits for its answer, so there are never more logins under way.
    pub many: usize,
}

impl Plan {
    /// Far more senders than the coordinator's queue takes.
    #[must_use]
    pub const fn usual(few: usize) -> Self {
        Self { length: Duration::from_secs(10), few, many: 512 }
    }
}

/// Somebody who goes on asking at a steady rate.
#[derive(Clone)]
struct Probe {
    port: u16,
    requests: Arc<Requests>,
    is_good: fn(u16, &[u8]) -> bool,
}

/// Runs it: who asks and renews, alone; the same beside as many logins as there is capacity for; the same beside ten times as
/// many. `visitor` is a user who signs in once and goes on.
///
/// # Errors
/// If a part answers wrongly.
pub fn run(plan: &Plan, world: &World, coordinator: &Coordinator, visitor: &User, bench: &mut Bench) -> Result<()> {
    say("  overload");
    let (probes, others) = probes(plan, world, coordinator, visitor)?;
    let login = |other: &Visitor| User { name: other.name.clone(), ..visitor.clone() };
    let logins = others.iter().cycle().take(LOGINS).map(|other| coordinator.login(&login(other)));
    let logins = logins.collect::<Result<_>>()?;
    let logins = Logins { requests: Requests::new(logins), address: at(coordinator.port) };

    let calm = together(&probes, plan.length)?;
    let (_, peak) = logins.beside(&probes, plan.few, None, plan.length)?;
    let peak_per_s = peak.good_per_s;
    let (busy, overload) = logins.beside(&probes, plan.many, Some(10.0 * peak_per_s), plan.length)?;
    let offered = format!(
        "{} senders at a pace of {:.0} logins/s, each waiting for its answer: {:.1}/s succeeded, {:.1}/s were refused",
        plan.many,
        10.0 * peak_per_s,
        overload.good_per_s,
        overload.refused_per_s
    );
    let peak = format!("the peak: {peak_per_s:.1}/s with {} senders, beside the same checks and renewals", plan.few);
    let ratio = Spread::exactly(overload.good_per_s / peak_per_s);
    bench.note("S8", Some(ratio), &[&offered, &peak, "the senders share the same cores"]);
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

/// Logins of many users.
struct Logins {
    requests: Arc<Requests>,
    address: SocketAddr,
}

/// How logins went, per second.
struct Went {
    good_per_s: f64,
    refused_per_s: f64,
}

impl Logins {
    /// Logins by so many senders while `probes` ask, at a pace or as fast as they are answered.
    fn beside(
        &self,
        probes: &[Probe; 3],
        senders: usize,
        per_s: Option<f64>,
        length: Duration,
    ) -> Result<(Vec<f64>, Went)> {
        let stop = Arc::new(AtomicBool::new(false));
        let (good, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let pause = per_s.map_or(Duration::ZERO, |per_s| Duration::from_secs_f64(senders as f64 / per_s));
        let begun = Instant::now();
        let threads: Vec<_> = (0..senders)
            .map(|index| {
                let (stop, good, refused) = (stop.clone(), good.clone(), refused.clone());
                let (requests, address) = (self.requests.clone(), self.address);
                let first = pause.mul_f64(index as f64 / senders as f64);
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
        let probed = together(probes, length)?;
        let lasted_s = begun.elapsed().as_secs_f64();
        let per_s = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64 / lasted_s;
        let went = Went { good_per_s: per_s(&good), refused_per_s: per_s(&refused) };
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().map_err(|_| anyhow::anyhow!("a sender panicked"))??;
        }
        Ok((probed, went))
    }
}

/// Strict checks, checks at the edge, and renewals; and whoever else signs in.
fn probes(plan: &Plan, world: &World, coordinator: &Coordinator, visitor: &User) -> Result<([Probe; 3], Vec<Visitor>)> {
    let edge = world.cluster.edges.first().context("no edge")?.port;
    let cookie = world::login(edge, visitor)?;
    let token = cookie.split_once('=').context("no cookie")?.1;
    // Each renewal is of another session, so that each writes: for all three measurements, and a little more.
    let renewals = (3.2 * CHECKS_PER_S * plan.length.as_secs_f64()).ceil() as usize;
    let all = renewals + WHO_SIGN_IN;
    seed::users(world, all as u64, visitor, SIGNED_IN_AGO)?;
    let signer = Signer::of(coordinator)?;
    let mut others = seed::choose(world, all)?;
    let due = others
        .split_off(WHO_SIGN_IN)
        .iter()
        .map(|visitor| coordinator.check(&signer.proof(visitor)?, true))
        .collect::<Result<_>>()?;
    let is_200 = |status: u16, _: &[u8]| status == 200;
    let probes = [
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
    ];
    Ok((probes, others))
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
