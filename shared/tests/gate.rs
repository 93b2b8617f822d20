//! The gate, case by case: each rule of design 2.1 and 2.2 that ends in a decision.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)] // a failed expectation is a failed test

mod support;

use edgekeep_shared::cookie::{COOKIE_PREFIX, Chosen, cookie_name};
use edgekeep_shared::gate::{Decision, Denial, Finding, How, Identity, MAX_ASKS, Situation, Verdict, decide};
use edgekeep_shared::ids::KeyId;
use edgekeep_shared::policy::{Access, RoutePolicy};
use edgekeep_shared::problem::Reason;
use edgekeep_shared::revision::Revision;
use edgekeep_shared::token::Claims;
use edgekeep_shared::view::View;
use support::{MAX_STALENESS_MS, T0_MS, claims, entry, proof, ring, view};

/// Edge time of the view's load. Nothing like coordinator time: an edge with its clock far off behaves the same.
const E0: i64 = 5_000_000;

const STRICT: RoutePolicy = RoutePolicy { access: Access::Session, max_staleness_ms: Some(0), max_auth_age_s: None };
const PUBLIC: RoutePolicy = RoutePolicy { access: Access::Public, max_staleness_ms: None, max_auth_age_s: None };

fn ask(chosen: &Chosen, route: &RoutePolicy, view: &View, now_ms: i64, verdict: Option<&Verdict>) -> Decision {
    decide(&Situation { chosen, route, view, keys_version: 1, now_ms, verdict, asked: 0 })
}

fn by_memory(claims: &Claims, route: &RoutePolicy, view: &View, now_ms: i64) -> Decision {
    ask(&proof(claims, &ring(false)), route, view, now_ms, None)
}

fn current(view: &View, sent_ms: i64, revision: u64) -> Verdict {
    Verdict {
        epoch: 1,
        sent: view.sent(sent_ms),
        age_ms: 0,
        read_at_ms: T0_MS,
        max_staleness_ms: MAX_STALENESS_MS,
        finding: Finding::Current { identity: Identity::from(&claims()), revision: Revision(revision) },
    }
}

fn allowed(decision: &Decision) -> Option<How> {
    match decision {
        Decision::Allow(passage) => passage.identity.as_ref().map(|_| passage.how),
        _ => None,
    }
}

#[test]
fn within_the_lease_memory_decides() {
    let view = view(E0, &[]);
    assert_eq!(allowed(&by_memory(&claims(), &RoutePolicy::SESSION, &view, E0)), Some(How::Local));
    assert_eq!(allowed(&by_memory(&claims(), &RoutePolicy::SESSION, &view, E0 + 4_899)), Some(How::Local));
    assert_eq!(by_memory(&claims(), &RoutePolicy::SESSION, &view, E0 + 4_900), Decision::Refresh);
    let shorter = RoutePolicy { max_staleness_ms: Some(1_000), ..RoutePolicy::SESSION };
    assert_eq!(by_memory(&claims(), &shorter, &view, E0 + 980), Decision::Refresh);
}

#[test]
fn a_cold_isolate_asks_and_an_empty_view_means_nothing() {
    assert_eq!(by_memory(&claims(), &RoutePolicy::SESSION, &View::default(), E0), Decision::AskCoordinator);
    let mut forgotten = view(E0, &[]);
    forgotten.reset();
    assert_eq!(by_memory(&claims(), &RoutePolicy::SESSION, &forgotten, E0), Decision::AskCoordinator);
}

#[test]
fn only_a_strictly_lower_revision_must_ask() {
    let same = view(E0, &[entry(7)]);
    assert_eq!(allowed(&by_memory(&claims(), &RoutePolicy::SESSION, &same, E0)), Some(How::Local));
    let newer = view(E0, &[entry(8)]);
    assert_eq!(by_memory(&claims(), &RoutePolicy::SESSION, &newer, E0), Decision::Renew);
}

#[test]
fn a_due_proof_is_renewed_and_an_expired_one_refused() {
    let view = view(E0, &[]);
    let due = Claims { renew_after_ms: T0_MS + 1_000, ..claims() };
    assert_eq!(allowed(&by_memory(&due, &RoutePolicy::SESSION, &view, E0 + 900)), Some(How::Local));
    assert_eq!(by_memory(&due, &RoutePolicy::SESSION, &view, E0 + 1_000), Decision::Renew);
    let expired = Claims { renew_after_ms: T0_MS + 1_000, expires_at_ms: T0_MS + 1_000, ..claims() };
    assert_eq!(
        by_memory(&expired, &RoutePolicy::SESSION, &view, E0 + 1_010),
        Decision::Renew,
        "not surely expired yet"
    );
    let refused = Decision::Deny(Denial::NoSession(Reason::Expired));
    assert_eq!(by_memory(&expired, &RoutePolicy::SESSION, &view, E0 + 1_100), refused);
    // The edge's clock jumped an hour ahead: the lease is over, and only the coordinator can tell.
    assert_eq!(by_memory(&expired, &RoutePolicy::SESSION, &view, E0 + 3_600_000), Decision::Renew);
}

#[test]
fn a_strict_route_refuses_an_expired_proof_without_asking() {
    let view = view(E0, &[]);
    let expired = Claims { renew_after_ms: T0_MS + 1_000, expires_at_ms: T0_MS + 1_000, ..claims() };
    let refused = Decision::Deny(Denial::NoSession(Reason::Expired));
    assert_eq!(by_memory(&expired, &STRICT, &view, E0 + 1_100), refused);
}

#[test]
fn a_routes_own_bound_binds_what_the_coordinator_said() {
    let view = view(E0, &[]);
    let shorter = RoutePolicy { max_staleness_ms: Some(1_000), ..RoutePolicy::SESSION };
    let verdict = current(&view, E0, 7);
    let asked = |now_ms| ask(&proof(&claims(), &ring(false)), &shorter, &view, now_ms, Some(&verdict));
    assert_eq!(allowed(&asked(E0 + 979)), Some(How::Coordinator));
    assert_eq!(asked(E0 + 980), Decision::AskCoordinator);
}

#[test]
fn a_proof_older_than_what_was_pruned_asks_first() {
    let view = view(E0, &[]);
    let old = Claims { renew_after_ms: view.pruned_to_ms(), ..claims() };
    assert_eq!(by_memory(&old, &RoutePolicy::SESSION, &view, E0), Decision::Renew);
}

#[test]
fn a_withdrawn_key_proves_nothing_alone() {
    let chosen = proof(&claims(), &ring(true));
    assert_eq!(ask(&chosen, &RoutePolicy::SESSION, &view(E0, &[]), E0, None), Decision::Renew);
}

#[test]
fn keys_older_than_the_feed_names_end_the_lease() {
    let chosen = proof(&claims(), &ring(false));
    let view = view(E0, &[]);
    let situation = Situation {
        chosen: &chosen,
        route: &RoutePolicy::SESSION,
        view: &view,
        keys_version: 0,
        now_ms: E0,
        verdict: None,
        asked: 0,
    };
    assert_eq!(decide(&situation), Decision::Refresh);
}

#[test]
fn a_strict_route_always_asks_and_accepts_only_what_was_asked_now() {
    let view = view(E0, &[]);
    assert_eq!(by_memory(&claims(), &STRICT, &view, E0), Decision::AskCoordinator);
    let chosen = proof(&claims(), &ring(false));
    let verdict = current(&view, E0 + 10, 7);
    assert_eq!(allowed(&ask(&chosen, &STRICT, &view, E0 + 12, Some(&verdict))), Some(How::Coordinator));
}

#[test]
fn a_verdict_ages_is_overtaken_and_is_dropped_with_its_epoch() {
    let chosen = proof(&claims(), &ring(false));
    let route = RoutePolicy::SESSION;
    let empty = View::default();
    let verdict = current(&empty, E0, 7);
    assert_eq!(allowed(&ask(&chosen, &route, &empty, E0 + 4_899, Some(&verdict))), Some(How::Coordinator));
    assert_eq!(ask(&chosen, &route, &empty, E0 + 4_900, Some(&verdict)), Decision::AskCoordinator);
    // An answer to a renewal is not used without looking at the view again.
    let newer = view(E0, &[entry(8)]);
    assert_eq!(ask(&chosen, &route, &newer, E0, Some(&current(&newer, E0, 7))), Decision::AskCoordinator);
    assert_eq!(allowed(&ask(&chosen, &route, &newer, E0, Some(&current(&newer, E0, 8)))), Some(How::Coordinator));
    let old_epoch = Verdict { epoch: 0, ..current(&newer, E0, 8) };
    assert_eq!(ask(&chosen, &route, &newer, E0, Some(&old_epoch)), Decision::AskCoordinator);
    let aged = Verdict { age_ms: 6_000, ..current(&empty, E0, 7) };
    assert_eq!(ask(&chosen, &route, &empty, E0, Some(&aged)), Decision::AskCoordinator);
    // The clock went back while the question was under way.
    let mut stepped = View::default();
    stepped.observe_clock(E0);
    let before = current(&stepped, E0, 7);
    stepped.observe_clock(E0 - 1_000);
    assert_eq!(ask(&chosen, &route, &stepped, E0 + 10, Some(&before)), Decision::Unknown);
}

#[test]
fn what_the_coordinator_says_of_an_ended_or_unknown_session_is_final() {
    let chosen = proof(&claims(), &ring(false));
    let view = view(E0, &[]);
    for (finding, decision) in [
        (Finding::Ended(Reason::SignedInElsewhere), Decision::Deny(Denial::NoSession(Reason::SignedInElsewhere))),
        (Finding::Unknown, Decision::Unknown),
    ] {
        let verdict = Verdict { finding, ..current(&view, E0, 7) };
        assert_eq!(ask(&chosen, &RoutePolicy::SESSION, &view, E0, Some(&verdict)), decision);
    }
}

#[test]
fn no_cookie_and_a_bad_cookie_are_told_apart_and_an_unknown_key_is_neither() {
    let view = view(E0, &[]);
    let none = ask(&Chosen::Nothing, &RoutePolicy::SESSION, &view, E0, None);
    assert_eq!(none, Decision::Deny(Denial::NoSession(Reason::None)));
    let bad = ask(&Chosen::Invalid, &RoutePolicy::SESSION, &view, E0, None);
    assert_eq!(bad, Decision::Deny(Denial::NoSession(Reason::Invalid)));
    let unknown = Chosen::UnknownKey { name: "n".into(), value: "v".into() };
    assert_eq!(ask(&unknown, &RoutePolicy::SESSION, &view, E0, None), Decision::AskCoordinator);
}

#[test]
fn a_proof_that_only_the_coordinator_can_read_counts_under_its_own_name_only() {
    let view = View::default();
    let verdict = current(&view, E0, claims().revision.0);
    let under = |name: String| {
        let chosen = Chosen::UnknownKey { name, value: "v".into() };
        ask(&chosen, &RoutePolicy::SESSION, &view, E0, Some(&verdict))
    };
    assert_eq!(allowed(&under(cookie_name(claims().session_id))), Some(How::Coordinator));
    assert_eq!(under(format!("{COOKIE_PREFIX}00000000")), Decision::Deny(Denial::NoSession(Reason::Invalid)));
}

#[test]
fn asking_ends() {
    let chosen = proof(&claims(), &ring(false));
    let view = view(E0, &[]);
    for asked in 0..=MAX_ASKS {
        let decision = decide(&Situation {
            chosen: &chosen,
            route: &RoutePolicy::SESSION,
            view: &view,
            keys_version: 1,
            now_ms: E0 + 60_000,
            verdict: None,
            asked,
        });
        assert_eq!(decision, if asked < MAX_ASKS { Decision::Refresh } else { Decision::Unknown });
    }
}

#[test]
fn roles_and_recent_authentication() {
    let view = view(E0, &[]);
    let route = |roles: &[&str]| RoutePolicy {
        access: Access::Roles(roles.iter().map(|role| (*role).to_owned()).collect()),
        ..RoutePolicy::SESSION
    };
    assert!(allowed(&by_memory(&claims(), &route(&["admin", "editor"]), &view, E0)).is_some());
    assert_eq!(by_memory(&claims(), &route(&["admin"]), &view, E0), Decision::Deny(Denial::Forbidden));
    let recent = RoutePolicy { max_auth_age_s: Some(2), ..RoutePolicy::SESSION };
    assert!(allowed(&by_memory(&claims(), &recent, &view, E0 + 1_900)).is_some());
    let too_old = by_memory(&claims(), &recent, &view, E0 + 2_100);
    assert_eq!(too_old, Decision::Deny(Denial::ReauthenticationRequired));
    // To the millisecond, by coordinator time.
    for (read_at_ms, passes) in [(T0_MS + 2_000, true), (T0_MS + 2_001, false)] {
        let verdict = Verdict { read_at_ms, ..current(&view, E0, 7) };
        let decision = ask(&proof(&claims(), &ring(false)), &recent, &view, E0, Some(&verdict));
        assert_eq!(allowed(&decision).is_some(), passes, "{decision:?}");
    }
    // Roles as the coordinator says them bind the request, whatever the proof says.
    let chosen = proof(&Claims { roles: vec!["admin".into()], ..claims() }, &ring(false));
    let verdict = current(&view, E0, 7);
    assert_eq!(ask(&chosen, &route(&["admin"]), &view, E0, Some(&verdict)), Decision::Deny(Denial::Forbidden));
}

#[test]
fn a_public_route_never_asks_and_names_only_whom_memory_knows() {
    let fresh = view(E0, &[]);
    assert_eq!(allowed(&by_memory(&claims(), &PUBLIC, &fresh, E0)), Some(How::Local));
    for (view, now_ms) in [(fresh.clone(), E0 + 60_000), (View::default(), E0), (view(E0, &[entry(8)]), E0)] {
        let decision = by_memory(&claims(), &PUBLIC, &view, now_ms);
        assert!(matches!(decision, Decision::Allow(ref passage) if passage.identity.is_none()), "{decision:?}");
    }
    assert!(matches!(ask(&Chosen::Invalid, &PUBLIC, &fresh, E0, None), Decision::Allow(_)));
    assert!(ring(false).get(KeyId(1)).is_some());
}
