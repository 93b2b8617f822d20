//! The tools that come from npm: workerd, wrangler, Postgres, the browser driver, and a Node.js for wrangler.
//!
//! `npm ci` runs when the lock has changed or nothing is installed yet, and at no other time. No package runs code
//! of its own while it is installed (`.npmrc`): workerd's binary is used where it lies, and the links that the
//! Postgres package would make are made here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::{command, console, paths};

/// wrangler's least version of Node.js.
const WRANGLER_NODE: (u32, u32) = (22, 12);

/// What is installed.
#[derive(Clone, Debug)]
pub struct Tools {
    modules: PathBuf,
    /// A Node.js that is new enough for wrangler.
    pub node: PathBuf,
}

impl Tools {
    /// Installs what is missing.
    ///
    /// # Errors
    /// If Node.js or npm is not there, or npm fails.
    pub fn ensure(quiet: bool) -> Result<Self> {
        let modules = paths::root().join("node_modules");
        let lock_text = fs::read_to_string(paths::root().join("package-lock.json"))?;
        let installed = modules.join(".edgekeep-lock.json");
        fs::create_dir_all(paths::target())?;
        // One at a time: tests start several clusters at once.
        let guard = fs::File::create(paths::target().join("npm.lock"))?;
        guard.lock().context("cannot wait for another npm")?;
        if !fs::read_to_string(&installed).is_ok_and(|text| text == lock_text) {
            let step = console::step("installing workerd, wrangler, Postgres and a browser driver with npm", quiet);
            install()?;
            fs::write(&installed, lock_text)?;
            step.done("");
        }
        let node = find_node(&modules)?;
        let tools = Self { modules, node };
        hydrate_links(&tools.postgres())?;
        Ok(tools)
    }

    /// Node's packages.
    #[must_use]
    pub fn modules(&self) -> &Path {
        &self.modules
    }

    /// workerd's own binary: it needs no Node.js.
    #[must_use]
    pub fn workerd(&self) -> PathBuf {
        let (system, processor) = platform();
        let bits = if processor == "x64" { "64" } else { processor };
        self.modules.join(format!("@cloudflare/workerd-{system}-{bits}/bin/workerd"))
    }

    /// wrangler's script, to be run with [`Tools::node`]: the one behind its `bin`, which would only start this one
    /// as a process of its own.
    #[must_use]
    pub fn wrangler(&self) -> PathBuf {
        self.modules.join("wrangler/wrangler-dist/cli.js")
    }

    /// The folder of Postgres's `bin`, `lib` and `share`.
    #[must_use]
    pub fn postgres(&self) -> PathBuf {
        let (system, processor) = platform();
        self.modules.join(format!("@embedded-postgres/{system}-{processor}/native"))
    }
}

/// This machine, as npm's packages name it.
fn platform() -> (&'static str, &'static str) {
    let system = if cfg!(target_os = "macos") { "darwin" } else { "linux" };
    let processor = if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" };
    (system, processor)
}

fn install() -> Result<()> {
    let mut npm = Command::new("npm");
    npm.current_dir(paths::root()).args(["ci", "--loglevel=error", "--no-progress"]);
    command::output(&mut npm, "").map(|_| ()).context("npm is needed, with Node.js 20 or newer")
}

/// The machine's own Node.js if wrangler can use it, else the one from npm.
fn find_node(modules: &Path) -> Result<PathBuf> {
    if node_version(Path::new("node")).is_some_and(|version| version >= WRANGLER_NODE) {
        return Ok("node".into());
    }
    let (system, processor) = platform();
    let names = [format!("node-{system}-{processor}"), format!("node-bin-{system}-{processor}")];
    names
        .iter()
        .map(|name| modules.join(name).join("bin/node"))
        .find(|path| path.exists())
        .with_context(|| format!("Node.js {}.{} or newer is needed", WRANGLER_NODE.0, WRANGLER_NODE.1))
}

fn node_version(node: &Path) -> Option<(u32, u32)> {
    let text = command::output(Command::new(node).arg("--version"), "").ok()?;
    let mut numbers = text.trim().strip_prefix('v')?.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[derive(Deserialize)]
struct Link {
    source: PathBuf,
    target: PathBuf,
}

/// npm packages hold no symbolic links; this one lists those that its libraries need.
fn hydrate_links(native: &Path) -> Result<()> {
    let list = native.join("pg-symlinks.json");
    let Ok(text) = fs::read_to_string(&list) else {
        // A platform without the package: only DATABASE_URL will do there, and Postgres says so itself.
        return Ok(());
    };
    let links: Vec<Link> = serde_json::from_str(&text).with_context(|| format!("{}", list.display()))?;
    let package = native.parent().unwrap_or(native);
    for Link { source, target } in links {
        let link = package.join(&target);
        // Both lie in the same folder, in every release so far; anything else would be a surprise worth an error.
        if source.parent() != target.parent() {
            bail!("{} links across folders", list.display());
        }
        if link.symlink_metadata().is_err()
            && let Some(file) = source.file_name()
        {
            std::os::unix::fs::symlink(file, &link).with_context(|| format!("cannot link {}", link.display()))?;
        }
    }
    Ok(())
}
