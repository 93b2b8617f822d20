//! pgbench, which comes with Postgres but not with the one from npm: what the database can do at all. It is used where it is found
//! on the `PATH`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use xtask::command;

use crate::cpu;
use crate::load::Series;
use crate::peers;
use crate::stats::quantile;

/// What a strict check reads of a session, by primary key. pgbench prepares it, with `:user` as its parameter.
const SCRIPT: &str = "SELECT session_id, authenticated_at, proof_until, idle_expires_at, expires_at FROM session \
                      WHERE user_id = :user AND slot = 0;\n";

/// pgbench against one database.
pub struct Pgbench {
    program: PathBuf,
    folder: PathBuf,
    /// Where it connects, as libpq's variables.
    environment: Vec<(&'static str, String)>,
    postmaster: u32,
    user_id: u64,
    connections: u32,
    /// What it did in each round.
    pub series: Series,
}

/// Where it is; `None` if it is not on the `PATH`.
#[must_use]
pub fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join("pgbench")).find(|program| program.is_file())
}

/// The parts of `postgres://user:password@host:port/database` as libpq's variables: an argument could be seen by everybody.
fn variables(database_url: &str) -> Option<Vec<(&'static str, String)>> {
    let (user, rest) = database_url.strip_prefix("postgres://")?.split_once(':')?;
    let (password, rest) = rest.split_once('@')?;
    let (host, rest) = rest.split_once(':')?;
    let (port, database) = rest.split_once('/')?;
    let all =
        [("PGUSER", user), ("PGPASSWORD", password), ("PGHOST", host), ("PGPORT", port), ("PGDATABASE", database)];
    Some(all.map(|(name, value)| (name, value.to_owned())).to_vec())
}

impl Pgbench {
    /// Selects the session of this user, on so many connections.
    ///
    /// # Errors
    /// If its script cannot be written, or the address is not understood.
    pub fn new(program: PathBuf, database_url: &str, postmaster: u32, user_id: u64, connections: u32) -> Result<Self> {
        let folder = peers::folder().join("pgbench");
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("select.sql"), SCRIPT)?;
        let environment = variables(database_url).context("the database's address")?;
        let series = Series { name: "pgbench, SELECT by primary key, prepared".into(), ..Series::default() };
        Ok(Self { program, folder, environment, postmaster, user_id, connections, series })
    }

    /// One turn. Its processor time is that of the backends: pgbench's own is a client's.
    ///
    /// # Errors
    /// If it fails.
    pub fn turn(&mut self, length: Duration) -> Result<()> {
        let seconds = length.as_secs().max(1);
        let logs = self.folder.join("log");
        let _ = fs::remove_dir_all(&logs);
        fs::create_dir_all(&logs)?;
        let mut pgbench = Command::new(&self.program);
        pgbench
            .current_dir(&self.folder)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .args(["--no-vacuum", "--protocol=prepared", "--file=select.sql", "--log", "--log-prefix=log/each"])
            .arg(format!("--define=user={}", self.user_id))
            .arg(format!("--client={}", self.connections))
            .arg(format!("--time={seconds}"));
        let before = cpu::seconds_of_ended_children(self.postmaster);
        let text = command::output(&mut pgbench, "")?;
        // The server notices within a moment that its clients have gone.
        std::thread::sleep(Duration::from_millis(200));
        let used_s = cpu::seconds_of_ended_children(self.postmaster) - before;
        let per_second = tps(&text).with_context(|| format!("pgbench told no tps: {text}"))?;
        let latencies_ms = latencies_ms(&logs)?;
        anyhow::ensure!(!latencies_ms.is_empty() && used_s > 0.0, "pgbench did nothing: {text}");
        self.series.per_second.push(per_second);
        self.series.per_cpu_second.push(latencies_ms.len() as f64 / used_s);
        self.series.median_ms.push(quantile(&latencies_ms, 0.5).unwrap_or_default());
        self.series.p99_ms.push(quantile(&latencies_ms, 0.99).unwrap_or_default());
        Ok(())
    }
}

/// `tps = 1234.5 (without initial connection time)`
fn tps(text: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix("tps = ")?.split_whitespace().next()?.parse().ok())
}

/// Of every transaction: the third number of each line of its logs, in microseconds.
fn latencies_ms(logs: &std::path::Path) -> Result<Vec<f64>> {
    let mut all = Vec::new();
    for log in fs::read_dir(logs)? {
        let text = fs::read_to_string(log?.path())?;
        let us = text.lines().filter_map(|line| line.split_whitespace().nth(2)?.parse::<f64>().ok());
        all.extend(us.map(|us| us / 1e3));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pgbench_prints_is_read() {
        let text = "latency average = 0.066 ms\ninitial connection time = 3.1 ms\ntps = 15102.25 (without initial connection time)\n";
        assert_eq!(tps(text), Some(15_102.25));
        assert_eq!(tps("nothing"), None);
    }

    #[test]
    fn the_database_s_address_is_taken_apart() {
        let all = variables("postgres://postgres:a-b@127.0.0.1:5432/edgekeep").unwrap_or_default();
        let shown: Vec<String> = all.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(shown.join(" "), "PGUSER=postgres PGPASSWORD=a-b PGHOST=127.0.0.1 PGPORT=5432 PGDATABASE=edgekeep");
        assert!(variables("postgres://x").is_none());
    }
}
