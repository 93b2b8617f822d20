//! Every order of events of every scenario: no guarantee breaks, and what should be reachable is.
//!
//! The counts are pinned: a change of `shared/` or of the model that changes what can happen shows up here. If it is
//! meant, take the new count.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)] // a failed expectation is a failed test

use edgekeep_model::explore;
use edgekeep_model::feed::{Feed, properties, scenarios};

macro_rules! explored {
    ($($test:ident: $scenario:expr => $states:literal;)*) => { $(
        #[test]
        fn $test() {
            assert_eq!(explore(Feed::new($scenario, None), 1), $states);
        }
    )* };
}

explored! {
    lease: scenarios::lease() => 188_541;
    held: scenarios::held() => 199_425;
    order: scenarios::order() => 88_651;
    renewals: scenarios::renewals() => 98_089;
    aborted_renewal: scenarios::aborted_renewal() => 7_196;
    failover: scenarios::failover(false) => 697_581;
    lossy_failover: scenarios::failover(true) => 722_389;
    lost: scenarios::lost() => 60_395;
    two_sessions: scenarios::two_sessions() => 58_879;
    checks: scenarios::checks() => 281_360;
    takeover: scenarios::takeover() => 129_967;
    pages: scenarios::pages() => 25_904;
    late_commit: scenarios::late_commit() => 9_460;
    lost_everywhere: scenarios::lost_everywhere() => 70_823;
    refuse_second: scenarios::refuse_second() => 4_174;
    upsert_after_logout: scenarios::upsert(false) => 66;
    upsert_after_login: scenarios::upsert(true) => 185;
    relay: scenarios::relay() => 4_252;
    relayed: scenarios::relayed() => 5_964;
    relay_restarts: scenarios::relay_restarts() => 135_493;
    steps: scenarios::steps() => 136_456;
}

/// Together the worlds reach everything that the gate can say, and what else must not be missing.
#[test]
fn every_outcome_of_the_gate_is_reached() {
    let reached: Vec<_> = scenarios::all().iter().flat_map(|(_, world)| world.reached).copied().collect();
    for name in properties::sometimes().iter().map(|known| known.name) {
        assert!(reached.contains(&name), "no world says that it reaches {name:?}");
    }
}
