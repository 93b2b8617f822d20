//! The two deployments of an edge that are in the repository can be deployed as they stand.

use std::process::{Command, Stdio};

use anyhow::Result;

use super::count::Count;
use super::environment::Environment;
use crate::node::Tools;
use crate::{command, paths, wasm};

/// Checks `wrangler.toml` and `edge/workerd/config.capnp`.
pub fn run() -> Result<Count> {
    let tools = Tools::ensure(false)?;
    wasm::build(false)?;
    let mut count = Count::default();

    let mut wrangler = Command::new(&tools.node);
    wrangler
        .current_dir(paths::root())
        .arg("--no-warnings")
        .arg(tools.wrangler())
        .args(["deploy", "--dry-run", "--outdir"])
        .arg(Environment::folder().join("dry-run"))
        .env("WRANGLER_SEND_METRICS", "false")
        .env("WRANGLER_LOG_PATH", Environment::folder().join("wrangler-logs"));
    count += Count::of(command::run(&mut wrangler));

    // Reads the configuration and every file that it names.
    let mut workerd = Command::new(tools.workerd());
    workerd.current_dir(paths::root()).args(["compile", "edge/workerd/config.capnp"]).stdout(Stdio::null());
    count += Count::of(command::run(&mut workerd));
    Ok(count)
}
