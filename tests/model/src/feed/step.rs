//! What can happen ([`Op`]), in which order the parts go on ([`Turn`]), and what either does.

use edgekeep_op::{Op, Route};
use edgekeep_shared::gate::Decision;
use serde::{Deserialize, Serialize};

use super::check::{Check, Said};
use super::database::Change;
use super::edge::decision;
use super::world::{Budget, World};
use super::{Feed, TICK_MS, renew::Stage};
use crate::Step;

/// One part of the world goes on. (In the simulation this order is its queue's.)
#[allow(missing_docs)] // the fields are places in the world's lists, and the variants say what happens
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "turn", rename_all = "snake_case")]
pub enum Turn {
    /// Ten seconds pass.
    Tick,
    /// The open transaction commits.
    Commit,
    /// A renewal that must write takes the locks.
    LockRenewal { renewal: usize },
    /// A proof is signed.
    Sign { renewal: usize },
    /// A coordinator reads the feed, with or without a heartbeat before it.
    Read { coordinator: usize, heartbeat: bool },
    /// The coordinator that has not noticed the failover reads the old primary.
    ReadDeposed { coordinator: usize },
    /// An edge asks the feed.
    Ask { edge: usize },
    /// A question reaches a coordinator, which keeps it waiting.
    Hold { edge: usize, question: usize, coordinator: usize },
    /// A coordinator answers a question, which it has kept or which has just come.
    Answer { edge: usize, question: usize, coordinator: usize },
    /// An answer arrives, perhaps again.
    Deliver { edge: usize, answer: usize },
    /// The relay asks a coordinator.
    RelayAsk,
    /// A coordinator answers that.
    RelayAnswer { question: usize, coordinator: usize },
    /// The answer arrives at the relay.
    RelayDeliver { answer: usize },
    /// The relay answers an edge's question.
    RelaySays { edge: usize, question: usize },
    /// The coordinator answers a question about a session.
    Speak { check: usize },
}

/// Far enough for every expiry.
const FORWARD_MS: u32 = 2_000 * TICK_MS as u32;
/// Two ticks: as long as any lease of the world in which it happens.
const BACK_MS: u32 = 2 * TICK_MS as u32;

/// All steps that are possible now.
pub(super) fn possible(feed: &Feed, world: &World, steps: &mut Vec<Step<Turn>>) {
    let mut turns = vec![];
    if world.tick < feed.scenario.horizon {
        turns.push(Turn::Tick);
    }
    if world.db.open.is_some() {
        turns.push(Turn::Commit);
    }
    for (renewal, renewing) in world.renewals.iter().enumerate() {
        match renewing.stage {
            Stage::ToRaise if world.db.open.is_none() => turns.push(Turn::LockRenewal { renewal }),
            Stage::ToSign(_) => turns.push(Turn::Sign { renewal }),
            Stage::ToRaise | Stage::Locked(_) => {}
        }
    }
    for (coordinator, feeder) in world.feeders.iter().enumerate() {
        if world.may(feed, Budget::Read) {
            turns.push(Turn::Read { coordinator, heartbeat: true });
            if feed.scenario.beats_apart && feeder.knows(world.db.epoch) {
                turns.push(Turn::Read { coordinator, heartbeat: false });
            }
            if world.stays == Some(coordinator) && feeder.is_behind(world.db.epoch) {
                turns.push(Turn::ReadDeposed { coordinator });
            }
        }
    }
    at_the_relay(feed, world, &mut turns);
    for edge in 0..world.edges.len() {
        on_the_way(feed, world, edge, &mut turns);
    }
    for (check, checking) in world.checks.iter().enumerate() {
        if checking.said == Said::Nothing {
            turns.push(Turn::Speak { check });
        }
    }
    steps.extend(turns.into_iter().map(Step::GoesOn));
    steps.extend(acts(feed, world).into_iter().chain(faults(feed, world)).map(Step::Happens));
}

fn on_the_way(feed: &Feed, world: &World, edge: usize, turns: &mut Vec<Turn>) {
    if world.may(feed, Budget::Ask) {
        turns.push(Turn::Ask { edge });
    }
    let now = world.moment(feed);
    for (question, flight) in world.edges[edge].air.iter().enumerate() {
        if flight.answer.is_some() {
            turns.push(Turn::Deliver { edge, answer: question });
            continue;
        }
        if let Some(relay) = &world.relay {
            let now = world.moment_at(feed.scenario.relay_rate);
            if relay.answer(feed, &flight.question, now).is_some() {
                turns.push(Turn::RelaySays { edge, question });
            }
            continue;
        }
        for (coordinator, feeder) in world.feeders.iter().enumerate() {
            let holder = flight.held.map(|(holder, _)| usize::from(holder));
            let held = flight.held.map(|(_, held)| held);
            if holder.is_none_or(|holder| holder == coordinator)
                && feeder.answer(feed, &flight.question, held, now).is_some()
            {
                turns.push(Turn::Answer { edge, question, coordinator });
            }
            if holder.is_none() && world.may(feed, Budget::Hold) {
                turns.push(Turn::Hold { edge, question, coordinator });
            }
        }
    }
}

fn at_the_relay(feed: &Feed, world: &World, turns: &mut Vec<Turn>) {
    let Some(relay) = &world.relay else { return };
    if world.may(feed, Budget::RelayAsk) {
        turns.push(Turn::RelayAsk);
    }
    let now = world.moment(feed);
    for (number, (question, _, answer)) in relay.air.iter().enumerate() {
        if answer.is_some() {
            turns.push(Turn::RelayDeliver { answer: number });
            continue;
        }
        for (coordinator, feeder) in world.feeders.iter().enumerate() {
            if feeder.answer(feed, question, None, now).is_some() {
                turns.push(Turn::RelayAnswer { question: number, coordinator });
            }
        }
    }
}

/// What people and administrators do.
fn acts(feed: &Feed, world: &World) -> Vec<Op> {
    let (user, rows) = (0, &world.db.rows);
    let newest = rows.sessions.iter().map(|session| session.id).max();
    let mut ops = vec![];
    if world.db.open.is_none() {
        let login = Op::Login { user, device: device(2 + world.spent(Budget::Login)), edge: 0 };
        let all = [
            Some((login, Budget::Login)),
            newest.map(|id| (Op::Logout { user, device: device(id), edge: 0 }, Budget::Logout)),
            Some((Op::LogoutEverywhere { user, edge: 0 }, Budget::LogoutEverywhere)),
            rows.admin.then_some((Op::Role { user, admin: false }, Budget::Demote)),
        ];
        ops.extend(all.into_iter().flatten().filter(|(_, budget)| world.may(feed, *budget)).map(|(op, _)| op));
    }
    if world.may(feed, Budget::Renew) {
        let renewal = |id| Op::Request { user, device: device(id), edge: 0, route: Route::Session };
        ops.extend(rows.sessions.iter().map(|session| renewal(session.id)));
    }
    if world.may(feed, Budget::Check) {
        for (at, edge) in world.edges.iter().enumerate() {
            for (back, proof) in world.proofs.iter().rev().filter(|proof| proof.user == 1).enumerate() {
                let asks = |route| {
                    matches!(decision(feed, world, edge, proof, route), Decision::AskCoordinator | Decision::Renew)
                };
                let routes = [Route::Session, Route::Strict].into_iter().filter(|route| asks(*route));
                ops.extend(routes.map(|route| Op::Replay { user, back: back as u8, edge: at as u32, route }));
            }
        }
    }
    ops
}

/// The device of a session: they take turns.
const fn device(session: u8) -> u8 {
    (session + 1) % 2
}

/// What goes wrong.
fn faults(feed: &Feed, world: &World) -> Vec<Op> {
    let may = |budget| world.may(feed, budget);
    let mut ops = vec![];
    if world.db.open.is_some() && may(Budget::Abort) {
        ops.push(Op::Abort);
    }
    if may(Budget::Crash) {
        ops.push(Op::CrashDatabase);
    }
    if may(Budget::Failover) {
        ops.push(Op::Failover { stays: 0, ms: u32::MAX });
    }
    for (coordinator, feeder) in world.feeders.iter().enumerate() {
        if may(Budget::Restart) && !feeder.is_down() {
            ops.push(Op::Restart { coordinator: coordinator as u8 });
        }
    }
    // The relay counts as one more coordinator.
    if may(Budget::RelayRestart) && world.relay.as_ref().is_some_and(|relay| !relay.is_down()) {
        ops.push(Op::Restart { coordinator: feed.scenario.coordinators });
    }
    for (at, edge) in world.edges.iter().enumerate() {
        let at = at as u32;
        if may(Budget::Reset) && edge.memory.view().clock().is_some() {
            ops.push(Op::ResetView { edge: at });
        }
        if may(Budget::Step) {
            ops.extend([Op::StepBack { edge: at, ms: BACK_MS }, Op::StepForward { edge: at, ms: FORWARD_MS }]);
        }
        if may(Budget::Lose) {
            for coordinator in 0..world.feeders.len() as u8 {
                let lost = [Op::DropRequest { edge: at, coordinator }, Op::DropResponse { edge: at, coordinator }];
                ops.extend(lost.into_iter().filter(|op| world.clone().lose(*op)));
            }
        }
    }
    ops
}

/// Does it.
pub(super) fn step(feed: &Feed, world: &mut World, step: Step<Turn>) {
    match step {
        Step::Happens(op) => happen(feed, world, op),
        Step::GoesOn(turn) => go_on(feed, world, turn),
    }
}

fn happen(feed: &Feed, world: &mut World, op: Op) {
    let begin = |world: &mut World, budget, change| {
        let number = world.spend(budget);
        let now_ms = world.now_ms();
        world.db.begin(feed, change, 1 + number, now_ms);
    };
    match op {
        Op::Login { .. } => begin(world, Budget::Login, Change::Login),
        Op::Logout { .. } => begin(world, Budget::Logout, Change::Logout),
        Op::LogoutEverywhere { .. } => begin(world, Budget::LogoutEverywhere, Change::LogoutEverywhere),
        Op::Role { .. } => begin(world, Budget::Demote, Change::Demote),
        Op::Request { device: of, .. } => {
            world.spend(Budget::Renew);
            let session = world.db.rows.sessions.iter().find(|session| device(session.id) == of);
            if let Some(id) = session.map(|session| session.id) {
                world.look(feed, id);
            }
        }
        Op::Replay { back, edge, route, .. } => {
            world.spend(Budget::Check);
            let proof = world.proofs.iter().rev().filter(|proof| proof.user == 1).nth(usize::from(back)).copied();
            if let Some(proof) = proof {
                world.checks.push(Check::new(world, edge as usize, proof, route));
            }
        }
        Op::Abort => {
            world.spend(Budget::Abort);
            world.db.open = None;
            world.drop_locked();
        }
        Op::CrashDatabase => {
            world.spend(Budget::Crash);
            world.db.crash();
            world.drop_locked();
        }
        Op::Failover { stays, .. } => {
            world.spend(Budget::Failover);
            world.fail_over(stays);
        }
        Op::Restart { coordinator } if coordinator == feed.scenario.coordinators => {
            world.spend(Budget::RelayRestart);
            world.relay.iter_mut().for_each(|relay| relay.restart(feed));
        }
        Op::Restart { coordinator } => {
            world.spend(Budget::Restart);
            world.feeders[usize::from(coordinator)].restart();
        }
        Op::ResetView { edge } => {
            world.spend(Budget::Reset);
            world.edges[edge as usize].reset(feed);
        }
        Op::StepBack { edge, ms } => world.step_clock(feed, edge as usize, -i64::from(ms)),
        Op::StepForward { edge, ms } => world.step_clock(feed, edge as usize, i64::from(ms)),
        Op::DropRequest { .. } | Op::DropResponse { .. } => {
            world.spend(Budget::Lose);
            world.lose(op);
        }
        // Nothing of these in these worlds: `possible` does not name them.
        Op::ChangePassword { .. }
        | Op::Guess { .. }
        | Op::Disable { .. }
        | Op::DelayRequest { .. }
        | Op::DelayResponse { .. }
        | Op::Duplicate { .. }
        | Op::Cut { .. }
        | Op::Evict { .. }
        | Op::Pause { .. }
        | Op::HoldCommit { .. } => {}
    }
}

fn go_on(feed: &Feed, world: &mut World, turn: Turn) {
    let (now_ms, now) = (world.now_ms(), world.moment(feed));
    match turn {
        Turn::Tick => world.tick += 1,
        Turn::Commit => world.commit(feed),
        Turn::LockRenewal { renewal } => world.lock_renewal(feed, renewal),
        Turn::Sign { renewal } => world.sign(feed, renewal),
        Turn::Read { coordinator, heartbeat } => {
            world.spend(Budget::Read);
            world.feeders[coordinator].read(feed, &mut world.db, heartbeat, now, now_ms);
        }
        Turn::ReadDeposed { coordinator } => {
            world.spend(Budget::Read);
            let feeder = &mut world.feeders[coordinator];
            if feed.broken(crate::Sabotage::HeartbeatElsewhere) {
                feeder.beat_elsewhere(now);
            }
            if let Some(deposed) = &mut world.deposed {
                feeder.read(feed, deposed, false, now, now_ms);
            }
        }
        Turn::Ask { edge } => {
            let nonce = world.spend(Budget::Ask);
            let edge_ms = world.edges[edge].now_ms(world);
            let may_be_held = feed.scenario.budget.iter().any(|(budget, _)| *budget == Budget::Hold);
            world.edges[edge].ask(nonce, edge_ms, may_be_held);
        }
        Turn::Hold { edge, question, coordinator } => {
            world.spend(Budget::Hold);
            let held = world.feeders[coordinator].hold(now);
            world.edges[edge].air[question].held = Some((coordinator as u8, held));
        }
        Turn::Answer { edge, question, coordinator } => {
            let flight = &mut world.edges[edge].air[question];
            let held = flight.held.map(|(_, held)| held);
            let answer = world.feeders[coordinator].answer(feed, &flight.question, held, now);
            flight.answer = answer.map(|answer| (coordinator as u8, answer));
        }
        Turn::Deliver { edge, answer } => {
            let edge_ms = world.edges[edge].now_ms(world);
            world.edges[edge].deliver(feed, answer, edge_ms);
        }
        Turn::RelayAsk => {
            let number = world.spend(Budget::RelayAsk);
            let now = world.moment_at(feed.scenario.relay_rate);
            world.relay.iter_mut().for_each(|relay| relay.ask(number, now));
        }
        Turn::RelayAnswer { question, coordinator } => {
            let feeder = &world.feeders[coordinator];
            for (asked, _, answer) in world.relay.iter_mut().filter_map(|relay| relay.air.get_mut(question)) {
                *answer = feeder.answer(feed, asked, None, now);
            }
        }
        Turn::RelayDeliver { answer } => {
            let now = world.moment_at(feed.scenario.relay_rate);
            world.relay.iter_mut().for_each(|relay| relay.deliver(feed, answer, now));
        }
        Turn::RelaySays { edge, question } => {
            let now = world.moment_at(feed.scenario.relay_rate);
            let flight = &mut world.edges[edge].air[question];
            let answer = world.relay.as_ref().and_then(|relay| relay.answer(feed, &flight.question, now));
            flight.answer = answer.map(|answer| (0, answer));
        }
        Turn::Speak { check } => {
            let mut checking = world.checks[check].clone();
            checking.speak(feed, world);
            world.checks[check] = checking;
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
        if rows.revision > before.revision || open.everywhere {
            self.gone_ms.extend(self.lost.drain(..).map(|id| (id, now_ms)));
        }
        if let Some((id, until_ms)) = open.proof {
            self.may_sign(feed, id, until_ms);
        }
    }

    fn fail_over(&mut self, stays: u8) {
        let promoted = self.db.promoted();
        self.stays = Some(usize::from(stays));
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

    fn step_clock(&mut self, feed: &Feed, edge: usize, by_ms: i64) {
        self.spend(Budget::Step);
        let now_ms = self.edges[edge].now_ms(self);
        self.edges[edge].step_clock(feed, now_ms, by_ms);
    }

    /// A question, or an answer, of this link is lost: the oldest, of the feed's before those about sessions. False if
    /// there is none.
    fn lose(&mut self, op: Op) -> bool {
        let (Some(edge), Some(from), question) = (op.edge(), op.coordinator(), matches!(op, Op::DropRequest { .. }))
        else {
            return false;
        };
        let air = &mut self.edges[edge as usize].air;
        let lost = air.iter().position(|flight| match &flight.answer {
            Some((coordinator, _)) => !question && *coordinator == from,
            // Where a question goes is not decided before it arrives; one that is held has arrived.
            None => question && from == 0 && flight.held.is_none(),
        });
        if let Some(at) = lost {
            air.remove(at);
            return true;
        }
        let check = self.checks.iter_mut().find(|check| {
            let open = match check.said {
                Said::Nothing => question,
                Said::Verdict(..) => !question,
                Said::Lost => false,
            };
            check.edge == edge as usize && from == 0 && open
        });
        check.map(|check| check.said = Said::Lost).is_some()
    }

    /// It is later than `since_ms` by more than the bound.
    pub(super) fn past_bound(&self, feed: &Feed, since_ms: u64) -> bool {
        self.now_ms() > since_ms + u64::from(feed.scenario.bound_ms)
    }
}
