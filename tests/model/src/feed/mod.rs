//! Sessions, renewals, the feed and edges: G1, G2, G3, G5, G8.
//!
//! One user on two devices (logins take turns), Postgres with transaction ids and row locks, coordinators that read it,
//! edges with clocks of different rates. Time goes in ticks of 10 s; the bound is 9.9 or 19.9 s, so that one
//! tick or two are too many by every clock, and a lease without margin shows on a slow one.
//!
//! Counts as a failure: see [`properties`]. Does not: that an edge refuses; a session that an asynchronous failover brings
//! back; one that it loses, until the next revocation of its user (its proofs are good until then, or their
//! `renew_after`).
//!
//! Every message may be late; one that is never delivered is lost; an answer stays in the air and may come twice, and
//! before an earlier one. A request is no event: in every state, every proof ever signed is shown to every edge.

mod check;
mod database;
mod edge;
mod feeder;
mod memory;
pub mod properties;
mod relay;
mod renew;
pub mod scenarios;
mod step;
mod world;

pub use check::{Check, Said};
pub use database::{Change, Database, Rows, Session};
pub use memory::Memories;
pub use step::Turn;
pub use world::{Budget, Proof, World};

use edgekeep_shared::renewal::Lifetimes;
use edgekeep_shared::takeover::Takeover;
use stateright::{Model, Property};

use crate::{Sabotage, Step};

/// One tick, in milliseconds.
pub const TICK_MS: u64 = 10_000;
/// Coordinator time of tick 0.
pub const T0_MS: u64 = 1_800_000_000_000;

/// A small world and what may happen in it.
pub struct Scenario {
    /// The last tick.
    pub horizon: u8,
    /// `max_staleness`: 9.9 s or 19.9 s.
    pub bound_ms: u32,
    /// For how many ticks a proof lives: two where pruning is to matter within the run.
    pub proof_ticks: u64,
    /// How many sessions the user may have.
    pub sessions_per_user: u32,
    /// The rate of each edge's clock, in thousandths.
    pub edges: &'static [i64],
    /// How many coordinators there are.
    pub coordinators: u8,
    /// The rate of their clocks, in thousandths.
    pub coordinator_rate: u64,
    /// The rate of the relay's clocks; 0: there is none, and edges ask the coordinators.
    pub relay_rate: u64,
    /// What happens when no slot is free.
    pub takeover: Takeover,
    /// How often each thing may happen; what is not listed never does.
    pub budget: &'static [(Budget, u8)],
    /// The failover loses the last transaction (an asynchronous standby).
    pub lossy: bool,
    /// Other users were revoked, and answers come in pages of one entry.
    pub paged: Option<Paged>,
    /// Some reads come without a heartbeat before them.
    pub beats_apart: bool,
    /// What must be reachable.
    pub reached: &'static [&'static str],
}

/// When the others were revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paged {
    /// One of them, long before.
    LongAgo,
    /// Two of them, while the user signs out: that transaction has the lower id and is still open.
    WhileOpen,
}

/// A scenario, whole or sabotaged.
pub struct Feed {
    /// What may happen.
    pub scenario: Scenario,
    /// What is broken.
    pub sabotage: Option<Sabotage>,
    memories: Memories,
}

impl Feed {
    /// A model to check.
    #[must_use]
    pub fn new(scenario: Scenario, sabotage: Option<Sabotage>) -> Self {
        Self { scenario, sabotage, memories: Memories::default() }
    }

    pub(crate) const fn lives(&self) -> Lifetimes {
        Lifetimes {
            proof_life_ms: self.scenario.proof_ticks * TICK_MS,
            idle_timeout_ms: 100 * TICK_MS,
            absolute_timeout_ms: 1_000 * TICK_MS,
        }
    }

    pub(crate) fn broken(&self, how: Sabotage) -> bool {
        self.sabotage == Some(how)
    }
}

impl Model for Feed {
    type State = World;
    type Action = Step<Turn>;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Step<Turn>>) {
        step::possible(self, world, actions);
    }

    fn next_state(&self, world: &World, turn: Step<Turn>) -> Option<World> {
        let mut next = world.clone();
        step::step(self, &mut next, turn);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut all = properties::always();
        all.extend(properties::sometimes().into_iter().filter(|known| self.scenario.reached.contains(&known.name)));
        all
    }
}
