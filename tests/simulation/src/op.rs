//! Plans: a world and the list of what happens in it. Made from a seed, shrunk when it fails, and kept under `seeds/` as
//! JSON. The world does nothing by chance of its own that an op could not explain: without ops its network loses nothing.

use edgekeep_op::Op;
use serde::{Deserialize, Serialize};

/// An op and its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Timed {
    /// Milliseconds since the start of the run.
    pub at_ms: u64,
    /// What happens.
    #[serde(flatten)]
    pub op: Op,
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
    /// What this op is about is in this world.
    #[must_use]
    pub fn has(&self, op: &Op) -> bool {
        op.fits(self.users, self.edges, self.coordinators)
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
