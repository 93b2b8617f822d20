//! `docs/performance/results.json`: every figure, measured or not, with the machine that it was measured on.
//!
//! A run replaces what it measured and leaves the rest; each benchmark keeps the machine and the time of its run.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::figures;
use crate::load::Series;
use crate::machine::Machine;
use crate::stats::Spread;

/// One measured figure.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// Median, lowest and highest round.
    pub value: Spread,
    /// What else must be known to read it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A row of a benchmark's table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// The contender.
    pub name: String,
    /// Requests per second of wall-clock time.
    pub per_second: Spread,
    /// Processor time of its processes per request, in microseconds.
    pub cpu_us: Spread,
    /// Median latency, in milliseconds.
    pub median_ms: Spread,
    /// 99th percentile of latency, in milliseconds.
    pub p99_ms: Spread,
}

impl Row {
    /// Of a contender's rounds; `None` if there were none.
    #[must_use]
    pub fn of(series: &Series) -> Option<Self> {
        Some(Self {
            name: series.name.clone(),
            per_second: Spread::of(&series.per_second)?,
            cpu_us: series.cpu_us()?,
            median_ms: Spread::of(&series.median_ms)?,
            p99_ms: Spread::of(&series.p99_ms)?,
        })
    }
}

/// What one benchmark found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Bench {
    /// Where and when.
    pub machine: Machine,
    /// The command that repeats it.
    pub command: String,
    /// Tables of contenders that took turns, by title.
    pub tables: BTreeMap<String, Vec<Row>>,
    /// Its figures by name.
    pub figures: BTreeMap<String, Measured>,
    /// Figures that could not be measured here, and why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub missing: BTreeMap<String, String>,
}

impl Bench {
    /// Notes a figure.
    pub fn note(&mut self, id: &str, value: Option<Spread>, notes: &[&str]) {
        debug_assert!(figures::named(id).is_some(), "{id}");
        if let Some(value) = value {
            let notes = notes.iter().map(|note| (*note).to_owned()).collect();
            self.figures.insert(id.to_owned(), Measured { value, notes });
        }
    }

    /// Notes that a figure could not be measured here.
    pub fn cannot(&mut self, id: &str, why: &str) {
        debug_assert!(figures::named(id).is_some(), "{id}");
        self.missing.insert(id.to_owned(), why.to_owned());
    }

    /// Notes a table.
    pub fn table(&mut self, title: &str, all: &[Series]) {
        self.tables.insert(title.to_owned(), all.iter().filter_map(Row::of).collect());
    }
}

/// All that is known.
#[derive(Clone, Debug, Default)]
pub struct Results(pub BTreeMap<String, Bench>);

/// One figure as the file tells it.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    id: String,
    figure: String,
    unit: String,
    goal: String,
    /// `null`: not measured yet.
    value: Option<f64>,
    spread: Option<[f64; 2]>,
    met: Option<bool>,
    notes: Vec<String>,
    command: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct File {
    about: String,
    figures: Vec<Told>,
    benches: BTreeMap<String, Bench>,
}

/// Where results and report lie.
#[must_use]
pub fn folder() -> PathBuf {
    xtask::paths::root().join("docs/performance")
}

impl Results {
    /// What earlier runs found; nothing if there were none.
    ///
    /// # Errors
    /// If the file is not one of ours.
    pub fn load() -> Result<Self> {
        let path = folder().join("results.json");
        match fs::read_to_string(&path) {
            Err(_) => Ok(Self::default()),
            Ok(text) => {
                let file: File = serde_json::from_str(&text).with_context(|| format!("{}", path.display()))?;
                Ok(Self(file.benches))
            }
        }
    }

    /// The figure, if it was measured.
    #[must_use]
    pub fn figure(&self, figure: &figures::Figure) -> Option<&Measured> {
        self.0.get(figure.bench)?.figures.get(figure.id)
    }

    /// Why a figure has no value.
    #[must_use]
    pub fn why_not(&self, figure: &figures::Figure) -> &str {
        let told = self.0.get(figure.bench).and_then(|bench| bench.missing.get(figure.id));
        told.map_or("not measured yet", String::as_str)
    }

    /// Writes the file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save(&self) -> Result<()> {
        fs::create_dir_all(folder())?;
        let text = serde_json::to_string_pretty(&self.file())?;
        fs::write(folder().join("results.json"), format!("{text}\n"))?;
        Ok(())
    }

    fn file(&self) -> File {
        let told = |figure: &figures::Figure| {
            let measured = self.figure(figure);
            let value = measured.map(|measured| measured.value);
            Told {
                id: figure.id.into(),
                figure: figure.what.into(),
                unit: figure.unit.into(),
                goal: figure.goal.shown(),
                value: value.map(|value| value.median),
                spread: value.map(|value| [value.min, value.max]),
                met: value.and_then(|value| figure.goal.met(value.median)),
                notes: measured.map_or_else(|| vec![self.why_not(figure).into()], |measured| measured.notes.clone()),
                command: match self.0.get(figure.bench) {
                    Some(bench) => bench.command.clone(),
                    None => format!("cargo xtask bench {}", figure.bench),
                },
            }
        };
        File {
            about: "Written by `cargo xtask bench`. A value is the median of the rounds, its spread their lowest and \
                    highest; `null` is not measured yet."
                .into(),
            figures: figures::ALL.iter().map(told).collect(),
            benches: self.0.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn told(results: &Results, id: &str) -> Value {
        let file = serde_json::to_value(results.file()).unwrap_or_default();
        let all = file["figures"].as_array().cloned().unwrap_or_default();
        assert_eq!(all.len(), figures::ALL.len());
        all.into_iter().find(|figure| figure["id"] == id).unwrap_or_default()
    }

    #[test]
    fn every_figure_is_told_with_value_spread_goal_met_and_command() {
        let mut bench = Bench { command: "cargo xtask bench feed --rounds 3".into(), ..Bench::default() };
        bench.note("S10", Some(Spread { median: 0.9, min: 0.8, max: 1.0 }), &["a note"]);
        bench.note("S10-bytes", Some(Spread::exactly(101.0)), &[]);
        bench.cannot("S10-flat", "no room for a million entries");
        let results = Results(BTreeMap::from([("feed".to_owned(), bench)]));
        let good = told(&results, "S10");
        for key in ["id", "figure", "unit", "goal", "value", "spread", "met", "notes", "command"] {
            assert!(good.get(key).is_some_and(|value| !value.is_null()), "{key} of {good}");
        }
        assert_eq!((&good["value"], &good["spread"]), (&json!(0.9), &json!([0.8, 1.0])));
        assert_eq!((&good["goal"], &good["met"]), (&json!("≥ 0.7"), &json!(true)));
        assert_eq!(good["command"], "cargo xtask bench feed --rounds 3");
        assert_eq!(told(&results, "S10-bytes")["met"], false);
        let without = told(&results, "S10-flat");
        assert_eq!((&without["value"], &without["notes"]), (&Value::Null, &json!(["no room for a million entries"])));
        let never = told(&results, "S1");
        assert_eq!(
            (&never["notes"], &never["command"]),
            (&json!(["not measured yet"]), &json!("cargo xtask bench edge"))
        );
    }
}
