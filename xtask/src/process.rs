//! Parts of a cluster: processes that run until they are told to stop.
//!
//! Each has a process group of its own, so that Ctrl-C at a terminal reaches only us and we stop the parts in order,
//! and so that whatever a part starts ends with it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, kill_process_group, setrlimit};

use crate::reaper;

/// Raises how many files and connections this process, and all that it starts from now on, may have open, as far as the
/// system allows. A plain user's 1,024 are too few for links that are held open on purpose.
pub fn raise_open_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Where it stays as it is, whoever needs more says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// How to start a part, as often as needed.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// What people call the part, such as `coordinator 1`.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// What is added to our own environment.
    pub environment: Vec<(String, OsString)>,
    /// Where it runs.
    pub folder: PathBuf,
    /// Where its output goes; it is added at the end.
    pub log: PathBuf,
    /// The user and group it runs as, if not as us.
    pub run_as: Option<(u32, u32)>,
}

impl Recipe {
    /// A program in `folder` that writes to `log`.
    pub fn new(name: impl Into<String>, program: impl Into<PathBuf>, folder: &Path, log: &Path) -> Self {
        Self {
            name: name.into(),
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            folder: folder.into(),
            log: log.into(),
            run_as: None,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().into()));
        self
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.into(), value.as_ref().into()));
        self
    }

    /// Starts the part.
    ///
    /// # Errors
    /// If the program cannot be started.
    pub fn start(&self) -> Result<Part> {
        if let Some(folder) = self.log.parent() {
            fs::create_dir_all(folder)?;
        }
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .with_context(|| format!("cannot write {}", self.log.display()))?;
        let log_from = log.metadata().map_or(0, |data| data.len());
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.folder)
            .env("PWD", &self.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        if let Some((user, group)) = self.run_as {
            command.uid(user).gid(group);
        }
        let child = reaper::spawn(&mut command)
            .with_context(|| format!("cannot start {}: {}", self.name, self.program.display()))?;
        Ok(Part { recipe: self.clone(), child, log_from, ended: None })
    }
}

/// A part that was started. Dropping it kills it.
#[derive(Debug)]
pub struct Part {
    recipe: Recipe,
    child: Child,
    log_from: u64,
    ended: Option<ExitStatus>,
}

impl Part {
    /// What people call the part.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.recipe.name
    }

    /// The id of its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The ids of all processes in its group, its own first, as far as the system tells.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        let own = self.pid();
        let mut all = vec![own];
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            // `pid (name) state ppid pgrp …`; the name may hold anything, so from its last parenthesis.
            let group = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(2)?.parse::<u32>().ok());
            if pid != own && group == Some(own) {
                all.push(pid);
            }
        }
        all
    }

    /// How it was started.
    #[must_use]
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none()
            && let Ok(Some(status)) = self.child.try_wait()
        {
            self.ended = Some(status);
            // What it had started itself does not stay behind.
            self.signal_group(Signal::KILL);
            reaper::release(self.child.id());
        }
        self.ended
    }

    /// Sends a signal to the part's own process only, as someone outside would with its pid.
    fn signal(&mut self, signal: Signal) {
        if self.ended().is_none()
            && let Some(pid) = Pid::from_raw(self.child.id().cast_signed())
        {
            let _ = kill_process(pid, signal);
        }
    }

    fn signal_group(&self, signal: Signal) {
        if let Some(group) = Pid::from_raw(self.child.id().cast_signed()) {
            let _ = kill_process_group(group, signal);
        }
    }

    /// Stops it in its tracks (SIGSTOP): it holds its connections and answers nothing.
    pub fn freeze(&mut self) {
        self.signal(Signal::STOP);
    }

    /// Lets a frozen part go on (SIGCONT).
    pub fn thaw(&mut self) {
        self.signal(Signal::CONT);
    }

    /// Kills it (SIGKILL) with all that it started, and waits for its end.
    pub fn kill(&mut self) {
        if self.ended().is_none() {
            self.signal_group(Signal::KILL);
            if let Ok(status) = self.child.wait() {
                self.ended = Some(status);
            }
            reaper::release(self.child.id());
        }
    }

    /// Asks it to stop, does not wait.
    pub fn ask_to_stop(&mut self, signal: Signal) {
        if self.ended().is_none() {
            self.signal(signal);
            self.signal_group(Signal::CONT);
        }
    }

    /// Asks it to stop, waits up to `grace`, then kills it. Says whether it stopped by itself.
    pub fn stop(&mut self, signal: Signal, grace: Duration) -> bool {
        self.ask_to_stop(signal);
        let deadline = Instant::now() + grace;
        while self.ended().is_none() {
            if Instant::now() >= deadline {
                self.kill();
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        true
    }

    /// What it wrote since it was started; the last `limit` bytes of it.
    #[must_use]
    pub fn log_tail(&self, limit: u64) -> String {
        let read = || -> std::io::Result<String> {
            let mut file = fs::File::open(&self.recipe.log)?;
            let end = file.metadata()?.len();
            file.seek(SeekFrom::Start(self.log_from.max(end.saturating_sub(limit))))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        read().unwrap_or_default()
    }

    /// Waits until `ready` says so.
    ///
    /// # Errors
    /// If the part ends before that, or is not ready within `limit`; with the end of its log.
    pub fn wait_until(&mut self, limit: Duration, mut ready: impl FnMut() -> bool) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            if ready() {
                return Ok(());
            }
            if let Some(status) = self.ended() {
                bail!("{} ended ({status}) before it was ready. Its log:\n{}", self.name(), self.log_tail(4000));
            }
            if Instant::now() >= deadline {
                bail!("{} was not ready after {} s. Its log:\n{}", self.name(), limit.as_secs(), self.log_tail(4000));
            }
            std::thread::sleep(Duration::from_millis(25));
        }
    }

    /// Starts the same part again after it has ended.
    ///
    /// # Errors
    /// If it still runs or cannot be started.
    pub fn start_again(&mut self) -> Result<()> {
        if self.ended().is_none() {
            bail!("{} still runs", self.name());
        }
        *self = self.recipe.clone().start()?;
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.kill();
    }
}
