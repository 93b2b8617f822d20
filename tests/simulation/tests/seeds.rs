//! A fixed budget of seeds finds nothing, the same seed gives the same log, and what was once found stays fixed.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)] // a failed expectation is a failed test

use edgekeep_simulation::{generate, run};

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
    for seed in 0..400 {
        let (found, _) = run(&generate::small(seed));
        assert_eq!(found, None, "seed {seed}");
    }
}
