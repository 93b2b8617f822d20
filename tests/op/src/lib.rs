//! What can happen to a world of Edgekeep: what people and administrators do, stolen cookies, and faults. One enum for the
//! model (which explores it), the simulation (which plays it) and saved reproductions (which are it, as JSON).
//!
//! An op is what happens *to* a world, never the order in which its parts go on: that is the queue of the simulation, and
//! the model's own steps. A lost question and a lost answer are two ops: after the first nothing has happened at the
//! other end, after the second everything has.
//!
//! To add one: a variant here, its effect in the simulation's `World::operate`, and, where small worlds can show something,
//! its condition and effect in the model. Names and fields are in saved files: add, never change.

use serde::{Deserialize, Serialize};

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
    /// Any session whose password was checked lately.
    Recent,
}

/// One thing that happens.
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
    /// A device gets a new password for the user: all sessions end, and the device has a new one.
    ChangePassword { user: u32, device: u8, edge: u32 },
    /// Somebody tries a wrong password.
    Guess { user: u32, edge: u32 },
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
    /// The edge's clock is stepped forward.
    StepForward { edge: u32, ms: u32 },
    /// A coordinator is killed and starts again.
    Restart { coordinator: u8 },
    /// A coordinator stands still.
    Pause { coordinator: u8, ms: u32 },
    /// The next transaction takes so long between its locks and its commit.
    HoldCommit { ms: u32 },
    /// The next transaction to commit is rolled back instead.
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
            | Self::ChangePassword { .. }
            | Self::Guess { .. }
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
            | Self::ChangePassword { user, .. }
            | Self::Guess { user, .. }
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
            | Self::ChangePassword { edge, .. }
            | Self::Guess { edge, .. }
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
            | Self::StepBack { edge, .. }
            | Self::StepForward { edge, .. } => Some(*edge),
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
}
