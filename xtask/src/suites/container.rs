//! The coordinator's container: built by the Dockerfile's own stages, without a daemon and without a registry, and run.
//!
//! What this suite checks is the image that ships except for who compiled the binary: it is compiled here, with the
//! Dockerfile's profile and flags, and put into the stage `prebuilt`, which differs from the last stage in nothing
//! else. It runs as its own user in its own root, against a Postgres that speaks TLS, as a role that owns a database
//! and is nothing more.
//!
//! It needs `buildah` (root installs it with apt-get where it is missing). A plain user needs it installed, with
//! subordinate ids; where that is not so the suite says so and counts as skipped, in CI as failed.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::count::Count;
use super::environment::Environment;
use crate::node::Tools;
use crate::postgres::{self, Server};
use crate::process::{Part, Recipe};
use crate::{apt, artifacts, command, console, paths, probe};

/// As the Dockerfile says.
const PROFILE: &str = "image";
const RUSTFLAGS: &str = "-C target-feature=+crt-static";
/// Where the container finds its configuration, secrets included.
const CONFIG: &str = "/run/secrets/edgekeep.toml";
/// Where it finds the database's certificate.
const DATABASE_CA: &str = "/run/secrets/database-ca.pem";
const IMAGE: &str = "edgekeep-test";
const WITHOUT_BUILDAH: &str = "the container suite needs buildah and, for a plain user, subordinate ids \
                               (Debian: apt-get install buildah uidmap; then log in again)";

/// Builds the image, runs it, stops it.
pub fn run() -> Result<Count> {
    if let Err(error) = ensure_buildah() {
        console::say(&format!("{error:#}\n{WITHOUT_BUILDAH}"));
        let in_ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
        return Ok(if in_ci { Count::FAILED } else { Count { skipped: 1, ..Count::default() } });
    }
    let place = Environment::folder().join("container");
    fs::create_dir_all(&place)?;
    let place = fs::canonicalize(&place)?;
    let binary = build_binary()?;
    let mut count = Count::default();
    count += check("the binary is static", is_static(&binary));
    let image = Image::build(&place, &binary)?;
    count += check("the image says who runs what", image.check_configuration());
    count += check("the image holds two files and no shell", image.check_files());
    let database = Database::start(&place)?;
    count += check("migrate and serve in it, over TLS to Postgres", lifecycle(&image, &database, &place));
    Ok(count)
}

fn check(what: &str, result: Result<()>) -> Count {
    let count = Count::of(result);
    console::say(&format!("  {} {what}", if count.failed == 0 { "✓" } else { "✗" }));
    count
}

/// Sees to it that there is a buildah that works for us.
fn ensure_buildah() -> Result<()> {
    let plain = !rustix::process::geteuid().is_root();
    let works = || {
        let arguments: &[&str] = if plain { &["unshare", "true"] } else { &["--version"] };
        command::output(Command::new("buildah").args(arguments), "").map(|_| ())
    };
    if works().is_err() {
        apt::install("buildah")?;
    }
    works()
}

/// The host's target, as `rustc` calls it.
fn host_target() -> Result<String> {
    let text = command::output(Command::new("rustc").arg("-vV").current_dir(paths::root()), "")?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    Ok(host.to_owned())
}

/// The binary, compiled as the Dockerfile compiles it.
fn build_binary() -> Result<PathBuf> {
    let step = console::step("building the coordinator's static binary", false);
    let mut cargo = command::cargo();
    // With --target the flags do not reach build scripts and macros.
    cargo.env("RUSTFLAGS", RUSTFLAGS).args(["build", "--package", "edgekeep", "--bin", "edgekeep"]);
    cargo.args(["--profile", PROFILE, "--target", &host_target()?]);
    let built = artifacts::cargo_build(&mut cargo, "edgekeep")?;
    let binary = built.into_iter().find_map(|built| built.executable).context("cargo built no edgekeep")?;
    step.done(&megabytes(fs::metadata(&binary)?.len()));
    Ok(binary)
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// No program header of the file asks for an interpreter, which is what `ldd` calls "not a dynamic executable".
fn is_static(binary: &Path) -> Result<()> {
    let bytes = fs::read(binary)?;
    ensure!(bytes.get(..6) == Some(b"\x7fELF\x02\x01"), "not a 64-bit little-endian ELF file");
    let number = |at: usize, length: usize| {
        let field = bytes.get(at..at + length)?;
        Some(field.iter().rev().fold(0_usize, |sum, byte| (sum << 8) | usize::from(*byte)))
    };
    let headers = || {
        let (start, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
        (0..count).map(|index| number(start + index * size, 4)).collect::<Option<Vec<usize>>>()
    };
    const INTERPRETER: usize = 3;
    let headers = headers().context("a truncated ELF file")?;
    ensure!(!headers.contains(&INTERPRETER), "it asks for a dynamic linker");
    Ok(())
}

/// An image, and one container made of it. Both lie in a store of their own, gone with the next run.
struct Image {
    store: PathBuf,
    container: String,
    configuration: Value,
    bytes: u64,
}

impl Image {
    fn build(place: &Path, binary: &Path) -> Result<Self> {
        let step = console::step("building the image with buildah", false);
        let context = place.join("context");
        let store = place.join("store");
        for folder in [&context, &store] {
            remove(folder)?;
            fs::create_dir_all(folder)?;
        }
        fs::copy(binary, context.join("edgekeep")).context("cannot copy the binary")?;
        fs::copy(authorities()?, context.join("ca-certificates.crt")).context("cannot copy the CA certificates")?;
        let dockerfile = paths::root().join("Dockerfile");
        let build = [
            OsStr::new("build"),
            "--isolation=chroot".as_ref(),
            // The other format knows no health check.
            "--format=docker".as_ref(),
            "--target=prebuilt".as_ref(),
            "--tag".as_ref(),
            IMAGE.as_ref(),
            "--file".as_ref(),
            dockerfile.as_ref(),
            context.as_ref(),
        ];
        command::output(buildah(&store).args(build), "")?;
        let text = command::output(buildah(&store).args(["inspect", "--type=image", IMAGE]), "")?;
        let inspected: Value = serde_json::from_str(&text)?;
        let configuration = inspected["Docker"]["config"].clone();
        let container = command::output(buildah(&store).args(["from", IMAGE]), "")?.trim().to_owned();
        let bytes = fs::metadata(binary)?.len() + fs::metadata(context.join("ca-certificates.crt"))?.len();
        step.done(&megabytes(bytes));
        Ok(Self { store, container, configuration, bytes })
    }

    fn check_configuration(&self) -> Result<()> {
        let config = &self.configuration;
        let user = config["User"].as_str().unwrap_or_default();
        let numeric = user.split(':').all(|id| id.parse::<u32>().is_ok_and(|id| id > 0));
        ensure!(numeric, "its user is {user:?}: not a number, or root");
        ensure!(words(&config["Entrypoint"]) == ["/edgekeep"], "its entry point is {}", config["Entrypoint"]);
        ensure!(words(&config["Cmd"]) == ["serve"], "its command is {}", config["Cmd"]);
        let health = words(&config["Healthcheck"]["Test"]);
        ensure!(health == ["CMD", "/edgekeep", "health"], "its health check is {health:?}");
        ensure!(config["ExposedPorts"].get("8700/tcp").is_some(), "it exposes {}", config["ExposedPorts"]);
        Ok(())
    }

    /// Only root may look into a container's root from outside; for others the binary's run in it has to do.
    fn check_files(&self) -> Result<()> {
        if !rustix::process::geteuid().is_root() {
            return Ok(());
        }
        let root = command::output(buildah(&self.store).args(["mount", &self.container]), "")?;
        let root = PathBuf::from(root.trim());
        let mut files = Vec::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() { folders.push(entry.path()) } else { files.push(entry.path()) }
            }
        }
        files.sort();
        let size: u64 = files.iter().filter_map(|file| fs::metadata(file).ok()).map(|data| data.len()).sum();
        let names: Vec<String> = files
            .iter()
            .map(|file| format!("/{}", file.strip_prefix(&root).unwrap_or(file).to_string_lossy()))
            .collect();
        command::output(buildah(&self.store).args(["umount", &self.container]), "")?;
        ensure!(names == ["/edgekeep", "/etc/ssl/certs/ca-certificates.crt"], "it holds {names:?}");
        ensure!(size == self.bytes, "it has {size} bytes instead of {}", self.bytes);
        Ok(())
    }

    /// What `docker run IMAGE arguments` would run: the entry point with these arguments, or with the image's own.
    /// buildah leaves the entry point to us.
    fn run(&self, mounts: &[(&Path, &str)], environment: &[(&str, &str)], arguments: &[&str]) -> Command {
        let mut run = buildah(&self.store);
        run.args(["run", "--isolation=chroot"]);
        for (from, to) in mounts {
            run.arg("--volume").arg(format!("{}:{to}:ro", from.display()));
        }
        for (name, value) in environment {
            run.arg("--env").arg(format!("{name}={value}"));
        }
        run.arg(&self.container).arg("--").args(words(&self.configuration["Entrypoint"]));
        if arguments.is_empty() {
            run.args(words(&self.configuration["Cmd"]));
        }
        run.args(arguments);
        run
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = command::output(buildah(&self.store).args(["rm", "--all"]), "");
        let _ = command::output(buildah(&self.store).args(["rmi", "--all", "--force"]), "");
    }
}

fn words(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// buildah on a store of our own; what else it is told comes after.
fn buildah(store: &Path) -> Command {
    let mut buildah = Command::new("buildah");
    buildah.arg("--storage-driver=vfs").arg("--root").arg(store.join("root")).arg("--runroot").arg(store.join("run"));
    buildah
}

/// Removes a folder; a plain user's store has files of subordinate ids in it.
fn remove(folder: &Path) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    if rustix::process::geteuid().is_root() {
        return fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()));
    }
    command::output(Command::new("buildah").args(["unshare", "rm", "-rf"]).arg(folder), "").map(|_| ())
}

/// The system's certificate authorities, for the image.
fn authorities() -> Result<PathBuf> {
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"]
        .map(PathBuf::from)
        .into_iter()
        .find(|path| path.is_file())
        .context("there are no CA certificates here (Debian: apt-get install ca-certificates)")
}

/// Postgres with TLS, and a role in it that owns one database.
struct Database {
    server: Server,
    certificate: PathBuf,
    password: String,
}

impl Database {
    fn start(place: &Path) -> Result<Self> {
        let step = console::step("starting Postgres with TLS", false);
        let tools = Tools::ensure(true)?;
        let password = paths::random_password()?;
        let role = format!(
            "CREATE ROLE coordinator LOGIN PASSWORD '{password}'; ALTER DATABASE {} OWNER TO coordinator",
            postgres::DATABASE
        );
        let mut server = Server::start_with_sql(&tools, place, &role)?;
        let data = server.data().to_owned();
        server.stop();
        drop(server);

        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).context("cannot make a certificate")?;
        let certificate = place.join("database-ca.pem");
        fs::write(&certificate, made.cert.pem())?;
        fs::set_permissions(&certificate, fs::Permissions::from_mode(0o444))?;
        let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(&data)?);
        for (name, text) in [("server.crt", made.cert.pem()), ("server.key", made.signing_key.serialize_pem())] {
            paths::write_private(&data.join(name), &text)?;
            chown(data.join(name), Some(owner), None)?;
        }
        let server = Server::start(&tools, place, &["ssl=on"], true)?;
        step.done("");
        Ok(Self { server, certificate, password })
    }

    /// Nothing but TLS, and only with a certificate for this name that an authority vouches for.
    fn url(&self, authority: &str) -> String {
        format!(
            "postgres://coordinator:{}@localhost:{}/{}?sslmode=verify-full{authority}",
            self.password,
            self.server.port(),
            postgres::DATABASE
        )
    }
}

/// From an empty database to a coordinator that is asked to stop.
fn lifecycle(image: &Image, database: &Database, place: &Path) -> Result<()> {
    let port = probe::port(0)?;
    let listen = format!("127.0.0.1:{port}");
    let config = place.join("edgekeep.toml");
    fs::write(&config, configuration(&database.url(&format!("&sslrootcert={DATABASE_CA}")))?)?;
    // Compose mounts files of secrets as they are: the container's user must be able to read them, whoever owns them.
    fs::set_permissions(&config, fs::Permissions::from_mode(0o444))?;
    let mounts = [(config.as_path(), CONFIG), (database.certificate.as_path(), DATABASE_CA)];
    let environment = [("EDGEKEEP_CONFIG", CONFIG), ("EDGEKEEP_LISTEN", listen.as_str())];
    let run = |arguments: &[&str]| image.run(&mounts, &environment, arguments);

    // The authorities of the image do not vouch for this server.
    let stranger = database.url("");
    let mut to_a_stranger = environment.to_vec();
    to_a_stranger.push(("EDGEKEEP_DATABASE_URL", &stranger));
    let refused = command::output(&mut image.run(&mounts, &to_a_stranger, &["migrate"]), "");
    ensure!(refused.is_err(), "it trusted a database whose certificate nobody vouches for");

    command::output(&mut run(&["migrate"]), "")?;
    // The second time there is nothing to do.
    command::output(&mut run(&["migrate"]), "")?;
    let early = command::output(&mut run(&["health"]), "");
    ensure!(early.is_err(), "`health` says that all is well while nothing runs");

    let serve = run(&[]);
    let mut recipe = Recipe::new("the container", serve.get_program(), place, &place.join("logs/container.log"));
    recipe.arguments = serve.get_args().map(OsStr::to_owned).collect();
    let began = Instant::now();
    let mut part = recipe.start()?;
    part.wait_until(Duration::from_secs(60), || probe::status(port, "/readyz", Duration::from_secs(5)) == Some(200))?;
    console::say(&format!("  ready after {:.1} s", began.elapsed().as_secs_f32()));
    command::output(&mut run(&["health"]), "")?;
    command::output(&mut run(&["user", "list", "--json"]), "")?;

    let process = inside(&part)?;
    let user = image.configuration["User"].as_str().unwrap_or_default();
    let user = user.split(':').next().unwrap_or_default();
    let ids = user_ids(process)?;
    ensure!(ids.iter().all(|id| id.to_string() == user), "it runs as {ids:?}, not as {user}");
    stop(&mut part, process)
}

/// Asks it to stop as an engine does, and waits.
fn stop(part: &mut Part, process: i32) -> Result<()> {
    // A plain user may as well: the user namespace that it lives in is ours.
    let pid = Pid::from_raw(process).context("no process")?;
    kill_process(pid, Signal::TERM).context("it cannot be asked to stop")?;
    let began = Instant::now();
    while part.ended().is_none() {
        ensure!(began.elapsed() < Duration::from_secs(10), "it does not stop on SIGTERM:\n{}", part.log_tail(4000));
        std::thread::sleep(Duration::from_millis(10));
    }
    console::say(&format!("  stopped {:.2} s after SIGTERM", began.elapsed().as_secs_f32()));
    match part.ended() {
        Some(status) if status.success() => Ok(()),
        status => bail!("it ended with {status:?}:\n{}", part.log_tail(4000)),
    }
}

/// The coordinator's process within what buildah started: buildah itself passes no signal on.
fn inside(part: &Part) -> Result<i32> {
    let mut waiting = vec![i32::try_from(part.pid())?];
    while let Some(process) = waiting.pop() {
        let line = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        if line.starts_with(b"/edgekeep\0") {
            return Ok(process);
        }
        // Threads other than the first may have started children too.
        for thread in fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            waiting.extend(children.split_whitespace().filter_map(|child| child.parse::<i32>().ok()));
        }
    }
    bail!("there is no coordinator in the container:\n{}", part.log_tail(4000))
}

/// The user ids of a process (real, effective, saved, of the file system), as the container sees them.
fn user_ids(process: i32) -> Result<Vec<u32>> {
    let numbers = |line: &str| line.split_whitespace().map(str::parse::<u32>).collect::<Result<Vec<u32>, _>>();
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:")).context("a process without user ids")?;
    // What a plain user starts is mapped: each line says first inside, first outside, how many.
    let map = fs::read_to_string(format!("/proc/{process}/uid_map"))?;
    let map = map.lines().map(numbers).collect::<Result<Vec<_>, _>>()?;
    let inside = |id: u32| {
        map.iter().find_map(|range| match range[..] {
            [inside, outside, count] => id.checked_sub(outside).filter(|nth| *nth < count).map(|nth| inside + nth),
            _ => None,
        })
    };
    numbers(line)?.into_iter().map(|id| inside(id).with_context(|| format!("user {id} is not mapped"))).collect()
}

fn configuration(database_url: &str) -> Result<String> {
    let key = || Ok::<_, anyhow::Error>(serde_json::json!(base64_of(&paths::random_bytes(32)?)).to_string());
    Ok(format!(
        "database_url = {}\n\n[secrets]\nseal_key = {}\nsubject_key = {}\nattempt_key = {}\n",
        serde_json::json!(database_url),
        key()?,
        key()?,
        key()?
    ))
}

fn base64_of(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
