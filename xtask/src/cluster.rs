//! A small cluster of real parts: Postgres, coordinators, edges, the example site.
//!
//! Tests hold it to break single parts; `cargo xtask dev` holds it until Ctrl-C. Whatever it started ends with it,
//! also if its start fails half-way. Several clusters run side by side: each has a folder of its own and free ports.

mod node;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;

use crate::artifacts::{self, Artifacts, EdgeBuild};
use crate::console;
use crate::endpoints::{Endpoint, Endpoints, Origin};
use crate::node::Tools;
use crate::parts::{self, EdgeSetup};
use crate::postgres::{self, Server};
use crate::process::Part;
use crate::state::{self, State, User};
use crate::tls::Certificate;
use crate::{paths, probe, users};

pub use node::Node;

/// How long a part may take to come up. Generous: several clusters may start at once on two cores.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which database a cluster uses.
#[derive(Clone, Debug)]
pub enum Database {
    /// A server of its own, with these Postgres settings (`name=value`).
    Own(Vec<String>),
    /// The one at this address; the cluster neither starts nor wipes it.
    At(String),
}

/// What kind of cluster to start.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where its data, configuration and logs are.
    pub folder: PathBuf,
    /// How many coordinators.
    pub coordinators: usize,
    /// How many edges.
    pub edges: usize,
    /// Raw workerd; otherwise `wrangler dev`.
    pub raw: bool,
    /// Edges speak HTTPS, with a certificate of our own.
    pub https: bool,
    /// Forget everything from earlier starts.
    pub fresh: bool,
    /// The deployment's bound, if it is to be set.
    pub max_staleness_ms: Option<u32>,
    /// More settings, as `edgekeep settings set` takes them.
    pub settings: Vec<(String, String)>,
    /// The first edge's port, the others' follow; 0 for free ones.
    pub edge_port: u16,
    /// The first coordinator's port, the others' follow; 0 for free ones.
    pub coordinator_port: u16,
    /// The example site's port; 0 for a free one.
    pub origin_port: u16,
    /// The database.
    pub database: Database,
    /// Which edge worker.
    pub edge_build: EdgeBuild,
    /// More variables for the coordinators' environment.
    pub coordinator_environment: Vec<(String, String)>,
    /// More bindings for the edges.
    pub edge_variables: Vec<(String, String)>,
    /// The route policy as JSON, if not the example site's.
    pub policy: Option<String>,
    /// Users to make, with the password to be generated: name and roles.
    pub users: Vec<(String, Vec<String>)>,
    /// Say nothing.
    pub quiet: bool,
}

impl Options {
    /// One coordinator and one raw edge with free ports and nothing kept: what most tests want.
    pub fn for_tests(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            coordinators: 1,
            edges: 1,
            raw: true,
            https: false,
            fresh: true,
            max_staleness_ms: None,
            settings: Vec::new(),
            edge_port: 0,
            coordinator_port: 0,
            origin_port: 0,
            database: Database::Own(Vec::new()),
            edge_build: EdgeBuild::Shipping,
            coordinator_environment: Vec::new(),
            edge_variables: Vec::new(),
            policy: None,
            users: default_users(),
            quiet: true,
        }
    }
}

/// `demo` with no role and `admin` with the role `admin`.
#[must_use]
pub fn default_users() -> Vec<(String, Vec<String>)> {
    vec![("demo".into(), Vec::new()), ("admin".into(), vec!["admin".into()])]
}

/// A running cluster. Dropping it stops it.
pub struct Cluster {
    options: Options,
    tools: Tools,
    artifacts: Artifacts,
    state: State,
    credential: String,
    users: Vec<User>,
    max_staleness_ms: u32,
    database_url: String,
    cli: PathBuf,
    certificate: Option<Certificate>,
    // Stopped in this order (see `stop`).
    /// The edges.
    pub edges: Vec<Node>,
    /// The example site.
    pub site: Node,
    /// The relays of the feed; none at the start.
    pub relays: Vec<Node>,
    /// The coordinators.
    pub coordinators: Vec<Node>,
    /// Postgres, if it is the cluster's own.
    pub postgres: Option<Server>,
}

impl Cluster {
    /// Starts everything and waits until it is ready.
    ///
    /// # Errors
    /// If any part does not come up; what was started is stopped again.
    pub fn start(options: Options) -> Result<Self> {
        let quiet = options.quiet;
        let tools = Tools::ensure(quiet)?;
        let artifacts = artifacts::get(options.edge_build, quiet)?;

        fs::create_dir_all(&options.folder)?;
        let folder = fs::canonicalize(&options.folder)?;
        let options = Options { folder: folder.clone(), ..options };
        if options.fresh {
            wipe(&options)?;
        }
        // Of this start alone; a part that is started again goes on in its own.
        let logs = folder.join("logs");
        if logs.exists() {
            fs::remove_dir_all(&logs)?;
        }
        fs::create_dir_all(&logs)?;
        let mut state = State::load(&folder)?;
        state.save(&folder)?;

        let (postgres, database_url, database_name) = match &options.database {
            Database::Own(settings) => {
                let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
                let server = Server::start(&tools, &folder, &settings, quiet)?;
                let url = server.url(postgres::DATABASE);
                (Some(server), url, "own".to_owned())
            }
            Database::At(url) => (None, url.clone(), url.clone()),
        };
        let config = folder.join("edgekeep.toml");
        paths::write_private(&config, &parts::coordinator_config(&database_url, &state))?;
        let cli = folder.join("edgekeep");
        paths::write_script(&cli, &cli_script(&artifacts.edgekeep, &config))?;

        let step = console::step("migrating the database", quiet);
        users::migrate(&cli)?;
        let bound = options.max_staleness_ms.map(|bound| ("max_staleness_ms".to_owned(), bound.to_string()));
        users::set(&cli, &bound.into_iter().chain(options.settings.clone()).collect::<Vec<_>>())?;
        let max_staleness_ms = users::max_staleness_ms(&cli)?;
        step.done("");

        let step = console::step(format!("starting {}", several(options.coordinators, "coordinator")), quiet);
        let mut coordinators = Vec::new();
        for index in 0..options.coordinators {
            let port = probe::port(numbered(options.coordinator_port, index)?)?;
            let mut recipe = parts::coordinator(index + 1, &artifacts.edgekeep, &config, port, &logs);
            for (name, value) in &options.coordinator_environment {
                recipe = recipe.env(name, value);
            }
            let url = format!("http://127.0.0.1:{port}");
            coordinators.push(Node { part: recipe.start()?, port, url, ready_path: "/readyz", tls_through: None });
        }
        // Meanwhile: the command line works on the database.
        let kept = state.databases.entry(database_name).or_default();
        let credential = users::ensure_edge(&cli, kept)?;
        let users = users::ensure(&cli, kept, &options.users)?;
        state.save(&folder)?;
        for coordinator in &mut coordinators {
            coordinator.wait()?;
        }
        step.done("");

        let step = console::step("starting the example site", quiet);
        let port = probe::port(options.origin_port)?;
        let part = parts::site(&tools, port, &state.assertion_key, &logs).start()?;
        let mut site = Node { part, port, url: format!("http://127.0.0.1:{port}"), ready_path: "/", tls_through: None };
        site.wait()?;
        step.done("");

        let certificate = if options.https { Some(Certificate::ensure(&folder)?) } else { None };
        let edges = options.edges;
        let mut cluster = Self {
            options,
            tools,
            artifacts,
            state,
            credential,
            users,
            max_staleness_ms,
            database_url,
            cli,
            certificate,
            edges: Vec::new(),
            relays: Vec::new(),
            site,
            coordinators,
            postgres,
        };
        let step = console::step(format!("starting {} in {}", several(edges, "edge"), cluster.runtime()), quiet);
        for _ in 0..edges {
            cluster.begin_edge(|_| ())?;
        }
        for edge in &mut cluster.edges {
            edge.wait()?;
        }
        step.done("");
        cluster.write_endpoints()?;
        Ok(cluster)
    }

    /// Starts one more edge; `change` sees its setup before (other coordinators, say, or a proxy before them). Gives
    /// its place in [`Cluster::edges`].
    ///
    /// # Errors
    /// If it does not come up.
    pub fn add_edge(&mut self, change: impl FnOnce(&mut EdgeSetup)) -> Result<usize> {
        let index = self.begin_edge(change)?;
        self.edges[index].wait()?;
        self.write_endpoints()?;
        Ok(index)
    }

    /// Starts a relay of the feed in front of these coordinators, or before a proxy; edges name it in their setup. Gives its
    /// place in [`Cluster::relays`].
    ///
    /// # Errors
    /// If it does not come up.
    pub fn add_relay(&mut self, upstream_urls: &[String]) -> Result<usize> {
        let index = self.relays.len();
        let credential = users::feed_credential(&self.cli, &format!("relay-{}", index + 1))?;
        let (port, logs) = (probe::port(0)?, self.options.folder.join("logs"));
        let binary = &self.artifacts.edgekeep;
        let part = parts::relay(index + 1, binary, upstream_urls, &credential, port, &logs).start()?;
        let url = format!("http://127.0.0.1:{port}");
        let mut node = Node { part, port, url, ready_path: "/readyz", tls_through: None };
        node.wait()?;
        self.relays.push(node);
        Ok(index)
    }

    fn begin_edge(&mut self, change: impl FnOnce(&mut EdgeSetup)) -> Result<usize> {
        let index = self.edges.len();
        let mut setup = EdgeSetup {
            number: index + 1,
            port: probe::port(numbered(self.options.edge_port, index)?)?,
            coordinator_urls: self.coordinators.iter().map(|node| node.url.clone()).collect(),
            relay_urls: Vec::new(),
            credential: self.credential.clone(),
            assertion_key: self.state.assertion_key.clone(),
            origin_url: self.site.url.clone(),
            policy: self.options.policy.clone().map_or_else(parts::policy, Ok)?,
            variables: self.options.edge_variables.clone(),
            certificate: self.certificate.clone(),
        };
        change(&mut setup);
        let (bundle, folder) = (&self.artifacts.edge, &self.options.folder);
        let recipe = if self.options.raw {
            parts::edge_in_workerd(&self.tools, bundle, &setup, folder)?
        } else {
            parts::edge_in_wrangler(&self.tools, bundle, &setup, folder)?
        };
        let tls_through = setup.certificate.is_some().then(|| self.tools.node.clone());
        let scheme = if tls_through.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://127.0.0.1:{}", setup.port);
        self.edges.push(Node { part: recipe.start()?, port: setup.port, url, ready_path: "/auth/login", tls_through });
        Ok(index)
    }

    /// Starts an example worker that asks these coordinators, on a free port, with the cluster's credential. It must
    /// have been built, and has a public page at `/`. It is the caller's: dropping it stops it.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn start_example(&self, name: &str, coordinator_urls: &str) -> Result<Node> {
        let (port, logs) = (probe::port(0)?, self.options.folder.join("logs"));
        let part = parts::example_worker(&self.tools, name, port, &self.credential, coordinator_urls, &logs).start()?;
        let url = format!("http://127.0.0.1:{port}");
        let mut node = Node { part, port, url, ready_path: "/", tls_through: None };
        node.wait()?;
        Ok(node)
    }

    /// Runs the command line with one line on its standard input, and gives what it printed.
    ///
    /// # Errors
    /// If it fails.
    pub fn edgekeep(&self, arguments: &[&str], input: &str) -> Result<String> {
        users::edgekeep(&self.cli, arguments, input)
    }

    /// The database's address, as its owner.
    #[must_use]
    pub fn database_url(&self) -> &str {
        &self.database_url
    }

    /// A user that was made at the start.
    #[must_use]
    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.iter().find(|user| user.name == name)
    }

    /// The deployment's bound as it was at the start, in milliseconds.
    #[must_use]
    pub fn max_staleness_ms(&self) -> u32 {
        self.max_staleness_ms
    }

    /// The cluster's folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.options.folder
    }

    /// The credential of its edges.
    #[must_use]
    pub fn edge_credential(&self) -> &str {
        &self.credential
    }

    fn runtime(&self) -> &'static str {
        if self.options.raw { "workerd" } else { "wrangler" }
    }

    /// What is running where.
    #[must_use]
    pub fn endpoints(&self) -> Endpoints {
        Endpoints {
            edges: self.edges.iter().map(Node::endpoint).collect(),
            coordinators: self.coordinators.iter().map(Node::endpoint).collect(),
            database: Endpoint {
                url: self.database_url.clone(),
                pid: self.postgres.as_ref().map(Server::pid),
                pids: self.postgres.iter().map(Server::pid).collect(),
            },
            origin: Origin { url: self.site.url.clone(), pid: Some(self.site.part.pid()), paths: parts::site_paths() },
            edgekeep: self.cli.clone(),
            config: self.options.folder.join("edgekeep.toml"),
            max_staleness_ms: self.max_staleness_ms,
            auth_prefix: parts::AUTH_PREFIX.into(),
            users: self.users.clone(),
            logs: self.options.folder.join("logs"),
            runtime: self.runtime().into(),
        }
    }

    /// Where [`Cluster::endpoints`] is written.
    #[must_use]
    pub fn endpoints_file(&self) -> PathBuf {
        self.options.folder.join("endpoints.json")
    }

    /// Writes `endpoints.json` anew, after process ids have changed.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_endpoints(&self) -> Result<()> {
        paths::write_private(&self.endpoints_file(), &serde_json::to_string_pretty(&self.endpoints())?)
    }

    /// All parts.
    pub fn parts(&mut self) -> impl Iterator<Item = &mut Part> {
        let nodes = self.edges.iter_mut().chain([&mut self.site]).chain(&mut self.relays).chain(&mut self.coordinators);
        nodes.map(|node| &mut node.part).chain(self.postgres.as_mut().map(Server::part))
    }

    /// Stops everything in order: edges, relays, coordinators, site, Postgres. What does not stop in time is killed.
    pub fn stop(&mut self) {
        let _ = fs::remove_file(self.endpoints_file());
        let grace = Duration::from_secs(3);
        for group in [&mut self.edges, &mut self.relays, &mut self.coordinators] {
            // All of a kind at once: each may take its time.
            for node in group.iter_mut() {
                node.part.ask_to_stop(Signal::TERM);
            }
            for node in group {
                node.part.stop(Signal::TERM, grace);
            }
        }
        self.site.part.stop(Signal::TERM, grace);
        if let Some(postgres) = &mut self.postgres {
            postgres.stop();
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Nothing is wiped that was not made here.
///
/// # Errors
/// If the options ask for that.
pub fn refuse_to_wipe(options: &Options) -> Result<()> {
    if options.fresh && matches!(options.database, Database::At(_)) {
        bail!(
            "--fresh wipes only databases of its own making, and DATABASE_URL names yours: \
             empty it yourself (DROP SCHEMA public CASCADE; CREATE SCHEMA public), or leave --fresh away"
        );
    }
    Ok(())
}

fn wipe(options: &Options) -> Result<()> {
    refuse_to_wipe(options)?;
    postgres::wipe(&options.folder)?;
    state::wipe(&options.folder)
}

/// A script that anyone may call from anywhere, with all that the command line needs to reach this database.
fn cli_script(binary: &Path, config: &Path) -> String {
    let quoted = |path: &Path| format!("'{}'", path.to_string_lossy().replace('\'', r"'\''"));
    format!("#!/bin/sh\nexec {} --config {} \"$@\"\n", quoted(binary), quoted(config))
}

fn numbered(first: u16, index: usize) -> Result<u16> {
    if first == 0 {
        return Ok(0);
    }
    u16::try_from(usize::from(first) + index).context("no such port")
}

fn several(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
