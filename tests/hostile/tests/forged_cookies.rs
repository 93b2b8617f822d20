//! More than a million forged cookies, in every way that there is, and none is accepted.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)] // a failed expectation is a failed test

use std::collections::BTreeMap;

use edgekeep_hostile::forge::{Forger, WAYS};
use edgekeep_hostile::keys::{genuine, passes, ring, site, warm_view};
use edgekeep_shared::cookie::{Chosen, choose};

/// Per way; together 1.15 million.
const EACH: usize = 50_000;

#[test]
fn of_a_million_forged_cookies_none_is_accepted() {
    let (ring, view) = (ring(), warm_view());
    let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
    let mut total = 0_usize;
    for (seed, way) in WAYS.into_iter().enumerate() {
        let mut forger = Forger::new(seed as u64);
        for _ in 0..EACH {
            let header = forger.forge(way);
            let chosen = choose(&header, &ring, site()).chosen;
            let outcome = match chosen {
                Chosen::Nothing => "no cookie of ours",
                Chosen::Invalid => "invalid",
                Chosen::UnknownKey { .. } => "unknown key",
                Chosen::Proof { .. } => panic!("{way:?}: verified: {header}"),
            };
            assert!(!passes(&view, &chosen), "{way:?}: accepted: {header}");
            *outcomes.entry(outcome).or_default() += 1;
            total += 1;
        }
    }
    assert!(total >= 1_000_000, "{total}");
    // Each kind of refusal was met, or the forgeries are not what they are meant to be.
    assert_eq!(outcomes.len(), 3, "{outcomes:?}");
    println!("{total} forged cookies: {outcomes:?}");
}

#[test]
fn the_genuine_ones_are_accepted() {
    let (ring, view) = (ring(), warm_view());
    for given in genuine() {
        let header = format!("a=1; {}={}; b=2", given.name, given.value);
        let chosen = choose(&header, &ring, site()).chosen;
        assert!(matches!(chosen, Chosen::Proof { .. }) && passes(&view, &chosen), "{header}");
    }
}
