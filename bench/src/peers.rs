//! The peers under `bench/peers/`: installed by their locks, bundled as their users bundle, built in release.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use xtask::node::Tools;
use xtask::parts::COMPATIBILITY_DATE;
use xtask::process::{Part, Recipe};
use xtask::{command, paths, probe};

use crate::say;

/// The folder of all benchmarks' own data and logs.
#[must_use]
pub fn folder() -> PathBuf {
    paths::target().join("bench")
}

/// The source folder of a peer.
#[must_use]
pub fn source(name: &str) -> PathBuf {
    paths::root().join("bench/peers").join(name)
}

/// Installs a peer's npm packages by its lock, into a copy below `target/`. Gives that copy.
///
/// # Errors
/// If npm fails.
pub fn install(name: &str) -> Result<PathBuf> {
    let (from, to) = (source(name), folder().join("peers").join(name));
    fs::create_dir_all(&to)?;
    let mut changed = false;
    for entry in fs::read_dir(&from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            let (text, copy) = (fs::read(entry.path())?, to.join(entry.file_name()));
            if fs::read(&copy).is_ok_and(|old| old == text) {
                continue;
            }
            changed |= entry.file_name() == "package-lock.json";
            fs::write(copy, text)?;
        }
    }
    if changed || !to.join("node_modules").exists() {
        say(&format!("  installing {name} with npm"));
        let mut npm = Command::new("npm");
        npm.current_dir(&to).args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]);
        command::output(&mut npm, "").with_context(|| format!("npm, for {name}"))?;
    }
    Ok(to)
}

/// Bundles a peer's `worker.js` with wrangler, as its users do. Gives the one module.
///
/// # Errors
/// If wrangler fails.
pub fn bundle(tools: &Tools, name: &str) -> Result<PathBuf> {
    let place = install(name)?;
    let out = place.join("dist");
    // As long as nothing that goes into it is newer.
    let written = |path: &Path| fs::metadata(path).and_then(|data| data.modified()).ok();
    let (bundled, sources) = (out.join("worker.js"), [place.join("worker.js"), place.join("package-lock.json")]);
    if written(&bundled).is_some_and(|at| sources.iter().all(|path| written(path).is_some_and(|newest| newest <= at))) {
        return Ok(bundled);
    }
    say(&format!("  bundling {name} with wrangler"));
    let mut wrangler = Command::new(&tools.node);
    wrangler
        .current_dir(&place)
        .arg("--no-warnings")
        .arg(tools.wrangler())
        .args(["deploy", "worker.js", "--dry-run", "--name", name, "--compatibility-date", COMPATIBILITY_DATE])
        .args(["--minify", "--outdir"])
        .arg(&out)
        .env("WRANGLER_SEND_METRICS", "false")
        .env("WRANGLER_LOG_PATH", place.join("logs"));
    command::output(&mut wrangler, "").with_context(|| format!("wrangler, for {name}"))?;
    Ok(bundled)
}

/// Builds a peer in Rust in release, in the workspace of its own. Gives the binary.
///
/// # Errors
/// If the build fails.
pub fn build(package: &str) -> Result<PathBuf> {
    say(&format!("  building {package}"));
    let target = paths::target().join("peers");
    let mut cargo = command::cargo();
    cargo
        .current_dir(source(""))
        .args(["build", "--release", "--quiet", "--locked", "--package", package, "--target-dir"])
        .arg(&target);
    command::run(&mut cargo)?;
    Ok(target.join("release").join(package))
}

/// A process that listens on a port of loopback.
#[derive(Debug)]
pub struct Server {
    /// The process.
    pub part: Part,
    /// Where it listens.
    pub port: u16,
}

/// Starts a program that takes its port from `recipe`, and waits until `path` answers.
///
/// # Errors
/// If it does not come up.
pub fn start(name: &str, path: &str, recipe: impl FnOnce(u16, &Path) -> Recipe) -> Result<Server> {
    let port = probe::port(0)?;
    let log = folder().join("logs").join(format!("{}.log", name.replace(' ', "-")));
    let part = recipe(port, &log).start()?;
    let mut server = Server { part, port };
    server.part.wait_until(std::time::Duration::from_secs(60), || {
        probe::status(port, path, std::time::Duration::from_secs(5)).is_some()
    })?;
    Ok(server)
}

/// Starts the axum hello world, with a session endpoint that takes so long.
///
/// # Errors
/// If it does not come up.
pub fn axum_hello(binary: &Path, name: &str, delay_ms: u32) -> Result<Server> {
    start(name, "/", |port, log| {
        Recipe::new(name, binary, &paths::target(), log).arg(port.to_string()).arg(delay_ms.to_string())
    })
}
