//! `cargo xtask dev`: a cluster for trying things out, until Ctrl-C.
//!
//! A part that dies is named and stays dead while the others run on, so that faults can be tried from outside.
//! Data survives a restart. Nothing is left running, however this command ends (see [`crate::reaper`]).

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::cli::Dev;
use crate::cluster::{self, Cluster, Database, Options};
use crate::{console, paths, probe, reaper};

/// Where wrangler, and so everybody, expects a worker.
const USUAL_EDGE_PORT: u16 = 8787;

/// The folder of everything that `cargo xtask dev` keeps.
#[must_use]
pub fn folder() -> PathBuf {
    paths::target().join("dev")
}

/// Starts the cluster, waits for Ctrl-C (or SIGTERM, or the terminal's end) and stops it.
///
/// # Errors
/// If the cluster does not start.
pub fn run(dev: &Dev) -> Result<ExitCode> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let (sender, stopped) = mpsc::channel();
    std::thread::spawn(move || {
        for signal in signals.forever() {
            if sender.send(signal).is_err() {
                // Nobody listens any more: we are stopping. A second Ctrl-C is for the impatient.
                std::process::exit(130);
            }
        }
    });

    std::fs::create_dir_all(folder())?;
    // Two of these would share one folder's data and overwrite each other's files.
    let guard = std::fs::File::create(folder().join("lock"))?;
    if guard.try_lock().is_err() {
        anyhow::bail!("another `cargo xtask dev` of this checkout is running");
    }
    let _ = std::fs::remove_file(folder().join("endpoints.json"));

    // Starting takes a while, and Ctrl-C must not wait for it: the cluster starts on a thread of its own.
    let options = options(dev);
    refuse_early(dev, &options)?;
    let (started_sender, started) = mpsc::channel();
    let starting = std::thread::spawn(move || {
        let _ = started_sender.send(Cluster::start(options));
    });
    let mut cluster = loop {
        if stopped.try_recv().is_ok() {
            // The thread still holds half a cluster, and may be in the middle of a build.
            let step = console::step("stopping", false);
            reaper::stop_everything();
            step.done("nothing is left running");
            std::process::exit(130);
        }
        match started.recv_timeout(Duration::from_millis(50)) {
            Ok(cluster) => break cluster?,
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => anyhow::bail!("the start was abandoned"),
        }
    };
    let _ = starting.join();
    greet(&cluster, dev);

    let mut dead: Vec<String> = Vec::new();
    while stopped.recv_timeout(Duration::from_millis(200)).is_err() {
        for part in cluster.parts() {
            if let Some(status) = part.ended()
                && !dead.iter().any(|name| name == part.name())
            {
                dead.push(part.name().to_owned());
                console::say(&format!(
                    "  ✗ {} ended: {status}. It is not started again; the others run on. Its log: {}",
                    part.name(),
                    part.recipe().log.display()
                ));
                let tail = part.log_tail(1_200);
                if !tail.trim().is_empty() {
                    console::say(&format!("    {}", tail.trim_end().replace('\n', "\n    ")));
                }
            }
        }
    }
    drop(stopped);
    let step = console::step("stopping", false);
    cluster.stop();
    reaper::stop_everything();
    step.done("nothing is left running");
    Ok(ExitCode::SUCCESS)
}

/// What would only come out after minutes of building is said at once.
fn refuse_early(dev: &Dev, options: &Options) -> Result<()> {
    let edges = (0..u16::from(dev.edges)).map(|index| (options.edge_port, index));
    let coordinators = (0..u16::from(dev.coordinators)).map(|index| (options.coordinator_port, index));
    for (first, index) in edges.chain(coordinators).chain([(options.origin_port, 0)]) {
        if first != 0 {
            probe::port(first.checked_add(index).context("no such port")?)?;
        }
    }
    cluster::refuse_to_wipe(options)
}

fn options(dev: &Dev) -> Options {
    let edge_port = dev.edge_port.unwrap_or_else(|| {
        let usual = (0..u16::from(dev.edges)).all(|index| probe::port(USUAL_EDGE_PORT + index).is_ok());
        if usual { USUAL_EDGE_PORT } else { 0 }
    });
    Options {
        folder: folder(),
        coordinators: dev.coordinators.into(),
        edges: dev.edges.into(),
        raw: dev.raw,
        https: dev.https,
        fresh: dev.fresh,
        max_staleness_ms: dev.max_staleness_ms,
        edge_port,
        coordinator_port: dev.coordinator_port,
        origin_port: dev.origin_port,
        database: match std::env::var("DATABASE_URL") {
            Ok(url) if !url.is_empty() => Database::At(url),
            _ => Database::Own(Vec::new()),
        },
        quiet: false,
        ..Options::for_tests(folder())
    }
}

fn greet(cluster: &Cluster, dev: &Dev) {
    let endpoints = cluster.endpoints();
    let mut text = String::from("\n  Edgekeep runs.\n\n");
    for edge in &endpoints.edges {
        text.push_str(&format!("  open        {}/\n", edge.url));
    }
    for user in &endpoints.users {
        let roles = if user.roles.is_empty() { String::new() } else { format!("   role {}", user.roles.join(", ")) };
        text.push_str(&format!("  sign in as  {:<6} {}{roles}\n", user.name, user.password));
    }
    text.push_str(&format!("  revoked     everywhere within {} ms at most\n", endpoints.max_staleness_ms));
    text.push_str(&format!("  commands    {} help\n", endpoints.edgekeep.display()));
    text.push_str(&format!("  addresses   {}\n", cluster.endpoints_file().display()));
    text.push_str(&format!("  logs        {}\n", endpoints.logs.display()));
    if dev.https {
        text.push_str("\n  The certificate is our own: the browser asks once whether to go on.\n");
    } else {
        text.push_str("\n  Safari drops `Secure` cookies on plain-HTTP localhost: use --https with it.\n");
    }
    text.push_str("  Ctrl-C stops everything.\n");
    console::say(&text);
}
