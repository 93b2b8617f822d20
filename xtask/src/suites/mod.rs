//! `cargo xtask test`: every check there is, as suites that can be run one by one.
//!
//! Each suite ends in a line with its count and time; the run's last line is the sum, alone on its line. A suite
//! that cannot be run at all counts as a failure, never as a skip, and so does a filter that no test matches.

mod browser;
mod container;
pub(crate) mod count;
mod deny;
mod deploy;
mod environment;
mod spdx;
pub mod sqlx;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::ValueEnum;

use self::count::Count;
use self::environment::Environment;
use crate::cli::Test;
use crate::{command, console, reaper, torture, wasm, wasm_tests};

/// A suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Suite {
    /// Formatting.
    Fmt,
    /// Lints, for the host and for wasm.
    Clippy,
    /// Licences, sources and bans of dependencies; advisories where their database can be reached.
    Deny,
    /// The offline data of SQL queries is that of the migrations and queries in the tree.
    Sqlx,
    /// Unit and property tests, on the host.
    Unit,
    /// The tests of `shared/` again, as wasm32 in V8.
    Wasm,
    /// The coordinator against a real Postgres.
    Postgres,
    /// Models, and whatever else is in `tests/`.
    Model,
    /// A fixed budget of seeds of the simulation, and of broken worlds.
    Simulation,
    /// Hostile input: every decoder on its corpus and mutations of it, and a million forged cookies.
    Hostile,
    /// Clusters of real parts, and what breaks in them.
    E2e,
    /// The checker of `cargo xtask torture`, two minutes of it, and a sabotaged build that it must find out.
    Torture,
    /// Chromium.
    Browser,
    /// What people deploy and copy: `wrangler deploy --dry-run`, configurations for workerd, the example workers.
    Deploy,
    /// The coordinator's container, built without a daemon, and run.
    Container,
}

impl Suite {
    /// `--only` picks among its tests; the other suites always run whole.
    fn can_filter(self) -> bool {
        matches!(
            self,
            Self::Unit | Self::Postgres | Self::Model | Self::Simulation | Self::Hostile | Self::E2e | Self::Browser
        )
    }
}

/// Runs the suites that were asked for.
///
/// # Errors
/// If the run itself cannot go on; a failing suite is no error here but an exit code.
pub fn run(test: &Test) -> Result<ExitCode> {
    stop_on_signals()?;
    let suites = if test.suites.is_empty() { Suite::value_variants() } else { &test.suites };
    let mut environment = Environment::new(test.only.clone());
    let mut lines = Vec::new();
    let mut total = Count::default();
    let mut picked = Count::default();
    for suite in suites {
        let name = suite.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
        console::say(&format!("\n=== {name}"));
        let began = Instant::now();
        let count = one(*suite, &mut environment).unwrap_or_else(|error| {
            console::say(&format!("error: {error:#}"));
            Count::FAILED
        });
        lines.push(format!("{name:<10} {count}, {:.1} s", began.elapsed().as_secs_f32()));
        if let Some(line) = lines.last() {
            console::say(line);
        }
        total += count;
        if suite.can_filter() {
            picked += count;
        }
    }
    if let Some(only) = environment.only()
        && picked == Count::default()
    {
        lines.push(format!("error: no test matches {only:?}"));
        total += Count::FAILED;
    }
    drop(environment);
    reaper::stop_everything();
    println!("\n{}\n\n{total}", lines.join("\n"));
    Ok(if total.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn one(suite: Suite, environment: &mut Environment) -> Result<Count> {
    match suite {
        Suite::Fmt => whole(command::cargo().args(["fmt", "--all", "--check"])),
        Suite::Clippy => clippy(),
        Suite::Deny => deny::run(),
        Suite::Sqlx => sqlx::check(),
        Suite::Unit => environment.unit(),
        Suite::Wasm => wasm_tests::run(),
        Suite::Postgres => environment.postgres_suite(),
        Suite::Model => {
            let mut count = environment.tests(|name| !name.starts_with("e2e") && !name.starts_with("postgres"))?;
            count += environment.package("edgekeep-model")?;
            Ok(count)
        }
        Suite::Simulation => environment.package("edgekeep-simulation"),
        Suite::Hostile => environment.package("edgekeep-hostile"),
        Suite::E2e => environment.end_to_end(),
        Suite::Torture => {
            let mut count = environment.checker()?;
            count += torture::suite();
            Ok(count)
        }
        Suite::Browser => browser::run(environment),
        Suite::Deploy => deploy::run(),
        Suite::Container => container::run(),
    }
}

/// A check that is one test.
fn whole(command: &mut std::process::Command) -> Result<Count> {
    command::run(command).map(|()| Count::PASSED)
}

fn clippy() -> Result<Count> {
    wasm::ensure_target()?;
    let lint = |arguments: &[&str]| {
        let mut cargo = command::cargo();
        cargo.arg("clippy").args(arguments).args(["--", "-D", "warnings"]);
        Count::of(command::run(&mut cargo))
    };
    // Default members are what runs on the host; of the edge, its tests do as well.
    let mut count = lint(&["--all-targets"]);
    count += lint(&["--package", "edgekeep-edge", "--tests"]);
    count += lint(&["--package", "edgekeep-edge", "--target", wasm::TARGET, "--all-features"]);
    for package in ["example-rust-worker", "bench-rust-hello", "bench-gated", "bench-core"] {
        count += lint(&["--package", package, "--target", wasm::TARGET]);
    }
    Ok(count)
}

/// Ctrl-C stops what tests have started as well.
fn stop_on_signals() -> Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            reaper::stop_everything();
            std::process::exit(130);
        }
    });
    Ok(())
}
