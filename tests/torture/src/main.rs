//! `cargo xtask torture` starts this with what it has built.

use std::fs::File;
use std::io::BufReader;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use edgekeep_torture::checker::{self, Violation};
use edgekeep_torture::history::History;
use edgekeep_torture::run::{self, Failover, Plan};
use xtask::torture::{Rule, exit_code};

/// Real parts under faults, and a checker of what clients saw.
#[derive(Parser)]
struct Options {
    /// How long storms go on.
    #[arg(long, default_value_t = 5.0, value_name = "N")]
    minutes: f64,
    /// Chooses faults and what clients do [default: another one each time].
    #[arg(long)]
    seed: Option<u64>,
    /// Coordinators.
    #[arg(long, default_value_t = 3)]
    coordinators: usize,
    /// Edges.
    #[arg(long, default_value_t = 3)]
    edges: usize,
    /// Users; the first is a quiet one.
    #[arg(long, default_value_t = 6)]
    users: u32,
    /// The bound.
    #[arg(long, default_value_t = 2_000, value_name = "MS")]
    max_staleness_ms: u32,
    /// Keep a standby and promote it half-way.
    #[arg(long, value_enum)]
    failover: Option<Failover>,
    /// The rule that a sabotaged build breaks.
    #[arg(long, value_name = "RULE")]
    sabotage: Option<String>,
    /// Run nothing: check the history of the last run again.
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    xtask::process::raise_open_files();
    match found(&options) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// 0: nothing; otherwise whether a sabotaged build was found as what it is ([`exit_code`]).
fn found(options: &Options) -> anyhow::Result<ExitCode> {
    let sabotage = options.sabotage.as_deref().map(Rule::named).transpose()?;
    let violations = if options.check { check_again(options.sabotage.as_deref())? } else { torture(options)? };
    let broken: Vec<&str> = violations.iter().map(|violation| violation.rule).collect();
    Ok(ExitCode::from(exit_code(&broken, sabotage)))
}

fn torture(options: &Options) -> anyhow::Result<Vec<Violation>> {
    let by_time = || std::time::UNIX_EPOCH.elapsed().map_or(1, |time| time.as_secs());
    let plan = Plan {
        length: Duration::try_from_secs_f64(options.minutes * 60.0)?,
        seed: options.seed.unwrap_or_else(by_time),
        coordinators: options.coordinators,
        edges: options.edges,
        users: options.users,
        max_staleness_ms: options.max_staleness_ms,
        failover: options.failover,
        sabotage: options.sabotage.clone(),
    };
    println!("seed {}; logs and history go to {}", plan.seed, run::folder(plan.sabotage.as_deref()).display());
    let summary = run::run(&plan)?;
    println!("\n{}", summary.text);
    Ok(summary.violations)
}

fn check_again(sabotage: Option<&str>) -> anyhow::Result<Vec<Violation>> {
    let folder = run::folder(sabotage);
    let history = History::read(BufReader::new(File::open(folder.join(run::HISTORY))?))?;
    let database = serde_json::from_slice(&std::fs::read(folder.join("database.json"))?)?;
    let verdict = checker::judge(&history, Some(&database));
    for violation in &verdict.violations {
        println!("{}", violation.explained(&history));
    }
    let (operations, violations) = (history.operations.len(), verdict.violations.len());
    println!("{operations} operations, {violations} violations, {} by a loss", verdict.by_loss.len());
    Ok(verdict.violations)
}
