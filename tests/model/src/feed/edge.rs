//! An edge: its clock, its memory, its questions. Everything that decides here is the real code. When it asks is not
//! decided: chains, retries and their pauses (`shared::{follow, retry}`) choose one time to ask, here every time is explored.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::LazyLock;

use edgekeep_op::Route;
use edgekeep_shared::cookie::{Chosen, cookie_name};
use edgekeep_shared::feed::{Answer, Entry, Head, Question};
use edgekeep_shared::follow;
use edgekeep_shared::gate::{Decision, Situation, decide};
use edgekeep_shared::ids::{KeyId, Nonce, SessionId, SiteId, UserId};
use edgekeep_shared::keyring::{KeyRing, RingKey, Secret};
use edgekeep_shared::lease::{EdgeMs, Sent};
use edgekeep_shared::policy::{Access, RoutePolicy};
use edgekeep_shared::position::Position;
use edgekeep_shared::source::Held;
use edgekeep_shared::token::{Claims, UntrustedToken, sign};
use edgekeep_shared::view::View;

use super::memory::Memory;
use super::world::{Proof, World};
use super::{Feed, T0_MS, TICK_MS};
use crate::Sabotage;

/// The most questions of one edge that are under way; an older one is lost.
const IN_THE_AIR: usize = 2;
/// The site that proofs are for.
pub(super) const SITE: SiteId = SiteId(7);
/// The keys that everybody has.
pub(super) static RING: LazyLock<KeyRing> =
    LazyLock::new(|| KeyRing::new(1, vec![RingKey::new(KeyId(1), &Secret([1; 32]), false)]));

/// A question to the feed, and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Flight {
    pub(super) question: Question,
    sent: Sent,
    /// Which coordinator keeps it waiting.
    pub(super) held: Option<(u8, Held)>,
    /// Which coordinator has answered, and what.
    pub(super) answer: Option<(u8, Answer)>,
}

/// An edge.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Edge {
    rate: i64,
    /// What its clock was stepped by.
    stepped_ms: i64,
    /// What it remembers.
    pub memory: Memory,
    /// What is under way.
    pub(super) air: Vec<Flight>,
    /// The entries of an answer's pages so far; only with [`Sabotage::CursorFromLastPage`].
    pages: Vec<Entry>,
}

impl Edge {
    pub(super) fn new(feed: &Feed, rate: i64) -> Self {
        let memory = feed.memories.keep(View::default(), 0);
        let mut edge = Self { rate, stepped_ms: 0, memory, air: vec![], pages: vec![] };
        if feed.broken(Sabotage::ColdViewIsEmpty) {
            edge.forge_empty(feed);
        }
        edge
    }

    /// This edge's clock.
    #[must_use]
    pub fn now_ms(&self, world: &World) -> EdgeMs {
        (world.now_ms() - T0_MS).cast_signed() * self.rate / 1_000 + 50_000 + self.stepped_ms
    }

    /// Asks the feed; `may_be_held`: as the chain of polls does, else as a request that waits.
    pub(super) fn ask(&mut self, nonce: u8, now_ms: EdgeMs, may_be_held: bool) {
        if self.air.len() == IN_THE_AIR {
            self.air.remove(0);
        }
        let view = self.memory.view();
        let bound_ms = view.lease().max_staleness_ms().filter(|_| view.is_loaded() && may_be_held);
        let question = view.question(Nonce([nonce; 16]), follow::hold_ms(bound_ms, None));
        self.air.push(Flight { question, sent: view.sent(now_ms), held: None, answer: None });
    }

    /// An isolate that is thrown away takes its questions with it; one that resets its view does not: the harder case.
    pub(super) fn reset(&mut self, feed: &Feed) {
        let mut view = self.memory.view().clone();
        view.reset();
        self.memory = feed.memories.keep(view, 0);
        if feed.broken(Sabotage::ColdViewIsEmpty) {
            self.forge_empty(feed);
        }
    }

    /// The clock is stepped, between two looks at it.
    pub(super) fn step_clock(&mut self, feed: &Feed, now_ms: EdgeMs, by_ms: i64) {
        self.stepped_ms += by_ms;
        if feed.broken(Sabotage::StepBackIgnored) {
            return;
        }
        let mut view = self.memory.view().clone();
        view.observe_clock(now_ms);
        view.observe_clock(now_ms + by_ms);
        self.memory = feed.memories.keep(view, self.memory.needed_until_ms);
    }

    /// An answer arrives; it stays in the air and may arrive again.
    pub(super) fn deliver(&mut self, feed: &Feed, which: usize, now_ms: EdgeMs) {
        let Flight { question, sent, answer, .. } = &self.air[which];
        let Some((_, mut answer)) = answer.clone() else { return };
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
        if feed.broken(Sabotage::CursorFromLastPage) && (question.page.is_some() || answer.head.next_page.is_some()) {
            // Gathers the pages, and takes them for one answer that covers what the last one says.
            self.pages.append(&mut answer.entries);
            if answer.head.next_page.is_none() {
                answer.entries = core::mem::take(&mut self.pages);
                view.reset();
                (question.page, answer.head.from) = (None, None);
            }
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
        let question = view.question(Nonce([255; 16]), 0);
        let head = Head {
            nonce: question.nonce,
            epoch: view.epoch().max(1),
            from: None,
            to: Position { xmax: 0, xip: vec![] },
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
}

pub(super) fn roles(admin: bool) -> Vec<String> {
    if admin { vec!["admin".into()] } else { vec![] }
}

pub(super) fn claims(proof: &Proof) -> Claims {
    Claims {
        site: SITE,
        user_id: UserId(proof.user),
        revision: proof.revision,
        session_id: SessionId([proof.session; 16]),
        authenticated_at_ms: proof.since_ms,
        renew_after_ms: proof.renew_after_ms,
        idle_expires_at_ms: proof.expires_ms,
        expires_at_ms: proof.expires_ms,
        name: "ann".into(),
        roles: roles(proof.admin),
    }
}

/// A proof that was really signed and really verified.
pub(super) struct Cookie {
    chosen: Chosen,
    /// The token.
    pub(super) value: String,
    /// The `Cookie` header that presents it.
    pub(super) header: String,
}

/// The proof as a cookie, made once per thread.
pub(super) fn cookie(proof: &Proof) -> Rc<Cookie> {
    thread_local!(static KNOWN: RefCell<HashMap<Proof, Rc<Cookie>>> = RefCell::default());
    KNOWN.with_borrow_mut(|known| {
        let made = || {
            let value = RING.get(KeyId(1)).and_then(|key| sign(&claims(proof), key).ok()).unwrap_or_default();
            let token = UntrustedToken::parse(&value).ok().and_then(|token| token.verify(&RING, SITE).ok());
            let header = format!("{}={value}", cookie_name(SessionId([proof.session; 16])));
            let chosen = token.map_or(Chosen::Invalid, |token| Chosen::Proof { value: value.clone(), token });
            Rc::new(Cookie { chosen, value, header })
        };
        known.entry(*proof).or_insert_with(made).clone()
    })
}

/// What a route asks for.
pub(super) fn policy(feed: &Feed, route: Route) -> RoutePolicy {
    match route {
        Route::Admin => RoutePolicy { access: Access::Roles(vec!["admin".into()]), ..RoutePolicy::SESSION },
        Route::Strict if !feed.broken(Sabotage::StrictFromMemory) => {
            RoutePolicy { max_staleness_ms: Some(0), ..RoutePolicy::SESSION }
        }
        Route::Short => RoutePolicy { max_staleness_ms: Some(feed.scenario.bound_ms / 2), ..RoutePolicy::SESSION },
        Route::Recent => RoutePolicy { max_auth_age_s: Some((TICK_MS / 2_000) as u32), ..RoutePolicy::SESSION },
        Route::Session | Route::Strict => RoutePolicy::SESSION,
    }
}

/// What this edge does from memory about a request with this proof, now.
pub(super) fn decision(feed: &Feed, world: &World, edge: &Edge, proof: &Proof, route: Route) -> Decision {
    decide(&Situation {
        chosen: &cookie(proof).chosen,
        route: &policy(feed, route),
        view: edge.memory.view(),
        keys_version: 1,
        now_ms: edge.now_ms(world),
        verdict: None,
        asked: 0,
    })
}
