//! The login protocol (reserve, hash, settle): G4, G6, G9. Logout-everywhere and password change are the same machine with
//! another effect.
//!
//! One account and a few orders (each an operation with its idempotency key and password, right or wrong), each delivered
//! up to so often, by turns to two coordinators: deliveries share nothing but the database. Every transaction is one step,
//! since it holds the subject's row lock. Between any two steps a coordinator may be killed; a delivery that is never
//! continued has stopped for ever. A lost question is a delivery that came to nothing, a lost answer one of which the client
//! knows nothing though everything has happened: then the client sends it again.
//!
//! Counts as a failure: a key with two sessions, two counted failures, two effects or two outcomes, or answered "locked"
//! once it has its outcome (G4); more passwords tried than there are places, among those reserved in one run (G6; [`run`]: by the model's own record); a
//! session made with a password that had been changed (G5); an effect without its settled attempt, its audit entry or the end
//! of the session before it (G9, G1).
//! Does not: an attempt that was reserved before a success and is hashed after it, which belongs to the run before; a
//! password that was right and whose reservation was given back.

mod account;
mod run;
mod worlds;

use edgekeep_op::Op;
use edgekeep_shared::lockout::GuessPolicy;
use serde::{Deserialize, Serialize};
use stateright::{Model, Property};

use crate::{Sabotage, Step};
pub use account::{Account, Attempt, Outcome};
pub use run::Run;
pub use worlds::{changes, devices, everywhere, guesses, named, runs, small, to_the_letter};

/// Two places in a run; three failures in a row need an administrator.
pub const POLICY: GuessPolicy = GuessPolicy { guess_limit: 2, base_ms: 1, max_ms: 2, consecutive_failure_cap: 3 };
/// For how long a delivery owns its attempt, in ticks.
pub const OWNER_DEADLINE: u64 = 1;
/// How many coordinators there are.
const COORDINATORS: u8 = 2;

/// What an order does once its password is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A new session.
    Login,
    /// All sessions end.
    LogoutEverywhere,
    /// All sessions end, the password is another one, and there is a new session.
    ChangePassword,
}

/// An operation with its idempotency key and its password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// What it does.
    pub effect: Effect,
    /// Its password is the user's first one; else it is a guess.
    pub right: bool,
}

impl Order {
    /// Its password is right where the password was changed so often.
    const fn is_right(self, password_version: u8) -> bool {
        self.right && password_version == 0
    }

    /// Its first delivery. Each order comes through an edge of its own.
    const fn op(self, number: u8) -> Op {
        let (user, edge) = (0, number as u32);
        match self.effect {
            Effect::Login if !self.right => Op::Guess { user, edge },
            Effect::Login => Op::Login { user, device: number, edge },
            Effect::LogoutEverywhere => Op::LogoutEverywhere { user, edge },
            Effect::ChangePassword => Op::ChangePassword { user, device: 0, edge },
        }
    }
}

/// How far a delivery is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// At a coordinator.
    Arrived,
    /// It has its place; the user was read, whose password had been changed so often.
    Reserved(u8),
    /// The password was tried.
    Hashed(u8),
    /// Only with [`Sabotage::SettledApart`]: the session is there.
    Made(u8),
    /// Answered with an outcome.
    Answered(Outcome),
    /// Its answer was lost.
    Lost(Outcome),
    /// Answered "locked": no outcome.
    Locked,
    /// Answered "no session": no outcome.
    Withdrawn,
    /// It never arrived.
    Dropped,
    /// Its coordinator was killed, or it was answered "in flight".
    Gone,
}

/// One delivery of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Delivery {
    /// Of which.
    pub order: u8,
    /// Where it goes.
    pub coordinator: u8,
    /// How far it is.
    pub stage: Stage,
}

/// One state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    /// Coordinator time, in ticks.
    pub now: u64,
    /// The database.
    pub account: Account,
    /// All deliveries.
    pub deliveries: Vec<Delivery>,
    /// The session that the password change presents.
    pub presented: Option<u8>,
    /// Numbers of the attempts whose password was tried.
    pub tried: Vec<(u64, u8)>,
    /// The present run of failures, by the model's own record.
    pub run: Run,
    /// Orders tried since the last success or the start of the run, by time; kept only where asked for.
    pub tried_since: Vec<u8>,
    /// An order with an outcome was answered "locked".
    pub replay_locked: bool,
    /// Coordinators killed so far.
    pub killed: u8,
    /// Questions and answers lost so far.
    pub lost: u8,
}

/// One part of the world goes on. (In the simulation this order is its queue's.)
#[allow(missing_docs)] // the fields are places in the world's lists, and the variants say what happens
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "turn", rename_all = "snake_case")]
pub enum Turn {
    /// Time passes.
    Tick,
    /// An order is delivered once more, to the other coordinator: the client or an edge sends it again.
    Again { order: u8 },
    /// Transaction one.
    Reserve { delivery: usize },
    /// The password is tried.
    Hash { delivery: usize },
    /// Transaction two.
    Settle { delivery: usize },
}

/// The model.
pub struct Login {
    /// How many guesses there are.
    pub policy: GuessPolicy,
    /// What is asked.
    pub orders: &'static [Order],
    /// How often each may be delivered.
    pub deliveries: u8,
    /// How often a coordinator may be killed.
    pub kills: u8,
    /// How many questions and answers may be lost.
    pub losses: u8,
    /// The last tick.
    pub horizon: u64,
    /// Also check G6 by when passwords are tried, not by when their places were reserved: see [`to_the_letter`].
    pub by_time: bool,
    /// What is broken.
    pub sabotage: Option<Sabotage>,
}

impl Login {
    pub(crate) fn broken(&self, how: Sabotage) -> bool {
        self.sabotage == Some(how)
    }

    fn go_on(&self, world: &mut World, turn: Turn) {
        match turn {
            Turn::Tick => world.now += 1,
            Turn::Again { order } => deliver(world, order),
            Turn::Reserve { delivery } => {
                let order = world.deliveries[delivery].order;
                let stage = if self.broken(Sabotage::CheckBeforeCount) && world.account.find(order).is_none() {
                    Stage::Reserved(world.account.password_version)
                } else {
                    self.reserve(world, order)
                };
                world.deliveries[delivery].stage = stage;
            }
            Turn::Hash { delivery } => {
                let hashed = &mut world.deliveries[delivery];
                if let Stage::Reserved(read) = hashed.stage {
                    hashed.stage = Stage::Hashed(read);
                }
                let order = hashed.order;
                let seq = world.account.find(order).map_or(world.account.next_seq, |attempt| attempt.seq);
                world.tried.push((seq, order));
                if self.by_time && !world.tried_since.contains(&order) {
                    world.tried_since.push(order);
                    world.tried_since.sort_unstable();
                }
                world.tried.sort_unstable();
                world.tried.dedup();
            }
            Turn::Settle { delivery } => {
                let made = world.account.made.len();
                world.deliveries[delivery].stage = self.settle(world, world.deliveries[delivery]);
                if world.account.made.len() > made {
                    world.tried_since.clear();
                }
            }
        }
    }
}

/// Sends an order to the coordinators by turns.
fn deliver(world: &mut World, order: u8) {
    let so_far = world.deliveries.iter().filter(|delivery| delivery.order == order).count() as u8;
    world.deliveries.push(Delivery { order, coordinator: so_far % COORDINATORS, stage: Stage::Arrived });
}

fn happen(world: &mut World, op: Op) {
    let order = op.edge().unwrap_or(0) as u8;
    match op {
        Op::ChangePassword { .. } => {
            world.presented = world.account.sessions.first().map(|held| held.0);
            deliver(world, order);
        }
        Op::Restart { coordinator } => {
            world.killed += 1;
            for delivery in world.deliveries.iter_mut().filter(|delivery| delivery.coordinator == coordinator) {
                if is_at_work(delivery.stage) {
                    delivery.stage = Stage::Gone;
                }
            }
        }
        Op::DropRequest { coordinator, .. } | Op::DropResponse { coordinator, .. } => {
            world.lost += 1;
            let here = |delivery: &&mut Delivery| delivery.order == order && delivery.coordinator == coordinator;
            for delivery in world.deliveries.iter_mut().filter(here) {
                delivery.stage = match (op, delivery.stage) {
                    (Op::DropRequest { .. }, Stage::Arrived) => Stage::Dropped,
                    (Op::DropResponse { .. }, Stage::Answered(outcome)) => Stage::Lost(outcome),
                    (_, stage) => stage,
                };
            }
        }
        _ => deliver(world, order),
    }
}

const fn is_at_work(stage: Stage) -> bool {
    matches!(stage, Stage::Arrived | Stage::Reserved(_) | Stage::Hashed(_) | Stage::Made(_))
}

impl Model for Login {
    type State = World;
    type Action = Step<Turn>;

    fn init_states(&self) -> Vec<World> {
        vec![World {
            now: 10,
            account: Account::default(),
            deliveries: vec![],
            presented: None,
            tried: vec![],
            run: Run::default(),
            tried_since: vec![],
            replay_locked: false,
            killed: 0,
            lost: 0,
        }]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step<Turn>>) {
        let (mut turns, mut ops) = (vec![], vec![]);
        if world.now < 10 + self.horizon {
            turns.push(Turn::Tick);
        }
        for (number, order) in (0..).zip(self.orders) {
            let so_far = world.deliveries.iter().filter(|delivery| delivery.order == number).count();
            let has_session = order.effect != Effect::ChangePassword || !world.account.sessions.is_empty();
            if so_far == 0 && has_session {
                ops.push(order.op(number));
            } else if so_far > 0 && so_far < usize::from(self.deliveries) {
                turns.push(Turn::Again { order: number });
            }
        }
        for (number, delivery) in world.deliveries.iter().enumerate() {
            let (edge, coordinator) = (u32::from(delivery.order), delivery.coordinator);
            match delivery.stage {
                Stage::Arrived => turns.push(Turn::Reserve { delivery: number }),
                Stage::Reserved(_) => turns.push(Turn::Hash { delivery: number }),
                Stage::Hashed(_) | Stage::Made(_) => turns.push(Turn::Settle { delivery: number }),
                _ => {}
            }
            if world.lost < self.losses {
                match delivery.stage {
                    Stage::Arrived => ops.push(Op::DropRequest { edge, coordinator }),
                    Stage::Answered(_) => ops.push(Op::DropResponse { edge, coordinator }),
                    _ => {}
                }
            }
        }
        for coordinator in (0..COORDINATORS).filter(|_| world.killed < self.kills) {
            if world.deliveries.iter().any(|one| one.coordinator == coordinator && is_at_work(one.stage)) {
                ops.push(Op::Restart { coordinator });
            }
        }
        steps.extend(turns.into_iter().map(Step::GoesOn).chain(ops.into_iter().map(Step::Happens)));
    }

    fn next_state(&self, world: &World, step: Step<Turn>) -> Option<World> {
        let mut next = world.clone();
        match step {
            Step::Happens(op) => happen(&mut next, op),
            Step::GoesOn(turn) => self.go_on(&mut next, turn),
        }
        // Deliveries are alike: their order says nothing.
        next.deliveries.sort_unstable();
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        worlds::properties(self)
    }
}
