//! An edge: an isolate's memory, and what it waits for. The shell of `edge/src`, with the awaits cut open: each thing that
//! the real one awaits is a value here that goes on when an answer, a timeout or the end of a sleep comes. What is decided
//! on the way is `shared::{follow, retry, inquiry, view}`, as in the real one.

use std::collections::BTreeMap;

use edgekeep_shared::feed::{Answer, Entry, Question};
use edgekeep_shared::follow::{self, CatchUp, Chain, MIN_SUBREQUESTS, REFRESH_MS, Running, Turn};
use edgekeep_shared::ids::{Nonce, SiteId};
use edgekeep_shared::inquiry::{Ended, Memory};
use edgekeep_shared::keyring::KeyRing;
use edgekeep_shared::lease::{EdgeMs, Sent};
use edgekeep_shared::retry::{Breaker, Bucket, Effort, Next, Preferred, Relays, Retry, back_off_ms};
use edgekeep_shared::view::{View, Why};

use crate::Sabotage;
use crate::client_door::Operating;
use crate::clock::Clock;
use crate::message::{Ask, Operation, Reply};
use crate::relay::RELAY;
use crate::request::Request;
use crate::world::{Event, World};

/// Work that many requests wait for together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flight {
    pub(crate) id: u64,
    until_ms: EdgeMs,
}

/// One isolate.
#[derive(Debug)]
pub(crate) struct Edge {
    pub(crate) clock: Clock,
    /// Grows with every isolate.
    pub(crate) life: u32,
    pub(crate) view: View,
    has_keys: bool,
    ended: Ended,
    pub(crate) breaker: Breaker,
    unknown_keys: Bucket,
    preferred: Preferred,
    relays: Relays,
    running: Running,
    last_use_ms: EdgeMs,
    pruned_ms: EdgeMs,
    pub(crate) refresh_flight: Option<Flight>,
    pub(crate) keys_flight: Option<Flight>,
    /// Who waits for a flight.
    pub(crate) waiting: BTreeMap<u64, Vec<u64>>,
    calls: BTreeMap<u64, Task>,
    pub(crate) requests: BTreeMap<u64, Request>,
    /// The pages so far, only on a sabotaged edge.
    pages: Vec<Entry>,
    pages_of: Option<edgekeep_shared::feed::PageToken>,
}

/// What goes on when a call has come to something.
#[derive(Debug)]
pub(crate) enum Task {
    /// A question to the feed.
    Feed { question: Question, sent: Sent, index: usize, drive: Drive },
    /// The keys.
    Keys { retry: Retry, index: usize, flight: u64 },
    /// A request's question.
    Check { retry: Retry, index: usize, ask: Ask, request: u64, nonce: Nonce, sent: Sent, proof: String },
    /// What a person does.
    Operate { retry: Retry, index: usize, operating: Operating },
}

/// On whose behalf the feed is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Drive {
    /// The chain of held polls.
    Chain { chain: Chain, pages: CatchUp, hold_ms: u32 },
    /// Requests that wait for the lease; so many coordinators are still to be tried.
    Refresh { flight: u64, pages: CatchUp, left: u8 },
}

/// What goes on after a sleep.
#[derive(Debug)]
pub(crate) enum Then {
    /// The chain's next turn.
    Turn(Chain),
    /// The next attempt.
    Again(Task),
    /// A request has waited long enough; only if it still waits for this.
    WaitOver { request: u64, wait: u64 },
}

impl Edge {
    /// A cold isolate.
    pub(crate) fn new(rng: &mut fastrand::Rng) -> Self {
        Self::cold(Clock::random(rng), 0)
    }

    fn cold(clock: Clock, life: u32) -> Self {
        Self {
            clock,
            life,
            view: View::default(),
            has_keys: false,
            ended: Ended::default(),
            breaker: Breaker::default(),
            unknown_keys: Bucket::default(),
            preferred: Preferred::default(),
            relays: Relays::default(),
            running: Running::default(),
            last_use_ms: 0,
            pruned_ms: 0,
            refresh_flight: None,
            keys_flight: None,
            waiting: BTreeMap::new(),
            calls: BTreeMap::new(),
            requests: BTreeMap::new(),
            pages: vec![],
            pages_of: None,
        }
    }

    /// Everything that it remembers and waits for is gone.
    pub(crate) fn evict(&mut self, clock: Clock) {
        *self = Self::cold(clock, self.life + 1);
    }

    /// What a look at a request depends on.
    pub(crate) fn memory<'a>(&'a mut self, ring: &'a KeyRing, site: SiteId) -> Memory<'a> {
        Memory {
            view: &mut self.view,
            keys: self.has_keys.then_some((ring, site)),
            ended: &mut self.ended,
            breaker: &mut self.breaker,
            unknown_keys: &mut self.unknown_keys,
        }
    }
}

impl World {
    pub(crate) fn edge_ms(&self, edge: u32) -> EdgeMs {
        self.edges[edge as usize].clock.edge_ms(self.now_us)
    }

    pub(crate) fn sleep(&mut self, edge: u32, ms: u32, then: Then) {
        let life = self.edges[edge as usize].life;
        self.at(u64::from(ms) * 1_000, Event::Resume { edge, life, then: Box::new(then) });
    }

    pub(crate) fn resume(&mut self, edge: u32, then: Then) {
        match then {
            Then::Turn(chain) => self.turn(edge, chain),
            Then::Again(task) => self.attempt(edge, task),
            Then::WaitOver { request, wait } => self.wait_over(edge, request, wait),
        }
    }

    /// The coordinator to ask.
    fn preferred(&mut self, edge: u32) -> usize {
        let (count, random) = (usize::from(self.setup.coordinators), self.rng.u8(..));
        self.edges[edge as usize].preferred.index(count, || random)
    }

    fn failed(&mut self, edge: u32, index: usize) {
        let count = usize::from(self.setup.coordinators);
        self.edges[edge as usize].preferred.failed(index, count);
    }

    /// Whom to ask for the feed.
    fn feeder(&mut self, edge: u32) -> usize {
        let relays = usize::from(self.setup.relays);
        if relays > 0 {
            let (now_ms, random) = (self.edge_ms(edge), self.rng.u8(..));
            if let Some(index) = self.edges[edge as usize].relays.index(relays, now_ms, || random) {
                return usize::from(RELAY) + index;
            }
        }
        self.preferred(edge)
    }

    fn feeder_failed(&mut self, edge: u32, index: usize) {
        match index.checked_sub(RELAY.into()) {
            Some(relay) => {
                let (now_ms, random, count) = (self.edge_ms(edge), self.rng.u32(..), usize::from(self.setup.relays));
                self.edges[edge as usize].relays.failed(relay, count, now_ms, random);
            }
            None => self.failed(edge, index),
        }
    }

    /// Sends a question and waits for so long.
    fn call(&mut self, edge: u32, index: usize, ask: Ask, task: Task, timeout_ms: u32) {
        let call = self.number();
        self.edges[edge as usize].calls.insert(call, task);
        self.send(edge, index as u8, call, ask);
        self.at(u64::from(timeout_ms) * 1_000, Event::Timeout { edge, call });
    }

    pub(crate) fn at_answer(&mut self, edge: u32, call: u64, reply: Reply) {
        let Some(task) = self.edges[edge as usize].calls.remove(&call) else { return };
        match task {
            Task::Feed { question, sent, index, drive } => {
                let turn = self.fed(edge, &question, sent, index, &reply);
                self.driven(edge, drive, turn);
            }
            other => self.attempted(edge, other, reply),
        }
    }

    // The feed.

    /// Notes that a session was presented, and sees to it that a poll is under way.
    pub(crate) fn keep_alive(&mut self, edge: u32) {
        let now_ms = self.edge_ms(edge);
        let id = self.number() as u32;
        let isolate = &mut self.edges[edge as usize];
        isolate.last_use_ms = now_ms;
        if let Some(chain) = isolate.running.start(now_ms, MIN_SUBREQUESTS, || id) {
            self.turn(edge, chain);
        }
    }

    /// The smallest bound above 0 of any route.
    fn smallest_route_ms(&self) -> Option<u32> {
        self.setup.short_route.then_some(self.setup.bound_ms / 2)
    }

    fn turn(&mut self, edge: u32, mut chain: Chain) {
        let (now_ms, random) = (self.edge_ms(edge), self.rng.u32(..));
        let smallest_ms = self.smallest_route_ms();
        let Edge { running, view, last_use_ms, .. } = &mut self.edges[edge as usize];
        match chain.turn(running, view, now_ms, *last_use_ms, smallest_ms, random) {
            Some(hold_ms) => {
                self.ask_feed(edge, hold_ms, Drive::Chain { chain, pages: CatchUp::default(), hold_ms });
            }
            None => running.ended(&chain),
        }
    }

    fn ask_feed(&mut self, edge: u32, hold_ms: u32, drive: Drive) {
        let now_ms = self.edge_ms(edge);
        let nonce = self.nonce();
        let index = self.feeder(edge);
        let isolate = &mut self.edges[edge as usize];
        isolate.view.observe_clock(now_ms);
        let (mut question, sent) = (isolate.view.question(nonce, hold_ms), isolate.view.sent(now_ms));
        if let Some(page) = isolate.pages_of.clone() {
            (question.page, question.hold_ms) = (Some(page), 0);
        }
        let bytes = question.encode();
        self.stats.polls += 1;
        self.stats.poll_bytes += bytes.len() as u64;
        let limit_ms = follow::timeout_ms(question.hold_ms);
        self.call(edge, index, Ask::Feed(bytes), Task::Feed { question, sent, index, drive }, limit_ms);
    }

    pub(crate) fn nonce(&mut self) -> Nonce {
        let mut nonce = [0; 16];
        self.rng.fill(&mut nonce);
        Nonce(nonce)
    }

    /// What one question came to.
    fn fed(&mut self, edge: u32, question: &Question, sent: Sent, index: usize, reply: &Reply) -> Turn {
        let answer = match reply {
            Reply::Feed(bytes) => Answer::decode(bytes).ok(),
            _ => None,
        };
        let Some(mut answer) = answer else {
            self.feeder_failed(edge, index);
            return Turn::Failed;
        };
        let now_ms = self.edge_ms(edge);
        let (from_receipt, into_reset, last_page) = (
            self.broken(Sabotage::LeaseFromReceipt),
            self.broken(Sabotage::PartialAnswerIntoResetView),
            self.broken(Sabotage::CursorFromLastPage),
        );
        let isolate = &mut self.edges[edge as usize];
        let mut question = question.clone();
        if last_page {
            isolate.pages.append(&mut answer.entries);
            isolate.pages_of = answer.head.next_page.take();
            if isolate.pages_of.is_some() {
                return Turn::More;
            }
            (question.page, answer.entries) = (None, core::mem::take(&mut isolate.pages));
        }
        if into_reset && !isolate.view.is_paging() {
            question.page = None;
        }
        if from_receipt {
            isolate.view.observe_clock(now_ms);
        }
        let sent = if from_receipt { isolate.view.sent(now_ms) } else { sent };
        let applied = isolate.view.apply(&question, &answer, sent, now_ms);
        let (turn, elsewhere) = follow::judged(&answer.head, applied);
        if turn == Turn::Complete {
            isolate.breaker.answered();
            if follow::prune_is_due(isolate.pruned_ms, now_ms) {
                isolate.pruned_ms = now_ms;
                isolate.view.prune();
            }
        }
        if elsewhere {
            self.feeder_failed(edge, index);
        } else if index >= usize::from(RELAY) {
            self.edges[edge as usize].relays.answered();
        }
        self.log.note(self.now_us, &("fed", edge, answer.entries.len(), format!("{applied:?}"), answer.head.age_ms));
        if !matches!(applied, edgekeep_shared::view::Applied::Dropped(Why::OldEpoch | Why::OtherPages)) {
            self.stats.arrived(self.now_us, &answer.entries);
        }
        turn
    }

    fn driven(&mut self, edge: u32, drive: Drive, turn: Turn) {
        match drive {
            Drive::Chain { mut chain, mut pages, hold_ms } => match pages.after(turn) {
                None => self.ask_feed(edge, hold_ms, Drive::Chain { chain, pages, hold_ms }),
                Some(complete) => {
                    let now_ms = self.edge_ms(edge);
                    let random = if complete { 0 } else { self.rng.u8(..) };
                    let smallest_ms = self.smallest_route_ms();
                    let Edge { running, view, .. } = &mut self.edges[edge as usize];
                    match chain.pause_ms(running, view, complete, now_ms, smallest_ms, random) {
                        0 => self.turn(edge, chain),
                        pause_ms => self.sleep(edge, pause_ms, Then::Turn(chain)),
                    }
                }
            },
            Drive::Refresh { flight, mut pages, left } => match pages.after(turn) {
                None => self.ask_feed(edge, 0, Drive::Refresh { flight, pages, left }),
                Some(false) if left > 0 => {
                    self.ask_feed(edge, 0, Drive::Refresh { flight, pages: CatchUp::default(), left: left - 1 });
                }
                Some(complete) => {
                    if !complete {
                        let (now_ms, random) = (self.edge_ms(edge), self.rng.u32(..));
                        self.edges[edge as usize].breaker.failed(now_ms, random);
                    }
                    self.landed(edge, flight);
                }
            },
        }
    }

    // Work that many wait for.

    /// Joins the refresh that is under way, or starts one.
    pub(crate) fn join_refresh(&mut self, edge: u32, request: u64) {
        let running = self.edges[edge as usize].refresh_flight;
        let (flight, new) = self.join(edge, running, 2 * REFRESH_MS, request);
        self.edges[edge as usize].refresh_flight = Some(flight);
        if new {
            self.stats.refreshes += 1;
            // As the real one: each coordinator once, after one relay.
            let left = self.setup.coordinators - 1 + self.setup.relays.min(1);
            self.ask_feed(edge, 0, Drive::Refresh { flight: flight.id, pages: CatchUp::default(), left });
        }
    }

    /// Starts fetching keys, or joins those who wait for them already.
    pub(crate) fn join_keys(&mut self, edge: u32, request: u64) -> u64 {
        let running = self.edges[edge as usize].keys_flight;
        let (flight, new) = self.join(edge, running, 2_500, request);
        self.edges[edge as usize].keys_flight = Some(flight);
        if new {
            let retry = Retry::new(Effort::INLINE, usize::from(self.setup.coordinators), self.edge_ms(edge));
            self.attempt(edge, Task::Keys { retry, index: 0, flight: flight.id });
        }
        flight.id
    }

    fn join(&mut self, edge: u32, running: Option<Flight>, deadline_ms: u32, request: u64) -> (Flight, bool) {
        let now_ms = self.edge_ms(edge);
        let latest_ms = now_ms + EdgeMs::from(deadline_ms);
        let joined = running.filter(|flight| now_ms < flight.until_ms && flight.until_ms <= latest_ms);
        let flight = joined.unwrap_or(Flight { id: self.number(), until_ms: latest_ms });
        self.edges[edge as usize].waiting.entry(flight.id).or_default().push(request);
        (flight, joined.is_none())
    }

    /// The work is done; whoever waited looks again.
    fn landed(&mut self, edge: u32, id: u64) {
        let isolate = &mut self.edges[edge as usize];
        for place in [&mut isolate.refresh_flight, &mut isolate.keys_flight] {
            if place.is_some_and(|flight| flight.id == id) {
                *place = None;
            }
        }
        for request in isolate.waiting.remove(&id).unwrap_or_default() {
            self.flight_landed(edge, request, id);
        }
    }

    // Questions that are repeated.

    pub(crate) fn attempt(&mut self, edge: u32, mut task: Task) {
        let now_ms = self.edge_ms(edge);
        let preferred = self.preferred(edge);
        let (retry, index, ask) = match &mut task {
            Task::Keys { retry, index, .. } => (retry, index, Ask::Keys),
            Task::Check { retry, index, ask, .. } => (retry, index, ask.clone()),
            Task::Operate { retry, index, operating } => (retry, index, Ask::Operate(operating.operation.clone())),
            Task::Feed { .. } => return,
        };
        *index = preferred;
        match retry.attempt_ms(now_ms) {
            Some(timeout_ms) => self.call(edge, preferred, ask, task, timeout_ms),
            None => self.given_up(edge, task),
        }
    }

    fn attempted(&mut self, edge: u32, mut task: Task, reply: Reply) {
        let problem = match reply {
            Reply::Problem(code) => Some(code),
            Reply::Lost => None,
            reply => return self.answered(edge, task, reply),
        };
        let (Task::Keys { retry, index, .. } | Task::Check { retry, index, .. } | Task::Operate { retry, index, .. }) =
            &mut task
        else {
            return;
        };
        let (next, index) = (retry.failed(problem), *index);
        let Next::Again { elsewhere, pause } = next else { return self.given_up(edge, task) };
        if elsewhere {
            self.failed(edge, index);
        }
        match pause {
            Some(round) => {
                let pause_ms = back_off_ms(round, self.rng.u8(..));
                self.sleep(edge, pause_ms, Then::Again(task));
            }
            None => self.attempt(edge, task),
        }
    }

    fn answered(&mut self, edge: u32, task: Task, reply: Reply) {
        match (task, reply) {
            (Task::Keys { flight, .. }, Reply::Keys) => {
                self.edges[edge as usize].has_keys = true;
                self.landed(edge, flight);
            }
            (Task::Check { request, nonce, sent, proof, .. }, Reply::Check(answer)) => {
                self.checked(edge, request, proof, nonce, sent, Some(answer));
            }
            (Task::Operate { operating, .. }, reply) => self.operated(edge, &operating, &reply),
            (task, _) => self.given_up(edge, task),
        }
    }

    fn given_up(&mut self, edge: u32, task: Task) {
        match task {
            Task::Keys { flight, .. } => self.landed(edge, flight),
            Task::Check { request, nonce, sent, proof, .. } => self.checked(edge, request, proof, nonce, sent, None),
            Task::Feed { .. } | Task::Operate { .. } => {}
        }
    }

    /// What a person does, through this edge.
    pub(crate) fn door(&mut self, edge: u32, operation: Operation, user: u32, device: u8) {
        let retry = Retry::new(Effort::OPERATION, usize::from(self.setup.coordinators), self.edge_ms(edge));
        let operating = Operating { operation, user, device };
        self.attempt(edge, Task::Operate { retry, index: 0, operating });
    }
}
