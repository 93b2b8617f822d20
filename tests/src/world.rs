//! A cluster and what tests do with it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use rustix::process::Pid;
use xtask::cluster::{Cluster, Options};
use xtask::parts::EdgeSetup;
use xtask::paths;
use xtask::state::User;

use crate::client::Client;
use crate::clock::Clock;
use crate::proxy::Proxy;
use crate::random_hex;
use crate::sql::Sql;

/// Where clusters of tests live: a folder each, whose name ends with the id of the process that made it.
fn folder(name: &str) -> PathBuf {
    let all = paths::target().join("test/e2e");
    remove_leftovers(&all);
    all.join(format!("{name}-{}", std::process::id()))
}

/// Folders of processes that have ended. Their logs have been there to be read until now.
fn remove_leftovers(all: &std::path::Path) {
    for entry in std::fs::read_dir(all).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.rsplit('-').next().and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw);
        if pid.is_some_and(|pid| rustix::process::test_kill_process(pid).is_err()) {
            // A part that is still on its way out may be in the way: the next run finds it.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Two or more clusters that start at once take longer than one after the other.
static STARTING: Mutex<()> = Mutex::new(());

/// A running cluster. Dropping it kills all of it.
pub struct World {
    /// The parts.
    pub cluster: Cluster,
    hosts: Vec<SocketAddr>,
}

impl World {
    /// Starts a cluster; `change` sees its options before. `name` is the folder's.
    ///
    /// # Panics
    /// If it does not come up.
    #[must_use]
    pub fn start(name: &str, change: impl FnOnce(&mut Options)) -> Self {
        let mut options = Options::for_tests(folder(name));
        options.users = Vec::new();
        change(&mut options);
        let _one_at_a_time = STARTING.lock();
        let cluster = Cluster::start(options).unwrap_or_else(|error| panic!("the cluster does not start: {error:#}"));
        let mut world = Self { cluster, hosts: Vec::new() };
        world.note_edges();
        world
    }

    fn note_edges(&mut self) {
        self.hosts = self.cluster.edges.iter().map(|edge| at(edge.port)).collect();
    }

    /// The edges.
    #[must_use]
    pub fn edges(&self) -> &[SocketAddr] {
        &self.hosts
    }

    /// One edge.
    #[must_use]
    pub fn edge(&self, index: usize) -> SocketAddr {
        self.hosts[index]
    }

    /// One coordinator.
    #[must_use]
    pub fn coordinator(&self, index: usize) -> SocketAddr {
        at(self.cluster.coordinators[index].port)
    }

    /// The deployment's bound.
    #[must_use]
    pub fn bound(&self) -> Duration {
        Duration::from_millis(self.cluster.max_staleness_ms().into())
    }

    /// Adds an edge that is set up differently; gives its place.
    pub fn add_edge(&mut self, change: impl FnOnce(&mut EdgeSetup)) -> usize {
        let index = self.cluster.add_edge(change).unwrap_or_else(|error| panic!("the edge does not start: {error:#}"));
        self.note_edges();
        index
    }

    /// Takes the last edge out of the list again, after it was killed.
    pub fn forget_edge(&mut self, index: usize) {
        assert_eq!(index + 1, self.cluster.edges.len(), "the last one");
        drop(self.cluster.edges.pop());
        self.note_edges();
    }

    /// Adds an edge with a clock of its own, off by so many seconds; gives its place and the clock.
    pub fn add_edge_with_clock(&mut self, off_by_s: i64, change: impl FnOnce(&mut EdgeSetup)) -> (usize, Clock) {
        let clock = Clock::new(self.cluster.folder(), off_by_s);
        let index = self.add_edge(change);
        let edge = &mut self.cluster.edges[index];
        let mut recipe = edge.part.recipe().clone();
        edge.kill();
        for (name, value) in clock.environment() {
            recipe = recipe.env(name, value);
        }
        edge.part = recipe.start().expect("the edge starts");
        edge.wait().unwrap_or_else(|error| panic!("the edge does not start: {error:#}"));
        (index, clock)
    }

    /// Adds an edge that asks these coordinators only, in this order, each through a proxy of its own.
    pub fn add_edge_behind_proxies(&mut self, coordinators: &[usize]) -> (usize, Vec<Proxy>) {
        let proxies: Vec<Proxy> = coordinators.iter().map(|index| Proxy::to(self.coordinator(*index))).collect();
        let index = self.add_edge(|setup| setup.coordinator_urls = proxies.iter().map(Proxy::url).collect());
        (index, proxies)
    }

    /// Adds an edge that asks this coordinator only.
    pub fn add_edge_of(&mut self, coordinator: usize) -> usize {
        let url = self.cluster.coordinators[coordinator].url.clone();
        self.add_edge(|setup| setup.coordinator_urls = vec![url])
    }

    /// Runs the command line.
    pub fn edgekeep(&self, arguments: &[&str], input: &str) -> String {
        self.cluster.edgekeep(arguments, input).unwrap_or_else(|error| panic!("edgekeep {arguments:?}: {error:#}"))
    }

    /// Makes a user with this role (none for an empty text). The name begins with `prefix` and is nobody else's.
    pub fn user_with_role(&self, prefix: &str, role: &str) -> User {
        let name = format!("{prefix}-{}", random_hex(4));
        let password = paths::random_password().expect("randomness");
        let mut arguments = vec!["user", "add", &name];
        if !role.is_empty() {
            arguments.extend(["--roles", role]);
        }
        self.edgekeep(&arguments, &format!("{password}\n"));
        let roles = if role.is_empty() { Vec::new() } else { vec![role.to_owned()] };
        User { name, password, roles }
    }

    /// Makes a user without roles.
    pub fn user(&self, prefix: &str) -> User {
        self.user_with_role(prefix, "")
    }

    /// Signs a user in at an edge.
    #[track_caller]
    #[must_use]
    pub fn login(&self, edge: usize, user: &User) -> Client {
        let mut client = Client::new();
        let _ = client.login(self.edge(edge), user).expect(200);
        client
    }

    /// Makes a user and signs them in at the first edge.
    #[track_caller]
    #[must_use]
    pub fn someone(&self, prefix: &str) -> (User, Client) {
        let user = self.user(prefix);
        let client = self.login(0, &user);
        (user, client)
    }

    /// A connection to the database.
    #[must_use]
    pub fn sql(&self) -> Sql {
        Sql::connect(self.cluster.database_url())
    }

    /// How many sessions the database has of a user.
    #[must_use]
    pub fn sessions_of(&self, user: &User) -> i64 {
        self.sql()
            .number(&format!("SELECT count(*) FROM session JOIN users USING (user_id) WHERE name = '{}'", user.name))
    }

    /// A counter of all coordinators together, by its line's beginning in their metrics.
    #[must_use]
    pub fn metric(&self, starts: &str) -> f64 {
        let value = |index: usize| {
            let request = crate::http::Request::new("GET", "/metrics");
            let text = crate::http::send(self.coordinator(index), &request).expect("metrics").text();
            let lines = text.lines().filter(|line| line.starts_with(starts));
            lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>()
        };
        (0..self.cluster.coordinators.len()).map(value).sum()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Nobody needs this data again: no good order, no waiting.
        for part in self.cluster.parts() {
            part.thaw();
            part.kill();
        }
        if let Some(postgres) = &mut self.cluster.postgres {
            postgres.part().kill();
        }
    }
}

/// Loopback.
#[must_use]
pub fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}
