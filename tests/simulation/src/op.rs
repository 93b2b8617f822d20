//! What can be done to a simulated world. A plan is a world and a list of these: made from a seed, shrunk when it fails,
//! and kept under `seeds/` as JSON. The world does nothing by chance of its own that an op could not explain: without ops
//! its network loses nothing.
//!
//! To add one: a variant, a line in `generate`, its effect in `World::operate`.

use serde::{Deserialize, Serialize};

use crate::relay::{AS_EDGE, RELAY};

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Route {
    /// Any session, the deployment's bound.
    Session,
    /// Any session, half of the bound.
    Short,
    /// The role `admin`.
    Admin,
    /// Strict.
    Strict,
}

/// One thing that happens. `coordinator` may be a relay, and `edge` a relay that asks a coordinator ([`crate::relay`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
#[allow(missing_docs)] // the fields are what they are called: `user`, `edge` and so on are numbers from 0
pub enum Op {
    /// A device signs in; a session that it still has is presented and ends.
    Login { user: u32, device: u8, edge: u32 },
    /// A device signs out.
    Logout { user: u32, device: u8, edge: u32 },
    /// All sessions of the user end.
    LogoutEverywhere { user: u32, edge: u32 },
    /// An administrator disables the user, or enables it again.
    Disable { user: u32, disabled: bool },
    /// An administrator gives or takes the role.
    Role { user: u32, admin: bool },
    /// A device asks for something with the cookies that it has.
    Request { user: u32, device: u8, edge: u32, route: Route },
    /// Somebody else presents a cookie that this user once got; 0 is the newest.
    Replay { user: u32, back: u8, edge: u32, route: Route },
    /// The next question on this link does not arrive.
    DropRequest { edge: u32, coordinator: u8 },
    /// The next question on this link arrives, its answer does not.
    DropResponse { edge: u32, coordinator: u8 },
    /// The next question on this link takes so long.
    DelayRequest { edge: u32, coordinator: u8, ms: u32 },
    /// The next answer on this link takes so long.
    DelayResponse { edge: u32, coordinator: u8, ms: u32 },
    /// The next question on this link arrives twice, the second time so much later.
    Duplicate { edge: u32, coordinator: u8, ms: u32 },
    /// Nothing passes on this link for so long.
    Cut { edge: u32, coordinator: u8, ms: u32 },
    /// The isolate is thrown away with everything that it waits for.
    Evict { edge: u32 },
    /// The isolate's view is reset; what it waits for goes on.
    ResetView { edge: u32 },
    /// The edge's clock is stepped back.
    StepBack { edge: u32, ms: u32 },
    /// A coordinator is killed and starts again.
    Restart { coordinator: u8 },
    /// A coordinator stands still.
    Pause { coordinator: u8, ms: u32 },
    /// The next transaction takes so long between its locks and its commit.
    HoldCommit { ms: u32 },
    /// The next transaction is rolled back at its commit.
    Abort,
    /// Postgres crashes and restarts: open transactions are gone, and their ids are given out again.
    CrashDatabase,
    /// A synchronous standby is promoted. This coordinator stays with the old primary for so long.
    Failover { stays: u8, ms: u32 },
}

impl Op {
    /// Until when after it the world may be expected to be disturbed, in milliseconds; `None`: it disturbs nothing.
    #[must_use]
    pub const fn disturbs_ms(&self) -> Option<u32> {
        match self {
            Self::Login { .. }
            | Self::Logout { .. }
            | Self::LogoutEverywhere { .. }
            | Self::Disable { .. }
            | Self::Role { .. }
            | Self::Request { .. }
            | Self::Replay { .. } => None,
            Self::DelayRequest { ms, .. }
            | Self::DelayResponse { ms, .. }
            | Self::Duplicate { ms, .. }
            | Self::Cut { ms, .. }
            | Self::Pause { ms, .. }
            | Self::HoldCommit { ms }
            | Self::Failover { ms, .. } => Some(*ms),
            // A fate waits for the next message of its link, however late that comes: the network says when it is used up.
            _ => Some(0),
        }
    }
}

impl Op {
    /// The user that it is about.
    #[must_use]
    pub const fn user(&self) -> Option<u32> {
        match self {
            Self::Login { user, .. }
            | Self::Logout { user, .. }
            | Self::LogoutEverywhere { user, .. }
            | Self::Disable { user, .. }
            | Self::Role { user, .. }
            | Self::Request { user, .. }
            | Self::Replay { user, .. } => Some(*user),
            _ => None,
        }
    }

    /// The edge that it is about.
    #[must_use]
    pub const fn edge(&self) -> Option<u32> {
        match self {
            Self::Login { edge, .. }
            | Self::Logout { edge, .. }
            | Self::LogoutEverywhere { edge, .. }
            | Self::Request { edge, .. }
            | Self::Replay { edge, .. }
            | Self::DropRequest { edge, .. }
            | Self::DropResponse { edge, .. }
            | Self::DelayRequest { edge, .. }
            | Self::DelayResponse { edge, .. }
            | Self::Duplicate { edge, .. }
            | Self::Cut { edge, .. }
            | Self::Evict { edge }
            | Self::ResetView { edge }
            | Self::StepBack { edge, .. } => Some(*edge),
            _ => None,
        }
    }

    /// The coordinator that it is about.
    #[must_use]
    pub const fn coordinator(&self) -> Option<u8> {
        match self {
            Self::DropRequest { coordinator, .. }
            | Self::DropResponse { coordinator, .. }
            | Self::DelayRequest { coordinator, .. }
            | Self::DelayResponse { coordinator, .. }
            | Self::Duplicate { coordinator, .. }
            | Self::Cut { coordinator, .. }
            | Self::Restart { coordinator }
            | Self::Pause { coordinator, .. }
            | Self::Failover { stays: coordinator, .. } => Some(*coordinator),
            _ => None,
        }
    }

    /// It is about the link from this relay to a coordinator.
    fn is_of_relay_upstream(&self, edge: u32, setup: &Setup) -> bool {
        let on_link = self.edge().is_some() && self.coordinator().is_some_and(|number| number < setup.coordinators);
        on_link && edge.checked_sub(AS_EDGE).is_some_and(|relay| relay < u32::from(setup.relays))
    }

    /// What it is about is in this world.
    #[must_use]
    pub fn fits(&self, setup: &Setup) -> bool {
        self.user().is_none_or(|user| user < setup.users)
            && self.edge().is_none_or(|edge| edge < setup.edges || self.is_of_relay_upstream(edge, setup))
            && self
                .coordinator()
                .is_none_or(|coordinator| coordinator < setup.coordinators || is_relay(coordinator, setup))
    }
}

fn is_relay(number: u8, setup: &Setup) -> bool {
    number.checked_sub(RELAY).is_some_and(|relay| relay < setup.relays)
}

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
