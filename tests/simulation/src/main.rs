//! Runs the simulation: `cargo xtask simulate`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum as _};
use edgekeep_simulation::{Log, Plan, Sabotage, Stats, World, generate, run, scale, shrink};

/// Plays seeds, or one large world.
#[derive(Parser)]
struct Options {
    /// How many seeds to play at most.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// For how many minutes at most.
    #[arg(long, default_value_t = 60)]
    minutes: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// One large world with so many edges instead; `minutes` is then its own time.
    #[arg(long)]
    edges: Option<u32>,
    /// Users of the large world.
    #[arg(long, default_value_t = 100_000)]
    users: u32,
    /// Coordinators of the large world.
    #[arg(long, default_value_t = 4)]
    coordinators: u8,
    /// Requests per second of the large world.
    #[arg(long, default_value_t = 5_000)]
    requests_per_s: u32,
    /// Logins, sign-outs and other changes per second of the large world.
    #[arg(long, default_value_t = 50)]
    changes_per_s: u32,
    /// Break something on purpose.
    #[arg(long, value_enum)]
    sabotage: Option<Sabotage>,
    /// Shrink what is found and write it to this folder.
    #[arg(long)]
    save: Option<PathBuf>,
    /// Play this file and print its log.
    #[arg(long)]
    replay: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    if let Some(file) = &options.replay {
        let text = std::fs::read_to_string(file).context("cannot read the plan")?;
        let plan: Plan = serde_json::from_str(&text).context("not a plan")?;
        let mut world = World::new(&plan.setup, options.sabotage.or(plan.sabotage), Log::with_text());
        let found = world.run(plan.ops.iter().copied());
        println!("{}\n{found:?}", world.log().text().unwrap_or_default());
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(edges) = options.edges {
        return large(&options, edges);
    }
    seeds(&options)
}

fn seeds(options: &Options) -> Result<ExitCode> {
    let began = Instant::now();
    let mut total = Stats::default();
    let mut played = 0;
    for seed in options.seed..options.seed.saturating_add(options.seeds) {
        if began.elapsed() > Duration::from_secs(options.minutes * 60) {
            break;
        }
        played += 1;
        let plan = Plan { sabotage: options.sabotage, ..generate::small(seed) };
        let mut world = World::new(&plan.setup, plan.sabotage, Log::default());
        let found = world.run(plan.ops.iter().copied());
        total.add(world.stats());
        let Some(found) = found.filter(|found| found.shows(plan.sabotage)) else { continue };
        println!("seed {seed}: {} at {} ms: {}", found.guarantee, found.at_ms, found.what);
        let mut small = shrink(&plan);
        small.story = format!("Seed {seed}: {}: {}", found.guarantee, found.what);
        let text = serde_json::to_string_pretty(&small)?;
        println!("{} of {} ops remain\n{}", small.ops.len(), plan.ops.len(), told(&small));
        if let Some(folder) = &options.save {
            let named = options.sabotage.and_then(|sabotage| sabotage.to_possible_value());
            let named = named.map_or_else(|| format!("seed-{seed}"), |value| value.get_name().replace('-', "_"));
            let file = folder.join(format!("{named}.json"));
            std::fs::write(&file, text + "\n").context("cannot write the plan")?;
        }
        return Ok(if options.sabotage.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    println!("{played} seeds in {:.1} s, nothing found: {}", began.elapsed().as_secs_f64(), total.summary());
    Ok(if options.sabotage.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn told(plan: &Plan) -> String {
    let last = run(plan).0.map(|found| format!("  {:>6} {} {}\n", found.at_ms, found.guarantee, found.what));
    let lines = plan.ops.iter().map(|timed| format!("  {:>6} {:?}\n", timed.at_ms, timed.op));
    lines.chain(last).collect()
}

fn large(options: &Options, edges: u32) -> Result<ExitCode> {
    let began = Instant::now();
    let load = scale::Load {
        seed: options.seed,
        edges,
        coordinators: options.coordinators,
        users: options.users,
        seconds: u32::try_from(options.minutes * 60)?,
        requests_per_s: options.requests_per_s,
        changes_per_s: options.changes_per_s,
    };
    let report = scale::play(&load);
    println!("{report}\n{:.1} s of this machine", began.elapsed().as_secs_f64());
    Ok(if report.found.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
