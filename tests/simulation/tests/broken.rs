//! Every broken variant is caught within a fixed number of seeds, as a guarantee that it breaks, and what it comes down to is
//! short enough to read.
//!
//! `cargo test -p edgekeep-simulation --test broken -- --nocapture` prints the lists.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)] // a failed expectation is a failed test

use edgekeep_simulation::{Plan, Sabotage, generate, run, shrink};

/// All but one are caught within the 1,500 seeds of `seeds.rs`; a partial answer into a reset view takes 2,616.
const SEEDS: u64 = 4_000;
/// The longest list that is still readable.
const READABLE: usize = 24;

fn caught(sabotage: Sabotage) {
    let plans = (0..SEEDS).map(|seed| Plan { sabotage: Some(sabotage), ..generate::small(seed) });
    let found = plans.into_iter().find(|plan| run(plan).0.is_some_and(|it| it.shows(plan.sabotage)));
    let found = found.unwrap_or_else(|| panic!("{sabotage:?} was not found as {:?}", sabotage.breaks()));
    let small = shrink(&found);
    let violation = run(&small).0.expect("shrinking keeps the violation");
    println!("{sabotage:?}, seed {}: {violation:?}", found.setup.seed);
    for timed in &small.ops {
        println!("  {:>6} {:?}", timed.at_ms, timed.op);
    }
    assert!(sabotage.breaks().contains(&violation.guarantee), "shrinking keeps what it was found as");
    assert!(small.ops.len() <= READABLE, "{} ops", small.ops.len());
    let whole = Plan { sabotage: None, ..small };
    assert_eq!(run(&whole).0, None, "the same ops break nothing in a whole world");
}

macro_rules! caught {
    ($($test:ident: $sabotage:ident;)*) => { $(
        #[test]
        fn $test() {
            caught(Sabotage::$sabotage);
        }
    )* };
}

caught! {
    lease_from_receipt: LeaseFromReceipt;
    partial_answer_into_reset_view: PartialAnswerIntoResetView;
    cursor_from_last_page: CursorFromLastPage;
    signed_beyond_proof_until: SignedBeyondProofUntil;
    renewal_not_rechecked: RenewalNotRechecked;
    serial_cursor: SerialCursor;
    xmax_not_lowered: XmaxNotLowered;
    age_not_stated: AgeNotStated;
    heartbeat_elsewhere: HeartbeatElsewhere;
    upsert_on_renewal: UpsertOnRenewal;
    outage_signs_out: OutageSignsOut;
    relay_age_not_added: RelayAgeNotAdded;
    relay_publishes_half: RelayPublishesHalf;
}
