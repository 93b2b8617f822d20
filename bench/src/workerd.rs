//! Workers in raw workerd: one process, one thread, one isolate each, with the settings that the edge has.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::json;
use xtask::node::Tools;
use xtask::parts::COMPATIBILITY_DATE;
use xtask::process::{Part, Recipe};
use xtask::wasm::Bundle;
use xtask::{paths, probe};

/// One worker.
#[derive(Clone, Debug, Default)]
pub struct Worker {
    /// What people call it; also the name of its files.
    pub name: String,
    /// The main module first: name, kind (`esModule` or `wasm`), file.
    pub modules: Vec<(String, &'static str, PathBuf)>,
    /// Text bindings.
    pub texts: Vec<(String, String)>,
    /// Service bindings to loopback ports.
    pub services: Vec<(String, u16)>,
    /// Compatibility flags.
    pub flags: Vec<&'static str>,
}

impl Worker {
    /// A worker of one JavaScript file.
    #[must_use]
    pub fn script(name: &str, file: PathBuf) -> Self {
        Self { name: name.into(), modules: vec![("worker.js".into(), "esModule", file)], ..Self::default() }
    }

    /// A worker that `cargo xtask build` or its like made.
    #[must_use]
    pub fn bundle(name: &str, bundle: &Bundle) -> Self {
        let mut modules = vec![("entry.js".to_owned(), "esModule", bundle.folder.join("entry.js"))];
        for module in &bundle.modules {
            let kind = if module.extension().is_some_and(|end| end == "wasm") { "wasm" } else { "esModule" };
            modules.push((module.to_string_lossy().into_owned(), kind, bundle.folder.join(module)));
        }
        Self { name: name.into(), modules, ..Self::default() }
    }

    /// With a text binding.
    #[must_use]
    pub fn text(mut self, name: &str, value: &str) -> Self {
        self.texts.push((name.into(), value.into()));
        self
    }

    /// With a service binding to a loopback port.
    #[must_use]
    pub fn service(mut self, name: &str, port: u16) -> Self {
        self.services.push((name.into(), port));
        self
    }

    /// workerd's configuration with this many copies of the worker, each on a port of its own.
    fn config(&self, ports: &[u16]) -> Result<String> {
        let text = |value: &str| json!(value).to_string();
        let mut modules = String::new();
        for (name, kind, file) in &self.modules {
            write!(modules, "(name = {}, {kind} = embed {}), ", text(name), text(&file.to_string_lossy()))?;
        }
        let mut bindings = String::new();
        let mut externals = String::new();
        for (name, value) in &self.texts {
            write!(bindings, "(name = {}, text = {}), ", text(name), text(value))?;
        }
        for (name, port) in &self.services {
            write!(bindings, "(name = {}, service = {}), ", text(name), text(name))?;
            write!(externals, "(name = {}, external = (address = \"127.0.0.1:{port}\", http = ())), ", text(name))?;
        }
        let flags: Vec<String> = self.flags.iter().map(|flag| text(flag)).collect();
        let mut services = String::new();
        let mut sockets = String::new();
        for (index, port) in ports.iter().enumerate() {
            write!(services, "(name = \"main{index}\", worker = .main), ")?;
            write!(
                sockets,
                "(name = \"s{index}\", address = \"127.0.0.1:{port}\", http = (), service = \"main{index}\"), "
            )?;
        }
        Ok(format!(
            r#"# Written by `cargo xtask bench`.
using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [ {services}{externals}(name = "internet", network = (allow = ["public", "private"])) ],
  sockets = [ {sockets} ],
);
const main :Workerd.Worker = (
  compatibilityDate = "{COMPATIBILITY_DATE}",
  compatibilityFlags = [ {flags} ],
  modules = [ {modules} ],
  bindings = [ {bindings} ],
);
"#,
            flags = flags.join(", "),
        ))
    }

    /// Starts `copies` of it in one process.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn start(&self, tools: &Tools, folder: &Path, copies: usize, ready: &str) -> Result<Running> {
        let folder = folder.join(self.name.replace(|c: char| !c.is_ascii_alphanumeric(), "-"));
        fs::create_dir_all(&folder)?;
        let ports: Vec<u16> = (0..copies).map(|_| probe::port(0)).collect::<Result<_>>()?;
        let config = folder.join("config.capnp");
        paths::write_private(&config, &self.config(&ports)?)?;
        let part = Recipe::new(self.name.clone(), tools.workerd(), &folder, &folder.join("log"))
            .args(["serve", "--import-path=/"])
            .arg(&config)
            .start()?;
        let mut running = Running { part, ports };
        running.wait(ready)?;
        Ok(running)
    }
}

/// A worker that runs.
#[derive(Debug)]
pub struct Running {
    /// Its process.
    pub part: Part,
    /// The ports of its copies.
    pub ports: Vec<u16>,
}

impl Running {
    fn wait(&mut self, ready: &str) -> Result<()> {
        let Some(last) = self.ports.last().copied() else { bail!("no copies") };
        self.part.wait_until(Duration::from_secs(60), || {
            probe::status(last, ready, Duration::from_secs(5)).is_some_and(|status| status < 500)
        })
    }

    /// Where the first copy listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        at(self.ports.first().copied().unwrap_or_default())
    }
}

/// A loopback address.
#[must_use]
pub fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}
