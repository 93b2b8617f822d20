//! The run: a cluster, clients, faults, and what came of them.

pub mod asking;
pub mod clients;
pub mod commits;
pub mod database;
pub mod failover;
pub mod faults;
pub mod fleet;
pub mod link;
pub mod nemesis;
pub mod recorder;
pub mod summary;

use std::fs;
use std::io::BufReader;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use self::clients::{Account, Clients};
use self::fleet::Fleet;
use self::nemesis::Nemesis;
use self::recorder::Recorder;
use self::summary::{Done, Summary};
use crate::checker;
use crate::history::{History, Rules};

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Storms begin until then.
    pub length: Duration,
    /// Chooses faults and what clients do. Threads and processes run as they like: a seed repeats the plan, not the run.
    pub seed: u64,
    /// How many.
    pub coordinators: usize,
    /// How many.
    pub edges: usize,
    /// How many users, the quiet one among them.
    pub users: u32,
    /// The bound.
    pub max_staleness_ms: u32,
    /// A standby is there, and is promoted half-way.
    pub failover: Option<Failover>,
    /// Which rule the build breaks, if it is a sabotaged one.
    pub sabotage: Option<String>,
}

/// What becomes of the old primary when its standby is promoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Failover {
    /// It is killed, after commits were cancelled in their wait for the standby.
    Killed,
    /// It lives on, cut off from its standby, and one coordinator still reaches it.
    LivesOn,
    /// It did not wait for its standby, which was held back when it was killed: acknowledged commits are lost.
    Asynchronous,
}

/// The history's file in [`folder`].
pub const HISTORY: &str = "history.jsonl";
/// Which rule a sabotaged build breaks. The coordinator's configuration leaves this name alone.
const SABOTAGE: &str = "EDGEKEEP_TEST_SABOTAGE";
const GUESS_LIMIT: u32 = 5;
const LOCKOUT_BASE_MS: u64 = 2_000;
const OWNER_DEADLINE_MS: u64 = 3_000;
/// An edge tries for ten seconds, a coordinator and its database for less, a fault lasts for less than five.
const LATE_MS: u64 = 30_000;
const IDLE_MS: u64 = 20_000;
const ABSOLUTE_MS: u64 = 45_000;

impl Plan {
    fn settings(&self) -> Vec<(String, String)> {
        [
            // Longer than the bound, so that memory decides; short, so that proofs are renewed.
            ("proof_life_ms", 8_000),
            ("idle_timeout_ms", IDLE_MS),
            ("absolute_timeout_ms", ABSOLUTE_MS),
            ("guess_limit", GUESS_LIMIT.into()),
            ("lockout_base_ms", LOCKOUT_BASE_MS),
            ("lockout_max_ms", 2 * LOCKOUT_BASE_MS),
        ]
        .map(|(name, value): (&str, u64)| (name.to_owned(), value.to_string()))
        .into()
    }

    fn coordinator_environment(&self) -> Vec<(String, String)> {
        let mut all: Vec<(String, String)> = [
            // The least that is allowed: logins are many here, and the hash is not what is tested.
            ("EDGEKEEP_ARGON2__MEMORY_KIB", "1024".to_owned()),
            ("EDGEKEEP_ARGON2__PASSES", "1".to_owned()),
            ("EDGEKEEP_LOGIN__OWNER_DEADLINE_MS", OWNER_DEADLINE_MS.to_string()),
            ("EDGEKEEP_LOGIN__IN_FLIGHT_WAIT_MS", "1500".to_owned()),
            // A stopped coordinator holds a user's row for so long.
            ("EDGEKEEP_DATABASE__IDLE_IN_TRANSACTION_MS", "1500".to_owned()),
            ("EDGEKEEP_DATABASE__ACQUIRE_TIMEOUT_MS", "2000".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        all.extend(self.sabotage.iter().map(|rule| (SABOTAGE.to_owned(), rule.clone())));
        all
    }

    fn edge_variables(&self) -> Vec<(String, String)> {
        self.sabotage.iter().map(|rule| ("SABOTAGE".to_owned(), rule.clone())).collect()
    }

    fn rules(&self) -> Rules {
        let us = |ms: u64| ms * 1_000;
        Rules {
            bound_us: us(self.max_staleness_ms.into()),
            guess_limit: GUESS_LIMIT,
            lockout_base_us: us(LOCKOUT_BASE_MS),
            owner_deadline_us: us(OWNER_DEADLINE_MS),
            late_us: us(LATE_MS),
            idle_us: us(IDLE_MS),
            absolute_us: us(ABSOLUTE_MS),
        }
    }
}

/// Where history, fault log and summary go; those of a sabotaged build beside those of what ships.
#[must_use]
pub fn folder(sabotage: Option<&str>) -> PathBuf {
    let all = xtask::paths::target().join("torture");
    sabotage.map_or_else(|| all.clone(), |rule| all.join(rule))
}

/// Clients go on until this is dropped, however the storms end: a panic there would wait for them for ever.
struct UntilDropped<'a>(&'a AtomicBool);

impl Drop for UntilDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs, checks, and writes everything down. Gives the summary.
///
/// # Errors
/// If the parts do not start, or do not recover from a storm.
pub fn run(plan: &Plan) -> Result<Summary> {
    let folder = folder(plan.sabotage.as_deref());
    fs::create_dir_all(&folder)?;
    let mut fleet = Fleet::start(plan);
    let recorder = Recorder::new(plan.rules(), &folder.join(HISTORY))?;
    let accounts: Vec<Account> = (0..plan.users)
        .map(|number| {
            let user = fleet.world.user("t");
            Account::new(number, user.name, user.password)
        })
        .collect();
    let names: Vec<String> = accounts.iter().map(|account| account.name.clone()).collect();
    let edges = fleet.to_edge.iter().map(|link| link.address).collect();
    let cli = fleet.world.cluster.folder().join("edgekeep");
    let (stop, next) = (AtomicBool::new(false), AtomicU32::new(1));
    let clients = Clients { recorder: &recorder, edges, accounts, cli, stop, next, seed: plan.seed };
    let log = fs::File::create(folder.join("faults.log"))?;
    let began = Instant::now();

    let (stormed, done) = std::thread::scope(|scope| {
        let everybody = scope.spawn(|| clients.run());
        let until = UntilDropped(&clients.stop);
        let mut nemesis = Nemesis::new(&mut fleet, &recorder, plan.seed, log);
        let stormed = nemesis.run(plan.length, plan.failover, |nemesis| {
            println!(
                "{:6.0} s: {} operations, {} storms, {} faults",
                began.elapsed().as_secs_f64(),
                recorder.count(),
                nemesis.storms,
                nemesis.counts.values().sum::<usize>(),
            );
        });
        drop(until);
        let _ = everybody.join();
        (stormed, Done::of(&nemesis))
    });
    // What was begun and forgotten is over when nobody owns it any more.
    std::thread::sleep(Duration::from_millis(OWNER_DEADLINE_MS) + Duration::from_secs(2));
    let database = stormed.as_ref().ok().map(|()| database::accounts(&fleet.database_url(), &names));
    drop(fleet);

    recorder.flush()?;
    let history = History::read(BufReader::new(fs::File::open(folder.join(HISTORY))?))?;
    if let Some(database) = &database {
        fs::write(folder.join("database.json"), serde_json::to_string(database)?)?;
    }
    let ran = began.elapsed();
    let verdict = checker::judge(&history, database.as_ref());
    let summary = Summary::of(&history, &verdict, &done, plan, ran);
    fs::write(folder.join("summary.txt"), &summary.text)?;
    if stormed.is_err() {
        println!("{}", summary.text);
    }
    stormed.with_context(|| format!("after {} operations", history.operations.len()))?;
    Ok(summary)
}
