//! A fixed budget of seeds finds nothing, the same seed gives the same log, and what was once found is played for ever.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)] // a failed expectation is a failed test

use edgekeep_simulation::{Plan, generate, run};

/// The budget.
const SEEDS: u64 = 1_500;

#[test]
fn the_same_seed_gives_the_same_log() {
    for seed in 0..20 {
        let plan = generate::small(seed);
        assert_eq!(plan, generate::small(seed));
        assert_eq!(run(&plan), run(&plan), "seed {seed}");
    }
    assert_ne!(run(&generate::small(1)).1, run(&generate::small(2)).1);
}

#[test]
fn seeds_find_nothing() {
    for seed in 0..SEEDS {
        let (found, _) = run(&generate::small(seed));
        assert_eq!(found, None, "seed {seed}: cargo xtask simulate --seed {seed} --seeds 1");
    }
}

/// A plan that was found in a sabotaged world still breaks that world as it must be broken, and no plan breaks the whole one.
#[test]
fn saved_plans_are_played() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).expect("seeds/").map(|file| file.expect("a file").path()).collect();
    files.sort();
    assert!(files.len() >= 12, "{} files", files.len());
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a file");
        let plan: Plan = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        assert!(plan.ops.iter().all(|timed| plan.setup.has(&timed.op)), "{}", file.display());
        if let Some(sabotage) = plan.sabotage {
            let (found, breaks) = (run(&plan).0, sabotage.breaks());
            let shown = found.as_ref().is_some_and(|found| breaks.contains(&found.guarantee));
            assert!(shown, "{}: {found:?} is none of {breaks:?}: find it anew", file.display());
        }
        assert_eq!(run(&Plan { sabotage: None, ..plan }).0, None, "{}", file.display());
    }
}
