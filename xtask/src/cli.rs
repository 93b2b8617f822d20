//! The command line of `cargo xtask`.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::{console, dev, suites, torture, wasm};

/// Builds, runs and tests Edgekeep.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start everything for trying it out: Postgres, coordinators, edges, an example site, demo users.
    Dev(Dev),
    /// Run all tests, or the suites named.
    Test(Test),
    /// Break real parts on purpose for a while, and check everything that clients saw.
    Torture(Torture),
    /// Build the edge worker into target/edge (for wrangler and workerd alike).
    Build,
    /// Write the offline data of the coordinator's SQL queries anew, against a freshly migrated database.
    Sqlx,
}

/// Options of `cargo xtask dev`.
#[derive(Args, Debug, Clone)]
pub struct Dev {
    /// How many coordinators.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=16), value_name = "N")]
    pub coordinators: u8,
    /// How many edges, each a process and an isolate of its own.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=32), value_name = "N")]
    pub edges: u8,
    /// The deployment's bound of staleness.
    #[arg(long, value_name = "MS")]
    pub max_staleness_ms: Option<u32>,
    /// The first edge's port, the others' follow; 0 takes free ones [default: 8787, or a free one if that is taken].
    #[arg(long, value_name = "PORT")]
    pub edge_port: Option<u16>,
    /// The first coordinator's port, the others' follow [default: free ones].
    #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "PORT")]
    pub coordinator_port: u16,
    /// The example site's port [default: a free one].
    #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "PORT")]
    pub origin_port: u16,
    /// Run edges in raw workerd instead of `wrangler dev`.
    #[arg(long)]
    pub raw: bool,
    /// Serve HTTPS with a certificate of our own: Safari drops `Secure` cookies on plain-HTTP localhost.
    #[arg(long)]
    pub https: bool,
    /// Forget all data and secrets of earlier runs.
    #[arg(long)]
    pub fresh: bool,
}

/// Options of `cargo xtask test`.
#[derive(Args, Debug, Clone)]
pub struct Test {
    /// Suites to run, in this order [default: all].
    #[arg(value_enum)]
    pub suites: Vec<suites::Suite>,
    /// Only tests whose name contains this (where the suite can tell).
    #[arg(long, value_name = "TEXT")]
    pub only: Option<String>,
}

/// Options of `cargo xtask torture`.
#[derive(Args, Debug, Clone)]
pub struct Torture {
    /// How long storms go on.
    #[arg(long, default_value_t = 5.0, value_name = "N")]
    pub minutes: f64,
    /// Chooses faults and what clients do [default: another one each time].
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
    /// Break this rule in a build of its own, which must be noticed (a name that does not exist lists all).
    #[arg(long, value_name = "RULE")]
    pub sabotage: Option<String>,
    /// More for the run itself: `-- --help` lists it.
    #[arg(last = true)]
    pub more: Vec<String>,
}

/// Runs the command line.
#[must_use]
pub fn main() -> ExitCode {
    let result: Result<ExitCode> = match Cli::parse().command {
        Command::Dev(options) => dev::run(&options),
        Command::Test(options) => suites::run(&options),
        Command::Torture(options) => torture::run(&options),
        Command::Build => wasm::build(false).map(|bundle| {
            console::say(&format!("{}: {}", bundle.folder.display(), bundle.sizes()));
            ExitCode::SUCCESS
        }),
        Command::Sqlx => suites::sqlx::write().map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|error| {
        console::say(&format!("error: {error:#}"));
        ExitCode::FAILURE
    })
}
