//! Commands that run to their end.

use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::reaper;

/// `cargo`, as the one that runs us, in the checkout.
///
/// What `cargo run` puts into our environment is taken out again: build scripts that look at it would otherwise run
/// anew each time.
#[must_use]
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(crate::paths::root());
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let of_this_crate = text.starts_with("CARGO_PKG_")
            || text.starts_with("CARGO_BIN_EXE_")
            || [
                "CARGO_MANIFEST_DIR",
                "CARGO_MANIFEST_PATH",
                "CARGO_CRATE_NAME",
                "CARGO_BIN_NAME",
                "CARGO_PRIMARY_PACKAGE",
            ]
            .contains(&text.as_ref())
            || text == "OUT_DIR";
        if of_this_crate {
            command.env_remove(&name);
        }
    }
    // Queries are checked against the offline data in the repository, unless someone asks otherwise: the database
    // that DATABASE_URL names may not have been migrated yet.
    if std::env::var_os("SQLX_OFFLINE").is_none() && has_offline_queries() {
        command.env("SQLX_OFFLINE", "true");
    }
    command
}

fn has_offline_queries() -> bool {
    std::fs::read_dir(crate::paths::root().join(".sqlx")).is_ok_and(|mut files| files.next().is_some())
}

/// What a command looks like on a terminal.
#[must_use]
pub fn shown(command: &Command) -> String {
    let mut text = name_of(command.get_program());
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}

fn name_of(program: &OsStr) -> String {
    Path::new(program)
        .file_name()
        .map_or_else(|| program.to_string_lossy().into_owned(), |name| name.to_string_lossy().into_owned())
}

/// The program with this name, if `PATH` has one.
#[must_use]
pub fn on_path(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// Runs a command whose output goes where ours goes.
///
/// # Errors
/// If it cannot be started or fails.
pub fn run(command: &mut Command) -> Result<()> {
    let status = Running::start(command.stdin(Stdio::null()))?.wait()?;
    if !status.success() {
        bail!("{} failed: {status}", shown(command));
    }
    Ok(())
}

/// Runs a command with `input` on its standard input and gives what it printed. Its errors are shown if it fails.
///
/// # Errors
/// If it cannot be started or fails.
pub fn output(command: &mut Command, input: &str) -> Result<String> {
    output_and_errors(command, input).map(|(printed, _)| printed)
}

/// As [`output`], with what went to standard error beside it.
///
/// # Errors
/// If it cannot be started or fails.
pub fn output_and_errors(command: &mut Command, input: &str) -> Result<(String, String)> {
    let mut running = Running::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()))?;
    if let Some(mut stdin) = running.child.stdin.take() {
        // A command that ends without reading its input says why by itself.
        let _ = stdin.write_all(input.as_bytes());
    }
    // Both pipes at once: a command that fills one must not wait for us to read the other.
    let stderr = running.child.stderr.take().map(|mut pipe| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = pipe.read_to_end(&mut bytes);
            bytes
        })
    });
    let mut printed = Vec::new();
    if let Some(mut pipe) = running.child.stdout.take() {
        pipe.read_to_end(&mut printed)?;
    }
    let errors = stderr.and_then(|reader| reader.join().ok()).unwrap_or_default();
    let status = running.wait()?;
    let printed = String::from_utf8_lossy(&printed).into_owned();
    let errors = String::from_utf8_lossy(&errors).into_owned();
    if !status.success() {
        bail!("{} failed: {status}\n{printed}{errors}", shown(command));
    }
    Ok((printed, errors))
}

/// A command under way. If we end before it does, the reaper stops it.
#[derive(Debug)]
pub struct Running {
    /// The process; its pipes may be taken.
    pub child: Child,
}

impl Running {
    /// Starts a command in a process group of its own.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(command: &mut Command) -> Result<Self> {
        let child = reaper::spawn(command).with_context(|| format!("cannot start {}", shown(command)))?;
        Ok(Self { child })
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// If that cannot be told.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        let status = self.child.wait().context("cannot wait for a command")?;
        reaper::release(self.child.id());
        Ok(status)
    }
}
