//! A real Postgres server from npm, on loopback, with a password, in a folder that survives restarts.
//!
//! Postgres refuses to run as root. There it runs as user 65534 ("nobody" nearly everywhere), which must be able to
//! reach its binaries and its data. Where the checkout lies behind a closed door (such as `/root`), both live in
//! `/var/tmp/edgekeep-<hash of the folder>`, a folder of root's that others may pass through but not list.

use std::ffi::OsString;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;

use crate::node::Tools;
use crate::process::{Part, Recipe};
use crate::{command, console, paths, probe};

/// Whom Postgres runs as when we are root.
const NOBODY: u32 = 65534;
/// The database that is made at the start.
pub const DATABASE: &str = "edgekeep";
/// Beside the data, so that the next start knows it.
const PASSWORD_FILE: &str = "postgres.password";

/// A server that was started here. Dropping it stops it.
#[derive(Debug)]
pub struct Server {
    part: Part,
    port: u16,
    password: String,
    data: PathBuf,
}

impl Server {
    /// Starts the server whose data belongs to `folder`, and makes it if it is not there. `settings` are Postgres
    /// settings, as `name=value`. Each start takes a free port.
    ///
    /// # Errors
    /// If the server cannot be made or started.
    pub fn start(tools: &Tools, folder: &Path, settings: &[&str], quiet: bool) -> Result<Self> {
        let place = Place::choose(&tools.postgres(), folder)?;
        let password_file = folder.join(PASSWORD_FILE);
        if !place.data.join("PG_VERSION").exists() {
            let step = console::step("making a Postgres database", quiet);
            let password = paths::random_password()?;
            place.initialise(&password)?;
            paths::write_private(&password_file, &password)?;
            step.done("");
        }
        let password = fs::read_to_string(&password_file)
            .with_context(|| format!("the password of {} is lost: start with --fresh", place.data.display()))?;

        let step = console::step("starting Postgres", quiet);
        let port = probe::port(0)?;
        let log = folder.join("logs/postgres.log");
        let mut recipe = Recipe::new("Postgres", place.program("postgres"), Path::new("/"), &log)
            .arg("-D")
            .arg(&place.data)
            .args(["-p", &port.to_string()])
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "max_connections=200"]);
        for setting in settings {
            recipe = recipe.args(["-c", setting]);
        }
        recipe.run_as = place.run_as;
        let part = recipe.start()?;
        let mut server = Self { part, port, password, data: place.data };
        server.wait()?;
        step.done(&format!("127.0.0.1:{port}"));
        Ok(server)
    }

    /// Makes the data of `folder` anew, runs `sql` in its database, and starts the server.
    ///
    /// # Errors
    /// If the SQL is refused, or the server cannot be made or started.
    pub fn start_with_sql(tools: &Tools, folder: &Path, sql: &str) -> Result<Self> {
        wipe(folder)?;
        let place = Place::choose(&tools.postgres(), folder)?;
        let password = paths::random_password()?;
        place.initialise(&password)?;
        paths::write_private(&folder.join(PASSWORD_FILE), &password)?;
        place.run_sql(&place.data, DATABASE, sql)?;
        Self::start(tools, folder, &[], true)
    }

    /// Where clients connect, as the superuser that owns everything.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres:{}@127.0.0.1:{}/{database}", self.password, self.port)
    }

    /// The port on loopback; it stays the same over [`Server::start_again`].
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where its data are; they belong to whom it runs as.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The postmaster.
    pub fn part(&mut self) -> &mut Part {
        &mut self.part
    }

    /// The postmaster's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.part.pid()
    }

    /// Stops in good order; clients are cut off.
    pub fn stop(&mut self) {
        self.part.stop(Signal::INT, Duration::from_secs(10));
    }

    /// Kills the postmaster: a crash. Its processes notice and end by themselves.
    pub fn kill(&mut self) {
        self.part.kill();
    }

    /// Starts it again on the same port with the same data, after a stop or a crash.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn start_again(&mut self) -> Result<()> {
        // After a crash the orphans hold the shared memory for a moment, and the new server refuses to start.
        let deadline = Instant::now() + Duration::from_secs(15);
        loop {
            self.part.start_again()?;
            match self.wait() {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => {
                    self.part.kill();
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
        }
    }

    /// Makes a standby that follows this server by way of `through`, a port on loopback. For that this one is stopped for
    /// a moment and its data are copied. The standby's address is another one, its password the same; whether this server
    /// waits for it is up to `synchronous_standby_names`.
    ///
    /// # Errors
    /// If data cannot be copied, or either server does not come up.
    pub fn make_standby(&mut self, through: u16) -> Result<Self> {
        self.stop();
        let data = self.data.with_extension("standby");
        command::output(Command::new("cp").arg("-a").arg(&self.data).arg(&data), "")?;
        let signal = data.join("standby.signal");
        fs::write(&signal, "")?;
        let mut recipe = self.part.recipe().clone();
        if let Some((user, group)) = recipe.run_as {
            chown(&signal, Some(user), Some(group))?;
        }
        let settings = fs::OpenOptions::new().append(true).open(data.join("postgresql.auto.conf"));
        writeln!(
            settings?,
            "primary_conninfo = 'host=127.0.0.1 port={through} user=postgres password={} application_name=standby'",
            self.password
        )?;
        let port = probe::port(0)?;
        let (old_data, old_port) = (self.data.as_os_str(), OsString::from(self.port.to_string()));
        for argument in &mut recipe.arguments {
            if argument == old_data {
                *argument = data.clone().into();
            } else if *argument == old_port {
                *argument = port.to_string().into();
            }
        }
        recipe.name = "standby".into();
        recipe.log = recipe.log.with_file_name("standby.log");
        self.start_again()?;
        let mut standby = Self { part: recipe.start()?, port, password: self.password.clone(), data };
        standby.wait()?;
        Ok(standby)
    }

    /// Waits until it takes connections: the last line of its pid file says so.
    fn wait(&mut self) -> Result<()> {
        let file = self.data.join("postmaster.pid");
        let pid = self.part.pid().to_string();
        self.part.wait_until(Duration::from_secs(60), || {
            fs::read_to_string(&file).is_ok_and(|text| {
                let mut lines = text.lines();
                lines.next() == Some(&pid) && lines.nth(6).is_some_and(|status| status.trim() == "ready")
            })
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Removes the data that belongs to `folder`, wherever it lies.
///
/// # Errors
/// If it cannot be removed.
pub fn wipe(folder: &Path) -> Result<()> {
    for data in [folder.join("postgres"), elsewhere(folder)] {
        if data.exists() {
            fs::remove_dir_all(&data).with_context(|| format!("cannot remove {}", data.display()))?;
        }
    }
    Ok(())
}

/// Binaries and data, where the server's user can reach them.
struct Place {
    native: PathBuf,
    data: PathBuf,
    run_as: Option<(u32, u32)>,
}

impl Place {
    fn choose(native: &Path, folder: &Path) -> Result<Self> {
        if !native.join("bin/postgres").exists() {
            bail!("npm has no Postgres for this machine: name a database with DATABASE_URL");
        }
        fs::create_dir_all(folder)?;
        let own = rustix::process::geteuid();
        if !own.is_root() {
            let data = folder.join("postgres");
            if fs::metadata(&data).is_ok_and(|data| data.uid() != own.as_raw()) {
                bail!("{} is another user's: run this as that user, or remove it", data.display());
            }
            return Ok(Self { native: native.into(), data, run_as: None });
        }
        let folder = fs::canonicalize(folder)?;
        let data = if others_may_pass(&folder) { folder.join("postgres") } else { elsewhere(&folder).join("data") };
        let native = fs::canonicalize(native)?;
        let native = if others_may_pass(&native.join("bin")) && others_may_run(&native.join("bin/postgres")) {
            native
        } else {
            copy_binaries(&native)?
        };
        if let Some(parent) = data.parent()
            && !parent.starts_with(&folder)
        {
            roots_own_folder(parent)?;
        }
        // Data that a plain user has made before stays that user's.
        let owner = fs::metadata(&data).ok().filter(|data| data.uid() != 0).map(|data| (data.uid(), data.gid()));
        Ok(Self { native, data, run_as: Some(owner.unwrap_or((NOBODY, NOBODY))) })
    }

    fn program(&self, name: &str) -> PathBuf {
        self.native.join("bin").join(name)
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.program(name));
        command.current_dir("/").env("LC_ALL", "C");
        if let Some((user, group)) = self.run_as {
            command.uid(user).gid(group);
        }
        command
    }

    /// Makes the database beside its place and moves it there when it is whole.
    fn initialise(&self, password: &str) -> Result<()> {
        let new = self.data.with_extension("new");
        let password_file = self.data.with_extension("initial-password");
        for leftover in [&new, &self.data] {
            if leftover.exists() {
                fs::remove_dir_all(leftover)?;
            }
        }
        fs::DirBuilder::new().mode(0o700).create(&new)?;
        paths::write_private(&password_file, password)?;
        if let Some((user, group)) = self.run_as {
            chown(&new, Some(user), Some(group))?;
            chown(&password_file, Some(user), Some(group))?;
        }
        let mut initdb = self.command("initdb");
        initdb.arg("-D").arg(&new).arg("--pwfile").arg(&password_file).args([
            "--username=postgres",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--no-instructions",
        ]);
        let made = command::output(&mut initdb, "");
        let _ = fs::remove_file(&password_file);
        made?;
        self.run_sql(&new, "postgres", &format!("CREATE DATABASE {DATABASE}"))?;
        fs::rename(&new, &self.data)?;
        Ok(())
    }

    /// Runs SQL without a server: Postgres in single-user mode, for there is no psql.
    fn run_sql(&self, data: &Path, database: &str, sql: &str) -> Result<()> {
        // With -j a statement ends at a semicolon and an empty line: all of it is one.
        let lines: Vec<&str> = sql.lines().filter(|line| !line.trim().is_empty()).collect();
        let mut single = self.command("postgres");
        single.args(["--single", "-j", "-D"]).arg(data).arg(database);
        let (_, errors) = command::output_and_errors(&mut single, &format!("{};\n\n", lines.join("\n")))?;
        // It goes on after an error, and ends well.
        if let Some(line) = errors.lines().find(|line| line.contains("ERROR:") || line.contains("FATAL:")) {
            bail!("Postgres refused SQL: {line}");
        }
        Ok(())
    }
}

/// Everyone may pass through this folder and all those above it.
fn others_may_pass(folder: &Path) -> bool {
    folder.ancestors().all(|each| fs::metadata(each).is_ok_and(|data| data.mode() & 0o001 != 0))
}

fn others_may_run(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|data| data.mode() & 0o005 == 0o005)
}

/// The place for what belongs to `folder` when `folder` itself cannot be reached.
fn elsewhere(folder: &Path) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    fs::canonicalize(folder).unwrap_or_else(|_| folder.into()).hash(&mut hasher);
    let base = Path::new("/var/tmp");
    let base = if base.is_dir() { base.into() } else { std::env::temp_dir() };
    base.join(format!("edgekeep-{:016x}", hasher.finish()))
}

/// Makes a folder of root's in a place where anyone may create folders, or makes sure that it is root's.
fn roots_own_folder(folder: &Path) -> Result<()> {
    match fs::DirBuilder::new().mode(0o755).create(folder) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error).with_context(|| format!("cannot create {}", folder.display())),
    }
    let data = fs::symlink_metadata(folder)?;
    if !data.is_dir() || data.uid() != 0 || data.mode() & 0o022 != 0 {
        bail!("{} is not a folder that only root can change: remove it", folder.display());
    }
    // Whatever the umask was.
    fs::set_permissions(folder, fs::Permissions::from_mode(0o711))?;
    Ok(())
}

/// Copies Postgres to where the server's user can reach it; once per version.
fn copy_binaries(native: &Path) -> Result<PathBuf> {
    let place = elsewhere(native);
    roots_own_folder(&place)?;
    let guard = fs::File::create(place.join("lock"))?;
    guard.lock()?;
    let version = fs::read_to_string(native.with_file_name("package.json"))?;
    let mark = place.join("package.json");
    let copy = place.join("native");
    if !fs::read_to_string(&mark).is_ok_and(|text| text == version) {
        if copy.exists() {
            fs::remove_dir_all(&copy)?;
        }
        command::output(Command::new("cp").arg("-RP").arg(native).arg(&copy), "")?;
        command::output(Command::new("chmod").args(["-R", "go+rX"]).arg(&copy), "")?;
        fs::write(&mark, version)?;
    }
    Ok(copy)
}
