//! A request on its way through the gate, from the first look to the last: what has to be asked before the gate can
//! decide, what an answer changes, and when it is given up. Pure: the shell carries an [`Errand`] out, tells what came of
//! it, and looks again with a fresh clock and memory.
//!
//! Guarantees: nothing passes but by [`gate::decide`], called after the last await; an answer of the coordinator counts
//! only for the very proof that it was asked about, and for its nonce; an ending is remembered only of a session that a
//! verified proof names, and only from the view's epoch on; after a question that nobody answered there is no other.

use std::collections::{HashMap, VecDeque};

use crate::api::{CheckAnswer, CheckVerdict};
use crate::cookie::{self, Chosen};
use crate::gate::{self, Decision, Denial, Finding, How, Identity, Passage, Situation, Verdict};
use crate::ids::{Nonce, SessionId, SiteId};
use crate::keyring::KeyRing;
use crate::lease::{EdgeMs, Sent};
use crate::policy::{Access, RoutePolicy};
use crate::problem::Reason;
use crate::retry::{Breaker, Bucket};
use crate::revision::Revision;
use crate::token::UntrustedToken;
use crate::view::View;

/// Sessions that the coordinator has said to be over. Session ids are never reused and an ended session never
/// comes back (G5), so this stays true; it only saves asking again.
#[derive(Debug, Default)]
pub struct Ended {
    reasons: HashMap<SessionId, Reason>,
    order: VecDeque<SessionId>,
}

/// The most ended sessions that are remembered.
const MAX_ENDED: usize = 4_096;

impl Ended {
    /// Why this session is over, if that is remembered.
    #[must_use]
    pub fn reason(&self, session_id: SessionId) -> Option<Reason> {
        self.reasons.get(&session_id).copied()
    }

    /// Remembers it. The first reason stays.
    pub fn remember(&mut self, session_id: SessionId, reason: Reason) {
        if self.reasons.contains_key(&session_id) {
            return;
        }
        if self.order.len() == MAX_ENDED
            && let Some(oldest) = self.order.pop_front()
        {
            self.reasons.remove(&oldest);
        }
        self.order.push_back(session_id);
        self.reasons.insert(session_id, reason);
    }
}

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

/// What an isolate remembers that a look depends on.
#[derive(Debug)]
pub struct Memory<'a> {
    /// What was revoked lately, and the lease.
    pub view: &'a mut View,
    /// The signing keys and the site that tokens are for; `None` on an isolate without keys.
    pub keys: Option<(&'a KeyRing, SiteId)>,
    /// Sessions known to have ended.
    pub ended: &'a mut Ended,
    /// Asking fails at the moment.
    pub breaker: &'a mut Breaker,
    /// Questions about cookies with unknown keys, which anybody can make up.
    pub unknown_keys: &'a mut Bucket,
}

impl Memory<'_> {
    fn keys_version(&self) -> u64 {
        self.keys.map_or(0, |(ring, _)| ring.version())
    }
}

/// A request on its way through the gate.
#[derive(Debug)]
pub struct Inquiry {
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
    /// What to ask.
    pub kind: Kind,
    /// Fetch keys beside it.
    pub fetch_keys: bool,
}

/// What to ask.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Only keys are missing.
    Keys,
    /// Refresh the lease.
    Refresh,
    /// Ask about this proof.
    Ask {
        /// The presented value.
        proof: String,
        /// A new proof is wanted, if it is due.
        renew: bool,
    },
}

/// The gate's word, or what to do first.
#[derive(Clone, Debug)]
pub enum Step {
    /// It has decided.
    Done(Outcome),
    /// It cannot decide yet.
    First(Errand),
}

impl Inquiry {
    /// A request that asks for what `route` asks for.
    #[must_use]
    pub const fn new(route: RoutePolicy) -> Self {
        Self { route, asked: 0, answered: None }
    }

    /// What the route asks for.
    #[must_use]
    pub const fn route(&self) -> &RoutePolicy {
        &self.route
    }

    /// Looks once, at the request's `Cookie` header, and again after every errand. The gate ends it: after
    /// [`gate::MAX_ASKS`] errands it says "unknown" where it would ask.
    #[must_use]
    pub fn look(&self, memory: &mut Memory<'_>, cookies: &str, now_ms: EdgeMs) -> Step {
        memory.view.observe_clock(now_ms);
        let no_keys = KeyRing::default();
        let (ring, site) = memory.keys.unwrap_or((&no_keys, SiteId(0)));
        let choice = cookie::choose(cookies, ring, site);
        let cleared = || choice.clear.iter().map(|name| cookie::clear_cookie(name));
        // An ended session stays ended (G5): no need to ask again, or to wait for the feed to say so.
        if let Some(reason) = ended(memory, &choice.chosen) {
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
            view: memory.view,
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
                let bound_ms = memory.view.lease().max_staleness_ms();
                let bound_ms = bound_ms.or(verdict.map(|answered| answered.verdict.max_staleness_ms));
                let clock_ms = memory.view.clock().map(|clock| clock.earliest_ms(now_ms));
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
            Decision::AskCoordinator => !memory.view.is_loaded() || matches!(choice.chosen, Chosen::UnknownKey { .. }),
        };
        if !memory.breaker.is_closed(now_ms) {
            return Step::Done(Outcome::Unknown);
        }
        errand(memory, &choice.chosen, cookies, decision == Decision::Refresh, renew, now_ms)
    }

    /// An errand is begun: counts it, so that there is an end.
    pub const fn begin(&mut self) {
        self.asked += 1;
    }

    /// A refresh of the lease is over, however it ended. One deadline per request: without a lease after it there is no
    /// other question.
    pub fn refreshed(&mut self, memory: &Memory<'_>, now_ms: EdgeMs) {
        if !memory.view.lease().holds(now_ms, self.route.max_staleness_ms, memory.keys_version()) {
            self.give_up();
        }
    }

    /// The coordinator has answered a question about `proof` that was stamped with `sent` and had this nonce; or nobody
    /// has (`None`).
    pub fn answered(
        &mut self,
        memory: &mut Memory<'_>,
        proof: String,
        nonce: Nonce,
        sent: Sent,
        answer: Option<CheckAnswer>,
        now: impl FnOnce() -> (EdgeMs, u32),
    ) {
        let Some(answer) = answer.filter(|answer| answer.nonce == nonce) else {
            let (now_ms, random) = now();
            memory.breaker.failed(now_ms, random);
            self.give_up();
            return;
        };
        let (finding, renewed) = finding(answer.verdict);
        memory.breaker.answered();
        if let Finding::Ended(reason) = finding {
            remember_ended(memory, &proof, answer.epoch, reason);
        }
        self.answered = Some(Answered {
            about: proof,
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

    /// After a question that nobody answered there is no other. The gate still looks again.
    const fn give_up(&mut self) {
        self.asked = gate::MAX_ASKS;
    }

    /// What the deployment's bound and the route's come to.
    fn route_bound_ms(&self, deployment_ms: Option<u32>) -> u32 {
        let deployment_ms = deployment_ms.unwrap_or(0);
        self.route.max_staleness_ms.map_or(deployment_ms, |route_ms| route_ms.min(deployment_ms))
    }
}

/// Why the session of the proof that counts is over, if that is remembered.
fn ended(memory: &Memory<'_>, chosen: &Chosen) -> Option<Reason> {
    match chosen {
        Chosen::Proof { token, .. } => memory.ended.reason(token.claims().session_id),
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
fn errand(memory: &mut Memory<'_>, chosen: &Chosen, cookies: &str, refresh: bool, renew: bool, now_ms: i64) -> Step {
    let cold = memory.keys.is_none();
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
    if unknown_key && !cold && !memory.unknown_keys.take(now_ms) {
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
fn remember_ended(memory: &mut Memory<'_>, proof: &str, epoch: u16, reason: Reason) {
    if epoch < memory.view.epoch() {
        return;
    }
    let Some((ring, site)) = memory.keys else { return };
    let token = UntrustedToken::parse(proof).ok();
    let Some(token) = token.and_then(|token| token.verify(ring, site).ok()) else { return };
    if !matches!(reason, Reason::None | Reason::Invalid) {
        memory.ended.remember(token.claims().session_id, reason);
    }
}

/// The cookie for a new proof, until the session's absolute expiry.
fn renewal_cookie(token: &str, passage: &Passage, answered: Option<&Answered>) -> Option<String> {
    let (identity, answered) = (passage.identity.as_ref()?, answered?);
    // At least a second: with 0 the browser would drop the cookie, and nobody could say that the session has expired.
    let max_age_s = (identity.expires_at_ms.saturating_sub(answered.verdict.read_at_ms) / 1_000).max(1);
    Some(cookie::set_cookie(token, identity.session_id, max_age_s))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::{Answer, Head};
    use crate::ids::{KeyId, UserId};
    use crate::keyring::{RingKey, Secret};
    use crate::position::Position;
    use crate::token::{self, Claims};

    #[test]
    fn ended_sessions_are_remembered_within_bounds() {
        let mut ended = Ended::default();
        let id = |n: usize| SessionId((n as u128).to_be_bytes());
        ended.remember(id(0), Reason::SignedInElsewhere);
        ended.remember(id(0), Reason::Expired);
        assert_eq!(ended.reason(id(0)), Some(Reason::SignedInElsewhere));
        for n in 1..=MAX_ENDED {
            ended.remember(id(n), Reason::SignedOut);
        }
        assert_eq!(ended.reason(id(0)), None);
        assert_eq!(ended.reason(id(MAX_ENDED)), Some(Reason::SignedOut));
        assert_eq!(ended.reasons.len(), MAX_ENDED);
    }

    /// A view of this epoch.
    fn view_of_epoch(epoch: u16) -> View {
        let mut view = View::default();
        let nonce = Nonce([1; 16]);
        let question = view.question(nonce, 0);
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
        let sent = view.sent(0);
        view.apply(&question, &Answer { head, entries: Vec::new() }, sent, 0);
        assert_eq!(view.epoch(), epoch);
        view
    }

    #[test]
    fn an_end_that_a_lower_epoch_tells_of_is_not_remembered() {
        let ring = KeyRing::new(1, vec![RingKey::new(KeyId(1), &Secret([0xab; 32]), false)]);
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
        let proof = token::sign(&claims, ring.get(KeyId(1)).expect("a key")).expect("a proof");
        for (epoch, reason) in [(4, None), (5, Some(Reason::Revoked)), (6, Some(Reason::Revoked))] {
            let (mut view, mut ended) = (view_of_epoch(5), Ended::default());
            let (mut breaker, mut unknown_keys) = (Breaker::default(), Bucket::default());
            let mut memory = Memory {
                view: &mut view,
                keys: Some((&ring, SiteId::of("main"))),
                ended: &mut ended,
                breaker: &mut breaker,
                unknown_keys: &mut unknown_keys,
            };
            remember_ended(&mut memory, &proof, epoch, Reason::Revoked);
            assert_eq!(ended.reason(session_id), reason, "{epoch}");
        }
    }
}
