//! The machine that a benchmark ran on, and how busy it was.

use std::fs;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use xtask::command;
use xtask::node::Tools;

/// Where and when.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Machine {
    /// The processor, as the system names it.
    pub processor: String,
    /// How many of it we may use.
    pub cores: usize,
    /// The system.
    pub system: String,
    /// Runnable tasks over the last minute, before and after. Over the number of cores, the machine was busy with
    /// something else or with us.
    pub load: [f64; 2],
    /// What took part, with its version.
    pub versions: Vec<String>,
    /// When it ended, in seconds since 1970.
    pub at_s: u64,
}

impl Machine {
    /// This one, at the start of a run.
    #[must_use]
    pub fn here(tools: &Tools) -> Self {
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let version = |program: &mut Command| {
            command::output(program, "").map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
        };
        Self {
            processor: name.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.to_owned()),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            system: version(Command::new("uname").arg("-sr")),
            load: [load(); 2],
            versions: vec![
                version(Command::new(tools.workerd()).arg("--version")),
                format!("Node.js {}", version(Command::new(&tools.node).arg("--version"))),
                version(Command::new(tools.postgres().join("bin/postgres")).arg("--version")),
                version(Command::new("rustc").arg("--version")),
            ],
            at_s: 0,
        }
    }

    /// At the end of the run.
    pub fn end(&mut self) {
        self.load[1] = load();
        self.at_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    }
}

fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or_default()
}
