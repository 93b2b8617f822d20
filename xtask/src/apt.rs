//! Debian's packages, for the few tools that neither cargo nor npm has.
//!
//! Installed for root alone, which is what containers and CI run as: nobody else is asked for a password.

use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{command, console};

/// Installs a package where that can be done: as root, on a system with apt-get. Gives whether it did.
///
/// # Errors
/// If apt-get fails.
pub fn install(package: &str) -> Result<bool> {
    if !rustix::process::geteuid().is_root() || command::on_path("apt-get").is_none() {
        return Ok(false);
    }
    let step = console::step(format!("installing {package} with apt-get"), false);
    let apt = |arguments: &[&str]| {
        let mut apt = Command::new("apt-get");
        command::output(apt.env("DEBIAN_FRONTEND", "noninteractive").args(arguments), "")
    };
    let install = ["install", "--yes", "--no-install-recommends", package];
    // An image without package lists, or with old ones, needs the update; others are spared it.
    apt(&install)
        .or_else(|_| apt(&["update"]).and_then(|_| apt(&install)))
        .with_context(|| format!("{package} is missing, and apt-get cannot install it"))?;
    step.done("");
    Ok(true)
}
