//! `docs/performance/report.md` and its pictures, from what is known.

use std::fmt::Write as _;
use std::fs;

use anyhow::Result;

use crate::figures::{ALL, Figure};
use crate::plot::{bars, number};
use crate::results::{Bench, Results, Row, folder};
use crate::stats::Spread;

/// Writes the report and the pictures.
///
/// # Errors
/// If a file cannot be written.
pub fn write(results: &Results) -> Result<()> {
    fs::create_dir_all(folder())?;
    fs::write(folder().join("report.md"), text(results))?;
    for (name, bench) in &results.0 {
        for (title, rows) in &bench.tables {
            let shown: Vec<(String, Spread, bool)> =
                rows.iter().map(|row| (row.name.clone(), row.cpu_us, ours(row))).collect();
            let title_text = format!("{name}: {}", title.to_lowercase());
            let svg = bars(&title_text, "µs of processor time per request; shorter is better", &shown);
            fs::write(folder().join(picture(name, title)), svg)?;
        }
    }
    Ok(())
}

fn ours(row: &Row) -> bool {
    row.name.starts_with("edgekeep")
}

fn picture(bench: &str, title: &str) -> String {
    let plain: String = title.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    format!("{bench}-{plain}.svg")
}

/// Median, with the spread where there is one.
fn shown(value: Spread) -> String {
    if value.min == value.max {
        number(value.median)
    } else {
        format!("{} ({} – {})", number(value.median), number(value.min), number(value.max))
    }
}

fn text(results: &Results) -> String {
    let mut text = String::from(
        "# Performance: the report\n\nWritten by `cargo xtask bench`; [README.md](README.md) says how to read and to \
         repeat it. Values are the median of the rounds, with the lowest and the highest.\n\n\
         | | figure | value | goal | met |\n|---|---|---|---|---|\n",
    );
    for figure in ALL {
        let _ = writeln!(text, "{}", line(figure, results));
    }
    for (name, bench) in &results.0 {
        section(&mut text, name, bench);
    }
    text
}

fn line(figure: &Figure, results: &Results) -> String {
    let (value, met) = match results.figure(figure) {
        None => (results.why_not(figure).to_owned(), ""),
        Some(measured) => {
            let unit = if figure.unit.is_empty() { String::new() } else { format!(" {}", figure.unit) };
            let met = match figure.goal.met(measured.value.median) {
                Some(true) => "yes",
                Some(false) => "**no**",
                None => "",
            };
            (format!("{}{unit}", shown(measured.value)), met)
        }
    };
    format!("| {} | {} | {value} | {} | {met} |", figure.id, figure.what, figure.goal.shown())
}

fn section(text: &mut String, name: &str, bench: &Bench) {
    let machine = &bench.machine;
    let _ = writeln!(
        text,
        "\n## {name}\n\n`{}` on {} ({} cores), {}. Load before and after: {:.1}, {:.1}. {}.",
        bench.command,
        machine.processor,
        machine.cores,
        machine.system,
        machine.load[0],
        machine.load[1],
        machine.versions.join(", ")
    );
    for (title, rows) in &bench.tables {
        let _ =
            writeln!(text, "\n**{title}**\n\n| | requests/s | µs of CPU | median ms | p99 ms |\n|---|---|---|---|---|");
        for row in rows {
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} |",
                row.name,
                shown(row.per_second),
                shown(row.cpu_us),
                number(row.median_ms.median),
                number(row.p99_ms.median)
            );
        }
        let _ = writeln!(text, "\n![{title}]({})", picture(name, title));
    }
    let notes: Vec<String> = ALL
        .iter()
        .filter_map(|figure| Some((figure.id, &bench.figures.get(figure.id)?.notes)))
        .filter(|(_, notes)| !notes.is_empty())
        .map(|(id, notes)| format!("- {id}: {}", notes.join("; ")))
        .collect();
    if !notes.is_empty() {
        let _ = writeln!(text, "\n{}", notes.join("\n"));
    }
}
