//! What can happen, and what it does.

use super::database::Change;
use super::world::{Budget, World};
use super::{Feed, renew::Stage};

/// Everything that can happen. An answer or a question that is lost is one whose op never comes.
#[allow(missing_docs)] // the fields are places in the world's lists, and the variants say what happens
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// Ten seconds pass.
    Tick,
    /// A transaction takes the user's locks and an id.
    Begin(Change),
    /// The open transaction commits.
    Commit,
    /// The open transaction is rolled back.
    Abort,
    /// A renewal of this session reads.
    Look(u8),
    /// A renewal that must write takes the locks.
    LockRenewal(usize),
    /// A proof is signed.
    Sign(usize),
    /// A coordinator reads the feed, with or without a heartbeat before it.
    Read { coordinator: usize, heartbeat: bool },
    /// A coordinator that has not noticed the failover reads the old primary.
    ReadDeposed { coordinator: usize },
    /// A coordinator restarts.
    Restart { coordinator: usize },
    /// Postgres crashes and restarts.
    CrashDatabase,
    /// A standby is promoted.
    Failover,
    /// An edge asks the feed.
    Ask { edge: usize },
    /// A question reaches a coordinator, which keeps it waiting.
    Hold { edge: usize, question: usize, coordinator: usize },
    /// A coordinator answers a question.
    Answer { edge: usize, question: usize, coordinator: usize },
    /// An answer arrives, perhaps again.
    Deliver { edge: usize, answer: usize },
    /// An edge forgets its view.
    Reset { edge: usize },
    /// An edge asks about the session of this proof.
    Check { edge: usize, proof: usize },
    /// The coordinator answers that.
    Speak(usize),
}

/// All ops that are possible now.
pub(super) fn possible(feed: &Feed, world: &World, ops: &mut Vec<Op>) {
    if world.tick < feed.scenario.horizon {
        ops.push(Op::Tick);
    }
    in_the_database(feed, world, ops);
    for (coordinator, feeder) in world.feeders.iter().enumerate() {
        if world.may(feed, Budget::Read) {
            ops.push(Op::Read { coordinator, heartbeat: true });
            if feed.scenario.beats_apart && feeder.knows(world.db.epoch) {
                ops.push(Op::Read { coordinator, heartbeat: false });
            }
            if world.deposed.is_some() && feeder.is_behind(world.db.epoch) {
                ops.push(Op::ReadDeposed { coordinator });
            }
        }
        if world.may(feed, Budget::Restart) && !feeder.is_down() {
            ops.push(Op::Restart { coordinator });
        }
    }
    for (at, edge) in world.edges.iter().enumerate() {
        if world.may(feed, Budget::Ask) {
            ops.push(Op::Ask { edge: at });
        }
        if world.may(feed, Budget::Reset) && edge.memory.view().clock().is_some() {
            ops.push(Op::Reset { edge: at });
        }
        for (which, flight) in edge.air.iter().enumerate() {
            if flight.answer.is_some() {
                ops.push(Op::Deliver { edge: at, answer: which });
                continue;
            }
            for coordinator in 0..world.feeders.len() {
                if flight.held.is_none_or(|(holder, _)| usize::from(holder) == coordinator) {
                    ops.push(Op::Answer { edge: at, question: which, coordinator });
                }
                if flight.held.is_none() && world.may(feed, Budget::Hold) {
                    ops.push(Op::Hold { edge: at, question: which, coordinator });
                }
            }
        }
        if world.may(feed, Budget::Check) {
            ops.extend((0..world.proofs.len()).map(|proof| Op::Check { edge: at, proof }));
        }
    }
    for (at, check) in world.checks.iter().enumerate() {
        if check.verdict.is_none() {
            ops.push(Op::Speak(at));
        }
    }
}

fn in_the_database(feed: &Feed, world: &World, ops: &mut Vec<Op>) {
    let free = world.db.open.is_none();
    if !free {
        ops.push(Op::Commit);
        if world.may(feed, Budget::Abort) {
            ops.push(Op::Abort);
        }
    }
    if free {
        for (change, budget) in changes() {
            let sense = match change {
                Change::Login => true,
                Change::Logout => !world.db.rows.sessions.is_empty(),
                Change::Demote => world.db.rows.admin,
            };
            if sense && world.may(feed, budget) {
                ops.push(Op::Begin(change));
            }
        }
    }
    if world.may(feed, Budget::Renew) {
        ops.extend(world.db.rows.sessions.iter().map(|session| Op::Look(session.id)));
    }
    for (at, renewing) in world.renewals.iter().enumerate() {
        match renewing.stage {
            Stage::ToRaise if free => ops.push(Op::LockRenewal(at)),
            Stage::ToSign(_) => ops.push(Op::Sign(at)),
            Stage::ToRaise | Stage::Locked(_) => {}
        }
    }
    if world.may(feed, Budget::Crash) {
        ops.push(Op::CrashDatabase);
    }
    if world.may(feed, Budget::Failover) {
        ops.push(Op::Failover);
    }
}

const fn changes() -> [(Change, Budget); 3] {
    [(Change::Login, Budget::Login), (Change::Logout, Budget::Logout), (Change::Demote, Budget::Demote)]
}

/// Does it.
pub(super) fn step(feed: &Feed, world: &mut World, op: Op) {
    let now_ms = world.now_ms();
    match op {
        Op::Tick => world.tick += 1,
        Op::Begin(change) => {
            let budget =
                changes().into_iter().find(|(known, _)| *known == change).map_or(Budget::Login, |found| found.1);
            let number = world.spend(budget);
            world.db.begin(feed, change, 1 + number, now_ms);
        }
        Op::Commit => world.commit(feed),
        Op::Abort => {
            world.spend(Budget::Abort);
            world.db.open = None;
            world.drop_locked();
        }
        Op::Look(id) => {
            world.spend(Budget::Renew);
            world.look(feed, id);
        }
        Op::LockRenewal(at) => world.lock_renewal(feed, at),
        Op::Sign(at) => world.sign(feed, at),
        Op::Read { coordinator, heartbeat } => {
            world.spend(Budget::Read);
            world.feeders[coordinator].read(feed, &mut world.db, heartbeat, now_ms);
        }
        Op::ReadDeposed { coordinator } => {
            world.spend(Budget::Read);
            world.feeders[coordinator].read_deposed(feed, now_ms);
        }
        Op::Restart { coordinator } => {
            world.spend(Budget::Restart);
            world.feeders[coordinator].restart();
        }
        Op::CrashDatabase => {
            world.spend(Budget::Crash);
            world.db.crash();
            world.drop_locked();
        }
        Op::Failover => {
            world.spend(Budget::Failover);
            world.fail_over();
        }
        Op::Ask { edge } => {
            let nonce = world.spend(Budget::Ask);
            let edge_ms = world.edges[edge].now_ms(world);
            world.edges[edge].ask(nonce, edge_ms);
        }
        Op::Hold { edge, question, coordinator } => {
            world.spend(Budget::Hold);
            world.edges[edge].air[question].held = Some((coordinator as u8, now_ms));
        }
        Op::Answer { edge, question, coordinator } => {
            let held_ms = world.edges[edge].held_ms(question, now_ms);
            let flight = &mut world.edges[edge].air[question];
            flight.answer = world.feeders[coordinator].answer(feed, &flight.question, held_ms, now_ms);
        }
        Op::Deliver { edge, answer } => {
            let edge_ms = world.edges[edge].now_ms(world);
            world.edges[edge].deliver(feed, answer, edge_ms);
        }
        Op::Reset { edge } => {
            world.spend(Budget::Reset);
            world.edges[edge].reset(feed);
        }
        Op::Check { edge, proof } => {
            world.spend(Budget::Check);
            let (asker, proof) = (&world.edges[edge], world.proofs[proof]);
            let gone = world.gone_ms.contains_key(&proof.session);
            let check = asker.check(edge, proof, asker.now_ms(world), gone);
            world.checks.push(check);
        }
        Op::Speak(at) => {
            let mut check = world.checks[at].clone();
            check.speak(feed, world);
            world.checks[at] = check;
        }
    }
}

impl World {
    fn commit(&mut self, feed: &Feed) {
        let now_ms = self.now_ms();
        let before = self.db.rows.clone();
        let Some(open) = self.db.commit(now_ms, feed.scenario.lossy) else { return };
        let rows = &self.db.rows;
        for session in before.sessions.iter().filter(|old| rows.sessions.iter().all(|new| new.id != old.id)) {
            self.gone_ms.insert(session.id, now_ms);
        }
        if before.admin && !rows.admin {
            self.demoted_ms = Some(now_ms);
        }
        if rows.revision > before.revision && !self.lost.is_empty() {
            self.gone_ms.extend(self.lost.drain(..).map(|id| (id, now_ms)));
        }
        if let Some((id, until_ms)) = open.proof {
            self.may_sign(feed, id, until_ms);
        }
    }

    fn fail_over(&mut self) {
        let promoted = self.db.promoted();
        self.drop_locked();
        let here = |id: u8| promoted.rows.sessions.iter().any(|session| session.id == id);
        self.lost.extend(self.db.rows.sessions.iter().map(|session| session.id).filter(|id| !here(*id)));
        // An asynchronous standby brings back what it had: said in the documentation, and no failure here.
        self.gone_ms.retain(|id, _| !here(*id));
        if promoted.rows.admin {
            self.demoted_ms = None;
        }
        self.deposed = Some(core::mem::replace(&mut self.db, promoted));
    }

    /// It is later than `since_ms` by more than the bound.
    pub(super) fn past_bound(&self, feed: &Feed, since_ms: u64) -> bool {
        self.now_ms() > since_ms + u64::from(feed.scenario.bound_ms)
    }
}
