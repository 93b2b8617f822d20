//! `propagation`: S11. From the receipt of a logout's answer to the sending of the last request that was still accepted,
//! on three edges that all have traffic.
//!
//! For every revocation somebody signs in, uses the session on each edge at a steady pace, signs out straight at the
//! coordinator, and goes on asking with the old cookie until each edge has refused it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use edgekeep_shared::cookie::cookie_name;

use crate::coordinator::{Coordinator, users};
use crate::http::{Connection, request};
use crate::results::Bench;
use crate::say;
use crate::stats::{Spread, quantile};
use crate::workerd::at;
use crate::world::World;

const EDGES: usize = 3;
const USERS: usize = 8;
/// Between two requests of one client at one edge: far from saturation, and the resolution of what is measured.
const PACE: Duration = Duration::from_millis(2);
/// How long each session is used before it is signed out.
const USED: Duration = Duration::from_millis(60);
const FULL: usize = 10_000;
const USUAL: usize = 400;
/// Without `--full`, no more are begun after this.
const AT_MOST: Duration = Duration::from_secs(150);

/// Runs it.
///
/// # Errors
/// If a part does not come up or answers wrongly.
pub fn run(full: bool, bench: &mut Bench) -> Result<()> {
    let world = World::start("propagation", |options| {
        options.edges = EDGES;
        options.users = users(USERS);
        // Logins are not what is measured: the cheapest hash that is allowed.
        options.coordinator_environment.push(("EDGEKEEP_ARGON2__MEMORY_KIB".into(), "8192".into()));
        options.coordinator_environment.push(("EDGEKEEP_ARGON2__PASSES".into(), "1".into()));
    })?;
    let coordinator = Coordinator::first(&world.cluster)?;
    let ports: Vec<u16> = world.cluster.edges.iter().map(|edge| edge.port).collect();
    let bound = Duration::from_millis(world.cluster.max_staleness_ms().into());
    let count = if full { FULL } else { USUAL };
    let begun = Instant::now();
    let (mut lags_ms, mut beyond) = (Vec::new(), 0_u32);
    for index in 0..count {
        if !full && begun.elapsed() > AT_MOST {
            break;
        }
        let user = world.cluster.user(&format!("user-{}", index % USERS)).context("no user")?;
        let signed_in = coordinator.sign_in(user)?;
        let cookie = format!("{}={}", cookie_name(signed_in.session.id), signed_in.token);
        let clients: Vec<_> = ports
            .iter()
            .map(|port| {
                let (port, cookie) = (*port, cookie.clone());
                std::thread::spawn(move || until_refused(port, &cookie))
            })
            .collect();
        std::thread::sleep(USED);
        let sent = coordinator.logout(&signed_in.token)?;
        let answer = Connection::open(at(coordinator.port))?.exchange(&sent, None)?;
        let received = Instant::now();
        anyhow::ensure!(answer.status == 200, "a logout was answered with {}", answer.status);
        let mut lag = Duration::ZERO;
        for client in clients {
            let last = client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
            lag = lag.max(last.saturating_duration_since(received));
        }
        lags_ms.push(lag.as_secs_f64() * 1e3);
        beyond += u32::from(lag > bound);
        if (index + 1) % 50 == 0 {
            say(&format!("  {} revocations, p50 {:.1} ms", index + 1, quantile(&lags_ms, 0.5).unwrap_or_default()));
        }
    }
    let what = format!(
        "{} revocations, the worst of {EDGES} edges each, every edge asked once in {} ms",
        lags_ms.len(),
        PACE.as_millis()
    );
    let at = |q: f64| quantile(&lags_ms, q).map(Spread::exactly);
    bench.note("S11-p50", at(0.5), &[&what]);
    bench.note("S11-p99", at(0.99), &[]);
    bench.note("S11-max", at(1.0), &[]);
    bench.note("S11-beyond", Some(Spread::exactly(f64::from(beyond))), &[&format!("bound {} ms", bound.as_millis())]);
    Ok(())
}

/// Uses a session at an edge until it is refused there; gives when the last accepted request was sent.
fn until_refused(port: u16, cookie: &str) -> Result<Instant> {
    let sent = request("GET", "/auth/session", &[("Cookie", cookie)], b"");
    let mut connection = Connection::open(at(port))?;
    let begun = Instant::now();
    let mut last = begun;
    loop {
        let asked = Instant::now();
        match connection.exchange(&sent, None)?.status {
            200 => last = asked,
            401 if asked - begun > USED / 2 => return Ok(last),
            // Refused is refused, but this one says that the edge cannot know right now.
            503 => {}
            other => anyhow::bail!("an edge answered {other} after {} ms", begun.elapsed().as_millis()),
        }
        anyhow::ensure!(begun.elapsed() < Duration::from_secs(60), "an edge accepts a session a minute after its end");
        std::thread::sleep(PACE);
    }
}
