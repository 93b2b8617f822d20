//! Recipes for the parts: coordinator, edge in raw workerd, edge in `wrangler dev`, example site.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::node::Tools;
use crate::process::Recipe;
use crate::tls::Certificate;
use crate::wasm::Bundle;
use crate::{endpoints, paths};

/// The doors' prefix.
pub const AUTH_PREFIX: &str = "/auth";
/// Since when workerd behaves as the edge expects. Not newer than the pinned workerd.
pub const COMPATIBILITY_DATE: &str = "2026-11-01";

/// The example site's paths; its policy is in [`policy`].
#[must_use]
pub fn site_paths() -> endpoints::Paths {
    endpoints::Paths {
        public: "/".into(),
        session: "/dashboard".into(),
        role: "/admin".into(),
        strict: "/strict".into(),
        echo: "/echo".into(),
        websocket: "/ws".into(),
        stream: "/stream".into(),
        bytes: "/bytes".into(),
    }
}

/// The example site's policy.
///
/// # Errors
/// If its file is not there.
pub fn policy() -> Result<String> {
    let path = paths::root().join("examples/site/policy.json");
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// The coordinators' configuration file: everything but the port, which each is told in its environment.
#[must_use]
pub fn coordinator_config(database_url: &str, state: &crate::state::State) -> String {
    // TOML basic strings escape as JSON strings do.
    let text = |value: &str| json!(value).to_string();
    format!(
        "# Written by `cargo xtask`; the secrets are made for this cluster alone.\n\
         database_url = {}\n\n[secrets]\nseal_key = {}\nsubject_key = {}\nattempt_key = {}\n",
        text(database_url),
        text(&state.seal_key),
        text(&state.subject_key),
        text(&state.attempt_key)
    )
}

/// A coordinator.
#[must_use]
pub fn coordinator(number: usize, binary: &Path, config: &Path, port: u16, logs: &Path) -> Recipe {
    let name = format!("coordinator {number}");
    Recipe::new(name, binary, paths::root(), &logs.join(format!("coordinator-{number}.log")))
        .arg("--config")
        .arg(config)
        .arg("serve")
        .env("EDGEKEEP_LISTEN", format!("127.0.0.1:{port}"))
}

/// A relay of the feed.
#[must_use]
pub fn relay(number: usize, binary: &Path, upstreams: &[String], credential: &str, port: u16, logs: &Path) -> Recipe {
    let name = format!("relay {number}");
    let mut recipe = Recipe::new(name, binary, paths::root(), &logs.join(format!("relay-{number}.log"))).arg("relay");
    for upstream in upstreams {
        recipe = recipe.args(["--upstream", upstream]);
    }
    recipe.env("EDGEKEEP_LISTEN", format!("127.0.0.1:{port}")).env("EDGEKEEP_RELAY__CREDENTIAL", credential)
}

/// The example site.
#[must_use]
pub fn site(tools: &Tools, port: u16, assertion_key: &str, logs: &Path) -> Recipe {
    let folder = paths::root().join("examples/site");
    Recipe::new("example site", &tools.node, &folder, &logs.join("site.log"))
        .arg("server.mjs")
        .env("HOST", "127.0.0.1")
        .env("PORT", port.to_string())
        .env("ASSERTION_KEY", assertion_key)
}

/// What one edge is told.
#[derive(Clone, Debug)]
pub struct EdgeSetup {
    /// 1, 2, 3 …
    pub number: usize,
    /// Its port on loopback.
    pub port: u16,
    /// The coordinators, in the order of preference.
    pub coordinator_urls: Vec<String>,
    /// The relays, which are asked for the feed first; mostly none.
    pub relay_urls: Vec<String>,
    /// Its credential.
    pub credential: String,
    /// The key of assertions.
    pub assertion_key: String,
    /// Where the site is.
    pub origin_url: String,
    /// The route policy, as JSON.
    pub policy: String,
    /// More variables, or other values for those above.
    pub variables: Vec<(String, String)>,
    /// For `--https`.
    pub certificate: Option<Certificate>,
}

impl EdgeSetup {
    fn plain(&self) -> Vec<(String, String)> {
        let mut all: Vec<(String, String)> = [
            ("COORDINATOR_URLS", self.coordinator_urls.join(",")),
            ("POLICY", self.policy.clone()),
            ("AUTH_PREFIX", AUTH_PREFIX.into()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        if !self.relay_urls.is_empty() {
            all.push(("RELAY_URLS".to_owned(), self.relay_urls.join(",")));
        }
        for (name, value) in &self.variables {
            all.retain(|(other, _)| other != name);
            all.push((name.clone(), value.clone()));
        }
        all
    }

    fn secrets(&self) -> [(&'static str, &str); 2] {
        [("EDGE_CREDENTIAL", &self.credential), ("ASSERTION_KEY", &self.assertion_key)]
    }
}

/// An edge in raw workerd: one process, one isolate. The site is a service binding; secrets come in the environment.
///
/// # Errors
/// If its configuration cannot be written.
pub fn edge_in_workerd(tools: &Tools, bundle: &Bundle, setup: &EdgeSetup, folder: &Path) -> Result<Recipe> {
    let text = |value: &str| json!(value).to_string();
    let place = |path: &Path| text(&path.to_string_lossy());
    let mut modules = format!("(name = \"entry.js\", esModule = embed {})", place(&bundle.folder.join("entry.js")));
    for module in &bundle.modules {
        let kind = if module.extension().is_some_and(|end| end == "wasm") { "wasm" } else { "esModule" };
        let file = bundle.folder.join(module);
        write!(modules, ",\n    (name = {}, {kind} = embed {})", place(module), place(&file))?;
    }
    let mut bindings = Vec::new();
    let plain = setup.plain();
    if !plain.iter().any(|(name, _)| name == "ORIGIN_URL") {
        bindings.push("(name = \"ORIGIN\", service = \"origin\")".to_owned());
    }
    for (name, value) in plain {
        bindings.push(format!("(name = {}, text = {})", text(&name), text(&value)));
    }
    for (name, _) in setup.secrets() {
        bindings.push(format!("(name = {0}, fromEnvironment = {0})", text(name)));
    }
    let bindings = bindings.join(",\n    ");
    let origin = setup.origin_url.trim_start_matches("http://").trim_end_matches('/');
    let address = text(&format!("127.0.0.1:{}", setup.port));
    let socket = match &setup.certificate {
        None => format!("address = {address}, http = ()"),
        Some(Certificate { certificate, key }) => format!(
            "address = {address}, https = (tlsOptions = (keypair = (privateKey = embed {}, certificateChain = embed {})))",
            place(key),
            place(certificate)
        ),
    };
    let config = format!(
        r#"# Written by `cargo xtask`. The example for self-hosting is edge/workerd/config.capnp.
using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    (name = "edge", worker = .edge),
    (name = "origin", external = (address = {origin}, http = ())),
    (name = "internet", network = (allow = ["public", "private"])),
  ],
  sockets = [(name = "edge", service = "edge", {socket})],
);

const edge :Workerd.Worker = (
  compatibilityDate = "{COMPATIBILITY_DATE}",
  globalOutbound = "internet",
  modules = [
    {modules}
  ],
  bindings = [
    {bindings}
  ],
);
"#,
        origin = text(origin),
    );
    let path = edge_folder(folder, setup.number)?.join("config.capnp");
    paths::write_private(&path, &config)?;
    let number = setup.number;
    let log = folder.join(format!("logs/edge-{number}.log"));
    let mut recipe = Recipe::new(format!("edge {number}"), tools.workerd(), folder, &log)
        .args(["serve", "--verbose", "--import-path=/"])
        .arg(&path);
    for (name, value) in setup.secrets() {
        recipe = recipe.env(name, value);
    }
    Ok(recipe)
}

/// An edge in `wrangler dev`. It loads the worker again when `cargo xtask build` has changed it.
///
/// # Errors
/// If its configuration cannot be written.
pub fn edge_in_wrangler(tools: &Tools, bundle: &Bundle, setup: &EdgeSetup, folder: &Path) -> Result<Recipe> {
    let number = setup.number;
    let place = edge_folder(folder, number)?;
    let mut variables: serde_json::Map<String, serde_json::Value> =
        setup.plain().into_iter().map(|(name, value)| (name, value.into())).collect();
    variables.insert("ORIGIN_URL".into(), setup.origin_url.clone().into());
    let config = json!({
        "name": format!("edgekeep-{number}"),
        "main": bundle.folder.join("entry.js"),
        "compatibility_date": COMPATIBILITY_DATE,
        "vars": variables,
    });
    let path = place.join("wrangler.json");
    paths::write_private(&path, &serde_json::to_string_pretty(&config)?)?;
    let secrets: String =
        setup.secrets().into_iter().map(|(name, value)| format!("{name}={}\n", json!(value))).collect();
    paths::write_private(&place.join(".dev.vars"), &secrets)?;

    let log = folder.join(format!("logs/edge-{number}.log"));
    let mut recipe = Recipe::new(format!("edge {number}"), &tools.node, &place, &log)
        .arg("--no-warnings")
        .arg(tools.wrangler())
        .args(["dev", "--config"])
        .arg(&path)
        .args(["--ip", "127.0.0.1", "--port", &setup.port.to_string()])
        // Without it each would ask for the debugger's one usual port.
        .args(["--inspector-port", &crate::probe::port(0)?.to_string()])
        .arg("--persist-to")
        .arg(place.join("state"))
        .args(["--show-interactive-dev-session=false"])
        .env("WRANGLER_SEND_METRICS", "false")
        .env("WRANGLER_LOG_PATH", place.join("wrangler-logs"))
        .env("WRANGLER_REGISTRY_PATH", place.join("registry"))
        // It would ask the internet for what Cloudflare's requests look like.
        .env("CLOUDFLARE_CF_FETCH_ENABLED", "false")
        .env("NO_COLOR", "1");
    if let Some(Certificate { certificate, key }) = &setup.certificate {
        recipe = recipe
            .args(["--local-protocol", "https", "--https-key-path"])
            .arg(key)
            .arg("--https-cert-path")
            .arg(certificate);
    }
    Ok(recipe)
}

/// An example worker, as its own `examples/<name>/config.capnp` has it; but on this port.
#[must_use]
pub fn example_worker(
    tools: &Tools,
    name: &str,
    port: u16,
    credential: &str,
    coordinator_urls: &str,
    logs: &Path,
) -> Recipe {
    let folder = paths::root().join("examples").join(name);
    Recipe::new(name, tools.workerd(), &folder, &logs.join(format!("{name}-{port}.log")))
        .args(["serve", "--verbose", "config.capnp", "--socket-addr"])
        .arg(format!("http=127.0.0.1:{port}"))
        .env("EDGE_CREDENTIAL", credential)
        .env("COORDINATOR_URLS", coordinator_urls)
}

fn edge_folder(folder: &Path, number: usize) -> Result<PathBuf> {
    let place = folder.join(format!("edge-{number}"));
    fs::create_dir_all(&place)?;
    Ok(place)
}
