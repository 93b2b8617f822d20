//! What suites share: one build, one Postgres server, and the list of test targets.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::count::{self, Count};
use crate::artifacts::{self, EdgeBuild};
use crate::node::Tools;
use crate::postgres::{self, Server};
use crate::{command, paths, wasm};

/// Made once per run, as far as the suites need it.
pub struct Environment {
    only: Option<String>,
    server: Option<Server>,
}

impl Environment {
    /// Nothing is started yet. `only`: only tests whose name contains this.
    pub fn new(only: Option<String>) -> Self {
        Self { only, server: None }
    }

    /// Only tests whose name contains this.
    pub fn only(&self) -> Option<&str> {
        self.only.as_deref()
    }

    /// The folder of everything that test runs keep.
    pub fn folder() -> PathBuf {
        paths::target().join("test")
    }

    /// A database server to make databases on: DATABASE_URL's, or a fresh one of our own.
    pub fn database_url(&mut self) -> Result<String> {
        if let Ok(url) = std::env::var("DATABASE_URL")
            && !url.is_empty()
        {
            return Ok(url);
        }
        if self.server.is_none() {
            let tools = Tools::ensure(false)?;
            postgres::wipe(&Self::folder())?;
            self.server = Some(Server::start(&tools, &Self::folder(), &[], false)?);
        }
        self.server.as_ref().map(|server| server.url(postgres::DATABASE)).context("no server")
    }

    /// `cargo test` over everything that runs on the host, with the database at hand.
    fn cargo_test(&mut self) -> Result<Command> {
        let url = self.database_url()?;
        let mut cargo = command::cargo();
        cargo.args(["test", "--no-fail-fast"]).env("DATABASE_URL", url);
        Ok(cargo)
    }

    fn finish(&self, cargo: &mut Command) -> Result<Count> {
        if let Some(only) = &self.only {
            cargo.args(["--", only]);
        }
        count::run(cargo)
    }

    /// Unit tests of everything on the host, and `shared/`'s own integration tests.
    pub fn unit(&mut self) -> Result<Count> {
        let mut cargo = self.cargo_test()?;
        cargo.args(["--lib", "--bins"]);
        for name in targets(&["edgekeep-shared", "xtask"])? {
            cargo.args(["--test", &name]);
        }
        let mut total = self.finish(&mut cargo)?;
        let mut edge = self.cargo_test()?;
        edge.args(["--package", "edgekeep-edge", "--lib"]);
        total += self.finish(&mut edge)?;
        let mut docs = self.cargo_test()?;
        docs.args(["--doc", "--package", "edgekeep-shared", "--package", "edgekeep"]);
        total += self.finish(&mut docs)?;
        Ok(total)
    }

    /// The coordinator's integration tests, and those of `tests/` whose name begins with `postgres`.
    pub fn postgres_suite(&mut self) -> Result<Count> {
        let mut names = targets(&["edgekeep"])?;
        names.extend(targets(&["edgekeep-tests"])?.into_iter().filter(|name| name.starts_with("postgres")));
        self.named(&names)
    }

    /// The targets of `tests/` that `pick` picks.
    pub fn tests(&mut self, pick: impl Fn(&str) -> bool) -> Result<Count> {
        let names: Vec<String> = targets(&["edgekeep-tests"])?.into_iter().filter(|name| pick(name)).collect();
        self.named(&names)
    }

    /// All tests of a package that needs no database.
    pub fn package(&self, name: &str) -> Result<Count> {
        let mut cargo = command::cargo();
        self.finish(cargo.args(["test", "--no-fail-fast", "--package", name]))
    }

    /// The tests of the checker of histories; they need no database.
    pub fn checker(&self) -> Result<Count> {
        let mut cargo = command::cargo();
        self.finish(cargo.args(["test", "--no-fail-fast", "--package", "edgekeep-torture", "--test", "checker"]))
    }

    /// The targets of `tests/` that start clusters. One test binary at a time (as cargo does anyway) on what is
    /// built here once.
    pub fn end_to_end(&mut self) -> Result<Count> {
        Tools::ensure(false)?;
        let plain = artifacts::build(EdgeBuild::Shipping, false)?;
        let faulty = artifacts::build(EdgeBuild::FaultInjection, false)?;
        // The examples are run where they are built (`e2e_examples`).
        wasm::build_example(false)?;
        let names: Vec<String> =
            targets(&["edgekeep-tests"])?.into_iter().filter(|name| name.starts_with("e2e")).collect();
        if names.is_empty() {
            return Ok(Count::default());
        }
        let mut cargo = self.cargo_test()?;
        cargo
            .env(artifacts::BINARY_VARIABLE, &plain.edgekeep)
            .env(artifacts::EDGE_VARIABLE, &plain.edge.folder)
            .env(artifacts::FAULTY_EDGE_VARIABLE, &faulty.edge.folder);
        for name in names {
            cargo.args(["--test", &name]);
        }
        self.finish(&mut cargo)
    }

    fn named(&mut self, names: &[String]) -> Result<Count> {
        if names.is_empty() {
            return Ok(Count::default());
        }
        let mut cargo = self.cargo_test()?;
        for name in names {
            cargo.args(["--test", name]);
        }
        self.finish(&mut cargo)
    }
}

/// The integration tests of these packages, by name.
fn targets(packages: &[&str]) -> Result<Vec<String>> {
    let text = command::output(command::cargo().args(["metadata", "--no-deps", "--format-version", "1"]), "")?;
    let metadata: Value = serde_json::from_str(&text)?;
    let text_of = |value: &Value, field: &str| value[field].as_str().unwrap_or_default().to_owned();
    let mut names = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        if !packages.contains(&text_of(package, "name").as_str()) {
            continue;
        }
        for target in package["targets"].as_array().into_iter().flatten() {
            if target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "test")) {
                names.push(text_of(target, "name"));
            }
        }
    }
    names.sort();
    Ok(names)
}
