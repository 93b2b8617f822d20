//! What every benchmark starts from: the tools, the release builds, one cluster, and somebody who is signed in.

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use xtask::cluster::{Cluster, Options};
use xtask::node::Tools;
use xtask::paths;
use xtask::state::User;

use crate::http::{Connection, request};
use crate::workerd::at;
use crate::{peers, say};

/// A proof that outlives every benchmark, so that renewals are measured where they are asked for.
const PROOF_LIFE_MS: u32 = 3_600_000;

/// What a benchmark works with.
pub struct World {
    /// Tools from npm.
    pub tools: Tools,
    /// The cluster.
    pub cluster: Cluster,
}

impl World {
    /// Starts a cluster for the benchmark `name`; `change` sees its options before.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn start(name: &str, change: impl FnOnce(&mut Options)) -> Result<Self> {
        let tools = Tools::ensure(false)?;
        let mut options = Options::for_tests(peers::folder().join(name));
        options.settings.push(("proof_life_ms".into(), PROOF_LIFE_MS.to_string()));
        options.coordinator_environment.push(("EDGEKEEP_LOG__FILTER".into(), "warn".into()));
        change(&mut options);
        say(&format!("  starting a cluster ({} coordinators, {} edges)", options.coordinators, options.edges));
        let cluster = Cluster::start(options)?;
        Ok(Self { tools, cluster })
    }

    /// The processes of a coordinator.
    #[must_use]
    pub fn coordinator_pids(&self, index: usize) -> Vec<u32> {
        vec![self.cluster.coordinators[index].part.pid()]
    }

    /// Signs a user in at the first edge and gives the cookie as the header has it, `name=value`.
    ///
    /// # Errors
    /// If it is refused.
    pub fn cookie(&self, user: &str) -> Result<String> {
        let user = self.cluster.user(user).context("no such user")?;
        login(self.cluster.edges.first().context("no edge")?.port, user)
    }
}

/// Signs in at an edge and gives the cookie.
///
/// # Errors
/// If it is refused.
pub fn login(port: u16, user: &User) -> Result<String> {
    let body = json!({"username": user.name, "password": user.password}).to_string();
    let key = paths::random_password()?;
    let headers = [("Content-Type", "application/json"), ("Idempotency-Key", key.as_str())];
    let mut text = Vec::new();
    let sent = request("POST", "/auth/login", &headers, body.as_bytes());
    let answer = Connection::open(at(port))?.exchange(&sent, Some(&mut text))?;
    let cookie = answer.cookies.into_iter().find(|cookie| cookie.starts_with("__Host-edgekeep-"));
    match cookie {
        Some(cookie) if answer.status == 200 => Ok(cookie),
        _ => bail!("the login was answered with {}: {}", answer.status, String::from_utf8_lossy(&text)),
    }
}
