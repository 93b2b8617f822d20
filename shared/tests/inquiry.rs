//! A request's way through the gate: what is asked first, what an answer changes, and when it is given up.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)] // a failed expectation is a failed test

mod support;

use edgekeep_shared::api::{CheckAnswer, CheckVerdict, Session};
use edgekeep_shared::cookie::{cookie_name, set_cookie};
use edgekeep_shared::gate::{Denial, How, MAX_ASKS};
use edgekeep_shared::ids::{KeyId, Nonce, SessionId, SiteId};
use edgekeep_shared::inquiry::{Allowed, Ended, Errand, Inquiry, Kind, Memory, Outcome, Step};
use edgekeep_shared::keyring::{KeyRing, RingKey, Secret};
use edgekeep_shared::policy::{Access, RoutePolicy};
use edgekeep_shared::problem::Reason;
use edgekeep_shared::retry::{Breaker, Bucket};
use edgekeep_shared::token::{Claims, sign};
use edgekeep_shared::view::View;
use support::{MAX_STALENESS_MS, T0_MS, claims, ring, signed, view};

/// Edge time of the view's load.
const E0: i64 = 5_000_000;
const NONCE: Nonce = Nonce([9; 16]);
const STRICT: RoutePolicy = RoutePolicy { access: Access::Session, max_staleness_ms: Some(0), max_auth_age_s: None };
const PUBLIC: RoutePolicy = RoutePolicy { access: Access::Public, max_staleness_ms: None, max_auth_age_s: None };

/// An isolate.
struct Isolate {
    view: View,
    ring: Option<KeyRing>,
    ended: Ended,
    breaker: Breaker,
    unknown_keys: Bucket,
}

impl Isolate {
    fn warm() -> Self {
        Self {
            view: view(E0, &[]),
            ring: Some(ring(false)),
            ended: Ended::default(),
            breaker: Breaker::default(),
            unknown_keys: Bucket::default(),
        }
    }

    fn cold() -> Self {
        Self { view: View::default(), ring: None, ..Self::warm() }
    }

    fn memory(&mut self) -> Memory<'_> {
        Memory {
            view: &mut self.view,
            keys: self.ring.as_ref().map(|ring| (ring, SiteId::of("main"))),
            ended: &mut self.ended,
            breaker: &mut self.breaker,
            unknown_keys: &mut self.unknown_keys,
        }
    }

    fn look(&mut self, inquiry: &Inquiry, cookies: &str, now_ms: i64) -> Step {
        inquiry.look(&mut self.memory(), cookies, now_ms)
    }

    /// The coordinator's answer to a question about `proof` that left now.
    fn answered(&mut self, inquiry: &mut Inquiry, proof: &str, answer: Option<CheckAnswer>, now_ms: i64) {
        let sent = self.view.sent(now_ms);
        inquiry.answered(&mut self.memory(), proof.to_owned(), NONCE, sent, answer, || (now_ms, 0));
    }
}

fn cookie(value: &str) -> String {
    format!("{}={value}", cookie_name(claims().session_id))
}

/// Signed with a key that this isolate does not have.
fn of_unknown_key(claims: &Claims) -> String {
    sign(claims, &RingKey::new(KeyId(2), &Secret([2; 32]), false)).expect("claims")
}

fn says(verdict: CheckVerdict) -> Option<CheckAnswer> {
    Some(CheckAnswer {
        nonce: NONCE,
        epoch: 1,
        age_ms: 0,
        read_at_ms: T0_MS,
        keys_version: 1,
        max_staleness_ms: MAX_STALENESS_MS,
        verdict,
    })
}

fn current(token: Option<&str>) -> Option<CheckAnswer> {
    let claims = claims();
    says(CheckVerdict::Current {
        token: token.map(str::to_owned),
        revision: claims.revision.0,
        roles: claims.roles,
        session: Session {
            id: claims.session_id,
            authenticated_at_ms: claims.authenticated_at_ms,
            expires_at_ms: claims.expires_at_ms,
            idle_expires_at_ms: claims.idle_expires_at_ms,
        },
        name: claims.name,
        user_id: claims.user_id,
    })
}

#[track_caller]
fn allowed(step: Step) -> Allowed {
    match step {
        Step::Done(Outcome::Allow(allowed)) => *allowed,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn first(step: Step) -> Errand {
    match step {
        Step::First(errand) => errand,
        Step::Done(outcome) => panic!("{outcome:?}"),
    }
}

/// The errand is a question about this proof: whether a new one is wanted, and whether keys are fetched beside it.
#[track_caller]
fn asks(step: Step, value: &str) -> (bool, bool) {
    let errand = first(step);
    match errand.kind {
        Kind::Ask { proof, renew } if proof == value => (renew, errand.fetch_keys),
        other => panic!("{other:?}"),
    }
}

fn is_unknown(step: &Step) -> bool {
    matches!(step, Step::Done(Outcome::Unknown))
}

fn reason(step: &Step) -> Option<Reason> {
    match step {
        Step::Done(Outcome::Deny { denial: Denial::NoSession(reason), .. }) => Some(*reason),
        _ => None,
    }
}

#[test]
fn memory_decides_and_tells_the_bound_in_force() {
    let (mut isolate, value) = (Isolate::warm(), signed(&claims()));
    for (route_ms, bound_ms) in [(None, 5_000), (Some(1_000), 1_000), (Some(60_000), 5_000)] {
        let inquiry = Inquiry::new(RoutePolicy { max_staleness_ms: route_ms, ..RoutePolicy::SESSION });
        let passed = allowed(isolate.look(&inquiry, &cookie(&value), E0));
        assert_eq!((passed.max_staleness_ms, passed.passage.how), (bound_ms, How::Local));
        assert_eq!((passed.proof.as_deref(), passed.unchanged), (Some(value.as_str()), true));
        assert_eq!(passed.coordinator_now_ms, Some(T0_MS));
        assert!(passed.set_cookies.is_empty());
    }
    let nobody = allowed(isolate.look(&Inquiry::new(PUBLIC), "", E0));
    assert!(nobody.proof.is_none() && nobody.passage.identity.is_none());
}

#[test]
fn a_lease_that_is_over_is_refreshed_once() {
    let (mut isolate, cookies) = (Isolate::warm(), cookie(&signed(&claims())));
    let late_ms = E0 + 5_000;
    let mut inquiry = Inquiry::new(RoutePolicy::SESSION);
    let errand = first(isolate.look(&inquiry, &cookies, late_ms));
    assert!(matches!(errand.kind, Kind::Refresh) && !errand.fetch_keys);
    // It brought nothing: there is no other question in this request.
    inquiry.begin();
    inquiry.refreshed(&isolate.memory(), late_ms);
    assert!(is_unknown(&isolate.look(&inquiry, &cookies, late_ms)));
    // It brought a lease.
    let mut inquiry = Inquiry::new(RoutePolicy::SESSION);
    inquiry.begin();
    isolate.view = view(late_ms, &[]);
    inquiry.refreshed(&isolate.memory(), late_ms);
    allowed(isolate.look(&inquiry, &cookies, late_ms));
    assert!(!first(isolate.look(&inquiry, &cookies, late_ms + 5_000)).fetch_keys, "it was not given up");
}

#[test]
fn keys_older_than_the_lease_names_are_no_lease() {
    let (mut isolate, cookies) = (Isolate::warm(), cookie(&signed(&claims())));
    isolate.ring = Some(KeyRing::new(0, vec![RingKey::new(KeyId(1), &Secret([1; 32]), false)]));
    let mut inquiry = Inquiry::new(RoutePolicy::SESSION);
    assert!(matches!(first(isolate.look(&inquiry, &cookies, E0)).kind, Kind::Refresh));
    inquiry.refreshed(&isolate.memory(), E0);
    assert!(is_unknown(&isolate.look(&inquiry, &cookies, E0)));
    isolate.ring = Some(KeyRing::new(2, vec![RingKey::new(KeyId(1), &Secret([1; 32]), false)]));
    allowed(isolate.look(&Inquiry::new(RoutePolicy::SESSION), &cookies, E0));
}

#[test]
fn a_due_proof_is_renewed_and_the_new_one_handed_on() {
    let mut isolate = Isolate::warm();
    let old = signed(&Claims { renew_after_ms: T0_MS, ..claims() });
    let mut inquiry = Inquiry::new(RoutePolicy::SESSION);
    assert_eq!(asks(isolate.look(&inquiry, &cookie(&old), E0), &old), (true, false));
    inquiry.begin();
    let new = signed(&claims());
    isolate.answered(&mut inquiry, &old, current(Some(&new)), E0);
    let passed = allowed(isolate.look(&inquiry, &cookie(&old), E0));
    assert_eq!((passed.proof.as_deref(), passed.passage.how), (Some(new.as_str()), How::Coordinator));
    let max_age_s = (claims().expires_at_ms - T0_MS) / 1_000;
    assert_eq!(passed.set_cookies, [set_cookie(&new, claims().session_id, max_age_s)]);
    assert!(!passed.unchanged);
}

#[test]
fn an_answer_counts_for_its_proof_and_its_nonce_only() {
    let mut isolate = Isolate::warm();
    let (one, other) =
        (signed(&claims()), signed(&Claims { revision: edgekeep_shared::revision::Revision(6), ..claims() }));
    let mut inquiry = Inquiry::new(STRICT);
    assert_eq!(asks(isolate.look(&inquiry, &cookie(&one), E0), &one), (false, false));
    inquiry.begin();
    isolate.answered(&mut inquiry, &other, current(None), E0);
    assert_eq!(asks(isolate.look(&inquiry, &cookie(&one), E0), &one), (false, false));
    isolate.answered(&mut inquiry, &one, current(None), E0);
    allowed(isolate.look(&inquiry, &cookie(&one), E0));
    // Another nonce is no answer: no second question either.
    let mut inquiry = Inquiry::new(STRICT);
    inquiry.begin();
    let stray = current(None).map(|answer| CheckAnswer { nonce: Nonce([8; 16]), ..answer });
    isolate.answered(&mut inquiry, &one, stray, E0);
    assert!(is_unknown(&isolate.look(&inquiry, &cookie(&one), E0)));
}

#[test]
fn questions_are_counted_and_end() {
    let (mut isolate, value) = (Isolate::warm(), signed(&claims()));
    let mut inquiry = Inquiry::new(STRICT);
    for _ in 0..MAX_ASKS {
        assert_eq!(asks(isolate.look(&inquiry, &cookie(&value), E0), &value), (false, false));
        inquiry.begin();
    }
    assert!(is_unknown(&isolate.look(&inquiry, &cookie(&value), E0)));
}

#[test]
fn an_ending_is_remembered_told_again_and_a_public_page_stays_public() {
    let (mut isolate, value) = (Isolate::warm(), signed(&claims()));
    let mut inquiry = Inquiry::new(STRICT);
    inquiry.begin();
    isolate.answered(&mut inquiry, &value, says(CheckVerdict::Ended { reason: Reason::SignedInElsewhere }), E0);
    assert_eq!(reason(&isolate.look(&inquiry, &cookie(&value), E0)), Some(Reason::SignedInElsewhere));
    // Another request, within the lease, with no entry in the view.
    let step = isolate.look(&Inquiry::new(RoutePolicy::SESSION), &cookie(&value), E0);
    assert_eq!(reason(&step), Some(Reason::SignedInElsewhere));
    let public = allowed(isolate.look(&Inquiry::new(PUBLIC), &cookie(&value), E0));
    assert!(public.passage.identity.is_none() && public.proof.is_none());
    // Not of a value that names no session, and not "invalid".
    assert_eq!(isolate.ended.reason(SessionId([0; 16])), None);
    let mut isolate = Isolate::warm();
    isolate.answered(&mut inquiry, &value, says(CheckVerdict::Ended { reason: Reason::Invalid }), E0);
    isolate.answered(&mut inquiry, "1.junk", says(CheckVerdict::Ended { reason: Reason::SignedOut }), E0);
    assert_eq!(isolate.ended.reason(claims().session_id), None);
}

#[test]
fn while_nobody_answers_nothing_is_asked_but_memory_goes_on() {
    let (mut isolate, value) = (Isolate::warm(), signed(&claims()));
    let mut inquiry = Inquiry::new(STRICT);
    for _ in 0..2 {
        isolate.answered(&mut inquiry, &value, None, E0);
    }
    assert!(is_unknown(&isolate.look(&Inquiry::new(STRICT), &cookie(&value), E0)));
    allowed(isolate.look(&Inquiry::new(RoutePolicy::SESSION), &cookie(&value), E0));
    // Somebody answers: asking makes sense again.
    isolate.answered(&mut inquiry, &value, current(None), E0);
    assert_eq!(asks(isolate.look(&Inquiry::new(STRICT), &cookie(&value), E0), &value), (false, false));
}

#[test]
fn an_isolate_without_keys_asks_about_one_cookie_and_fetches_keys_for_several() {
    let value = signed(&claims());
    let two = format!("{}; {}={value}", cookie(&value), cookie_name(SessionId([1; 16])));
    let mut isolate = Isolate::cold();
    assert_eq!(asks(isolate.look(&Inquiry::new(RoutePolicy::SESSION), &cookie(&value), E0), &value), (true, true));
    let errand = first(isolate.look(&Inquiry::new(RoutePolicy::SESSION), &two, E0));
    assert!(matches!(errand.kind, Kind::Keys) && errand.fetch_keys);
    // With keys two cookies are told apart without help, and a strict route only asks.
    isolate.ring = Some(ring(false));
    let step = isolate.look(&Inquiry::new(RoutePolicy::SESSION), &cookie(&value), E0);
    assert_eq!(asks(step, &value), (true, false), "the view is not loaded");
}

#[test]
fn questions_about_unknown_keys_are_rationed_on_a_warm_isolate_only() {
    let value = of_unknown_key(&claims());
    let route = || Inquiry::new(RoutePolicy::SESSION);
    let mut isolate = Isolate::warm();
    let asked = (0..1_000).take_while(|_| !is_unknown(&isolate.look(&route(), &cookie(&value), E0))).count();
    assert_eq!(asked, 40);
    let known = signed(&claims());
    allowed(isolate.look(&route(), &cookie(&known), E0));
    assert_eq!(asks(isolate.look(&Inquiry::new(STRICT), &cookie(&known), E0), &known), (false, false));
    assert_eq!(asks(isolate.look(&route(), &cookie(&value), E0 + 1_000), &value), (true, true));
    let mut cold = Isolate::cold();
    for _ in 0..100 {
        asks(cold.look(&route(), &cookie(&value), E0), &value);
    }
}
