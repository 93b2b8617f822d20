//! Chromium against a cluster of two raw edges: `tests/browser/*.test.mjs`, run by Node's own test runner.
//!
//! All files are modules of one process: one cluster, and settings that tests change, want one test after the other,
//! and one browser is enough for all. A process for each file would also be counted as a test that passed wherever
//! a filter leaves nothing of the file.
//!
//! The tests find in their environment: `EDGEKEEP_TEST_ENDPOINTS` (path of `endpoints.json`), `EDGEKEEP_TEST_BROWSER`
//! (path of the browser), `EDGEKEEP_TEST_SCREENSHOTS` (a folder; what is in it is CI output).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::count::{self, Count};
use super::environment::Environment;
use crate::cluster::{Cluster, Options};
use crate::node::Tools;
use crate::{apt, command, console, paths};

/// What a Chromium may be called, best first.
const NAMES: [&str; 5] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"];

/// Runs the browser tests.
pub fn run(environment: &Environment) -> Result<Count> {
    let folder = paths::root().join("tests/browser");
    let mut files: Vec<String> = fs::read_dir(&folder)
        .map(|entries| entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect())
        .unwrap_or_default();
    files.retain(|name| name.ends_with(".test.mjs"));
    files.sort();
    if files.is_empty() {
        bail!("there is no test in {}", folder.display());
    }
    let tools = Tools::ensure(false)?;
    let browser = find_browser(&tools)?;
    let place = Environment::folder().join("browser");
    let screenshots = paths::target().join("browser");
    // Pictures of pages that are gone must not be taken for those of this run.
    let _ = fs::remove_dir_all(&screenshots);
    fs::create_dir_all(&screenshots)?;
    let cluster = Cluster::start(Options {
        coordinators: 2,
        edges: 2,
        quiet: false,
        ..Options::for_tests(place.join("cluster"))
    })?;

    let mut node = Command::new(&tools.node);
    node.current_dir(&folder)
        .args(["--test-reporter=spec", "--test-reporter-destination=stdout"])
        .env("EDGEKEEP_TEST_ENDPOINTS", cluster.endpoints_file())
        .env("EDGEKEEP_TEST_BROWSER", &browser)
        .env("EDGEKEEP_TEST_SCREENSHOTS", &screenshots);
    if let Some(only) = environment.only() {
        node.arg(format!("--test-name-pattern={}", pattern(only)));
    }
    let imports: String = files.iter().map(|name| format!("import './{name}';")).collect();
    let count = count::run(node.args(["--input-type=module", "--eval", &imports]))?;
    console::say(&format!("screenshots: {}", screenshots.display()));
    drop(cluster);
    Ok(count)
}

/// A regular expression for names that contain `text`.
fn pattern(text: &str) -> String {
    text.chars().flat_map(|c| c.is_ascii_punctuation().then_some('\\').into_iter().chain([c])).collect()
}

/// A Chromium that is here, or that can be brought here.
fn find_browser(tools: &Tools) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("EDGEKEEP_TEST_BROWSER").or_else(|| std::env::var_os("CHROMIUM_PATH")) {
        return Ok(path.into());
    }
    if let Some(path) = installed().or_else(|| from_playwright(tools)) {
        return Ok(path);
    }
    if apt::install("chromium")? {
        return installed().context("apt-get installed chromium, and there is none");
    }
    let step = console::step("installing Chromium with playwright", false);
    let mut playwright = Command::new(&tools.node);
    playwright.arg(tools.modules().join("playwright-core/cli.js")).args(["install", "chromium-headless-shell"]);
    match command::output(&mut playwright, "") {
        Ok(_) => {
            step.done("");
            from_playwright(tools).context("playwright installed chromium, and there is none")
        }
        Err(error) => bail!(
            "there is no Chromium, and playwright cannot fetch one ({error:#}).\n\
             Install it (Debian: apt-get install chromium; macOS: brew install chromium), or name one with \
             EDGEKEEP_TEST_BROWSER=/path/of/chromium"
        ),
    }
}

fn installed() -> Option<PathBuf> {
    let on_mac = [
        "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
        "/Applications/Chromium.app/Contents/MacOS/Chromium",
    ];
    NAMES
        .iter()
        .find_map(|name| command::on_path(name))
        .or_else(|| on_mac.map(PathBuf::from).into_iter().find(|path| path.exists()))
}

/// The browser that playwright has fetched before, if it has.
fn from_playwright(tools: &Tools) -> Option<PathBuf> {
    let script = "const { chromium } = await import('playwright-core'); console.log(chromium.executablePath());";
    let mut node = Command::new(&tools.node);
    node.current_dir(paths::root()).args(["--input-type=module", "-e", script]);
    let path = command::output(&mut node, "").ok()?;
    let path = Path::new(path.trim()).to_path_buf();
    path.is_file().then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_taken_literally() {
        assert_eq!(pattern("a form (a/b) is sent"), r"a form \(a\/b\) is sent");
    }
}
