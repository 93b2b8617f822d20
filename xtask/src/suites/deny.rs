//! Dependencies: licences, sources, bans; and advisories where their database can be reached.
//!
//! `cargo deny` where it is installed. Elsewhere (it takes minutes to compile, and nothing forces anyone to) the same
//! rules of `deny.toml` are checked here from cargo's own metadata. Either way it is said aloud when advisories were
//! not checked.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::count::Count;
use super::spdx;
use crate::{command, console, paths};

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Checks the dependencies.
pub fn run() -> Result<Count> {
    let installed = Command::new("cargo-deny").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if installed.is_ok_and(|status| status.success()) { with_cargo_deny() } else { by_ourselves() }
}

fn with_cargo_deny() -> Result<Count> {
    let deny = |arguments: &[&str]| {
        let mut cargo = command::cargo();
        cargo.args(["deny", "--workspace"]).args(arguments);
        cargo
    };
    let mut count = Count::of(command::run(&mut deny(&["check", "bans", "licenses", "sources"])));
    match command::output(&mut deny(&["fetch", "db"]), "") {
        Ok(_) => count += Count::of(command::run(&mut deny(&["check", "--disable-fetch", "advisories"]))),
        Err(error) => advisories_unchecked(&format!("their database cannot be reached ({error:#})"), &mut count),
    }
    Ok(count)
}

fn advisories_unchecked(why: &str, count: &mut Count) {
    console::say(&format!("NOT CHECKED: security advisories (RustSec), because {why}"));
    count.skipped += 1;
}

/// The rules of `deny.toml` that are checked here.
struct Rules {
    licences: BTreeSet<String>,
    /// By crate.
    exceptions: BTreeMap<String, BTreeSet<String>>,
    banned: BTreeSet<String>,
}

impl Rules {
    fn read() -> Result<Self> {
        let text = fs::read_to_string(paths::root().join("deny.toml")).context("deny.toml")?;
        let file: toml::Table = text.parse().context("deny.toml")?;
        let texts = |value: Option<&toml::Value>| -> BTreeSet<String> {
            let list = value.and_then(toml::Value::as_array).into_iter().flatten();
            list.filter_map(|item| item.as_str().map(str::to_owned)).collect()
        };
        let licenses = file.get("licenses");
        let tables = |value: Option<&toml::Value>| -> Vec<toml::Value> {
            value.and_then(toml::Value::as_array).cloned().unwrap_or_default()
        };
        let name = |item: &toml::Value| item.get("crate").and_then(toml::Value::as_str).map(str::to_owned);
        let exceptions = tables(licenses.and_then(|table| table.get("exceptions")))
            .iter()
            .filter_map(|item| Some((name(item)?, texts(item.get("allow")))))
            .collect();
        let banned = tables(file.get("bans").and_then(|table| table.get("deny"))).iter().filter_map(name).collect();
        Ok(Self { licences: texts(licenses.and_then(|table| table.get("allow"))), exceptions, banned })
    }
}

fn by_ourselves() -> Result<Count> {
    console::say("cargo-deny is not installed: the rules of deny.toml are checked from cargo's metadata instead");
    let rules = Rules::read()?;
    let text = command::output(command::cargo().args(["metadata", "--format-version", "1", "--locked"]), "")?;
    let metadata: Value = serde_json::from_str(&text)?;
    let packages = metadata["packages"].as_array().context("cargo metadata without packages")?;

    let (mut licences, mut sources, mut bans) = (Vec::new(), Vec::new(), Vec::new());
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let version = package["version"].as_str().unwrap_or_default();
        let shown = format!("{name} {version}");
        versions.entry(name).or_default().insert(version);
        match package["license"].as_str() {
            Some(licence) => {
                let own = rules.exceptions.get(name);
                let allowed = |id: &str| rules.licences.contains(id) || own.is_some_and(|own| own.contains(id));
                if !spdx::satisfied(licence, &allowed) {
                    licences.push(format!("{shown}: {licence}"));
                }
            }
            None => licences.push(format!("{shown}: no licence expression")),
        }
        match package["source"].as_str() {
            // Part of the workspace.
            None | Some(CRATES_IO) => {}
            Some(source) => sources.push(format!("{shown}: {source}")),
        }
        if rules.banned.contains(name) {
            bans.push(shown);
        }
    }
    let several: Vec<String> = versions
        .iter()
        .filter(|(_, versions)| versions.len() > 1)
        .map(|(name, versions)| format!("{name} ({})", versions.iter().copied().collect::<Vec<_>>().join(", ")))
        .collect();
    if !several.is_empty() {
        console::say(&format!("note: in several versions: {}", several.join("; ")));
    }
    let mut count = Count::default();
    for (what, wrong) in [("licences", licences), ("sources", sources), ("bans", bans)] {
        if wrong.is_empty() {
            console::say(&format!("{what}: ok ({} packages)", packages.len()));
            count += Count::PASSED;
        } else {
            console::say(&format!("{what}: refused by deny.toml:\n  {}", wrong.join("\n  ")));
            count += Count::FAILED;
        }
    }
    advisories_unchecked("cargo-deny, which knows where to ask, is not installed", &mut count);
    Ok(count)
}
