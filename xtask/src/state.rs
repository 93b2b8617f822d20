//! What a cluster keeps from one start to the next: its secrets, its edges' credential and its users' passwords.
//!
//! Made once, kept in the cluster's folder in a file that only its owner may read, gone with `--fresh`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use crate::paths;

/// A user that exists for trying things out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct User {
    /// The name.
    pub name: String,
    /// The password.
    pub password: String,
    /// The roles.
    pub roles: Vec<String>,
}

/// An edge credential. `Debug` is not implemented, so that it ends in no log.
#[derive(Clone, Serialize, Deserialize)]
pub struct Edge {
    /// What the database calls it.
    pub name: String,
    /// What edges show.
    pub credential: String,
}

/// Everything that is kept. `Debug` is not implemented, so that it ends in no log.
#[derive(Clone, Serialize, Deserialize)]
pub struct State {
    /// Seals signing keys in the database: base64 of 32 bytes, as the other two.
    pub seal_key: String,
    /// Keys the hash of user names.
    pub subject_key: String,
    /// Keys attempt ids.
    pub attempt_key: String,
    /// Signs assertions for the origin: base64url of 32 bytes, known to edges and origin.
    pub assertion_key: String,
    /// By database, because what follows means nothing in another one.
    pub databases: BTreeMap<String, InDatabase>,
}

/// What lies in one database.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct InDatabase {
    /// The credential that all edges share.
    pub edge: Option<Edge>,
    /// The users, in the order in which they were made.
    pub users: Vec<User>,
}

impl State {
    /// Reads what was kept in `folder`, or makes new secrets.
    ///
    /// # Errors
    /// If the file is there and cannot be used.
    pub fn load(folder: &Path) -> Result<Self> {
        let path = file(folder);
        if let Ok(text) = std::fs::read_to_string(&path) {
            return serde_json::from_str(&text)
                .with_context(|| format!("{} cannot be read: start with --fresh", path.display()));
        }
        let key = || Ok::<_, anyhow::Error>(STANDARD.encode(paths::random_bytes(32)?));
        Ok(Self {
            seal_key: key()?,
            subject_key: key()?,
            attempt_key: key()?,
            assertion_key: URL_SAFE_NO_PAD.encode(paths::random_bytes(32)?),
            databases: BTreeMap::new(),
        })
    }

    /// Keeps it.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, folder: &Path) -> Result<()> {
        paths::write_private(&file(folder), &serde_json::to_string_pretty(self)?)
    }
}

fn file(folder: &Path) -> PathBuf {
    folder.join("state.json")
}

/// Removes what was kept.
///
/// # Errors
/// If it cannot be removed.
pub fn wipe(folder: &Path) -> Result<()> {
    match std::fs::remove_file(file(folder)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
