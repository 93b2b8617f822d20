//! `endpoints.json`: what is running where, for anyone's own client, for browser tests, for fault injection.
//!
//! Fields may be added, never changed. The file holds the demo users' passwords: only its owner may read it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::state::User;

/// One part with an address.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its address, without a slash at the end.
    pub url: String,
    /// Its process; `null` if it is not one of ours.
    pub pid: Option<u32>,
    /// Its process and those that it has started itself (`wrangler dev` runs workerd).
    #[serde(default)]
    pub pids: Vec<u32>,
}

/// Paths of the example site, by what they ask for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Paths {
    /// For everybody.
    pub public: String,
    /// For any session.
    pub session: String,
    /// For the role `admin`.
    pub role: String,
    /// For any session, asked at the coordinator each time.
    pub strict: String,
    /// Says in JSON what reached the site; for any session.
    pub echo: String,
    /// Echoes WebSocket messages; for any session.
    pub websocket: String,
    /// A page that arrives bit by bit; for any session.
    pub stream: String,
    /// As many bytes as `?n=` says; for any session.
    pub bytes: String,
}

/// The site behind the edges.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Origin {
    /// Its address; nobody but edges should have it.
    pub url: String,
    /// Its process.
    pub pid: Option<u32>,
    /// Its paths.
    pub paths: Paths,
}

/// Everything.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Endpoints {
    /// The edges. All take the same sessions.
    pub edges: Vec<Endpoint>,
    /// The coordinators.
    pub coordinators: Vec<Endpoint>,
    /// The database, as its owner.
    pub database: Endpoint,
    /// The site.
    pub origin: Origin,
    /// The command line, ready for this database.
    pub edgekeep: PathBuf,
    /// The coordinators' configuration file.
    pub config: PathBuf,
    /// The deployment's bound.
    pub max_staleness_ms: u32,
    /// Where the doors are.
    pub auth_prefix: String,
    /// Users to try it with.
    pub users: Vec<User>,
    /// What the parts wrote.
    pub logs: PathBuf,
    /// The runtime of the edges: `workerd` or `wrangler`.
    pub runtime: String,
}
