//! A database, two coordinators, a relay and two edges.

use std::collections::BTreeMap;
use std::time::Duration;

use edgekeep_shared::feed::{Answer, Question};
use edgekeep_shared::ids::{Nonce, UserId};
use edgekeep_shared::lease::Sent;
use edgekeep_shared::moment::Moment;
use edgekeep_shared::position::Position;
use edgekeep_shared::revision::Revision;
use edgekeep_shared::source::{Behind, EdgeSettings, Follower, Held, Look, Read, Row, Source, durable_after};
use edgekeep_shared::view::{Applied, View, Why};
use proptest::prelude::*;

const MAX_STALENESS_MS: u32 = 5_000;
const USERS: u64 = 6;
const PAGE: usize = 2;
const T0_MS: u64 = 1_800_000_000_000;
/// How long some proof needs a revocation.
const NEEDED_MS: u64 = 8_000;

/// A rule that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    Nothing,
    /// The age of the upstream's answer is not added.
    AgeNotAdded,
    /// Ages count from an answer's arrival.
    FromReceipt,
    /// The first page of several is published as if it were all.
    HalfPublished,
}

impl Broken {
    pub const RULES: [Self; 3] = [Self::AgeNotAdded, Self::FromReceipt, Self::HalfPublished];
}

#[derive(Clone, Debug)]
pub enum Op {
    /// True time passes.
    Wait(u16),
    /// A transaction that will revoke this user takes its id, and the row's lock.
    Begin(u8),
    /// One of the open transactions commits.
    Commit(usize),
    /// A coordinator reads, perhaps behind a heartbeat.
    Read { coordinator: usize, beat: bool },
    /// The relay asks a coordinator.
    Follow { coordinator: usize, hold_ms: u16 },
    /// An edge asks: 0 is the relay, then come the coordinators.
    Ask { edge: usize, whom: usize, hold_ms: u16 },
    /// One of the questions is looked at where it is.
    Answer(usize),
    /// One of the answers arrives; it stays on the way, and may arrive again.
    Deliver(usize),
    /// An answer is lost.
    Lose(usize),
    /// An edge forgets everything.
    ResetEdge(usize),
    /// The relay does.
    RestartRelay,
    /// A coordinator does.
    RestartCoordinator(usize),
    /// Another primary; its transaction ids are the same history, or not, and its clock may be behind.
    NewEpoch { same_history: bool, behind_ms: u16 },
}

pub fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0_u16..1_500).prop_map(Op::Wait),
        1 => (3_000_u16..10_000).prop_map(Op::Wait),
        4 => (0_u8..USERS as u8).prop_map(Op::Begin),
        5 => (0_usize..64).prop_map(Op::Commit),
        6 => (0_usize..2, any::<bool>()).prop_map(|(coordinator, beat)| Op::Read { coordinator, beat }),
        6 => (0_usize..2, 0_u16..600).prop_map(|(coordinator, hold_ms)| Op::Follow { coordinator, hold_ms }),
        6 => (0_usize..2, 0_usize..4, 0_u16..600)
            .prop_map(|(edge, whom, hold_ms)| Op::Ask { edge, whom: whom % 3, hold_ms }),
        12 => (0_usize..64).prop_map(Op::Answer),
        14 => (0_usize..64).prop_map(Op::Deliver),
        2 => (0_usize..64).prop_map(Op::Lose),
        1 => (0_usize..2).prop_map(Op::ResetEdge),
        1 => Just(Op::RestartRelay),
        1 => (0_usize..2).prop_map(Op::RestartCoordinator),
        1 => (any::<bool>(), 0_u16..30_000)
            .prop_map(|(same_history, behind_ms)| Op::NewEpoch { same_history, behind_ms }),
    ]
}

/// What happened at least once, over many runs.
#[derive(Debug, Default)]
pub struct Seen {
    leases_from_relay: u32,
    news_from_relay: u32,
    moved_to_relay: u32,
    full_from_relay: u32,
    pages_at_relay: u32,
    behind: u32,
    gaps: u32,
    old_epochs: u32,
}

impl Seen {
    pub fn add(&mut self, other: &Self) {
        self.leases_from_relay += other.leases_from_relay;
        self.news_from_relay += other.news_from_relay;
        self.moved_to_relay += other.moved_to_relay;
        self.full_from_relay += other.full_from_relay;
        self.pages_at_relay += other.pages_at_relay;
        self.behind += other.behind;
        self.gaps += other.gaps;
        self.old_epochs += other.old_epochs;
    }

    pub fn is_everything(&self) -> bool {
        let all = [self.leases_from_relay, self.news_from_relay, self.moved_to_relay, self.full_from_relay];
        let more = [self.pages_at_relay, self.behind, self.old_epochs];
        all.iter().chain(&more).all(|count| *count > 0)
    }
}

struct Clock(i64);

impl Clock {
    fn ms(&self, now_ms: u64) -> u64 {
        let passed = i64::try_from(now_ms - T0_MS).unwrap();
        // Anything could stand at the start.
        u64::try_from(5_000 + passed * self.0 / 1_000).unwrap()
    }

    fn moment(&self, now_ms: u64) -> Moment {
        let local = Duration::from_millis(self.ms(now_ms));
        Moment { monotonic: local, wall: local + Duration::from_secs(1_800_000_000) }
    }
}

struct Coordinator {
    clock: Clock,
    source: Option<Source>,
    durable_xid: u64,
    beat_began: Moment,
}

struct Edge {
    clock: Clock,
    view: View,
    /// Whom the last complete answer came from.
    lives_on: usize,
}

/// Who asked, and when.
#[derive(Clone, Copy)]
enum Asker {
    Edge(usize, Sent),
    Relay(Moment),
}

struct Asked {
    asker: Asker,
    /// 0 is the relay.
    whom: usize,
    question: Question,
    held: Held,
}

struct Answered {
    asker: Asker,
    whom: usize,
    question: Question,
    answer: Answer,
}

struct Raise {
    user: u64,
    revision: Revision,
    committed_ms: u64,
    /// By the database's clock.
    needed_until_ms: u64,
    xid: u64,
}

pub struct World {
    broken: Broken,
    now_ms: u64,
    epoch: u16,
    /// How far the clock of the present primary is behind.
    behind_ms: u64,
    cursors_from_epoch: u16,
    next_xid: u64,
    open: BTreeMap<u64, u64>,
    raises: Vec<Raise>,
    coordinators: Vec<Coordinator>,
    relay_clock: Clock,
    follower: Follower,
    relay: Option<Source>,
    edges: Vec<Edge>,
    asked: Vec<Asked>,
    answered: Vec<Answered>,
    number: u64,
    pub seen: Seen,
}

impl World {
    pub fn new(broken: Broken, rates: &[i64]) -> Self {
        let coordinator = |rate: i64| {
            let beat_began = Clock(rate).moment(T0_MS);
            Coordinator { clock: Clock(rate), source: None, durable_xid: 0, beat_began }
        };
        let edge = |rate: i64| Edge { clock: Clock(rate), view: View::default(), lives_on: 9 };
        Self {
            broken,
            now_ms: T0_MS,
            epoch: 1,
            behind_ms: 0,
            cursors_from_epoch: 1,
            next_xid: 10,
            open: BTreeMap::new(),
            raises: Vec::new(),
            coordinators: vec![coordinator(rates[0]), coordinator(rates[1])],
            relay_clock: Clock(rates[2]),
            follower: Follower::default(),
            relay: None,
            edges: vec![edge(rates[3]), edge(rates[4])],
            asked: Vec::new(),
            answered: Vec::new(),
            number: 0,
            seen: Seen::default(),
        }
    }

    fn next_nonce(&mut self) -> Nonce {
        self.number += 1;
        let [a, b] = u16::try_from(self.number).unwrap().to_be_bytes();
        let mut nonce = [a; 16];
        nonce[1] = b;
        Nonce(nonce)
    }

    fn source(&self, whom: usize) -> (Option<&Source>, Moment) {
        match whom.checked_sub(1) {
            None => (self.relay.as_ref(), self.relay_clock.moment(self.now_ms)),
            Some(index) => {
                let coordinator = &self.coordinators[index];
                (coordinator.source.as_ref(), coordinator.clock.moment(self.now_ms))
            }
        }
    }

    const fn database_ms(&self) -> u64 {
        self.now_ms - self.behind_ms
    }

    fn commit(&mut self, xid: u64, user: u64) {
        let row = self.raises.iter().filter(|raise| raise.user == user).map(|raise| raise.revision).max();
        let revision = Revision::base(row.unwrap_or_default(), self.epoch).raised();
        let needed_until_ms = self.database_ms() + NEEDED_MS;
        self.raises.push(Raise { user, revision, committed_ms: self.now_ms, needed_until_ms, xid });
    }

    fn read(&mut self, index: usize, beat: bool) {
        let (now_ms, number) = (self.now_ms, self.number);
        let now = self.coordinators[index].clock.moment(now_ms);
        let fresh = self.coordinators[index].source.as_ref().is_none_or(|source| source.epoch() != self.epoch);
        if fresh {
            // As a reader's session: a new epoch begins with a beat and a full read.
            self.coordinators[index].source = None;
            self.coordinators[index].durable_xid = 0;
        }
        if beat || fresh {
            self.coordinators[index].durable_xid = self.coordinators[index].durable_xid.max(self.next_xid);
            self.coordinators[index].beat_began = now;
            self.next_xid += 1;
        }
        let cursor = self.coordinators[index].source.as_ref().map(|source| source.position().clone());
        let database_ms = self.database_ms();
        let mut rows: BTreeMap<u64, Row> = BTreeMap::new();
        for raise in &self.raises {
            // Later ones replace earlier ones: the row holds the last; but until when it is needed only grows.
            let before_ms = rows.get(&raise.user).map_or(0, |row| row.needed_until_ms);
            let needed_until_ms = raise.needed_until_ms.max(before_ms);
            let row =
                Row { user_id: UserId(raise.user), revision: raise.revision, needed_until_ms, feed_xid: raise.xid };
            rows.insert(raise.user, row);
        }
        let unseen =
            |row: &Row| row.needed_until_ms > database_ms && cursor.as_ref().is_none_or(|at| !at.sees(row.feed_xid));
        let rows: Vec<Row> = rows.into_values().filter(unseen).collect();
        let coordinator = &mut self.coordinators[index];
        coordinator.durable_xid = durable_after(coordinator.durable_xid, &rows);
        let mut read = Read {
            epoch: self.epoch,
            cursors_from_epoch: self.cursors_from_epoch,
            position: Position::new(self.next_xid, self.open.keys().copied().collect()).unwrap(),
            read_at_ms: database_ms,
            settings: EdgeSettings::of_feed(1, MAX_STALENESS_MS),
            keys_version: 1,
            rows,
        };
        let durable_xid = coordinator.durable_xid;
        let behind = Behind { read_began: now, beat_began: coordinator.beat_began, durable_xid };
        let mut source = match coordinator.source.take() {
            Some(source) => source,
            None => Source::load(1_000 + number, &mut read, behind, 0, now),
        };
        source.publish(read, behind, 0, 2_000 + number, now);
        coordinator.source = Some(source);
    }

    pub fn step(&mut self, op: &Op) {
        match *op {
            Op::Wait(ms) => self.now_ms += u64::from(ms),
            Op::Begin(user) => {
                let user = u64::from(user) + 1;
                if self.open.values().all(|locked| *locked != user) {
                    self.open.insert(self.next_xid, user);
                    self.next_xid += 1;
                }
            }
            Op::Commit(which) => {
                let xid = self.open.keys().nth(which % self.open.len().max(1)).copied();
                if let Some((xid, user)) = xid.and_then(|xid| self.open.remove_entry(&xid)) {
                    self.commit(xid, user);
                }
            }
            Op::Read { coordinator, beat } => {
                self.number += 1;
                self.read(coordinator, beat);
            }
            Op::Follow { coordinator, hold_ms } => {
                let nonce = self.next_nonce();
                let question = self.follower.question(nonce, hold_ms.into());
                self.ask(Asker::Relay(self.relay_clock.moment(self.now_ms)), coordinator + 1, question);
            }
            Op::Ask { edge, whom, hold_ms } => {
                let nonce = self.next_nonce();
                let Edge { clock, view, .. } = &self.edges[edge];
                let sent = view.sent(i64::try_from(clock.ms(self.now_ms)).unwrap());
                let question = view.question(nonce, hold_ms.into());
                self.ask(Asker::Edge(edge, sent), whom, question);
            }
            Op::Answer(which) if !self.asked.is_empty() => self.answer(which % self.asked.len()),
            Op::Deliver(which) if !self.answered.is_empty() => self.deliver(which % self.answered.len()),
            Op::Lose(which) if !self.answered.is_empty() => {
                self.answered.swap_remove(which % self.answered.len());
            }
            Op::ResetEdge(edge) => self.edges[edge].view.reset(),
            Op::RestartRelay => (self.follower, self.relay) = (Follower::default(), None),
            Op::RestartCoordinator(index) => self.coordinators[index].source = None,
            Op::NewEpoch { same_history, behind_ms } => {
                self.epoch += 1;
                self.behind_ms += u64::from(behind_ms);
                // What was open is rolled back.
                self.open.clear();
                if !same_history {
                    self.cursors_from_epoch = self.epoch;
                    let xid = self.next_xid;
                    self.next_xid += 1;
                    self.raises.iter_mut().for_each(|raise| raise.xid = xid);
                }
            }
            Op::Answer(_) | Op::Deliver(_) | Op::Lose(_) => {}
        }
    }

    fn ask(&mut self, asker: Asker, whom: usize, question: Question) {
        let (source, now) = self.source(whom);
        let held = Held::new(source, now);
        self.asked.push(Asked { asker, whom, question, held });
    }

    fn answer(&mut self, which: usize) {
        let mut asked = self.asked.swap_remove(which);
        let (source, now) = self.source(asked.whom);
        let answer = match (asked.held.look(source, &asked.question, now, false), source) {
            (Err(_), _) | (_, None) => return,
            (Ok(Look::Wait(_)), _) => None,
            (Ok(Look::Answer(due)), Some(source)) => {
                let (entries, next) = source.page(&due, PAGE);
                Some(Answer { head: source.head(&asked.question, &due, next, now), entries })
            }
        };
        let Some(answer) = answer else { return self.asked.push(asked) };
        let Asked { asker, whom, question, .. } = asked;
        self.answered.push(Answered { asker, whom, question, answer });
    }

    fn deliver(&mut self, which: usize) {
        let Answered { asker, whom, question, answer } = &self.answered[which];
        let (whom, question, mut answer) = (*whom, question.clone(), answer.clone());
        match *asker {
            Asker::Edge(index, sent) => {
                let edge = &mut self.edges[index];
                let now_ms = i64::try_from(edge.clock.ms(self.now_ms)).unwrap();
                let applied = edge.view.apply(&question, &answer, sent, now_ms);
                if applied == Applied::Complete && whom == 0 {
                    self.seen.leases_from_relay += 1;
                    self.seen.news_from_relay += u32::from(answer.head.from.is_some() && !answer.entries.is_empty());
                    self.seen.moved_to_relay +=
                        u32::from(answer.head.from.is_some() && [1, 2].contains(&edge.lives_on));
                    self.seen.full_from_relay += u32::from(answer.head.from.is_none());
                }
                if applied == Applied::Complete {
                    edge.lives_on = whom;
                }
            }
            Asker::Relay(sent) => {
                let now = self.relay_clock.moment(self.now_ms);
                let mut sent = sent;
                match self.broken {
                    Broken::Nothing => {}
                    Broken::AgeNotAdded => answer.head.age_ms = 0,
                    Broken::FromReceipt => (sent, answer.head.held_ms) = (now, 0),
                    Broken::HalfPublished => answer.head.next_page = None,
                }
                let (applied, update) = self.follower.take(&question, answer, sent);
                self.seen.pages_at_relay += u32::from(applied == Applied::More);
                self.seen.behind += u32::from(applied == Applied::Dropped(Why::Behind));
                self.seen.gaps += u32::from(applied == Applied::Dropped(Why::Gap));
                self.seen.old_epochs += u32::from(applied == Applied::Dropped(Why::OldEpoch));
                if let Some(mut update) = update {
                    let mut source = self.relay.take().unwrap_or_else(|| update.load(3_000 + self.number, 0, now));
                    source.follow(update, 0, 4_000 + self.number, now);
                    self.relay = Some(source);
                }
            }
        }
    }

    /// An edge may let in whom it must not.
    pub fn violation(&self) -> Option<String> {
        for (index, edge) in self.edges.iter().enumerate() {
            let edge_ms = i64::try_from(edge.clock.ms(self.now_ms)).unwrap();
            if !edge.view.lease().holds(edge_ms, None, 1) {
                continue;
            }
            let latest_ms = edge.view.clock().map_or(u64::MAX, |clock| clock.latest_ms(edge_ms));
            let missing = self.raises.iter().find(|raise| {
                let past_bound = self.now_ms > raise.committed_ms + u64::from(MAX_STALENESS_MS);
                // A proof that reaches as far as the entry was needed would be taken without asking: the gate's own rule.
                let taken = latest_ms < raise.needed_until_ms && raise.needed_until_ms > edge.view.pruned_to_ms();
                past_bound && taken && edge.view.revision_of(UserId(raise.user)) < Some(raise.revision)
            });
            if let Some(Raise { user, committed_ms, .. }) = missing {
                let age_ms = self.now_ms - committed_ms;
                return Some(format!("edge {index} does not know after {age_ms} ms that user {user} is revoked"));
            }
        }
        None
    }
}
