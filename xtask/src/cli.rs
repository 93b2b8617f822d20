//! The command line of `cargo xtask`.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{bench, command, console, dev, fuzz, process, suites, torture, wasm};

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
    /// Play seeds of the simulation, or one large world, in release mode.
    Simulate(Simulate),
    /// Build the edge worker into target/worker (for wrangler and workerd alike).
    Build,
    /// Run one decoder under a coverage-guided fuzzer (targets: tests/hostile).
    Fuzz(Fuzz),
    /// Measure Edgekeep beside its peers and its limits, and write docs/performance/.
    Bench(Bench),
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

/// Options of `cargo xtask simulate`.
#[derive(Args, Debug, Clone)]
pub struct Simulate {
    /// How many seeds to play at most.
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    pub seeds: u64,
    /// For how many minutes at most; with `--edges`, how many minutes of the large world's own time.
    #[arg(long, default_value_t = 10, value_name = "M")]
    pub minutes: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0, value_name = "S")]
    pub seed: u64,
    /// One large world with so many edges.
    #[arg(long, value_name = "E")]
    pub edges: Option<u32>,
    /// Users of the large world.
    #[arg(long, default_value_t = 100_000, value_name = "U")]
    pub users: u32,
    /// Handed on to the simulation (`-- --help` tells what there is).
    #[arg(last = true)]
    pub more: Vec<String>,
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

/// Options of `cargo xtask fuzz`.
#[derive(Args, Debug, Clone)]
pub struct Fuzz {
    /// A target's name, as its folder in tests/hostile/corpus.
    pub target: String,
    /// For how long.
    #[arg(long, default_value_t = 60, value_name = "N")]
    pub seconds: u32,
    /// Add what reaches more code to the committed corpus, minimised.
    #[arg(long)]
    pub keep: bool,
}

/// A benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BenchName {
    /// Workers at the edge, side by side; the size and start of ours (S1, S2, S3, S6).
    Edge,
    /// Checks in wasm among a million revocations (S4, S5).
    Core,
    /// Logins against raw argon2, and in an overload (S7, S8).
    Login,
    /// Strict checks and renewals against sessions in Postgres (S9).
    Sessions,
    /// Polls of the feed (S10).
    Feed,
    /// From a revocation to the last request that was still accepted, with and without a relay (S11).
    Propagation,
    /// What active users cost a coordinator in small and large databases (S12).
    Users,
    /// All of these.
    All,
    /// A few requests to see that this still works; writes nothing.
    Smoke,
}

impl BenchName {
    /// As on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::Core => "core",
            Self::Login => "login",
            Self::Sessions => "sessions",
            Self::Feed => "feed",
            Self::Propagation => "propagation",
            Self::Users => "users",
            Self::All => "all",
            Self::Smoke => "smoke",
        }
    }
}

const ROUNDS: u8 = 7;
const TURN_MS: u32 = 1_000;
const CONNECTIONS: u8 = 8;

/// Options of `cargo xtask bench`.
#[derive(Args, Debug, Clone, PartialEq, Eq)]
pub struct Bench {
    /// What to measure [default: all].
    #[arg(value_enum)]
    pub benches: Vec<BenchName>,
    /// How often each contender has its turn.
    #[arg(long, default_value_t = ROUNDS, value_parser = clap::value_parser!(u8).range(1..=100), value_name = "N")]
    pub rounds: u8,
    /// How long a turn is.
    #[arg(long, default_value_t = TURN_MS, value_parser = clap::value_parser!(u32).range(50..=60_000), value_name = "MS")]
    pub turn_ms: u32,
    /// How many connections are busy at once.
    #[arg(long, default_value_t = CONNECTIONS, value_parser = clap::value_parser!(u8).range(1..=64), value_name = "N")]
    pub connections: u8,
    /// Revocations of `propagation`: 10,000 instead of what two minutes allow (about half an hour).
    #[arg(long)]
    pub full: bool,
}

impl Bench {
    /// What to measure, in this order.
    #[must_use]
    pub fn which(&self) -> Vec<BenchName> {
        use BenchName::{All, Core, Edge, Feed, Login, Propagation, Sessions, Users};
        if self.benches.is_empty() || self.benches.contains(&All) {
            vec![Edge, Core, Login, Sessions, Feed, Propagation, Users]
        } else {
            self.benches.clone()
        }
    }

    /// The options that differ from their defaults, as they are typed.
    #[must_use]
    pub fn options(&self) -> Vec<String> {
        // Every field by name: a new one must not be forgotten here.
        let Self { benches: _, rounds, turn_ms, connections, full } = self;
        let mut typed = Vec::new();
        let numbers = [
            ("--rounds", u32::from(*rounds), u32::from(ROUNDS)),
            ("--turn-ms", *turn_ms, TURN_MS),
            ("--connections", u32::from(*connections), u32::from(CONNECTIONS)),
        ];
        for (name, value, default) in numbers {
            if value != default {
                typed.extend([name.to_owned(), value.to_string()]);
            }
        }
        if *full {
            typed.push("--full".to_owned());
        }
        typed
    }

    /// All of it, as it is typed after `bench`.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        self.benches.iter().map(|bench| bench.name().to_owned()).chain(self.options()).collect()
    }

    /// The command that repeats one benchmark with these options.
    #[must_use]
    pub fn command(&self, bench: BenchName) -> String {
        let words = ["cargo xtask bench".to_owned(), bench.name().to_owned()];
        words.into_iter().chain(self.options()).collect::<Vec<_>>().join(" ")
    }
}

/// Runs the command line.
#[must_use]
pub fn main() -> ExitCode {
    process::raise_open_files();
    let result: Result<ExitCode> = match Cli::parse().command {
        Command::Dev(options) => dev::run(&options),
        Command::Test(options) => suites::run(&options),
        Command::Torture(options) => torture::run(&options),
        Command::Build => wasm::build(false).map(|bundle| {
            console::say(&format!("{}: {}", bundle.folder.display(), bundle.sizes()));
            ExitCode::SUCCESS
        }),
        Command::Simulate(options) => simulate(&options),
        Command::Fuzz(options) => fuzz::run(&options).map(|()| ExitCode::SUCCESS),
        Command::Bench(options) => bench::run(&options),
        Command::Sqlx => suites::sqlx::write().map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|error| {
        console::say(&format!("error: {error:#}"));
        ExitCode::FAILURE
    })
}

fn simulate(options: &Simulate) -> Result<ExitCode> {
    let mut cargo = command::cargo();
    cargo.args(["run", "--release", "--quiet", "--package", "edgekeep-simulation", "--"]);
    cargo.args(["--seeds", &options.seeds.to_string(), "--minutes", &options.minutes.to_string()]);
    cargo.args(["--seed", &options.seed.to_string(), "--users", &options.users.to_string()]);
    if let Some(edges) = options.edges {
        cargo.args(["--edges", &edges.to_string()]);
    }
    command::run(cargo.args(&options.more)).map(|()| ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bench_s_options_are_handed_on_as_they_were_parsed() {
        let parsed =
            |words: &[String]| match Cli::try_parse_from(["xtask", "bench"].map(str::to_owned).iter().chain(words)) {
                Ok(Cli { command: Command::Bench(bench) }) => bench,
                _ => panic!("{words:?}"),
            };
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        for typed in ["", "feed users", "--full propagation --rounds=3", "edge --turn-ms 50 --connections 2", "smoke"] {
            let first = parsed(&words(typed));
            assert_eq!(parsed(&first.arguments()), first, "{typed}");
        }
        let bench = parsed(&words("all --rounds 3 --full"));
        assert_eq!(bench.command(BenchName::Users), "cargo xtask bench users --rounds 3 --full");
        assert_eq!(parsed(&[]).command(BenchName::Feed), "cargo xtask bench feed");
    }
}
