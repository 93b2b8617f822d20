//! `propagation`: S11. From the receipt of a logout's answer to the sending of the last request that was still accepted, on
//! three edges under traffic; and the same with a relay between them and a coordinator that holds a thousand other polls.
//!
//! For every revocation somebody signs in, uses the session on each edge at a steady pace, signs out straight at the
//! coordinator, and goes on asking with the old cookie until each edge has refused it. Other sessions are used meanwhile, so that
//! the edges answer about half as many requests as they can at most, with all of this on one machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use edgekeep_shared::cookie::cookie_name;
use xtask::state::User;

use crate::coordinator::{Coordinator, metric, users};
use crate::http::{Connection, request};
use crate::load::{Contender, Requests, turn};
use crate::polls::Polls;
use crate::results::Bench;
use crate::say;
use crate::stats::{Spread, quantile};
use crate::workerd::at;
use crate::world::World;

const EDGES: usize = 3;
/// Users of one lane, each revoked in turn; and of the other traffic, one for each edge.
const LANE_USERS: usize = 4;
/// Revocations under way at once.
const LANES: usize = 2;
/// Between two requests of one client at one edge: the resolution of what is measured.
const PACE: Duration = Duration::from_millis(2);
/// How long each session is used before it is signed out.
const USED: Duration = Duration::from_millis(60);
/// A client goes on until it was refused so often in a row.
const REFUSALS: u32 = 3;
const FULL: usize = 10_000;
const USUAL: usize = 400;
/// Without `--full`, no more are begun after this.
const AT_MOST: Duration = Duration::from_secs(150);
/// Other polls that are held at the coordinator behind the relay.
const POLLS: usize = 1_000;
/// Connections of the other traffic at each edge.
const BUSY: usize = 4;

/// How much to measure.
#[derive(Clone, Copy, Debug)]
struct Plan {
    revocations: usize,
    at_most: Option<Duration>,
    /// A relay stands between the edges and the coordinator.
    relay: bool,
    /// Polls that are held at the coordinator beside those of edges or relay.
    polls: usize,
    /// How long the most that edges can answer is measured.
    capacity: Duration,
}

/// Runs it.
///
/// # Errors
/// If a part does not come up or answers wrongly.
pub fn run(full: bool, bench: &mut Bench) -> Result<()> {
    let direct = Plan {
        revocations: if full { FULL } else { USUAL },
        at_most: (!full).then_some(AT_MOST),
        relay: false,
        polls: 0,
        capacity: Duration::from_secs(2),
    };
    measure(&direct, bench)?;
    measure(&Plan { relay: true, polls: POLLS, ..direct }, bench)
}

/// Both in small.
///
/// # Errors
/// If it does not work.
pub fn smoke(bench: &mut Bench) -> Result<()> {
    let direct = Plan { revocations: 6, at_most: None, relay: false, polls: 0, capacity: Duration::from_millis(300) };
    measure(&direct, bench)?;
    measure(&Plan { relay: true, polls: 100, ..direct }, bench)
}

fn measure(plan: &Plan, bench: &mut Bench) -> Result<()> {
    let mut world = World::start(if plan.relay { "propagation-relay" } else { "propagation" }, |options| {
        options.edges = 0;
        options.users = users(LANES * LANE_USERS + EDGES);
        // Logins are not what is measured: the cheapest hash that is allowed.
        options.coordinator_environment.push(("EDGEKEEP_ARGON2__MEMORY_KIB".into(), "8192".into()));
        options.coordinator_environment.push(("EDGEKEEP_ARGON2__PASSES".into(), "1".into()));
    })?;
    let coordinator = Coordinator::first(&world.cluster)?;
    let bound_ms = world.cluster.max_staleness_ms();
    let relay_urls = if plan.relay {
        let upstream_urls = [world.cluster.coordinators[0].url.clone()];
        let relay = world.cluster.add_relay(&upstream_urls)?;
        vec![world.cluster.relays[relay].url.clone()]
    } else {
        Vec::new()
    };
    for _ in 0..EDGES {
        world.cluster.add_edge(|setup| setup.relay_urls.clone_from(&relay_urls))?;
    }
    let polls = Polls::hold(&coordinator, plan.polls, bound_ms)?;
    let ports: Vec<u16> = world.cluster.edges.iter().map(|edge| edge.port).collect();
    let all: Vec<User> = (0..LANES * LANE_USERS + EDGES)
        .filter_map(|index| world.cluster.user(&format!("user-{index}")).cloned())
        .collect();
    let (revoked, others) = all.split_at(LANES * LANE_USERS);
    let cookies = others.iter().map(|user| sign_in(&coordinator, user)).collect::<Result<Vec<_>>>()?;
    let asked: Vec<Vec<u8>> = cookies.iter().map(|(cookie, _)| session_request(cookie)).collect();
    let capacity = capacity_per_s(&ports, &asked, plan.capacity)?;

    // The clients whose sessions end come on top: they wait for logins and for each other, so theirs is little.
    let traffic = Traffic::start(&ports, &asked, capacity / 2.0 / EDGES as f64)?;
    let begun = Instant::now();
    let shared = Arc::new(Shared {
        coordinator: coordinator.clone(),
        ports: ports.clone(),
        begun: AtomicUsize::new(0),
        revocations: plan.revocations,
        until: plan.at_most.map(|at_most| begun + at_most),
        asked: AtomicU64::new(0),
    });
    let lanes: Vec<_> = revoked
        .chunks(LANE_USERS)
        .map(|users| {
            let (users, shared) = (users.to_vec(), shared.clone());
            std::thread::spawn(move || lane(&users, &shared))
        })
        .collect();
    if plan.relay {
        follow_is_as_planned(&world, &coordinator, &polls, plan.polls)?;
    }
    let mut lags = Vec::new();
    for lane in lanes {
        lags.extend(lane.join().map_err(|_| anyhow::anyhow!("a lane panicked"))??);
    }
    let lasted_s = begun.elapsed().as_secs_f64();
    let sent = traffic.end()? + shared.asked.load(Ordering::Relaxed);
    let told = polls.end()?;
    let offered = format!(
        "the edges answered {:.0} requests/s meanwhile, {:.0} % of the most that they can here",
        sent as f64 / lasted_s,
        100.0 * sent as f64 / lasted_s / capacity
    );
    let held = format!(
        "{} polls held at the coordinator beside the relay's: {} answers with {} entries, {} refusals",
        plan.polls, told.answered, told.entries, told.refused
    );
    let mut notes = vec![offered.as_str()];
    if plan.relay {
        notes.push(&held);
    }
    note(plan.relay, &lags, bound_ms, &notes, bench);
    Ok(())
}

/// The edges' polls are at the relay, and the coordinator holds the others.
fn follow_is_as_planned(world: &World, coordinator: &Coordinator, polls: &Polls, count: usize) -> Result<()> {
    let relay = world.cluster.relays.first().context("no relay")?.port;
    let begun = Instant::now();
    loop {
        let at_relay = metric(relay, "edgekeep_feed_held_polls", "")?;
        let at_coordinator = polls.held_at(coordinator)?;
        if at_relay >= EDGES as f64 && at_coordinator >= count as f64 * 0.9 {
            return Ok(());
        }
        anyhow::ensure!(
            begun.elapsed() < Duration::from_secs(20),
            "the relay holds {at_relay} polls and the coordinator {at_coordinator}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn note(relay: bool, lags: &[Lag], bound_ms: u32, notes: &[&str], bench: &mut Bench) {
    let receipt_ms: Vec<f64> = lags.iter().map(|lag| lag.from_receipt.as_secs_f64() * 1e3).collect();
    let sending_ms: Vec<f64> = lags.iter().map(|lag| lag.from_sending.as_secs_f64() * 1e3).collect();
    let at = |all: &[f64], q: f64| quantile(all, q).unwrap_or_default();
    let what = format!(
        "{} revocations, {LANES} at a time, the worst of {EDGES} edges each, every edge asked once in {} ms",
        lags.len(),
        PACE.as_millis()
    );
    let earlier = format!(
        "from the sending of the logout: p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
        at(&sending_ms, 0.5),
        at(&sending_ms, 0.99),
        at(&sending_ms, 1.0)
    );
    let beyond = receipt_ms.iter().filter(|lag| **lag > f64::from(bound_ms)).count();
    let ids = if relay {
        ["S11-relay-p50", "S11-relay-p99", "S11-relay-max", "S11-relay-beyond"]
    } else {
        ["S11-p50", "S11-p99", "S11-max", "S11-beyond"]
    };
    let mut first = vec![what.as_str(), earlier.as_str()];
    first.extend(notes);
    for (id, q, notes) in [(ids[0], 0.5, first.as_slice()), (ids[1], 0.99, &[]), (ids[2], 1.0, &[])] {
        bench.note(id, quantile(&receipt_ms, q).map(Spread::exactly), notes);
    }
    bench.note(ids[3], Some(Spread::exactly(beyond as f64)), &[&format!("bound {bound_ms} ms")]);
    say(&format!("  {what}: p50 {:.1} ms, p99 {:.1} ms", at(&receipt_ms, 0.5), at(&receipt_ms, 0.99)));
}

/// Signs in at the coordinator; gives the cookie and the proof alone.
fn sign_in(coordinator: &Coordinator, user: &User) -> Result<(String, String)> {
    let signed_in = coordinator.sign_in(user)?;
    Ok((format!("{}={}", cookie_name(signed_in.session.id), signed_in.token), signed_in.token))
}

fn session_request(cookie: &str) -> Vec<u8> {
    request("GET", "/auth/session", &[("Cookie", cookie)], b"")
}

/// The most that all edges together can answer in a second, with clients and coordinator on the same machine.
fn capacity_per_s(ports: &[u16], asked: &[Vec<u8>], length: Duration) -> Result<f64> {
    let all: Vec<_> = ports
        .iter()
        .zip(asked)
        .map(|(port, asked)| {
            let contender = Contender {
                name: format!("the edge at {port}"),
                address: at(*port),
                requests: Requests::one(asked.clone()),
                status: 200,
                min_body_bytes: 100,
                pids: Vec::new(),
            };
            std::thread::spawn(move || {
                turn(&contender, 4, length / 4)?; // An isolate that has just started has its view to load.
                turn(&contender, 4, length)
            })
        })
        .collect();
    let mut per_s = 0.0;
    for one in all {
        let turn = one.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
        per_s += turn.latencies_ms.len() as f64 / turn.wall_s;
    }
    Ok(per_s)
}

/// Sessions that go on meanwhile, at a steady rate.
struct Traffic {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<u64>>>,
}

impl Traffic {
    fn start(ports: &[u16], asked: &[Vec<u8>], per_s_each: f64) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for (port, asked) in ports.iter().zip(asked) {
            for _ in 0..BUSY {
                let mut connection = Connection::open(at(*port))?;
                let (stop, asked, pause) =
                    (stop.clone(), asked.clone(), Duration::from_secs_f64(BUSY as f64 / per_s_each));
                threads.push(std::thread::spawn(move || {
                    let (mut due, mut sent) = (Instant::now(), 0);
                    while !stop.load(Ordering::Relaxed) {
                        std::thread::sleep(due.saturating_duration_since(Instant::now()));
                        // Never to catch up with what could not be sent in time.
                        due = (due + pause).max(Instant::now());
                        let status = connection.exchange(&asked, None)?.status;
                        anyhow::ensure!(status == 200, "a session that goes on was answered with {status}");
                        sent += 1;
                    }
                    Ok(sent)
                }));
            }
        }
        Ok(Self { stop, threads })
    }

    /// How many requests it was.
    fn end(mut self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        let mut sent = 0;
        for thread in self.threads.drain(..) {
            sent += thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
        }
        Ok(sent)
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// What all lanes work on.
struct Shared {
    coordinator: Coordinator,
    ports: Vec<u16>,
    begun: AtomicUsize,
    revocations: usize,
    until: Option<Instant>,
    /// Requests that their clients have sent to edges.
    asked: AtomicU64,
}

/// How long after a logout the last request was sent that an edge accepted.
#[derive(Clone, Copy, Debug)]
struct Lag {
    from_receipt: Duration,
    from_sending: Duration,
}

/// One revocation after the other, until all are begun or the time is over.
fn lane(users: &[User], shared: &Arc<Shared>) -> Result<Vec<Lag>> {
    let mut lags = Vec::new();
    for user in users.iter().cycle() {
        let index = shared.begun.fetch_add(1, Ordering::Relaxed);
        if index >= shared.revocations || shared.until.is_some_and(|until| Instant::now() > until) {
            break;
        }
        lags.push(revocation(user, shared)?);
        if (index + 1).is_multiple_of(100) {
            say(&format!("  {} revocations", index + 1));
        }
    }
    Ok(lags)
}

fn revocation(user: &User, shared: &Arc<Shared>) -> Result<Lag> {
    let (cookie, token) = sign_in(&shared.coordinator, user)?;
    let clients: Vec<_> = (0..shared.ports.len())
        .map(|index| {
            let (shared, cookie) = (shared.clone(), cookie.clone());
            std::thread::spawn(move || until_refused(&shared, shared.ports[index], &cookie))
        })
        .collect();
    std::thread::sleep(USED);
    let logout = shared.coordinator.logout(&token)?;
    let mut connection = Connection::open(at(shared.coordinator.port))?;
    let sent = Instant::now();
    let answer = connection.exchange(&logout, None)?;
    let received = Instant::now();
    anyhow::ensure!(answer.status == 200, "a logout was answered with {}", answer.status);
    let mut lag = Lag { from_receipt: Duration::ZERO, from_sending: Duration::ZERO };
    for client in clients {
        let last = client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
        lag.from_receipt = lag.from_receipt.max(last.saturating_duration_since(received));
        lag.from_sending = lag.from_sending.max(last.saturating_duration_since(sent));
    }
    Ok(lag)
}

/// Uses a session at an edge until it is refused there; gives when the last accepted request was sent.
fn until_refused(shared: &Shared, port: u16, cookie: &str) -> Result<Instant> {
    let sent = session_request(cookie);
    let mut connection = Connection::open(at(port))?;
    let begun = Instant::now();
    let (mut last, mut refused) = (begun, 0);
    loop {
        let asked = Instant::now();
        shared.asked.fetch_add(1, Ordering::Relaxed);
        match connection.exchange(&sent, None)?.status {
            200 => (last, refused) = (asked, 0),
            401 if asked - begun > USED / 2 => refused += 1,
            // Refused is refused, but this one says that the edge cannot know right now.
            503 => {}
            other => anyhow::bail!("an edge answered {other} after {} ms", begun.elapsed().as_millis()),
        }
        if refused == REFUSALS {
            return Ok(last);
        }
        anyhow::ensure!(begun.elapsed() < Duration::from_secs(60), "an edge accepts a session a minute after its end");
        std::thread::sleep(PACE);
    }
}
