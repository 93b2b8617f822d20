//! `login`: S7. Logins against nothing but password hashes with the same parameters; then S8 in the same deployment: see
//! [`crate::overload`].

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use xtask::command;
use xtask::state::User;

use crate::coordinator::{Coordinator, users};
use crate::load::{Contender, Drive, Requests, Series, turn};
use crate::overload::{self, Plan};
use crate::results::Bench;
use crate::stats::{Spread, quantile};
use crate::workerd::at;
use crate::world::World;
use crate::{peers, say};

const USERS: usize = 24;
/// Enough for the whole run: a request that is sent twice would be answered without a hash.
const LOGINS: usize = 8_192;
/// Busy connections: two for each hash that runs, so that none waits for the network.
const CONNECTIONS: usize = 4;
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
    let world = World::start("login", |options| options.users = users(USERS))?;
    let coordinator = Coordinator::first(&world.cluster)?;
    let all = everybody(&world);
    let contender = logins(&world, &coordinator, &all, LOGINS)?;

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
    bench.table("Logins and raw hashes", &[hashes, ours]);

    let visitor = all.first().context("no user")?;
    overload::run(&Plan::usual(CONNECTIONS), &world, &coordinator, visitor, bench)
}

/// The overload alone, in small.
///
/// # Errors
/// If it does not work.
pub fn smoke(bench: &mut Bench) -> Result<()> {
    let world = World::start("login", |options| options.users = users(3))?;
    let coordinator = Coordinator::first(&world.cluster)?;
    let plan = Plan { length: Duration::from_secs(1), few: 2, many: 32 };
    let all = everybody(&world);
    overload::run(&plan, &world, &coordinator, all.first().context("no user")?, bench)
}

fn everybody(world: &World) -> Vec<User> {
    (0..USERS).filter_map(|index| world.cluster.user(&format!("user-{index}")).cloned()).collect()
}

/// `count` logins of these users in turns.
fn logins(world: &World, coordinator: &Coordinator, all: &[User], count: usize) -> Result<Contender> {
    let postgres = world.cluster.postgres.as_ref().context("no Postgres")?.pid();
    Ok(Contender {
        name: "edgekeep: logins".into(),
        address: at(coordinator.port),
        requests: Requests::new(
            all.iter().cycle().take(count).map(|user| coordinator.login(user)).collect::<Result<_>>()?,
        ),
        status: 200,
        min_body_bytes: 100,
        pids: vec![world.coordinator_pids(0)[0], postgres],
    })
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
