//! Plans: a world and the list of what happens in it. Made from a seed, shrunk when it fails, and kept under `seeds/` as
//! JSON. The world does nothing by chance of its own that an op could not explain: without ops its network loses nothing.

use edgekeep_op::Op;
use serde::{Deserialize, Serialize};

use crate::relay::{AS_EDGE, RELAY};

/// An op and its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Timed {
    /// Milliseconds since the start of the run.
    pub at_ms: u64,
    /// What happens.
    #[serde(flatten)]
    pub op: Op,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_none(count: &u8) -> bool {
    *count == 0
}

/// A world.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    /// Latencies and clock rates come from it.
    pub seed: u64,
    /// How many edges.
    pub edges: u32,
    /// How many coordinators.
    pub coordinators: u8,
    /// How many relays stand between edges and coordinators, for the feed.
    #[serde(default, skip_serializing_if = "is_none")]
    pub relays: u8,
    /// How many users, each with two devices.
    pub users: u32,
    /// `max_staleness`, in milliseconds.
    pub bound_ms: u32,
    /// Life of a proof, in milliseconds.
    pub proof_life_ms: u64,
    /// Idle timeout, in milliseconds.
    pub idle_timeout_ms: u64,
    /// Absolute timeout, in milliseconds.
    pub absolute_timeout_ms: u64,
    /// Entries in one page of an answer.
    pub page_entries: usize,
    /// Some route has half of the bound.
    pub short_route: bool,
    /// When the run ends, in milliseconds.
    pub end_ms: u64,
}

impl Setup {
    /// What this op is about is in this world. `coordinator` may be a relay, and `edge` a relay that asks a coordinator
    /// ([`crate::relay`]).
    #[must_use]
    pub fn has(&self, op: &Op) -> bool {
        op.user().is_none_or(|user| user < self.users)
            && op.edge().is_none_or(|edge| edge < self.edges || self.is_of_relay_upstream(op, edge))
            && op.coordinator().is_none_or(|number| number < self.coordinators || self.is_relay(number))
    }

    /// It is about the link from this relay to a coordinator.
    fn is_of_relay_upstream(&self, op: &Op, edge: u32) -> bool {
        let on_link = op.coordinator().is_some_and(|number| number < self.coordinators);
        on_link && edge.checked_sub(AS_EDGE).is_some_and(|relay| relay < u32::from(self.relays))
    }

    fn is_relay(&self, number: u8) -> bool {
        number.checked_sub(RELAY).is_some_and(|relay| relay < self.relays)
    }
}

/// A world and what happens in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// What was found with it, for the reader.
    #[serde(default)]
    pub story: String,
    /// The sabotage that it shows, if it was found in a sabotaged world.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sabotage: Option<crate::Sabotage>,
    /// The world.
    pub setup: Setup,
    /// In order of time.
    pub ops: Vec<Timed>,
}
