//! What cargo builds, found through cargo's own messages, so that it does not matter where its target folder is.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::wasm::Bundle;
use crate::{command, console, paths, wasm};

#[derive(Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    package_id: String,
    #[serde(default)]
    filenames: Vec<PathBuf>,
    executable: Option<PathBuf>,
    target: Option<Target>,
    profile: Option<Profile>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    #[serde(default)]
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// One thing that cargo built.
#[derive(Debug)]
pub struct Built {
    /// Its target's name.
    pub target: String,
    /// `bin`, `lib`, `cdylib`, `test` …
    pub kind: Vec<String>,
    /// It holds tests.
    pub test: bool,
    /// Its files.
    pub files: Vec<PathBuf>,
    /// The one that can be run.
    pub executable: Option<PathBuf>,
}

/// Runs a cargo command and gives what it built of `package`.
///
/// # Errors
/// If the build fails.
pub fn cargo_build(cargo: &mut Command, package: &str) -> Result<Vec<Built>> {
    cargo.arg("--message-format=json-render-diagnostics").stdin(Stdio::null()).stdout(Stdio::piped());
    let mut running = command::Running::start(cargo)?;
    let mut built = Vec::new();
    if let Some(stdout) = running.child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            // Other lines than cargo's own are of no interest.
            let Ok(message) = serde_json::from_str::<Message>(&line?) else { continue };
            if message.reason == "compiler-artifact" && is_package(&message.package_id, package) {
                let (target, kind) = message.target.map_or_else(Default::default, |target| (target.name, target.kind));
                built.push(Built {
                    target,
                    kind,
                    test: message.profile.is_some_and(|profile| profile.test),
                    files: message.filenames,
                    executable: message.executable,
                });
            }
        }
    }
    let status = running.wait()?;
    if !status.success() {
        bail!("{} failed: {status}", command::shown(cargo));
    }
    Ok(built)
}

/// Cargo's ids end in `/folder#version` or `#name@version`; the folder may be called otherwise than the package.
fn is_package(id: &str, package: &str) -> bool {
    let Some((folder, name)) = id.rsplit_once('#') else { return false };
    match name.split_once('@') {
        Some((name, _)) => name == package,
        None => folder.rsplit('/').next() == Some(package),
    }
}

/// What a cluster runs.
#[derive(Clone, Debug)]
pub struct Artifacts {
    /// The coordinator's binary, and its command line.
    pub edgekeep: PathBuf,
    /// The edge worker.
    pub edge: Bundle,
}

/// Which edge worker to build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum EdgeBuild {
    /// The one that ships.
    #[default]
    Shipping,
    /// The one with doors that break it on purpose.
    FaultInjection,
}

/// Where `cargo xtask test` tells its tests what it has built already: the coordinator's binary.
pub const BINARY_VARIABLE: &str = "EDGEKEEP_TEST_BINARY";
/// The same for the edge's bundle.
pub const EDGE_VARIABLE: &str = "EDGEKEEP_TEST_EDGE";
/// The same for the bundle with fault injection.
pub const FAULTY_EDGE_VARIABLE: &str = "EDGEKEEP_TEST_EDGE_FAULT_INJECTION";

/// What was built before this process was started, as its environment says, or else what is built now.
///
/// # Errors
/// If a build fails.
pub fn get(edge: EdgeBuild, quiet: bool) -> Result<Artifacts> {
    let variable = match edge {
        EdgeBuild::Shipping => EDGE_VARIABLE,
        EdgeBuild::FaultInjection => FAULTY_EDGE_VARIABLE,
    };
    match (std::env::var_os(BINARY_VARIABLE), std::env::var_os(variable)) {
        (Some(binary), Some(bundle)) => {
            Ok(Artifacts { edgekeep: binary.into(), edge: Bundle::read(&PathBuf::from(bundle))? })
        }
        _ => build(edge, quiet),
    }
}

static BUILT: Mutex<Vec<(EdgeBuild, Artifacts)>> = Mutex::new(Vec::new());

/// Builds the coordinator and the edge, once per process.
///
/// # Errors
/// If a build fails.
pub fn build(edge: EdgeBuild, quiet: bool) -> Result<Artifacts> {
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, artifacts)) = built.iter().find(|(which, _)| *which == edge) {
        return Ok(artifacts.clone());
    }
    let edgekeep = match built.first() {
        Some((_, artifacts)) => artifacts.edgekeep.clone(),
        None => build_coordinator(quiet)?,
    };
    let bundle = match edge {
        EdgeBuild::Shipping => wasm::build(quiet)?,
        EdgeBuild::FaultInjection => wasm::build_with_faults(quiet)?,
    };
    let artifacts = Artifacts { edgekeep, edge: bundle };
    built.push((edge, artifacts.clone()));
    Ok(artifacts)
}

/// Builds the coordinator and gives the path of its binary.
///
/// # Errors
/// If the build fails.
pub fn build_coordinator(quiet: bool) -> Result<PathBuf> {
    cargo_build_coordinator(quiet, &[])
}

/// Builds the coordinator that breaks a rule on purpose, and gives the path of a copy of its binary. Cargo puts every
/// build of it in the same place, so the one that ships is put back there.
///
/// # Errors
/// If a build fails.
pub fn build_sabotaged_coordinator(quiet: bool) -> Result<PathBuf> {
    let built = cargo_build_coordinator(quiet, &["--features", "sabotage"])?;
    let folder = paths::target().join("sabotage");
    std::fs::create_dir_all(&folder)?;
    let copy = folder.join("edgekeep");
    // Not over a binary that may be running.
    if copy.exists() {
        std::fs::remove_file(&copy)?;
    }
    std::fs::copy(&built, &copy).with_context(|| format!("cannot copy {}", built.display()))?;
    build_coordinator(quiet)?;
    Ok(copy)
}

fn cargo_build_coordinator(quiet: bool, features: &[&str]) -> Result<PathBuf> {
    let step = console::step("building the coordinator", quiet);
    let mut cargo = command::cargo();
    cargo.args(["build", "--package", "edgekeep", "--bin", "edgekeep"]).args(features);
    if quiet {
        cargo.arg("--quiet");
    }
    let built = cargo_build(&mut cargo, "edgekeep")?;
    let binary = built.into_iter().find_map(|built| built.executable).context("cargo built no edgekeep")?;
    step.done("");
    Ok(binary)
}
