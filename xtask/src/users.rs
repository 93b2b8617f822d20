//! What a cluster does through the coordinator's command line: migrate, set, add an edge, add users.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::state::{Edge, InDatabase, User};
use crate::{command, paths};

/// The name of the credential that all edges of a cluster share.
const EDGE: &str = "dev";

/// Runs the command line with `input` on its standard input, and gives what it printed.
///
/// # Errors
/// If it fails.
pub fn edgekeep(cli: &Path, arguments: &[&str], input: &str) -> Result<String> {
    command::output(Command::new(cli).args(arguments), input)
}

fn json(cli: &Path, arguments: &[&str]) -> Result<Value> {
    let mut all = arguments.to_vec();
    all.push("--json");
    let text = edgekeep(cli, &all, "")?;
    serde_json::from_str(&text).with_context(|| format!("edgekeep {} printed no JSON: {text}", all.join(" ")))
}

/// Brings the database's schema up to date.
///
/// # Errors
/// If it fails.
pub fn migrate(cli: &Path) -> Result<()> {
    edgekeep(cli, &["migrate"], "").map(|_| ())
}

/// Changes the deployment's settings, all or none.
///
/// # Errors
/// If one of them is refused.
pub fn set(cli: &Path, settings: &[(String, String)]) -> Result<()> {
    if settings.is_empty() {
        return Ok(());
    }
    let pairs: Vec<String> = settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut arguments = vec!["settings", "set"];
    arguments.extend(pairs.iter().map(String::as_str));
    edgekeep(cli, &arguments, "").map(|_| ())
}

/// The deployment's bound.
///
/// # Errors
/// If it cannot be read.
pub fn max_staleness_ms(cli: &Path) -> Result<u32> {
    let settings = json(cli, &["settings", "show"])?;
    let bound = settings.get("max_staleness_ms").and_then(Value::as_u64).and_then(|bound| u32::try_from(bound).ok());
    bound.context("edgekeep settings show does not say max_staleness_ms")
}

/// A credential for a relay, which is good for the feed alone.
///
/// # Errors
/// If it cannot be made.
pub fn feed_credential(cli: &Path, name: &str) -> Result<String> {
    let added = json(cli, &["edge", "add", name, "--feed-only"])?;
    let credential = added.get("credential").and_then(Value::as_str);
    Ok(credential.context("edgekeep edge add printed no credential")?.to_owned())
}

/// The credential of the cluster's edges: the one that is kept, if the database knows it, else a new one.
///
/// # Errors
/// If it cannot be made.
pub fn ensure_edge(cli: &Path, kept: &mut InDatabase) -> Result<String> {
    let listed = json(cli, &["edge", "list"])?;
    let known =
        |name: &str| listed.as_array().into_iter().flatten().find(|edge| edge["edge_id"].as_str() == Some(name));
    if let Some(edge) = &kept.edge
        && known(&edge.name).is_some_and(|edge| edge["revoked_at_ms"].is_null())
    {
        return Ok(edge.credential.clone());
    }
    // A name is used once: where its credential is lost or revoked, another one is taken.
    let name = if known(EDGE).is_some() { format!("{EDGE}-{}", paths::random_password()?) } else { EDGE.to_owned() };
    let added = json(cli, &["edge", "add", &name])?;
    let credential = added["credential"].as_str().context("edgekeep edge add gave no credential")?.to_owned();
    kept.edge = Some(Edge { name, credential: credential.clone() });
    Ok(credential)
}

/// The users, with passwords that are kept or made anew.
///
/// # Errors
/// If one cannot be made.
pub fn ensure(cli: &Path, kept: &mut InDatabase, wanted: &[(String, Vec<String>)]) -> Result<Vec<User>> {
    let mut users = Vec::new();
    for (name, roles) in wanted {
        let exists = json(cli, &["user", "show", name]).is_ok();
        let kept_user = kept.users.iter().find(|user| &user.name == name && &user.roles == roles);
        let user = match (kept_user, exists) {
            (Some(user), true) => user.clone(),
            (_, exists) => {
                let user = User { name: name.clone(), password: paths::random_password()?, roles: roles.clone() };
                let roles = user.roles.join(",");
                let line = format!("{}\n", user.password);
                if exists {
                    edgekeep(cli, &["user", "passwd", name], &line)?;
                    edgekeep(cli, &["user", "roles", name, &roles], "")?;
                } else if roles.is_empty() {
                    edgekeep(cli, &["user", "add", name], &line)?;
                } else {
                    edgekeep(cli, &["user", "add", name, "--roles", &roles], &line)?;
                }
                user
            }
        };
        kept.users.retain(|other| other.name != user.name);
        kept.users.push(user.clone());
        users.push(user);
    }
    Ok(users)
}
