//! A sabotaged build is noticed only as the guarantee that its rule is.

use xtask::torture::{FOUND, FOUND_OTHERWISE, RULES, Rule, exit_code};

use crate::bug::Bug;
use crate::violations;

/// The exit code of a run of the simulated system with this bug, taken for a run of this sabotaged build.
fn code(sabotage: &str, bug: Option<Bug>) -> u8 {
    let broken: Vec<&str> = (0..20).flat_map(|seed| violations(seed, bug)).map(|violation| violation.rule).collect();
    exit_code(&broken, Some(Rule::named(sabotage).unwrap()))
}

#[test]
fn a_sabotage_is_noticed_as_what_it_breaks() {
    assert_eq!(code("end-raises-nothing", Some(Bug::LogoutUnheard)), FOUND);
    assert_eq!(code("old-read", Some(Bug::StrictFromOldRead)), FOUND);
    assert_eq!(code("key-not-unique", Some(Bug::KeyNotUnique)), FOUND);
    assert_eq!(code("not-counted", Some(Bug::NoLimit)), FOUND);
    assert_eq!(code("counted-twice", Some(Bug::CountedTwice)), FOUND);
    assert_eq!(code("doubt-is-done", Some(Bug::CommitCancelled)), FOUND);
    assert_eq!(code("lease-too-long", Some(Bug::LeaseTooLong)), FOUND);
}

/// A busy machine answers late, and that is no sign of any sabotage.
#[test]
fn no_answer_in_calm_shows_no_sabotage() {
    for rule in &RULES {
        assert_eq!(code(rule.name, Some(Bug::SilentInCalm)), FOUND_OTHERWISE, "{}", rule.name);
    }
}

#[test]
fn without_violations_nothing_is_noticed() {
    assert_eq!(code("old-read", None), 0);
    assert_eq!((exit_code(&[], None), exit_code(&["G8"], None)), (0, FOUND));
    assert!(Rule::named("no-such-rule").is_err());
}
