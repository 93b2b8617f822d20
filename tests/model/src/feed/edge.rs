//! An edge: its clock, its memory, its questions. Everything that decides here is the real code.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};

use edgekeep_shared::cookie::Chosen;
use edgekeep_shared::feed::{Answer, Question};
use edgekeep_shared::gate::{Decision, Denial, Finding, How, Identity, Passage, Situation, Verdict, decide};
use edgekeep_shared::ids::{KeyId, SessionId, SiteId, UserId};
use edgekeep_shared::keyring::{KeyRing, RingKey, Secret};
use edgekeep_shared::lease::{EdgeMs, Sent};
use edgekeep_shared::policy::{Access, RoutePolicy};
use edgekeep_shared::problem::Reason;
use edgekeep_shared::token::{Claims, UntrustedToken, sign};
use edgekeep_shared::view::View;

use super::memory::Memory;
use super::world::{Proof, World};
use super::{Feed, T0_MS};
use crate::Sabotage;

/// The most questions of one edge that are under way; an older one is lost.
const IN_THE_AIR: usize = 2;

/// A question to the feed, and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flight {
    pub(super) question: Question,
    sent: Sent,
    /// Which coordinator keeps it waiting since when.
    pub(super) held: Option<(u8, u64)>,
    pub(super) answer: Option<Answer>,
}

impl Hash for Flight {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.question.encode().hash(state);
        (self.sent.at_ms, self.held).hash(state);
        self.answer.as_ref().map(Answer::encode).hash(state);
    }
}

/// An edge.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Edge {
    rate: i64,
    /// What it remembers.
    pub memory: Memory,
    /// What is under way.
    pub(super) air: Vec<Flight>,
}

/// A question about one session, and what was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Who asks.
    pub edge: usize,
    /// About this.
    pub proof: Proof,
    sent: Sent,
    /// The session had ended when the edge asked.
    pub gone_when_asked: bool,
    /// What the coordinator said; under way for any time.
    pub verdict: Option<Verdict>,
}

impl Hash for Check {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.edge, self.proof, self.sent.at_ms, self.gone_when_asked).hash(state);
        self.verdict.as_ref().map(|verdict| (verdict.epoch, verdict.read_at_ms, verdict.age_ms)).hash(state);
        if let Some(Finding::Current { identity, revision }) = self.verdict.as_ref().map(|verdict| &verdict.finding) {
            (&identity.roles, revision).hash(state);
        }
    }
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Any session, the deployment's bound.
    Session,
    /// The role `admin`.
    Admin,
    /// Strict.
    Strict,
}

impl Edge {
    pub(super) fn new(feed: &Feed, rate: i64) -> Self {
        let mut edge = Self { rate, memory: feed.memories.keep(View::default(), 0), air: vec![] };
        if feed.broken(Sabotage::ColdViewIsEmpty) {
            edge.forge_empty(feed);
        }
        edge
    }

    /// This edge's clock.
    #[must_use]
    pub fn now_ms(&self, world: &World) -> EdgeMs {
        (world.now_ms() - T0_MS).cast_signed() * self.rate / 1_000 + 50_000
    }

    pub(super) fn ask(&mut self, nonce: u8, now_ms: EdgeMs) {
        if self.air.len() == IN_THE_AIR {
            self.air.remove(0);
        }
        let view = self.memory.view();
        let question = view.question(edgekeep_shared::ids::Nonce([nonce; 16]), 0);
        self.air.push(Flight { question, sent: view.sent(now_ms), held: None, answer: None });
    }

    pub(super) fn reset(&mut self, feed: &Feed) {
        // An isolate that is thrown away takes its questions with it; one that resets its view does not: the harder case.
        let mut view = self.memory.view().clone();
        view.reset();
        self.memory = feed.memories.keep(view, 0);
        if feed.broken(Sabotage::ColdViewIsEmpty) {
            self.forge_empty(feed);
        }
    }

    /// The answer of a coordinator: `held` counts from when the question arrived there.
    pub(super) fn held_ms(&self, which: usize, now_ms: u64) -> u32 {
        let flight = &self.air[which];
        let since_ms = match flight.held {
            Some((_, since_ms)) => since_ms,
            None => now_ms,
        };
        (now_ms - since_ms) as u32
    }

    /// An answer arrives; it stays in the air and may arrive again.
    pub(super) fn deliver(&mut self, feed: &Feed, which: usize, now_ms: EdgeMs) {
        let Flight { question, sent, answer, .. } = &self.air[which];
        let Some(mut answer) = answer.clone() else { return };
        let mut view = self.memory.view().clone();
        let mut question = question.clone();
        let sent = if feed.broken(Sabotage::LeaseFromReceipt) { view.sent(now_ms) } else { *sent };
        let mut needed_until_ms = self.memory.needed_until_ms;
        if feed.broken(Sabotage::NoClockMargin) {
            answer.head.max_staleness_ms = answer.head.max_staleness_ms * 100 / 98 + 1;
        }
        if feed.broken(Sabotage::ReturnCountsAsHeld) {
            answer.head.held_ms = (now_ms - sent.at_ms) as u32;
        }
        if feed.broken(Sabotage::PartialAnswerIntoResetView) && !view.is_paging() {
            question.page = None;
        }
        view.apply(&question, &answer, sent, now_ms);
        for entry in answer.entries.iter().filter(|entry| entry.user_id == UserId(1)) {
            needed_until_ms = needed_until_ms.max(entry.needed_until_ms);
        }
        if view.revision_of(UserId(1)).is_none() {
            needed_until_ms = 0;
        }
        view.prune();
        self.memory = feed.memories.keep(view, needed_until_ms);
    }

    /// A sabotaged edge: hears nothing, and takes that for an answer with nothing in it.
    fn forge_empty(&mut self, feed: &Feed) {
        let mut view = self.memory.view().clone();
        let question = view.question(edgekeep_shared::ids::Nonce([255; 16]), 0);
        let head = edgekeep_shared::feed::Head {
            nonce: question.nonce,
            epoch: view.epoch().max(1),
            from: None,
            to: edgekeep_shared::position::Position { xmax: 0, xip: vec![] },
            age_ms: 0,
            held_ms: 0,
            read_at_ms: T0_MS,
            keys_version: 1,
            settings_version: 1,
            max_staleness_ms: u32::MAX,
            next_page: None,
        };
        let sent = view.sent(50_000);
        view.apply(&question, &Answer { head, entries: vec![] }, sent, 50_000);
        self.memory = feed.memories.keep(view, 0);
    }

    pub(super) fn check(&self, edge: usize, proof: Proof, now_ms: EdgeMs, gone_when_asked: bool) -> Check {
        Check { edge, proof, sent: self.memory.view().sent(now_ms), gone_when_asked, verdict: None }
    }
}

impl Check {
    /// The coordinator reads the primary, behind a heartbeat (`shared/src/verdict.rs`, in small).
    pub(super) fn speak(&mut self, feed: &Feed, world: &World) {
        let (db, proof) = (&world.db, &self.proof);
        let base = feed.base(db.rows.revision, db.epoch);
        let of = proof.revision.epoch();
        let finding = match db.session(proof.session) {
            _ if of > db.epoch || (of == db.epoch && proof.revision > base) => Finding::Unknown,
            Some(_) => Finding::Current {
                identity: Identity::from(&claims(&Proof { admin: db.rows.admin, ..*proof })),
                revision: base,
            },
            None => Finding::Ended(Reason::SignedInElsewhere),
        };
        self.verdict = Some(Verdict {
            epoch: db.epoch,
            sent: self.sent,
            age_ms: 0,
            read_at_ms: world.now_ms(),
            max_staleness_ms: feed.scenario.bound_ms,
            finding,
        });
    }
}

fn claims(proof: &Proof) -> Claims {
    Claims {
        site: SiteId(7),
        user_id: UserId(proof.user),
        revision: proof.revision,
        session_id: SessionId([proof.session; 16]),
        authenticated_at_ms: proof.since_ms,
        renew_after_ms: proof.renew_after_ms,
        idle_expires_at_ms: proof.expires_ms,
        expires_at_ms: proof.expires_ms,
        name: "ann".into(),
        roles: if proof.admin { vec!["admin".into()] } else { vec![] },
    }
}

/// The proof as a cookie that was really signed and really verified, once per thread.
fn cookie(proof: &Proof) -> std::rc::Rc<Chosen> {
    thread_local!(static KNOWN: RefCell<HashMap<Proof, std::rc::Rc<Chosen>>> = RefCell::default());
    KNOWN.with_borrow_mut(|known| {
        let made = || {
            let ring = KeyRing::new(1, vec![RingKey::new(KeyId(1), &Secret([1; 32]), false)]);
            let value = ring.get(KeyId(1)).and_then(|key| sign(&claims(proof), key).ok()).unwrap_or_default();
            let token = UntrustedToken::parse(&value).ok().and_then(|token| token.verify(&ring, SiteId(7)).ok());
            std::rc::Rc::new(token.map_or(Chosen::Invalid, |token| Chosen::Proof { value, token }))
        };
        known.entry(*proof).or_insert_with(made).clone()
    })
}

/// What this edge does about a request with this proof, now.
pub(super) fn decision(
    feed: &Feed,
    world: &World,
    edge: &Edge,
    proof: &Proof,
    route: Route,
    check: Option<&Check>,
) -> Decision {
    let route = match route {
        Route::Admin => RoutePolicy { access: Access::Roles(vec!["admin".into()]), ..RoutePolicy::SESSION },
        Route::Strict if !feed.broken(Sabotage::StrictFromMemory) => {
            RoutePolicy { max_staleness_ms: Some(0), ..RoutePolicy::SESSION }
        }
        Route::Session | Route::Strict => RoutePolicy::SESSION,
    };
    let verdict = check.and_then(|check| check.verdict.as_ref());
    if feed.broken(Sabotage::RenewalNotRechecked)
        && let Some(Finding::Current { identity, .. }) = verdict.map(|verdict| &verdict.finding)
    {
        return Decision::Allow(Passage { identity: Some(identity.clone()), how: How::Coordinator, view_age_ms: 0 });
    }
    let decided = decide(&Situation {
        chosen: &cookie(proof),
        route: &route,
        view: edge.memory.view(),
        keys_version: 1,
        now_ms: edge.now_ms(world),
        verdict,
        asked: if check.is_some() { edgekeep_shared::gate::MAX_ASKS } else { 0 },
    });
    if feed.broken(Sabotage::OutageSignsOut) && decided == Decision::Unknown {
        return Decision::Deny(Denial::NoSession(Reason::SignedOut));
    }
    decided
}
