//! Each sabotage is refuted: the checker finds a counterexample, and the guarantee that breaks is the one expected.
//!
//! `cargo test -p edgekeep-model --test broken -- --nocapture` prints the counterexamples, without a step that could be left out.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)] // a failed expectation is a failed test

use std::fmt::Debug;

use edgekeep_model::Sabotage::{self, *};
use edgekeep_model::feed::{Feed, Scenario, scenarios};
use edgekeep_model::{Refuted, login, refute};

/// The counterexample, printed; panics if there is none or another guarantee breaks.
fn refuted<A: Debug>(sabotage: Sabotage, guarantee: &str, found: Option<Refuted<A>>) {
    let found = found.unwrap_or_else(|| panic!("{sabotage:?} was not refuted"));
    println!("{sabotage:?} {found}");
    assert_eq!(found.guarantee, guarantee, "{sabotage:?}");
}

macro_rules! in_feed {
    ($($test:ident: $sabotage:ident in $scenario:expr => $guarantee:literal;)*) => { $(
        #[test]
        fn $test() {
            let scenario: Scenario = $scenario;
            refuted($sabotage, $guarantee, refute(Feed::new(Scenario { reached: &[], ..scenario }, Some($sabotage))));
        }
    )* };
}

in_feed! {
    serial_cursor: SerialCursor in scenarios::order() => "G2";
    xmax_not_lowered: XmaxNotLowered in scenarios::order() => "G2";
    cursor_from_first_page: CursorFromFirstPage in scenarios::pages() => "G2";
    cursor_from_last_page: CursorFromLastPage in scenarios::late_commit() => "G2";
    partial_answer_into_reset_view: PartialAnswerIntoResetView in scenarios::pages() => "G2";
    cold_view_is_empty: ColdViewIsEmpty in scenarios::lease() => "G2";
    lease_from_receipt: LeaseFromReceipt in scenarios::lease() => "G2";
    no_clock_margin: NoClockMargin in scenarios::lease() => "G2";
    step_back_ignored: StepBackIgnored in scenarios::steps() => "G2";
    age_not_stated: AgeNotStated in scenarios::lease() => "G2";
    relay_age_from_receipt: RelayAgeFromReceipt in scenarios::relay() => "G2";
    relay_takes_the_last_for_all: RelayTakesTheLastForAll in scenarios::relayed() => "G2";
    relay_keeps_its_cursor: RelayKeepsItsCursor in scenarios::relay_restarts() => "G2";
    return_counts_as_held: ReturnCountsAsHeld in scenarios::lease() => "G2";
    heartbeat_elsewhere: HeartbeatElsewhere in scenarios::failover(false) => "G2";
    equal_revisions_after_failover: EqualRevisionsAfterFailover in scenarios::failover(true) => "G2";
    renewal_not_rechecked: RenewalNotRechecked in scenarios::checks() => "G2";
    signed_beyond_proof_until: SignedBeyondProofUntil in scenarios::renewals() => "G2";
    signed_before_commit: SignedBeforeCommit in scenarios::aborted_renewal() => "G2";
    lost_not_covered: LostNotCovered in scenarios::lost() => "G2";
    lost_not_reached: LostNotReached in scenarios::lost_everywhere() => "G2";
    needed_until_overwritten: NeededUntilOverwritten in scenarios::two_sessions() => "G2";
    read_before_lock: ReadBeforeLock in scenarios::renewals() => "G2";
    entry_kept_by_age: EntryKeptByAge in scenarios::renewals() => "G2";
    upsert_on_renewal_after_a_logout: UpsertOnRenewal in scenarios::upsert(false) => "G5";
    upsert_on_renewal_after_a_login: UpsertOnRenewal in scenarios::upsert(true) => "G1";
    strict_from_memory: StrictFromMemory in scenarios::checks() => "G3";
    outage_signs_out: OutageSignsOut in scenarios::checks() => "G8";
}

macro_rules! in_login {
    ($($test:ident: $sabotage:ident in $model:expr => $guarantee:literal;)*) => { $(
        #[test]
        fn $test() {
            refuted($sabotage, $guarantee, refute(login::Login { sabotage: Some($sabotage), ..$model }));
        }
    )* };
}

in_login! {
    check_before_count: CheckBeforeCount in login::small() => "G6";
    every_success_clears: EverySuccessClears in login::everywhere() => "G6";
    password_not_rechecked: PasswordNotRechecked in login::changes() => "G5";
    success_clears_others: SuccessClearsOthers in login::guesses() => "G6";
    run_before_its_wait: RunBeforeItsWait in login::guesses() => "G6";
    runs_forgotten: RunsForgotten in login::runs() => "G6";
    lock_before_lookup: LockBeforeLookup in login::small() => "G4";
    settle_unguarded: SettleUnguarded in login::small() => "G4";
    settled_apart: SettledApart in login::small() => "G9";
    retry_is_new_attempt: RetryIsNewAttempt in login::small() => "G4";
    taken_over_too_early: TakenOverTooEarly in login::small() => "G4";
}
