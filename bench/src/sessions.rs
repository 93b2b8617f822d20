//! `sessions`: S9. Strict checks and renewals against sessions that lie in Postgres, all on one server, each with the
//! same number of connections to it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use xtask::cluster::Database;
use xtask::paths;
use xtask::process::Recipe;

use crate::coordinator::{Coordinator, users};
use crate::http::{Connection, request};
use crate::load::{Contender, Drive, Requests, Series, rounds, rounds_with};
use crate::pgbench::{self, Pgbench};
use crate::results::Bench;
use crate::seed::{self, Signer};
use crate::stats::Spread;
use crate::workerd::at;
use crate::world::World;
use crate::{peers, say, sql};

/// The coordinator's default, and everybody's here.
const CONNECTIONS: u32 = 16;
const USERS: usize = 16;
/// Requests at a time of a busy site. A strict check costs a committed write, which all that wait share: so it costs least
/// where there are many, and most where there are few.
const MANY: usize = 64;
/// An answer that says "current" has more, one that says "ended" has less.
const CURRENT_BYTES: u64 = 300;

/// One with a new proof has more again.
const RENEWED_BYTES: u64 = 500;
/// Sessions that are renewed in turns: more than a machine renews in a second.
const DUE: usize = 40_000;

const STRICT: &str = "edgekeep: strict checks";
const RENEW: &str = "edgekeep: renewals";
const WRITE: &str = "edgekeep: renewals that write";
const TOWER: &str = "axum, tower-sessions + axum-login";
const SELECT: &str = "axum, bare SELECT by primary key";
const BETTER: &str = "Better Auth get-session";
const NO_PGBENCH: &str = "not measured: there is no pgbench on the PATH";
const BETTER_CACHE: &str = "Better Auth get-session, cookie cache";

/// Runs it.
///
/// # Errors
/// If a contender does not come up or answers wrongly.
pub fn run(drive: Drive, bench: &mut Bench) -> Result<()> {
    let tower_binary = peers::build("tower-sessions-peer")?;
    let better = peers::install("better-auth")?;
    let world = World::start("sessions", |options| {
        options.users = users(USERS);
        options.edges = 0;
        // It would fall into some turns and not into others.
        options.database = Database::Own(vec!["autovacuum=off".into()]);
        options.coordinator_environment.push(("EDGEKEEP_DATABASE__CONNECTIONS".into(), CONNECTIONS.to_string()));
    })?;
    let coordinator = Coordinator::first(&world.cluster)?;
    let tokens: Vec<String> = (0..USERS)
        .map(|index| world.cluster.user(&format!("user-{index}")).context("no user"))
        .map(|user| Ok(coordinator.sign_in(user?)?.token))
        .collect::<Result<_>>()?;
    let asked = |renew: bool| -> Result<_> {
        Ok(Requests::new(tokens.iter().map(|token| coordinator.check(token, renew)).collect::<Result<_>>()?))
    };

    // Databases of their own on the same server.
    let own = world.cluster.database_url();
    let address = |name: &str| own.rsplit_once('/').map(|(server, _)| format!("{server}/{name}"));
    sql::run(&world.tools, own, "CREATE DATABASE tower_sessions")?;
    sql::run(&world.tools, own, "CREATE DATABASE better_auth")?;
    let tower_url = address("tower_sessions").context("no address")?;
    let better_url = address("better_auth").context("no address")?;
    let tower = peers::start("tower-sessions", "/select", |port, log| {
        Recipe::new("tower-sessions", &tower_binary, &paths::target(), log)
            .args([port.to_string(), CONNECTIONS.to_string()])
            .env("DATABASE_URL", &tower_url)
    })?;
    let tower_cookie = signed_in(tower.port, request("POST", "/login", &[], b""))?;
    let start_better = |name: &str, cache: &str, migrate: &str| {
        peers::start(name, "/ready", |port, log| {
            Recipe::new(name, &world.tools.node, &better, log)
                .arg("server.mjs")
                .env("PORT", port.to_string())
                .env("CONNECTIONS", CONNECTIONS.to_string())
                .env("DATABASE_URL", &better_url)
                .env("COOKIE_CACHE", cache)
                .env("MIGRATE", migrate)
                .env("NODE_ENV", "production")
        })
    };
    let plain = start_better("better-auth", "0", "1")?;
    let cached = start_better("better-auth-cache", "1", "0")?;
    let sign = |port: u16, path: &str, body: &str| {
        let origin = format!("http://127.0.0.1:{port}");
        request("POST", path, &[("Origin", &origin), ("Content-Type", "application/json")], body.as_bytes())
    };
    let person = r#"{"email":"demo@example.com","password":"a long password","name":"demo"}"#;
    let plain_cookie = signed_in(plain.port, sign(plain.port, "/api/auth/sign-up/email", person))?;
    let cached_cookie = signed_in(cached.port, sign(cached.port, "/api/auth/sign-in/email", person))?;

    say("  strict checks beside sessions in Postgres");
    let postgres = world.cluster.postgres.as_ref().context("no Postgres")?.pid();
    let contender = |name: &str, port: u16, requests, pid: u32, min_body_bytes| Contender {
        name: name.into(),
        address: at(port),
        requests,
        status: 200,
        min_body_bytes,
        pids: vec![pid, postgres],
    };
    let get = |path: &str, cookie: &str| Requests::one(request("GET", path, &[("Cookie", cookie)], b""));
    let pid = world.coordinator_pids(0)[0];
    let mut limit = limit(&world)?;
    let mut all = rounds_with(
        &[
            contender(STRICT, coordinator.port, asked(false)?, pid, CURRENT_BYTES),
            contender(RENEW, coordinator.port, asked(true)?, pid, CURRENT_BYTES),
            contender(TOWER, tower.port, get("/me", &tower_cookie), tower.part.pid(), 5),
            contender(SELECT, tower.port, get("/select", &tower_cookie), tower.part.pid(), 5),
            contender(BETTER, plain.port, get("/api/auth/get-session", &plain_cookie), plain.part.pid(), 50),
            contender(BETTER_CACHE, cached.port, get("/api/auth/get-session", &cached_cookie), cached.part.pid(), 50),
        ],
        drive,
        || limit.as_mut().map_or(Ok(()), |pgbench| pgbench.turn(drive.turn)),
    )?;
    let pgbench = limit.map(|pgbench| pgbench.series);
    let by_cpu = "per second of processor time of the server and of Postgres together";
    bench.note("S9-tower", ratio(&all, STRICT, TOWER), &[by_cpu]);
    bench.note(
        "S9-tower-renew",
        ratio(&all, RENEW, TOWER),
        &[by_cpu, "fresh proofs: nothing is due, so nothing is written"],
    );
    bench.note("S9-better", ratio(&all, STRICT, BETTER), &[by_cpu]);
    bench.note("S9-better-cache", ratio(&all, STRICT, BETTER_CACHE), &[by_cpu, "the cache never asks the database"]);
    bench.note("S9-select", ratio(&all, STRICT, SELECT), &[by_cpu]);
    match pgbench {
        Some(series) => {
            let strict = all.iter().find(|series| series.name == STRICT).context("no strict checks")?;
            let note = "per second of processor time: ours of coordinator and Postgres, pgbench's of Postgres alone";
            bench.note("S9-pgbench", Spread::of_ratio(&strict.per_cpu_second, &series.per_cpu_second), &[note]);
            all.push(series);
        }
        None => bench.cannot("S9-pgbench", NO_PGBENCH),
    }
    bench.table("Strict checks", &all);

    say("  the same with many at a time");
    let many = rounds(
        &[
            contender(STRICT, coordinator.port, asked(false)?, pid, CURRENT_BYTES),
            contender(RENEW, coordinator.port, asked(true)?, pid, CURRENT_BYTES),
            contender(TOWER, tower.port, get("/me", &tower_cookie), tower.part.pid(), 5),
            contender(BETTER, plain.port, get("/api/auth/get-session", &plain_cookie), plain.part.pid(), 50),
        ],
        Drive { connections: MANY, ..drive },
    )?;
    bench.note("S9-tower-64", ratio(&many, STRICT, TOWER), &[by_cpu, "checks that wait together share one write"]);
    bench.note("S9-tower-renew-64", ratio(&many, RENEW, TOWER), &[by_cpu]);
    bench.note("S9-better-64", ratio(&many, STRICT, BETTER), &[by_cpu]);
    bench.table("Strict checks, 64 at a time", &many);

    say("  renewals that write");
    let requests = due(&world, &coordinator)?;
    for (connections, figure, table) in [
        (drive.connections, "S9-tower-renew-writes", "Renewals that write"),
        (MANY, "S9-tower-renew-writes-64", "Renewals that write, 64 at a time"),
    ] {
        let writing = rounds(
            &[
                contender(WRITE, coordinator.port, requests.clone(), pid, RENEWED_BYTES),
                contender(TOWER, tower.port, get("/me", &tower_cookie), tower.part.pid(), 5),
            ],
            Drive { connections, ..drive },
        )?;
        bench.note(
            figure,
            ratio(&writing, WRITE, TOWER),
            &[by_cpu, "each writes its session's row; a look-up writes nothing"],
        );
        bench.table(table, &writing);
    }
    Ok(())
}

/// Renewals of many users' sessions, in turns. A proof lives for a second from here on, so that whoever's turn comes again has a
/// proof that is over again, as every edge that asks has.
fn due(world: &World, coordinator: &Coordinator) -> Result<Arc<Requests>> {
    sql::run(&world.tools, world.cluster.database_url(), "UPDATE settings SET proof_life_ms = 1000")?;
    let template = world.cluster.user("user-0").context("no user")?;
    seed::users(world, DUE as u64, template, Duration::from_secs(600))?;
    let signer = Signer::of(coordinator)?;
    let visitors = seed::choose(world, DUE)?;
    let renewals = visitors.iter().map(|visitor| coordinator.check(&signer.proof(visitor)?, true));
    Ok(Requests::new(renewals.collect::<Result<_>>()?))
}

/// `a ÷ b` per second of processor time.
fn ratio(all: &[Series], a: &str, b: &str) -> Option<Spread> {
    let find = |name: &str| all.iter().find(|series| series.name == name);
    Spread::of_ratio(&find(a)?.per_cpu_second, &find(b)?.per_cpu_second)
}

/// Strict checks and pgbench alone, in small.
///
/// # Errors
/// If it does not work.
pub fn smoke(bench: &mut Bench) -> Result<()> {
    let world = World::start("sessions", |options| {
        options.users = users(1);
        options.edges = 0;
    })?;
    let coordinator = Coordinator::first(&world.cluster)?;
    let token = coordinator.sign_in(world.cluster.user("user-0").context("no user")?)?.token;
    let Some(mut pgbench) = limit(&world)? else {
        bench.cannot("S9-pgbench", NO_PGBENCH);
        return Ok(());
    };
    let contender = Contender {
        name: STRICT.into(),
        address: at(coordinator.port),
        requests: Requests::one(coordinator.check(&token, false)?),
        status: 200,
        min_body_bytes: CURRENT_BYTES,
        pids: vec![world.coordinator_pids(0)[0], world.cluster.postgres.as_ref().context("no Postgres")?.pid()],
    };
    let drive = Drive { rounds: 1, turn: Duration::from_millis(300), connections: 2 };
    let strict = rounds_with(&[contender], drive, || pgbench.turn(drive.turn))?;
    bench.note("S9-pgbench", Spread::of_ratio(&strict[0].per_cpu_second, &pgbench.series.per_cpu_second), &[]);
    Ok(())
}

/// pgbench on the same server, if there is one.
fn limit(world: &World) -> Result<Option<Pgbench>> {
    let Some(program) = pgbench::find() else { return Ok(None) };
    #[derive(serde::Deserialize)]
    struct Row {
        user_id: String,
    }
    let url = world.cluster.database_url();
    let rows = sql::run(&world.tools, url, "SELECT user_id::text FROM session LIMIT 1")?;
    let rows: Vec<Row> = serde_json::from_str(&rows)?;
    let user_id = rows.first().context("nobody is signed in")?.user_id.parse()?;
    let postmaster = world.cluster.postgres.as_ref().context("no Postgres")?.pid();
    Pgbench::new(program, url, postmaster, user_id, CONNECTIONS).map(Some)
}

/// Sends a request that signs somebody in; gives all cookies that it set, as the header has them.
fn signed_in(port: u16, sent: Vec<u8>) -> Result<String> {
    let mut body = Vec::new();
    let answer = Connection::open(at(port))?.exchange(&sent, Some(&mut body))?;
    anyhow::ensure!(
        answer.status == 200 && !answer.cookies.is_empty(),
        "a peer's login was answered with {}: {}",
        answer.status,
        String::from_utf8_lossy(&body)
    );
    Ok(answer.cookies.join("; "))
}
