//! The checker is checked: histories of a simulated system that keeps every rule pass, and each kind of violation that
//! is planted into that system is found.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod bug;
mod by_hand;
mod effect;
mod recorded;
mod sabotage;
mod system;
mod user;

use bug::Bug;
use edgekeep_torture::checker::{self, Violation, audit};
use proptest::prelude::*;
use system::{simulate, simulate_lossy};

fn violations(seed: u64, bug: Option<Bug>) -> Vec<Violation> {
    let (history, accounts) = simulate(seed, bug);
    let mut found = checker::check(&history);
    found.extend(audit::check(&history, &accounts));
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_system_that_keeps_the_rules_passes(seed: u64) {
        let (history, accounts) = simulate(seed, None);
        let mut found = checker::check(&history);
        found.extend(audit::check(&history, &accounts));
        let shown: Vec<String> = found.iter().take(3).map(|violation| violation.explained(&history)).collect();
        prop_assert!(found.is_empty(), "{}", shown.join("\n"));
    }

    #[test]
    fn what_a_promotion_has_lost_is_forgiven(seed: u64) {
        let (history, accounts) = simulate_lossy(seed, None);
        let found = checker::judge(&history, Some(&accounts)).violations;
        let shown: Vec<String> = found.iter().take(3).map(|violation| violation.explained(&history)).collect();
        prop_assert!(found.is_empty(), "{}", shown.join("\n"));
    }
}

/// These rules are broken by the loss in one of a few seeds.
#[test]
fn what_a_promotion_has_lost_is_seen() {
    let mut rules = std::collections::BTreeSet::new();
    for seed in 0..40 {
        let (history, accounts) = simulate_lossy(seed, None);
        rules.extend(checker::judge(&history, Some(&accounts)).by_loss.iter().map(|violation| violation.rule));
    }
    println!("broken by a loss: {rules:?}");
    for rule in ["G2", "G4", "G9"] {
        assert!(rules.contains(rule), "{rule} is not broken by a loss: {rules:?}");
    }
}

/// A promotion is no excuse for what it has not brought about.
#[test]
fn a_loss_excuses_nothing_else() {
    use Bug::{
        CommitCancelled, CookieDroppedByOutage, KeyNotUnique, LeaseTooLong, LoginLost, NoLimit, RefusesValid,
        ReplayResurrects, RoleTooOld, StoredTwice, StrictFromOldRead, TwoSessions, WrongIsRight,
    };
    for bug in [
        CommitCancelled,
        CookieDroppedByOutage,
        KeyNotUnique,
        LeaseTooLong,
        LoginLost,
        NoLimit,
        RefusesValid,
        ReplayResurrects,
        RoleTooOld,
        StoredTwice,
        StrictFromOldRead,
        TwoSessions,
        WrongIsRight,
    ] {
        let caught = (0..20).filter(|seed| {
            let (history, accounts) = simulate_lossy(*seed, Some(bug));
            !checker::judge(&history, Some(&accounts)).violations.is_empty()
        });
        let caught = caught.count();
        println!("{bug:?}: caught with {caught} of 20 seeds");
        assert!(caught > 0, "{bug:?} goes unseen beside a loss");
    }
}

/// The system with this bug is caught within a few seeds, by one of these rules.
#[track_caller]
fn caught(bug: Bug, rules: &[&str]) {
    let seeds: Vec<u64> =
        (0..20).filter(|seed| violations(*seed, Some(bug)).iter().any(|v| rules.contains(&v.rule))).collect();
    println!("{bug:?}: caught with {} of 20 seeds", seeds.len());
    assert!(!seeds.is_empty(), "{bug:?} goes unseen; seed 0 shows {:?}", violations(0, Some(bug)));
}

macro_rules! planted {
    ($($name:ident: $bug:ident by $($rule:literal),+;)*) => {
        $(#[test] fn $name() { caught(Bug::$bug, &[$($rule),+]); })*
    };
}

planted! {
    a_lease_that_lasts_too_long_is_found: LeaseTooLong by "G2";
    a_strict_answer_from_an_old_read_is_found: StrictFromOldRead by "G3";
    a_login_key_that_is_not_unique_is_found: KeyNotUnique by "G4";
    a_failure_that_is_counted_twice_is_found: CountedTwice by "lock";
    a_right_password_that_is_refused_for_another_reason_and_counted_is_found: RefusalCounted by "lock";
    an_expiry_that_slides_on_a_read_is_found: SlidingExpiry by "expiry";
    a_commit_wait_that_is_cancelled_and_reported_as_done_is_found: CommitCancelled by "G2", "G3", "G9";
    a_logout_that_raises_nothing_is_found: LogoutUnheard by "G2";
    a_replay_that_makes_a_session_valid_again_is_found: ReplayResurrects by "G5";
    guesses_without_a_limit_are_found: NoLimit by "G6";
    a_second_session_beside_the_first_is_found: TwoSessions by "G1", "G2", "G3";
    a_wrong_reason_is_found: WrongReason by "G7", "G8";
    a_refusal_of_a_session_that_stands_is_found: RefusesValid by "G7", "G8";
    a_role_that_is_too_old_is_found: RoleTooOld by "role";
    a_disabled_user_who_signs_in_is_found: DisabledSignsIn by "password";
    no_answer_in_calm_is_found: SilentInCalm by "G8";
    a_wrong_password_that_is_right_is_found: WrongIsRight by "password";
    a_right_password_that_is_wrong_is_found: RightIsWrong by "password";
    a_lost_audit_entry_is_found: AuditLost by "G9", "G4", "audit";
    a_failure_that_is_stored_twice_is_found: StoredTwice by "G4";
    a_login_that_is_acknowledged_and_lost_is_found: LoginLost by "G7", "G9";
    a_cookie_that_an_outage_drops_is_found: CookieDroppedByOutage by "G8";
    a_cookie_that_a_page_drops_is_found: CookieDroppedByPage by "G8";
}

#[test]
fn the_same_seed_gives_the_same_history() {
    assert_eq!(simulate(7, None), simulate(7, None));
    assert_ne!(simulate(7, None), simulate(8, None));
}
