//! `cargo xtask bench`: Edgekeep beside what else people would use, and beside what the machine can do at all.
//!
//! Contenders run side by side in one run and take turns ([`load`]); what is told are ratios, round by round
//! ([`stats`]). The figures and their goals are in [`figures`], what was found goes to `docs/performance/`
//! ([`results`], [`report`]). Nothing here asserts anything about time; a contender that answers wrongly ends the run.
//!
//! To add a contender: its code under `bench/peers/` (pinned) or `bench/workers/`, a line in the benchmark's list.

pub mod coordinator;
pub mod core;
pub mod cpu;
pub mod edge;
pub mod feed;
pub mod figures;
pub mod http;
pub mod load;
pub mod login;
pub mod machine;
pub mod overload;
pub mod peers;
pub mod pgbench;
pub mod plot;
pub mod polls;
pub mod propagation;
pub mod report;
pub mod results;
pub mod seed;
pub mod sessions;
pub mod sql;
pub mod stats;
pub mod users;
pub mod workerd;
pub mod world;

use std::time::Duration;

use anyhow::Result;
use xtask::cli;
use xtask::node::Tools;

use crate::load::Drive;
use crate::machine::Machine;
use crate::results::{Bench, Results};

/// Says a line of progress.
pub fn say(line: &str) {
    xtask::console::say(line);
}

/// Runs what is not run through otherwise, in small: this code still works.
///
/// # Errors
/// If it does not.
fn smoke(bench: &mut Bench) -> Result<()> {
    edge::smoke(bench)?;
    login::smoke(bench)?;
    sessions::smoke(bench)?;
    feed::smoke(bench)?;
    users::smoke(bench)?;
    propagation::smoke(bench)
}

/// Runs the benchmarks that were asked for, one after the other; each is saved when it has ended.
///
/// # Errors
/// If a contender does not come up or answers wrongly.
pub fn run(options: &cli::Bench) -> Result<()> {
    xtask::process::raise_open_files();
    let drive = Drive {
        rounds: usize::from(options.rounds),
        turn: Duration::from_millis(options.turn_ms.into()),
        connections: usize::from(options.connections),
    };
    for which in options.which() {
        say(&format!("=== {}", which.name()));
        let mut bench = Bench {
            machine: Machine::here(&Tools::ensure(false)?),
            command: options.command(which),
            ..Bench::default()
        };
        match which {
            cli::BenchName::Edge => edge::run(drive, &mut bench)?,
            cli::BenchName::Core => core::run(drive, &mut bench)?,
            cli::BenchName::Smoke => smoke(&mut bench)?,
            cli::BenchName::Login => login::run(drive, &mut bench)?,
            cli::BenchName::Sessions => sessions::run(drive, &mut bench)?,
            cli::BenchName::Feed => feed::run(drive, &mut bench)?,
            cli::BenchName::Propagation => propagation::run(options.full, &mut bench)?,
            cli::BenchName::Users => users::run(drive, &mut bench)?,
            cli::BenchName::All => {}
        }
        if which == cli::BenchName::Smoke {
            for (id, why) in &bench.missing {
                say(&format!("  {id}: {why}"));
            }
            for (id, measured) in &bench.figures {
                say(&format!("  {id}: {} ({})", measured.value.median, measured.notes.join("; ")));
            }
            continue;
        }
        bench.machine.end();
        let mut results = Results::load()?;
        results.0.insert(which.name().to_owned(), bench);
        results.save()?;
        report::write(&results)?;
        say(&format!("  written: {}", results::folder().join("report.md").display()));
    }
    Ok(())
}
