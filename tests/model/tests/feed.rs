//! Every order of events of every scenario: no guarantee breaks, and what should be reachable is.
//!
//! The counts are pinned: a change of `shared/` or of the model that changes what can happen shows up here. If it is
//! meant, take the new count.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)] // a failed expectation is a failed test

use edgekeep_model::explore;
use edgekeep_model::feed::{Feed, scenarios};

macro_rules! explored {
    ($($test:ident: $scenario:expr => $states:literal;)*) => { $(
        #[test]
        fn $test() {
            assert_eq!(explore(Feed::new($scenario, None), 1), $states);
        }
    )* };
}

explored! {
    lease: scenarios::lease() => 191_076;
    held: scenarios::held() => 27_632;
    order: scenarios::order() => 192_482;
    renewals: scenarios::renewals() => 221_710;
    aborted_renewal: scenarios::aborted_renewal() => 12_900;
    failover: scenarios::failover(false) => 437_073;
    lossy_failover: scenarios::failover(true) => 440_817;
    lost: scenarios::lost() => 117_015;
    two_sessions: scenarios::two_sessions() => 132_781;
    checks: scenarios::checks() => 151_825;
    takeover: scenarios::takeover() => 95_941;
    pages: scenarios::pages() => 69_781;
}
