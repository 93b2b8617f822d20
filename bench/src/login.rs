//! `login`: S7 and S8. Logins against nothing but password hashes with the same parameters; then far more logins than
//! the machine has hashes for.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use xtask::command;
use xtask::state::User;

use crate::coordinator::{Coordinator, users};
use crate::http::{Connection, request};
use crate::load::{Contender, Drive, Requests, Series, turn};
use crate::results::Bench;
use crate::stats::{Spread, quantile};
use crate::workerd::at;
use crate::world::World;
use crate::{cpu, peers, say};

const USERS: usize = 24;
/// Enough for the whole run: a request that is sent twice would be answered without a hash.
const LOGINS: usize = 8_192;
/// Busy connections: two for each hash that runs, so that none waits for the network.
const CONNECTIONS: usize = 4;
/// How long the overload lasts, and each measurement before it.
const OVERLOAD: Duration = Duration::from_secs(10);
/// Senders of the overload; each waits for its answer, so there are never more logins under way: far more than the
/// coordinator's queue takes.
const SENDERS: usize = 512;
/// Strict checks and edge checks offered meanwhile, a second.
const CHECKS_PER_S: f64 = 100.0;

struct Raw {
    per_second: f64,
    per_cpu_second: f64,
    one_ms: f64,
}

/// Nothing but hashes.
fn raw(binary: &std::path::Path, threads: usize, length: Duration) -> Result<Raw> {
    // The shell's own children: `times` counts what they used, as the system accounts it.
    let script = format!("\"{}\" {threads} {} && times", binary.display(), length.as_millis());
    let text = command::output(Command::new("sh").args(["-c", &script]), "")?;
    let mut lines = text.lines();
    let numbers: Vec<f64> =
        lines.next().context("no line")?.split(' ').map(str::parse).collect::<Result<_, _>>().context("numbers")?;
    let &[hashes, wall_s, one_ms] = numbers.as_slice() else { anyhow::bail!("not three numbers: {text}") };
    let cpu_s: f64 = lines.nth(1).context("no times")?.split_whitespace().filter_map(minutes).sum();
    Ok(Raw { per_second: hashes / wall_s, per_cpu_second: hashes / cpu_s.max(1e-3), one_ms })
}

/// `1m2.345s` as seconds.
fn minutes(text: &str) -> Option<f64> {
    let (minutes, seconds) = text.strip_suffix('s')?.split_once('m')?;
    Some(minutes.parse::<f64>().ok()? * 60.0 + seconds.parse::<f64>().ok()?)
}

/// Runs it.
///
/// # Errors
/// If a part does not come up or answers wrongly.
pub fn run(drive: Drive, bench: &mut Bench) -> Result<()> {
    let binary = peers::build("argon2-raw")?;
    let mut world = World::start("login", |options| options.users = users(USERS))?;
    let coordinator = Coordinator::first(&world.cluster)?;
    let all: Vec<User> = (0..USERS).filter_map(|index| world.cluster.user(&format!("user-{index}")).cloned()).collect();
    let logins: Vec<Vec<u8>> =
        all.iter().cycle().take(LOGINS).map(|user| coordinator.login(user)).collect::<Result<_>>()?;
    let postgres = world.cluster.postgres.as_ref().context("no Postgres")?.pid();
    let pid = world.coordinator_pids(0)[0];
    let contender = Contender {
        name: "edgekeep: logins".into(),
        address: at(coordinator.port),
        requests: Requests::new(logins),
        status: 200,
        min_body_bytes: 100,
        pids: vec![pid, postgres],
    };

    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let length = drive.turn.max(Duration::from_secs(2));
    let mut hashes = Series { name: format!("raw argon2 on {cores} threads"), ..Series::default() };
    let mut ours = Series { name: contender.name.clone(), ..Series::default() };
    let (mut one_hash, mut one_login) = (Vec::new(), Vec::new());
    turn(&contender, CONNECTIONS, Duration::from_secs(1))?;
    for round in 0..drive.rounds {
        let bare = raw(&binary, cores, length)?;
        hashes.per_second.push(bare.per_second);
        hashes.per_cpu_second.push(bare.per_cpu_second);
        hashes.median_ms.push(bare.one_ms);
        hashes.p99_ms.push(bare.one_ms);
        let done = turn(&contender, CONNECTIONS, length)?;
        let count = done.latencies_ms.len() as f64;
        ours.per_second.push(count / done.wall_s);
        ours.per_cpu_second.push(count / done.cpu_s.max(1e-3));
        ours.median_ms.push(quantile(&done.latencies_ms, 0.5).unwrap_or_default());
        ours.p99_ms.push(quantile(&done.latencies_ms, 0.99).unwrap_or_default());
        one_hash.push(raw(&binary, 1, length / 2)?.one_ms);
        one_login.push(quantile(&turn(&contender, 1, length / 2)?.latencies_ms, 0.5).unwrap_or_default());
        say(&format!("  round {} of {}", round + 1, drive.rounds));
    }
    bench.note(
        "S7",
        Spread::of_ratio(&ours.per_cpu_second, &hashes.per_cpu_second),
        &["per second of processor time of coordinator and Postgres; wall-clock rates are in the table"],
    );
    bench.note(
        "S7-latency",
        Spread::of_ratio(&one_login, &one_hash),
        &["straight at the coordinator, wall-clock time"],
    );
    bench.table("Logins and raw hashes", &[hashes, ours.clone()]);

    let peak = Spread::of(&ours.per_second).context("no logins")?.median;
    overload(&mut world, &coordinator, &contender, peak, bench)
}

/// Ten times more logins than can be, and what becomes of everybody else meanwhile.
fn overload(
    world: &mut World,
    coordinator: &Coordinator,
    logins: &Contender,
    peak: f64,
    bench: &mut Bench,
) -> Result<()> {
    say("  overload");
    let visitor = world.cluster.user(&format!("user-{}", USERS - 1)).context("no user")?.clone();
    let port = world.cluster.edges.first().context("no edge")?.port;
    let cookie = crate::world::login(port, &visitor)?;
    let token = cookie.split_once('=').context("no cookie")?.1.to_owned();
    let strict = coordinator.check(&token, false)?;
    let edge = request("GET", "/auth/session", &[("Cookie", &cookie)], b"");
    let probes = || -> Result<(f64, f64)> {
        let (strict, edge) = (strict.clone(), edge.clone());
        let strict_port = coordinator.port;
        let first = std::thread::spawn(move || paced(strict_port, &strict, OVERLOAD));
        let second = paced(port, &edge, OVERLOAD)?;
        Ok((first.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??, second))
    };
    // The visitor's sessions are never among those that log in meanwhile.
    let others: Vec<Vec<u8>> = (0..LOGINS)
        .map(|index| world.cluster.user(&format!("user-{}", index % (USERS - 1))).context("no user"))
        .map(|user| coordinator.login(user?))
        .collect::<Result<_>>()?;
    let (calm_strict, calm_edge) = probes()?;

    let stop = Arc::new(AtomicBool::new(false));
    let (good, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let requests = Requests::new(others);
    let pause = Duration::from_secs_f64(SENDERS as f64 / (10.0 * peak));
    let begun = Instant::now();
    let senders: Vec<_> = (0..SENDERS)
        .map(|index| {
            let (stop, good, refused) = (stop.clone(), good.clone(), refused.clone());
            let (requests, address) = (requests.clone(), logins.address);
            std::thread::spawn(move || -> Result<()> {
                let mut connection = Connection::open(address)?;
                let mut due = Instant::now() + pause.mul_f64(index as f64 / SENDERS as f64);
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
    let (busy_strict, busy_edge) = probes()?;
    let lasted = begun.elapsed().as_secs_f64();
    let goodput = good.load(Ordering::Relaxed) as f64 / lasted;
    stop.store(true, Ordering::Relaxed);
    for sender in senders {
        sender.join().map_err(|_| anyhow::anyhow!("a sender panicked"))??;
    }
    let offered = format!(
        "{SENDERS} senders at a pace of {:.0} logins/s (10 × the peak of {peak:.1}), each waiting for its answer: \
         {goodput:.1}/s succeeded, {:.1}/s were refused",
        10.0 * peak,
        refused.load(Ordering::Relaxed) as f64 / lasted
    );
    let paced_note = format!("{CHECKS_PER_S:.0}/s offered, answered with 200 within a second");
    bench.note("S8", Some(Spread::exactly(goodput / peak)), &[&offered, "the senders share the same cores"]);
    bench.note("S8-strict", Some(Spread::exactly(busy_strict / calm_strict.max(1e-9))), &[&paced_note]);
    bench.note("S8-edge", Some(Spread::exactly(busy_edge / calm_edge.max(1e-9))), &[&paced_note]);
    let memory = cpu::peak_memory_bytes(world.coordinator_pids(0)[0]).unwrap_or_default() as f64 / 1e6;
    bench.note("S8-memory", Some(Spread::exactly(memory)), &["peak of the coordinator's resident memory"]);
    Ok(())
}

/// Offers requests at a steady rate for a while; gives those answered with 200 within a second, per second.
fn paced(port: u16, request: &[u8], length: Duration) -> Result<f64> {
    let mut connection = Connection::open(at(port))?;
    let pause = Duration::from_secs_f64(1.0 / CHECKS_PER_S);
    let begun = Instant::now();
    let (mut due, mut good) = (begun, 0_u32);
    while begun.elapsed() < length {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        due += pause;
        let sent = Instant::now();
        let answer = connection.exchange(request, None)?;
        good += u32::from(answer.status == 200 && sent.elapsed() < Duration::from_secs(1));
    }
    Ok(f64::from(good) / begun.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shell_s_times_are_read() {
        assert_eq!(minutes("0m1.250s"), Some(1.25));
        assert_eq!(minutes("2m0.5s"), Some(120.5));
        assert_eq!(minutes("x"), None);
    }
}
