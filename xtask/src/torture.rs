//! `cargo xtask torture`: builds what is to be tortured and starts `tests/torture` with it.
//!
//! A sabotaged build breaks one rule on purpose (`coordinator/src/sabotage.rs`, and the edge's feature of that name). Its
//! run must find that out, as the guarantee that it is ([`RULES`]); and what ships must not be able to ([`check_shipped`]).

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail, ensure};

use crate::artifacts::{self, EdgeBuild};
use crate::cli::Torture;
use crate::command::Running;
use crate::node::Tools;
use crate::suites::count::Count;
use crate::{command, console, wasm};

/// A rule that a sabotaged build breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// As in `coordinator/src/sabotage.rs`, or the edge's.
    pub name: &'static str,
    /// Whose rule it is.
    part: Part,
    /// What the checker must find: at least one of these. Anything else (an unanswered request on a busy machine, say) does
    /// not show that this was noticed.
    pub found_as: &'static [&'static str],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Coordinator,
    Edge,
}

/// All of them (`docs/torture.md` says what each breaks).
pub const RULES: [Rule; 7] = [
    Rule { name: "end-raises-nothing", part: Part::Coordinator, found_as: &["G1", "G2", "G5"] },
    Rule { name: "old-read", part: Part::Coordinator, found_as: &["G3"] },
    Rule { name: "key-not-unique", part: Part::Coordinator, found_as: &["G4"] },
    Rule { name: "not-counted", part: Part::Coordinator, found_as: &["G6"] },
    Rule { name: "counted-twice", part: Part::Coordinator, found_as: &["lock"] },
    Rule { name: "doubt-is-done", part: Part::Coordinator, found_as: &["G3", "G9"] },
    Rule { name: "lease-too-long", part: Part::Edge, found_as: &["G2"] },
];

impl Rule {
    /// The rule with this name.
    ///
    /// # Errors
    /// If there is none.
    pub fn named(name: &str) -> Result<&'static Self> {
        let names = || RULES.map(|rule| rule.name).join(", ");
        RULES.iter().find(|rule| rule.name == name).with_context(|| format!("{name} is no rule; there are {}", names()))
    }
}

/// The run's exit code for "violations were found", of a sabotaged build: as they must be.
pub const FOUND: u8 = 3;
/// The same for violations of a sabotaged build, none of which is what its rule must be found as.
pub const FOUND_OTHERWISE: u8 = 4;

/// The run's exit code, by what was broken.
#[must_use]
pub fn exit_code(broken: &[&str], sabotage: Option<&Rule>) -> u8 {
    match sabotage {
        _ if broken.is_empty() => 0,
        Some(rule) if !rule.found_as.iter().any(|name| broken.contains(name)) => FOUND_OTHERWISE,
        _ => FOUND,
    }
}

/// Stands in every sabotaged coordinator and every sabotaged edge.
const MARK: &[u8] = b"EDGEKEEP_TEST_SABOTAGE";

/// An edge's code in its bundle.
const WASM: &str = "index_bg.wasm";

/// Runs it.
///
/// # Errors
/// If something cannot be built or started; violations are no error here but an exit code.
pub fn run(options: &Torture) -> Result<ExitCode> {
    let status = Running::start(&mut started(options)?)?.wait()?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    let sabotage = options.sabotage.as_deref().map(Rule::named).transpose()?;
    Ok(match (code, sabotage) {
        (Some(0), None) => ExitCode::SUCCESS,
        (Some(FOUND), Some(Rule { name, found_as, .. })) => {
            console::say(&format!("{name}: noticed, as it must be ({})", found_as.join(" or ")));
            ExitCode::SUCCESS
        }
        (Some(0 | FOUND_OTHERWISE), Some(Rule { name, found_as, .. })) => {
            console::say(&format!("{name}: NOT noticed: nothing was found as {}", found_as.join(" or ")));
            ExitCode::FAILURE
        }
        _ => ExitCode::FAILURE,
    })
}

/// Minutes of storm in the suite: of what ships, and of a sabotaged build, which is found out long before.
const SUITE_MINUTES: [f64; 2] = [2.0, 1.0];
/// The rule that the suite breaks.
const SUITE_RULE: &str = "end-raises-nothing";

/// The suite: a short run of what ships finds nothing, and one of a sabotaged build finds what it must. Their seeds are
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
    match options.sabotage.as_deref().map(Rule::named).transpose()?.map(|rule| rule.part) {
        None => {}
        Some(Part::Edge) => {
            let folder = wasm::build_sabotaged(false)?.folder;
            ensure!(holds_mark(&folder.join(WASM))?, "a sabotaged edge does not show that it is one");
            edge = Some(folder);
        }
        Some(Part::Coordinator) => {
            let binary = artifacts::build_sabotaged_coordinator(false)?;
            ensure!(holds_mark(&binary)?, "a sabotaged coordinator does not show that it is one");
            edgekeep = Some(binary);
        }
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
