//! `cargo xtask bench`: builds in release what is measured, then runs the benchmarks (package `edgekeep-bench`).
//!
//! The load generator itself is built like the tests, with the parts that matter optimised (see the root manifest).

use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::artifacts::{self, BINARY_VARIABLE, EDGE_VARIABLE};
use crate::cli::Bench;
use crate::{command, console, paths, wasm};

/// Builds and runs them.
///
/// # Errors
/// If a build or a benchmark fails.
pub fn run(options: &Bench) -> Result<ExitCode> {
    let step = console::step("building the coordinator in release", false);
    let mut cargo = command::cargo();
    cargo.args(["build", "--release", "--package", "edgekeep", "--bin", "edgekeep"]);
    let built = artifacts::cargo_build(&mut cargo, "edgekeep")?;
    let binary = built.into_iter().find_map(|built| built.executable).context("cargo built no edgekeep")?;
    step.done("");
    let bundle = wasm::build(false)?;
    let mut cargo = command::cargo();
    cargo
        .args(["run", "--quiet", "--package", "edgekeep-bench", "--"])
        .args(options.arguments())
        .env(BINARY_VARIABLE, binary)
        .env(EDGE_VARIABLE, &bundle.folder);
    console::say(&format!("results go to {}", paths::root().join("docs/performance").display()));
    command::run(&mut cargo).map(|()| ExitCode::SUCCESS)
}
