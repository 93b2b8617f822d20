//! More than a million forged cookies, no two of them the same, in every way that there is, and none is accepted.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)] // a failed expectation is a failed test

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};

use edgekeep_hostile::forge::{Forger, WAYS, Way};
use edgekeep_hostile::keys::{full_ring, many_genuine, passes, ring, site, warm_view};
use edgekeep_shared::cookie::{Chosen, choose};

/// Forgeries per way that were not met before; some ways have fewer.
const EACH: usize = 75_000;
/// Of floods: what makes two of them differ is mostly what stands around the genuine cookie.
const FLOODS: usize = 20_000;
/// How often a way is asked for one: a way that has few mostly repeats itself.
const DRAWS: usize = 110_000;
/// The fewest that a way has (names that look like ours, other versions, other roles).
const FEWEST: usize = 700;

#[test]
fn of_a_million_different_forged_cookies_none_is_accepted() {
    let (ring, full_ring, view) = (ring(), full_ring(), warm_view());
    let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
    let mut ways = BTreeMap::new();
    // Their hashes: if two forgeries had the same one, a forgery less would be counted. What stands around one in the
    // header does not make it another.
    let mut seen: HashSet<u64> = HashSet::new();
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    for (seed, way) in WAYS.into_iter().enumerate() {
        let mut forger = Forger::new(seed as u64);
        let (mut made, wanted) = (0, if way == Way::Flooded { FLOODS } else { EACH });
        for _ in 0..DRAWS {
            if made == wanted {
                break;
            }
            let forged = forger.forge(way);
            if !seen.insert(hasher.hash_one(&forged)) {
                continue;
            }
            made += 1;
            let header = forger.among_others(forged);
            let chosen = choose(&header, &ring, site()).chosen;
            let outcome = match chosen {
                Chosen::Nothing => "no cookie of ours",
                Chosen::Invalid => "invalid",
                // The gate asks the coordinator, whose answer is part of `passes`.
                Chosen::UnknownKey { .. } => "unknown key",
                Chosen::Proof { .. } => panic!("{way:?}: verified: {header}"),
            };
            assert!(!passes(&view, &chosen, &full_ring), "{way:?}: accepted: {header}");
            *outcomes.entry(outcome).or_default() += 1;
        }
        assert!(made >= FEWEST, "{way:?} has become few: {made}");
        ways.insert(way, made);
    }
    println!("{} different forged cookies: {outcomes:?}\n{ways:?}", seen.len());
    assert!(seen.len() >= 1_000_000, "{}", seen.len());
    // Each kind of refusal was met, or the forgeries are not what they are meant to be.
    assert_eq!(outcomes.len(), 3, "{outcomes:?}");
}

#[test]
fn the_genuine_ones_are_accepted() {
    let (ring, full_ring, view) = (ring(), full_ring(), warm_view());
    let mut asked = 0;
    for given in many_genuine() {
        let header = format!("a=1; {}={}; b=2", given.name, given.value);
        let chosen = choose(&header, &ring, site()).chosen;
        assert!(matches!(chosen, Chosen::Proof { .. } | Chosen::UnknownKey { .. }), "{header}");
        assert!(passes(&view, &chosen, &full_ring), "{header}");
        asked += usize::from(matches!(chosen, Chosen::UnknownKey { .. }));
    }
    // Of a key that the edge does not have: accepted because the coordinator says so.
    assert_eq!(asked, 14);
}
