//! What is in the repository to be deployed or copied can be, as it stands: the edge by wrangler and by workerd, and
//! the examples of workers that use it.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Result;

use super::count::Count;
use super::environment::Environment;
use crate::node::Tools;
use crate::{command, paths, wasm};

/// Checks all of them.
pub fn run() -> Result<Count> {
    let tools = Tools::ensure(false)?;
    wasm::build(false)?;
    let examples = paths::root().join("examples");
    let mut count = Count::default();
    count += Count::of(dry_run(&tools, &paths::root().join("wrangler.toml"), "edge"));
    count += Count::of(dry_run(&tools, &examples.join("js-worker/wrangler.toml"), "js-worker"));
    count += Count::of(compile(&tools, &paths::root().join("edge/workerd/config.capnp")));
    count += Count::of(compile(&tools, &examples.join("js-worker/config.capnp")));
    count += Count::of(wasm::build_example(false).map(|_| ()));
    count += Count::of(compile(&tools, &examples.join("rust-worker/config.capnp")));
    Ok(count)
}

/// wrangler builds and packs the worker, and sends nothing.
fn dry_run(tools: &Tools, config: &Path, name: &str) -> Result<()> {
    let mut wrangler = Command::new(&tools.node);
    wrangler
        .current_dir(paths::root())
        .arg("--no-warnings")
        .arg(tools.wrangler())
        .args(["deploy", "--dry-run", "--config"])
        .arg(config)
        .arg("--outdir")
        .arg(Environment::folder().join("dry-run").join(name))
        .env("WRANGLER_SEND_METRICS", "false")
        .env("WRANGLER_LOG_PATH", Environment::folder().join("wrangler-logs"));
    command::run(&mut wrangler)
}

/// workerd reads the configuration and every file that it names.
fn compile(tools: &Tools, config: &Path) -> Result<()> {
    let mut workerd = Command::new(tools.workerd());
    workerd.current_dir(paths::root()).arg("compile").arg(config).stdout(Stdio::null());
    command::run(&mut workerd)
}
