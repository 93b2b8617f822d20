//! The offline data of SQL queries (`.sqlx/`): written anew, or checked against the tree.
//!
//! The trick instead of sqlx-cli: with `SQLX_OFFLINE_DIR` set and a database at hand, `cargo check` writes one file
//! per query that it compiles.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail};

use super::count::Count;
use crate::node::Tools;
use crate::postgres::{self, Server};
use crate::{command, console, paths};

type Files = BTreeMap<String, Vec<u8>>;

/// Writes `.sqlx/` anew.
///
/// # Errors
/// If it cannot be made.
pub fn write() -> Result<()> {
    let made = make()?;
    let folder = paths::root().join(".sqlx");
    fs::create_dir_all(&folder)?;
    let old = read(&folder)?;
    for name in old.keys().filter(|name| !made.contains_key(*name)) {
        fs::remove_file(folder.join(name))?;
    }
    for (name, bytes) in made.iter().filter(|(name, bytes)| old.get(*name) != Some(bytes)) {
        fs::write(folder.join(name), bytes)?;
    }
    console::say(&format!("{}: {} queries", folder.display(), made.len()));
    Ok(())
}

/// Checks `.sqlx/`.
pub fn check() -> Result<Count> {
    let made = make()?;
    let kept = read(&paths::root().join(".sqlx"))?;
    if made == kept {
        console::say(&format!("{} queries are as kept", made.len()));
        return Ok(Count::PASSED);
    }
    let differ = made.iter().filter(|(name, bytes)| kept.get(*name) != Some(bytes)).count();
    let gone = kept.keys().filter(|name| !made.contains_key(*name)).count();
    bail!(".sqlx is out of date ({differ} queries new or changed, {gone} gone): run `cargo xtask sqlx`")
}

/// Makes the files against a freshly migrated database of our own.
fn make() -> Result<Files> {
    let folder = paths::target().join("sqlx");
    let tools = Tools::ensure(false)?;
    let step = console::step("making a database from the migrations", false);
    let server = Server::start_with_sql(&tools, &folder, &migrations()?)?;
    let url = server.url(postgres::DATABASE);
    step.done("");

    let step = console::step("compiling every query against the database", false);
    let queries = folder.join("queries");
    if queries.exists() {
        fs::remove_dir_all(&queries)?;
    }
    fs::create_dir_all(&queries)?;
    for package in ["coordinator", "tests"] {
        touch(&paths::root().join(package))?;
    }
    let mut cargo = command::cargo();
    cargo
        .args(["check", "--package", "edgekeep", "--package", "edgekeep-tests", "--all-targets"])
        .env("SQLX_OFFLINE", "false")
        .env("SQLX_OFFLINE_DIR", &queries)
        .env("DATABASE_URL", &url);
    command::run(&mut cargo)?;
    step.done("");
    read(&queries)
}

/// All migrations in their order. They are read as files: the coordinator that would apply them may have queries
/// newer than `.sqlx/` and so not compile yet.
fn migrations() -> Result<String> {
    let folder = paths::root().join("coordinator/migrations");
    let mut files: Vec<PathBuf> =
        fs::read_dir(&folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<_>>()?;
    files.retain(|path| path.extension().is_some_and(|end| end == "sql"));
    files.sort();
    let texts: Vec<String> = files.iter().map(fs::read_to_string).collect::<std::io::Result<_>>()?;
    Ok(texts.join("\n"))
}

fn read(folder: &Path) -> Result<Files> {
    let mut files = Files::new();
    let Ok(entries) = fs::read_dir(folder) else { return Ok(files) };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".json") {
            files.insert(name, fs::read(entry.path())?);
        }
    }
    Ok(files)
}

/// Makes cargo compile a folder's sources again.
fn touch(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("{}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            touch(&path)?;
        } else if path.extension().is_some_and(|end| end == "rs") {
            fs::File::options().append(true).open(&path)?.set_modified(SystemTime::now())?;
        }
    }
    Ok(())
}
