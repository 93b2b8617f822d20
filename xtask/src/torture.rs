//! `cargo xtask torture`: builds what is to be tortured and starts `tests/torture` with it.
//!
//! A sabotaged build breaks one rule on purpose (`coordinator/src/sabotage.rs`, and the edge's feature of that name). Its
//! run must find that out; and what ships must not be able to ([`check_shipped`]).

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail, ensure};

use crate::artifacts::{self, EdgeBuild};
use crate::cli::Torture;
use crate::node::Tools;
use crate::suites::count::Count;
use crate::{command, console, wasm};

/// The edge's rule; the others are the coordinator's.
const OF_THE_EDGE: &str = "lease-too-long";
/// As in `coordinator/src/sabotage.rs`.
const OF_THE_COORDINATOR: [&str; 6] =
    ["end-raises-nothing", "counted-twice", "not-counted", "old-read", "key-not-unique", "doubt-is-done"];
/// The run's exit code for "violations were found".
const FOUND: i32 = 3;
/// Stands in every sabotaged coordinator and every sabotaged edge.
const MARK: &[u8] = b"EDGEKEEP_TEST_SABOTAGE";

/// An edge's code in its bundle.
const WASM: &str = "index_bg.wasm";

/// Runs it.
///
/// # Errors
/// If something cannot be built or started; violations are no error here but an exit code.
pub fn run(options: &Torture) -> Result<ExitCode> {
    let status = started(options)?.status().context("cannot start cargo")?;
    Ok(match (status.code(), &options.sabotage) {
        (Some(0), None) => ExitCode::SUCCESS,
        (Some(FOUND), Some(rule)) => {
            console::say(&format!("{rule}: noticed, as it must be"));
            ExitCode::SUCCESS
        }
        (Some(0), Some(rule)) => {
            console::say(&format!("{rule}: NOT noticed"));
            ExitCode::FAILURE
        }
        _ => ExitCode::FAILURE,
    })
}

/// Minutes of storm in the suite: of what ships, and of a sabotaged build, which is found out long before.
const SUITE_MINUTES: [f64; 2] = [2.0, 1.0];
/// The rule that the suite breaks.
const SUITE_RULE: &str = "end-raises-nothing";

/// The suite: a short run of what ships finds nothing, and one of a sabotaged build finds something. Their seeds are
/// fixed, so that the same plan is run each time.
pub(crate) fn suite() -> Count {
    let [clean, broken] = SUITE_MINUTES;
    let of = |minutes: f64, sabotage: Option<&str>| Torture {
        minutes,
        seed: Some(1),
        sabotage: sabotage.map(str::to_owned),
        more: Vec::new(),
    };
    let passed = |options: &Torture| {
        run(options).and_then(|code| match code {
            ExitCode::SUCCESS => Ok(()),
            _ => bail!("see above"),
        })
    };
    let mut count = Count::of(passed(&of(clean, None)));
    count += Count::of(passed(&of(broken, Some(SUITE_RULE))));
    count
}

/// Builds what is needed and gives the command.
fn started(options: &Torture) -> Result<Command> {
    Tools::ensure(false)?;
    let mut edgekeep = None;
    let mut edge = None;
    match options.sabotage.as_deref() {
        None => {}
        Some(OF_THE_EDGE) => {
            let folder = wasm::build_sabotaged(false)?.folder;
            ensure!(holds_mark(&folder.join(WASM))?, "a sabotaged edge does not show that it is one");
            edge = Some(folder);
        }
        Some(rule) if OF_THE_COORDINATOR.contains(&rule) => {
            let binary = artifacts::build_sabotaged_coordinator(false)?;
            ensure!(holds_mark(&binary)?, "a sabotaged coordinator does not show that it is one");
            edgekeep = Some(binary);
        }
        Some(rule) => bail!("{rule} is no rule; there are {OF_THE_EDGE} and {}", OF_THE_COORDINATOR.join(", ")),
    }
    let shipped = artifacts::build(EdgeBuild::Shipping, false)?;
    check_shipped(&shipped.edgekeep)?;
    check_shipped(&shipped.edge.folder.join(WASM))?;
    let mut cargo = command::cargo();
    cargo
        .args(["run", "--quiet", "--package", "edgekeep-torture", "--bin", "torture", "--"])
        .args(["--minutes", &options.minutes.to_string()])
        .env(artifacts::BINARY_VARIABLE, edgekeep.unwrap_or(shipped.edgekeep))
        .env(artifacts::EDGE_VARIABLE, edge.unwrap_or(shipped.edge.folder));
    if let Some(seed) = options.seed {
        cargo.args(["--seed", &seed.to_string()]);
    }
    if let Some(rule) = &options.sabotage {
        cargo.args(["--sabotage", rule]);
    }
    cargo.args(&options.more);
    Ok(cargo)
}

/// A coordinator or an edge that ships breaks no rule and cannot be told to.
///
/// # Errors
/// If it can.
pub fn check_shipped(binary: &Path) -> Result<()> {
    if holds_mark(binary)? {
        bail!("{} breaks rules: it was built with the feature `sabotage`", binary.display());
    }
    Ok(())
}

fn holds_mark(binary: &Path) -> Result<bool> {
    let bytes = std::fs::read(binary).with_context(|| format!("cannot read {}", binary.display()))?;
    Ok(bytes.windows(MARK.len()).any(|window| window == MARK))
}
