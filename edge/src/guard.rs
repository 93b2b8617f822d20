//! Carrying out what the gate decides: `shared::gate` is the decision, this is the asking.
//!
//! After every await the gate runs again, with a fresh clock, view and keys, so that nothing that arrived
//! meanwhile is overlooked. The cookie that counts is chosen anew each time too, and an answer of the
//! coordinator counts only for the very proof that it was asked about.

use edgekeep_shared::api::{CheckAnswer, CheckRequest, CheckVerdict};
use edgekeep_shared::cookie::{self, Chosen};
use edgekeep_shared::gate::{self, Decision, Denial, Finding, How, Identity, Passage, Situation, Verdict};
use edgekeep_shared::ids::{Nonce, SiteId};
use edgekeep_shared::keyring::KeyRing;
use edgekeep_shared::policy::{Access, RoutePolicy};
use edgekeep_shared::problem::Reason;
use edgekeep_shared::revision::Revision;
use edgekeep_shared::token::{UntrustedToken, VerifyError};

use crate::coordinator::{self, Effort};
use crate::incoming::Incoming;
use crate::state::{self, State};
use crate::{clock, feed, js, keys};

/// What became of a request at the gate.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It passes.
    Allow(Box<Allowed>),
    /// It is refused.
    Deny {
        /// Why.
        denial: Denial,
        /// `Set-Cookie` values that clear cookies which can never count again.
        set_cookies: Vec<String>,
    },
    /// Nobody can know right now: 503, and the cookie stays (G8).
    Unknown,
}

/// A request that passes.
#[derive(Clone, Debug)]
pub struct Allowed {
    /// Who is behind it, and how that was checked.
    pub passage: Passage,
    /// The proof that counts from now on: the presented one, or the new one. `None` for an anonymous request.
    pub proof: Option<String>,
    /// Coordinator time, at most a little late; `None` where it is not known (an anonymous request on a cold isolate).
    pub coordinator_now_ms: Option<u64>,
    /// The bound of G2 that was in force, in milliseconds.
    pub max_staleness_ms: u32,
    /// `Set-Cookie` values for the answer: a new proof, and cookies that can never count again.
    pub set_cookies: Vec<String>,
    /// The proof was checked from memory alone and is the presented one: what was made from it lately can be used again.
    pub unchanged: bool,
}

impl Allowed {
    /// A request that passes whoever it is.
    const fn anonymous(passage: Passage, set_cookies: Vec<String>) -> Self {
        Self { passage, proof: None, coordinator_now_ms: None, max_staleness_ms: 0, set_cookies, unchanged: true }
    }
}

/// A request on its way through the gate.
#[derive(Debug)]
pub struct Guard {
    route: RoutePolicy,
    asked: u8,
    answered: Option<Answered>,
}

/// What the coordinator said, and about which proof.
#[derive(Debug)]
struct Answered {
    about: String,
    verdict: Verdict,
    /// The new proof, if one was given.
    renewed: Option<String>,
}

/// What has to be done before the gate can look again.
#[derive(Clone, Debug)]
pub struct Errand {
    kind: Kind,
    fetch_keys: bool,
}

#[derive(Clone, Debug)]
enum Kind {
    /// Only keys are missing.
    Keys,
    /// Refresh the lease.
    Refresh,
    /// Ask about this proof.
    Ask { proof: String, renew: bool },
}

/// The gate's word, or what to do first.
#[derive(Clone, Debug)]
pub enum Step {
    /// It has decided.
    Done(Outcome),
    /// It cannot decide yet.
    First(Errand),
}

impl Guard {
    /// A request that asks for what `route` asks for.
    #[must_use]
    pub const fn new(route: RoutePolicy) -> Self {
        Self { route, asked: 0, answered: None }
    }

    /// Looks once, without awaiting anything: the whole hot path.
    #[must_use]
    pub fn look(&self, cookies: &str) -> Step {
        let now_ms = clock::now_ms();
        state::with(|state| self.look_at(state, cookies, now_ms))
    }

    fn look_at(&self, state: &mut State, cookies: &str, now_ms: i64) -> Step {
        state.view.observe_clock(now_ms);
        let no_keys = KeyRing::default();
        let (ring, site) = state.keys.as_ref().map_or((&no_keys, SiteId(0)), |keys| (&keys.ring, keys.site));
        let choice = cookie::choose(cookies, ring, site);
        let cleared = || choice.clear.iter().map(|name| cookie::clear_cookie(name));
        // An ended session stays ended (G5): no need to ask again, or to wait for the feed to say so.
        if let Some(reason) = ended(state, &choice.chosen) {
            let passage = Passage { identity: None, how: How::Local, view_age_ms: 0 };
            return Step::Done(match self.route.access {
                Access::Public => Outcome::Allow(Box::new(Allowed::anonymous(passage, cleared().collect()))),
                _ => Outcome::Deny { denial: Denial::NoSession(reason), set_cookies: cleared().collect() },
            });
        }
        let verdict = self.answered.as_ref().filter(|answered| Some(answered.about.as_str()) == value(&choice.chosen));
        let decision = gate::decide(&Situation {
            chosen: &choice.chosen,
            route: &self.route,
            view: &state.view,
            keys_version: ring.version(),
            now_ms,
            verdict: verdict.map(|answered| &answered.verdict),
            asked: self.asked,
        });
        let renew = match decision {
            Decision::Allow(passage) => {
                let renewed = verdict.and_then(|answered| answered.renewed.as_deref());
                let renewal = renewed.and_then(|token| renewal_cookie(token, &passage, verdict));
                let proof = renewed.or(value(&choice.chosen)).map(str::to_owned);
                let bound_ms = state.view.lease().max_staleness_ms();
                let bound_ms = bound_ms.or(verdict.map(|answered| answered.verdict.max_staleness_ms));
                let clock_ms = state.view.clock().map(|clock| clock.earliest_ms(now_ms));
                return Step::Done(Outcome::Allow(Box::new(Allowed {
                    proof: proof.filter(|_| passage.identity.is_some()),
                    coordinator_now_ms: clock_ms.or(verdict.map(|answered| answered.verdict.read_at_ms)),
                    max_staleness_ms: self.route_bound_ms(bound_ms),
                    set_cookies: renewal.into_iter().chain(cleared()).collect(),
                    unchanged: verdict.is_none(),
                    passage,
                })));
            }
            Decision::Deny(denial) => return Step::Done(Outcome::Deny { denial, set_cookies: cleared().collect() }),
            Decision::Unknown => return Step::Done(Outcome::Unknown),
            Decision::Refresh => false,
            Decision::Renew => true,
            // On a cold isolate a proof is renewed when it is due, as everywhere; a strict route only asks.
            Decision::AskCoordinator => !state.view.is_loaded() || matches!(choice.chosen, Chosen::UnknownKey { .. }),
        };
        if !state.breaker.is_closed(now_ms) {
            return Step::Done(Outcome::Unknown);
        }
        errand(state, &choice.chosen, cookies, decision == Decision::Refresh, renew, now_ms)
    }

    /// What the deployment's bound and the route's come to.
    fn route_bound_ms(&self, deployment_ms: Option<u32>) -> u32 {
        let deployment_ms = deployment_ms.unwrap_or(0);
        self.route.max_staleness_ms.map_or(deployment_ms, |route_ms| route_ms.min(deployment_ms))
    }

    /// Looks, does what has to be done first, and looks again, until the gate has decided.
    pub async fn decide(mut self, incoming: &Incoming, first: Errand) -> Outcome {
        let mut errand = first;
        loop {
            self.run(incoming, errand).await;
            match self.look(&incoming.cookies) {
                Step::Done(outcome) => return outcome,
                // The gate counts as well; this is the end of it whatever it says.
                Step::First(_) if self.asked > gate::MAX_ASKS + 1 => return Outcome::Unknown,
                Step::First(next) => errand = next,
            }
        }
    }

    async fn run(&mut self, incoming: &Incoming, errand: Errand) {
        self.asked += 1;
        // Started before the question, so that both are under way together.
        let fetched = errand.fetch_keys.then(|| keys::fetch_shared(incoming));
        match errand.kind {
            Kind::Keys => {}
            Kind::Refresh => {
                feed::refresh(incoming).await;
                let now_ms = clock::now_ms();
                let bound_ms = self.route.max_staleness_ms;
                let holds = |state: &mut State| state.view.lease().holds(now_ms, bound_ms, state.keys_version());
                if !state::with(holds) {
                    self.give_up();
                }
            }
            Kind::Ask { proof, renew } => self.ask(incoming, proof, renew).await,
        }
        if let Some(fetched) = fetched {
            let _ = js::within(&fetched, Effort::INLINE.total_ms).await;
        }
    }

    /// One deadline per request: after a question that nobody answered there is no other. The gate still looks again.
    const fn give_up(&mut self) {
        self.asked = gate::MAX_ASKS;
    }

    async fn ask(&mut self, incoming: &Incoming, proof: String, renew: bool) {
        let request = CheckRequest { nonce: Nonce(js::random()), token: proof, renew };
        let now_ms = clock::now_ms();
        let sent = state::with(|state| {
            state.view.observe_clock(now_ms);
            state.view.sent(now_ms)
        });
        let answer: Result<CheckAnswer, _> =
            coordinator::ask(&incoming.config, "/v1/check", &request, &incoming.request_id, Effort::INLINE).await;
        let answer = answer.ok().filter(|answer| answer.nonce == request.nonce);
        let Some(answer) = answer else {
            let (now_ms, random) = (clock::now_ms(), u32::from_be_bytes(js::random()));
            state::with(|state| state.breaker.failed(now_ms, random));
            self.give_up();
            return;
        };
        let (finding, renewed) = finding(answer.verdict);
        state::with(|state| {
            state.breaker.answered();
            if let Finding::Ended(reason) = finding {
                remember_ended(state, &request.token, answer.epoch, reason);
            }
        });
        self.answered = Some(Answered {
            about: request.token,
            verdict: Verdict {
                epoch: answer.epoch,
                sent,
                age_ms: u32::try_from(answer.age_ms).unwrap_or(u32::MAX),
                read_at_ms: answer.read_at_ms,
                max_staleness_ms: answer.max_staleness_ms,
                finding,
            },
            renewed,
        });
    }
}

/// Why the session of the proof that counts is over, if that is remembered.
fn ended(state: &State, chosen: &Chosen) -> Option<Reason> {
    match chosen {
        Chosen::Proof { token, .. } => state.ended.reason(token.claims().session_id),
        Chosen::UnknownKey { .. } | Chosen::Nothing | Chosen::Invalid => None,
    }
}

/// The presented value that counts.
const fn value(chosen: &Chosen) -> Option<&str> {
    match chosen {
        Chosen::Proof { value, .. } | Chosen::UnknownKey { value, .. } => Some(value.as_str()),
        Chosen::Nothing | Chosen::Invalid => None,
    }
}

/// What to do so that the gate can decide.
fn errand(state: &mut State, chosen: &Chosen, cookies: &str, refresh: bool, renew: bool, now_ms: i64) -> Step {
    let cold = state.keys.is_none();
    let (proof, unknown_key) = match chosen {
        Chosen::Proof { value, .. } => (value.clone(), false),
        Chosen::UnknownKey { value, .. } => (value.clone(), true),
        Chosen::Nothing | Chosen::Invalid => return Step::Done(Outcome::Unknown),
    };
    if refresh {
        return Step::First(Errand { kind: Kind::Refresh, fetch_keys: cold });
    }
    // Which of several cookies counts can only be told with keys.
    if cold && cookie::presented(cookies).len() > 1 {
        return Step::First(Errand { kind: Kind::Keys, fetch_keys: true });
    }
    // Anybody can make up a cookie with an unknown key: such questions are rationed.
    if unknown_key && !cold && !state.unknown_keys.take(now_ms) {
        return Step::Done(Outcome::Unknown);
    }
    Step::First(Errand { kind: Kind::Ask { proof, renew }, fetch_keys: unknown_key })
}

fn finding(verdict: CheckVerdict) -> (Finding, Option<String>) {
    match verdict {
        CheckVerdict::Current { token, revision, roles, session, name, user_id } => {
            let identity = Identity {
                user_id,
                name,
                roles,
                session_id: session.id,
                authenticated_at_ms: session.authenticated_at_ms,
                idle_expires_at_ms: session.idle_expires_at_ms,
                expires_at_ms: session.expires_at_ms,
            };
            (Finding::Current { identity, revision: Revision(revision) }, token)
        }
        CheckVerdict::Ended { reason } => (Finding::Ended(reason), None),
        CheckVerdict::Unknown => (Finding::Unknown, None),
    }
}

/// Only a session that a verified proof names: the coordinator says `invalid` of proofs that name none. And only what
/// was read in the view's epoch or a later one: answers of a lower epoch are dropped (design 2.2).
fn remember_ended(state: &mut State, proof: &str, epoch: u16, reason: Reason) {
    if epoch < state.view.epoch() {
        return;
    }
    let Some(keys) = state.keys.clone() else { return };
    let token = UntrustedToken::parse(proof).ok();
    let Some(token) = token.and_then(|token| token.verify(&keys.ring, keys.site).ok()) else { return };
    if !matches!(reason, Reason::None | Reason::Invalid) {
        state.ended.remember(token.claims().session_id, reason);
    }
}

/// The cookie for a new proof, until the session's absolute expiry.
fn renewal_cookie(token: &str, passage: &Passage, answered: Option<&Answered>) -> Option<String> {
    let (identity, answered) = (passage.identity.as_ref()?, answered?);
    // At least a second: with 0 the browser would drop the cookie, and nobody could say that the session has expired.
    let max_age_s = (identity.expires_at_ms.saturating_sub(answered.verdict.read_at_ms) / 1_000).max(1);
    Some(cookie::set_cookie(token, identity.session_id, max_age_s))
}

/// The presented values that are proofs of ours or may be, oldest first: an unknown key is the coordinator's to judge. All
/// cookies are looked at: with one overlooked, "its session has ended" would not be true.
#[must_use]
pub fn presented_proofs(cookies: &str) -> Vec<String> {
    let keys = state::with(|state| state.keys.clone());
    let may_be_ours = |value: &str| {
        let Ok(token) = UntrustedToken::parse(value) else { return false };
        match &keys {
            Some(keys) => !matches!(token.verify(&keys.ring, keys.site), Err(VerifyError::Invalid)),
            None => true,
        }
    };
    let values = cookie::all_presented(cookies).into_iter().map(|cookie| cookie.value);
    values.filter(|value| may_be_ours(value)).map(str::to_owned).collect()
}

/// The proof that counts, if it is valid, and the name in it. Whether its session stands is not asked.
#[must_use]
pub fn counting_proof(cookies: &str) -> Option<(String, String)> {
    let keys = state::with(|state| state.keys.clone())?;
    match cookie::choose(cookies, &keys.ring, keys.site).chosen {
        Chosen::Proof { value, token } => Some((value, token.claims().name.clone())),
        Chosen::UnknownKey { .. } | Chosen::Nothing | Chosen::Invalid => None,
    }
}

/// `Set-Cookie` values that clear every cookie of ours that a request presents, but this one.
#[must_use]
pub fn clear_all(cookies: &str, but: Option<&str>) -> Vec<String> {
    let mut names: Vec<&str> = Vec::new();
    for presented in cookie::all_presented(cookies) {
        if Some(presented.name) != but && !names.contains(&presented.name) {
            names.push(presented.name);
        }
    }
    names.into_iter().map(cookie::clear_cookie).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use edgekeep_shared::api::{Key, KeysAnswer};
    use edgekeep_shared::cookie::COOKIE_PREFIX;
    use edgekeep_shared::feed::{Answer, Head};
    use edgekeep_shared::ids::{KeyId, SessionId, UserId};
    use edgekeep_shared::keyring::{RingKey, Secret};
    use edgekeep_shared::position::Position;
    use edgekeep_shared::token::{self, Claims};

    const SECRET: [u8; 32] = [0xab; 32];

    /// An isolate with one key, whose view is of this epoch.
    fn state_of_epoch(epoch: u16) -> State {
        let mut state = State::default();
        let nonce = Nonce([1; 16]);
        let answer = KeysAnswer {
            nonce,
            version: 1,
            keys: vec![Key { id: KeyId(1), secret: "ab".repeat(32), withdrawn: false }],
            site: "main".to_owned(),
            form_secret: "cd".repeat(32),
            sessions_per_user: 1,
            password_min_chars: 15,
            now_ms: 1,
        };
        state.keys = keys::Keys::from_answer(answer, nonce, None, 0).map(std::rc::Rc::new);
        let question = state.view.question(nonce, 0);
        let head = Head {
            nonce,
            epoch,
            from: None,
            to: Position { xmax: 10, xip: Vec::new() },
            age_ms: 0,
            held_ms: 0,
            read_at_ms: 1_000,
            keys_version: 1,
            settings_version: 1,
            max_staleness_ms: 5_000,
            next_page: None,
        };
        let sent = state.view.sent(0);
        state.view.apply(&question, &Answer { head, entries: Vec::new() }, sent, 0);
        assert_eq!(state.view.epoch(), epoch);
        state
    }

    #[test]
    fn an_end_that_a_lower_epoch_tells_of_is_not_remembered() {
        let session_id = SessionId([7; 16]);
        let claims = Claims {
            site: SiteId::of("main"),
            user_id: UserId(1),
            revision: Revision(1),
            session_id,
            authenticated_at_ms: 1,
            renew_after_ms: 2,
            idle_expires_at_ms: 3,
            expires_at_ms: 4,
            name: "ann".to_owned(),
            roles: Vec::new(),
        };
        let proof = token::sign(&claims, &RingKey::new(KeyId(1), &Secret(SECRET), false)).expect("a proof");
        for (epoch, reason) in [(4, None), (5, Some(Reason::Revoked)), (6, Some(Reason::Revoked))] {
            let mut state = state_of_epoch(5);
            remember_ended(&mut state, &proof, epoch, Reason::Revoked);
            assert_eq!(state.ended.reason(session_id), reason, "{epoch}");
        }
    }

    #[test]
    fn every_presented_cookie_is_cleared_once_but_the_new_one_stays() {
        let header = "a=1; __Host-edgekeep-00000001=x; __Host-edgekeep-00000002=y; __Host-edgekeep-00000001=z";
        assert_eq!(clear_all(header, None).len(), 2);
        let kept = clear_all(header, Some("__Host-edgekeep-00000002"));
        assert_eq!(kept.len(), 1);
        assert!(kept[0].starts_with("__Host-edgekeep-00000001=;"));
    }

    #[test]
    fn no_number_of_other_cookies_hides_a_session_from_signing_out() {
        // Without keys whatever has the form of a proof may be one.
        let proof = format!("1.AQ{}", "A".repeat(160));
        let junk: String = (0..20).map(|n| format!("; {COOKIE_PREFIX}{n:08x}=x")).collect();
        assert_eq!(presented_proofs(&format!("{COOKIE_PREFIX}00000000={proof}{junk}")), [proof]);
    }
}
