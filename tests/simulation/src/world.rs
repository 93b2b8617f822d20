//! The world: its time, what is due, its network, and what an op does to it. One thread, one queue of events ordered by
//! time and then by the order in which they were put there; every random number comes from the setup's seed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use edgekeep_op::Op;
use edgekeep_shared::ids::{KeyId, SessionId, SiteId};
use edgekeep_shared::keyring::{KeyRing, RingKey, Secret};
use edgekeep_shared::renewal::Lifetimes;

use crate::checker::{Checker, Violation};
use crate::client::User;
use crate::coordinator::{Coordinator, Job, Later};
use crate::database::{Change, Database};
use crate::edge::{Edge, Then};
use crate::log::Log;
use crate::message::{Ask, Operation, Reply};
use crate::op::{Setup, Timed};
use crate::relay::{AS_EDGE, Following, RELAY};
use crate::report::Stats;
use crate::{Sabotage, clock};

/// After a disturbance the world is not expected to answer every request for so long, in microseconds.
const SETTLES_US: u64 = 10_000_000;

/// What is due at some time.
pub(crate) enum Event {
    /// An answer reaches an edge.
    Answer {
        edge: u32,
        call: u64,
        reply: Box<Reply>,
    },
    /// An edge has waited long enough for this call.
    Timeout {
        edge: u32,
        call: u64,
    },
    /// A sleep on an edge is over.
    Resume {
        edge: u32,
        life: u32,
        then: Box<Then>,
    },
    /// A question reaches a coordinator.
    Question {
        coordinator: u8,
        edge: u32,
        call: u64,
        ask: Box<Ask>,
    },
    /// Something at a coordinator, or of its connections to the database.
    Coordinator {
        coordinator: u8,
        life: u32,
        later: Box<Later>,
    },
    /// A transaction reaches the database, gets its locks, or commits.
    Arrive(u64),
    Begin(u64),
    Commit(u64),
    /// An answer reaches a client.
    Client {
        user: u32,
        device: u8,
        told: Vec<String>,
    },
}

struct Due {
    at_us: u64,
    order: u64,
    event: Event,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_us, self.order).cmp(&(other.at_us, other.order))
    }
}

/// What will happen to the next messages of a link.
#[derive(Debug, Default)]
struct Link {
    drop_request: bool,
    drop_response: bool,
    request_us: Option<u64>,
    response_us: Option<u64>,
    duplicate_us: Option<u64>,
    cut_until_us: u64,
}

impl Link {
    const fn is_clean(&self) -> bool {
        !self.drop_request
            && !self.drop_response
            && self.request_us.is_none()
            && self.response_us.is_none()
            && self.duplicate_us.is_none()
    }
}

/// A world on its way.
pub struct World {
    pub(crate) setup: Setup,
    pub(crate) sabotage: Option<Sabotage>,
    pub(crate) now_us: u64,
    order: u64,
    queue: BinaryHeap<Reverse<Due>>,
    pub(crate) rng: fastrand::Rng,
    pub(crate) ring: KeyRing,
    pub(crate) site: SiteId,
    pub(crate) databases: Vec<Database>,
    /// Grows with every crash of the present primary.
    pub(crate) crashes: u32,
    pub(crate) coordinators: Vec<Coordinator>,
    pub(crate) relays: Vec<Following>,
    pub(crate) edges: Vec<Edge>,
    pub(crate) users: Vec<User>,
    links: BTreeMap<(u32, u8), Link>,
    pub(crate) jobs: BTreeMap<u64, Job>,
    pub(crate) hold_commit_us: Option<u64>,
    pub(crate) abort_next: bool,
    numbers: u64,
    disturbed_until_us: u64,
    pub(crate) checker: Checker,
    pub(crate) log: Log,
    pub(crate) stats: Stats,
    measure_from_us: Option<u64>,
}

impl World {
    /// A world before anything has happened.
    #[must_use]
    pub fn new(setup: &Setup, sabotage: Option<Sabotage>, log: Log) -> Self {
        let mut rng = fastrand::Rng::with_seed(setup.seed ^ 0x0065_6467_656b_6565);
        let coordinators: Vec<_> = (0..setup.coordinators).map(|_| Coordinator::new(&mut rng)).collect();
        let edges = (0..setup.edges).map(|_| Edge::new(&mut rng)).collect();
        let relays = (0..setup.relays).map(|_| Coordinator::new(&mut rng));
        let coordinators = coordinators.into_iter().chain(relays).collect();
        let mut world = Self {
            setup: setup.clone(),
            sabotage,
            now_us: 0,
            order: 0,
            queue: BinaryHeap::new(),
            rng,
            ring: KeyRing::new(1, vec![RingKey::new(KeyId(1), &Secret([7; 32]), false)]),
            site: SiteId::of("main"),
            databases: vec![Database::new(setup.users)],
            crashes: 0,
            coordinators,
            relays: (0..setup.relays).map(|_| Following::default()).collect(),
            edges,
            users: (0..setup.users).map(|_| User::default()).collect(),
            links: BTreeMap::new(),
            jobs: BTreeMap::new(),
            hold_commit_us: None,
            abort_next: false,
            numbers: 0,
            disturbed_until_us: 2_000_000,
            checker: Checker::new(setup.users, setup.bound_ms),
            log,
            stats: Stats::default(),
            measure_from_us: None,
        };
        for coordinator in 0..setup.coordinators {
            world.later(coordinator, 0, Later::Connect { session: 1 });
            world.coordinators[usize::from(coordinator)].reader.session = 1;
        }
        for relay in 0..setup.relays {
            world.later(RELAY + relay, 0, Later::Follow);
        }
        world
    }

    /// Lives through these ops, which come in order of time, and until the setup's end; stops at the first violation.
    pub fn run(&mut self, ops: impl IntoIterator<Item = Timed>) -> Option<Violation> {
        let end_us = self.setup.end_ms * 1_000;
        let mut ops = ops.into_iter().peekable();
        while self.checker.found().is_none() {
            let op_us = ops.peek().map(|timed| timed.at_ms * 1_000);
            let event_us = self.queue.peek().map(|due| due.0.at_us);
            let Some(at_us) = [op_us, event_us].into_iter().flatten().min().filter(|at_us| *at_us < end_us) else {
                break;
            };
            self.now_us = self.now_us.max(at_us);
            if self.measure_from_us.is_some_and(|from_us| from_us <= self.now_us) {
                (self.measure_from_us, self.stats) = (None, Stats::default());
            }
            if op_us.is_some_and(|op_us| op_us <= at_us) {
                if let Some(timed) = ops.next() {
                    self.operate(timed.op);
                }
            } else if let Some(Reverse(due)) = self.queue.pop() {
                self.happen(due.event);
            }
        }
        self.checker.sum_up();
        self.checker.found().cloned()
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Answer { edge, call, reply } if edge >= AS_EDGE => {
                let relay = RELAY + (edge - AS_EDGE) as u8;
                match self.paused(relay) {
                    Some(us) => self.at(us, Event::Answer { edge, call, reply }),
                    None => self.relay_answered(relay, call, &reply),
                }
            }
            Event::Timeout { edge, call } if edge >= AS_EDGE => {
                let relay = RELAY + (edge - AS_EDGE) as u8;
                match self.paused(relay) {
                    Some(us) => self.at(us, Event::Timeout { edge, call }),
                    None => self.relay_answered(relay, call, &Reply::Lost),
                }
            }
            Event::Answer { edge, call, reply } => self.at_answer(edge, call, *reply),
            Event::Timeout { edge, call } => self.at_answer(edge, call, Reply::Lost),
            Event::Resume { edge, life, then } => {
                if self.edges[edge as usize].life == life {
                    self.resume(edge, *then);
                }
            }
            Event::Question { coordinator, edge, call, ask } => match self.paused(coordinator) {
                Some(us) => self.at(us, Event::Question { coordinator, edge, call, ask }),
                None => self.asked(coordinator, edge, call, *ask),
            },
            Event::Coordinator { coordinator, life, later } => match self.paused(coordinator) {
                Some(us) if later.waits() => self.at(us, Event::Coordinator { coordinator, life, later }),
                _ if self.coordinators[self.place(coordinator)].life == life => self.go_on(coordinator, *later),
                _ => {}
            },
            Event::Arrive(ticket) => self.arrive(ticket),
            Event::Begin(ticket) => self.begin(ticket),
            Event::Commit(ticket) => self.commit(ticket),
            Event::Client { user, device, told } => self.users[user as usize].told(device, &told),
        }
    }

    /// How long this coordinator stands still yet.
    fn paused(&self, coordinator: u8) -> Option<u64> {
        let until_us = self.coordinators[self.place(coordinator)].paused_until_us;
        (until_us > self.now_us).then(|| until_us - self.now_us)
    }

    /// Something is due so much later.
    pub(crate) fn at(&mut self, in_us: u64, event: Event) {
        self.order += 1;
        self.queue.push(Reverse(Due { at_us: self.now_us + in_us, order: self.order, event }));
    }

    /// A number that was not given out before.
    pub(crate) const fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Coordinator time.
    pub(crate) const fn database_ms(&self) -> u64 {
        clock::database_ms(self.now_us)
    }

    pub(crate) const fn lives(&self) -> Lifetimes {
        Lifetimes {
            proof_life_ms: self.setup.proof_life_ms,
            idle_timeout_ms: self.setup.idle_timeout_ms,
            absolute_timeout_ms: self.setup.absolute_timeout_ms,
        }
    }

    pub(crate) fn broken(&self, how: Sabotage) -> bool {
        self.sabotage == Some(how)
    }

    /// The index of the present primary.
    pub(crate) const fn primary(&self) -> usize {
        self.databases.len() - 1
    }

    /// Nothing was disturbed since then, nor will be by the next message of some link.
    pub(crate) fn calm_since(&self, then_us: u64) -> bool {
        self.disturbed_until_us <= then_us && self.hold_commit_us.is_none() && self.links.values().all(Link::is_clean)
    }

    /// A question leaves an edge.
    pub(crate) fn send(&mut self, edge: u32, coordinator: u8, call: u64, ask: Ask) {
        let latency_us = self.rng.u64(300..4_000);
        let now_us = self.now_us;
        let settled_us = now_us + SETTLES_US;
        let mut arrives_us = vec![latency_us];
        if let Some(link) = self.links.get_mut(&(edge, coordinator)) {
            let used = link.drop_request || link.request_us.is_some() || link.duplicate_us.is_some();
            if used {
                self.disturbed_until_us = self.disturbed_until_us.max(settled_us);
            }
            if core::mem::take(&mut link.drop_request) || link.cut_until_us > now_us {
                return;
            }
            arrives_us[0] = link.request_us.take().unwrap_or(latency_us);
            arrives_us.extend(link.duplicate_us.take().map(|us| latency_us + us));
        }
        for in_us in arrives_us {
            self.at(in_us, Event::Question { coordinator, edge, call, ask: Box::new(ask.clone()) });
        }
    }

    /// An answer leaves a coordinator.
    pub(crate) fn reply(&mut self, coordinator: u8, edge: u32, call: u64, reply: Reply) {
        let mut in_us = self.rng.u64(300..4_000);
        let now_us = self.now_us;
        if let Some(link) = self.links.get_mut(&(edge, coordinator)) {
            if link.drop_response || link.response_us.is_some() {
                self.disturbed_until_us = self.disturbed_until_us.max(now_us + SETTLES_US);
            }
            if core::mem::take(&mut link.drop_response) || link.cut_until_us > now_us {
                return;
            }
            in_us = link.response_us.take().unwrap_or(in_us);
        }
        self.at(in_us, Event::Answer { edge, call, reply: Box::new(reply) });
    }

    fn link(&mut self, edge: u32, coordinator: u8) -> &mut Link {
        self.links.entry((edge, coordinator)).or_default()
    }

    /// Does it.
    fn operate(&mut self, op: Op) {
        self.log.note(self.now_us, &op);
        if let Some(ms) = op.disturbs_ms() {
            let until_us = self.now_us + u64::from(ms) * 1_000 + SETTLES_US;
            self.disturbed_until_us = self.disturbed_until_us.max(until_us);
        }
        let us = |ms: u32| u64::from(ms) * 1_000;
        match op {
            Op::Login { user, device, edge } => self.sign_in(user, device, edge),
            Op::Logout { user, device, edge } => self.sign_out(user, device, edge),
            Op::LogoutEverywhere { user, edge } => self.sign_out_everywhere(user, edge),
            Op::ChangePassword { user, device, edge } => self.change_password(user, device, edge),
            Op::Guess { user, edge } => self.door(edge, Operation::Guess, user, 0),
            Op::Disable { user, disabled } => self.administer(user, Change::Disable(disabled)),
            Op::Role { user, admin } => self.administer(user, Change::Role(admin)),
            Op::Request { user, device, edge, route } => {
                let header = self.users[user as usize].header(device);
                self.request(edge, user, Some(device), header, route);
            }
            Op::Replay { user, back, edge, route } => {
                if let Some(header) = self.users[user as usize].old(back) {
                    self.request(edge, user, None, header, route);
                }
            }
            Op::DropRequest { edge, coordinator } => self.link(edge, coordinator).drop_request = true,
            Op::DropResponse { edge, coordinator } => self.link(edge, coordinator).drop_response = true,
            Op::DelayRequest { edge, coordinator, ms } => self.link(edge, coordinator).request_us = Some(us(ms)),
            Op::DelayResponse { edge, coordinator, ms } => self.link(edge, coordinator).response_us = Some(us(ms)),
            Op::Duplicate { edge, coordinator, ms } => self.link(edge, coordinator).duplicate_us = Some(us(ms)),
            Op::Cut { edge, coordinator, ms } => {
                self.link(edge, coordinator).cut_until_us = self.now_us + us(ms);
            }
            Op::Evict { edge } => {
                let clock = self.edges[edge as usize].clock;
                self.edges[edge as usize].evict(clock);
            }
            Op::ResetView { edge } => self.edges[edge as usize].view.reset(),
            Op::StepBack { edge, ms } => {
                // The stated assumption: a step is seen. One between two looks at the clock, and smaller than the time between
                // them, is not.
                for step_ms in [0, ms] {
                    let isolate = &mut self.edges[edge as usize];
                    isolate.clock.step_back(step_ms);
                    let now_ms = isolate.clock.edge_ms(self.now_us);
                    isolate.view.observe_clock(now_ms);
                }
            }
            Op::StepForward { edge, ms } => self.edges[edge as usize].clock.step_forward(ms),
            Op::Restart { coordinator } => self.restart(coordinator),
            Op::Pause { coordinator, ms } => {
                self.coordinator(coordinator).paused_until_us = self.now_us + us(ms);
            }
            Op::HoldCommit { ms } => self.hold_commit_us = Some(us(ms)),
            Op::Abort => self.abort_next = true,
            Op::CrashDatabase => self.crash_database(),
            Op::Failover { stays, ms } => self.fail_over(stays, us(ms)),
        }
    }

    fn crash_database(&mut self) {
        let primary = self.primary();
        self.databases[primary].crash();
        self.crashes += 1;
        self.drop_jobs(primary);
        self.connections_break(primary);
    }

    fn fail_over(&mut self, stays: u8, for_us: u64) {
        let primary = self.primary();
        // One deposed primary is enough; a world with a long history of them says nothing new.
        let promoted = self.databases[primary].promoted();
        self.databases.push(promoted);
        self.drop_jobs(primary);
        self.crashes += 1;
        for (number, coordinator) in self.coordinators.iter_mut().enumerate() {
            coordinator.stays_until_us = if number == usize::from(stays) { self.now_us + for_us } else { 0 };
        }
        self.connections_break(primary);
        let rows = core::mem::take(&mut self.databases[primary + 1].rows);
        self.checker.failed_over(&rows, self.now_us);
        self.databases[primary + 1].rows = rows;
    }

    /// A session of which this cookie header has a proof: the newest.
    pub(crate) fn session_in(&self, header: &str) -> Option<SessionId> {
        match edgekeep_shared::cookie::choose(header, &self.ring, self.site).chosen {
            edgekeep_shared::cookie::Chosen::Proof { token, .. } => Some(token.claims().session_id),
            _ => None,
        }
    }

    /// The hash of everything that happened.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.log.hash()
    }

    /// The log.
    #[must_use]
    pub const fn log(&self) -> &Log {
        &self.log
    }

    /// Counts begin then; what came before is how the world was set up.
    pub const fn measure_from_ms(&mut self, ms: u64) {
        self.measure_from_us = Some(ms * 1_000);
    }

    /// What was counted, and the times from the end of a session to the last request that passed with it.
    #[must_use]
    pub fn into_report(self) -> (Stats, Vec<u64>) {
        (self.stats, self.checker.last_accepts_us)
    }

    /// What was counted.
    #[must_use]
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }

    /// What was watched.
    #[must_use]
    pub const fn checker(&self) -> &Checker {
        &self.checker
    }
}
