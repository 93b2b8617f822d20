//! What a run records.
//!
//! Times are microseconds since the run began, on one monotone clock of one process. Users, sessions and idempotency
//! keys are numbers; [`History::sessions`] says which session has which number.
//!
//! A history is written as it happens, one [`Line`] of JSON after the other, and read when it is over
//! ([`History::read`]): so a run's memory does not grow with its length.

use std::io::{BufRead, Write};

pub use edgekeep_shared::problem::Reason;
use serde::{Deserialize, Serialize};

/// Microseconds since the run began.
pub type Us = u64;

/// A time after every other.
pub const NEVER: Us = Us::MAX;

/// A session that some answer has named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SessionNo(pub u32);

/// What was typed as the password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Secret {
    /// The n-th password that this user was ever given, or tried to take.
    Chosen(u32),
    /// One that was never anybody's; each guess is another one.
    Wrong(u32),
}

/// What makes two deliveries the same attempt (G4): with the operation, and with a new password if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Attempt {
    /// The idempotency key.
    pub key: u32,
    /// The password.
    pub secret: Secret,
}

/// A new password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum NewSecret {
    /// One that keeps the rules.
    Good(u32),
    /// One that is too short: the operation must be refused, and is no guess.
    TooShort,
}

/// How a protected page asks for a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Route {
    /// Any session, as old as the bound.
    Lease,
    /// Any session, current now (`max_staleness_ms: 0`).
    Strict,
    /// A session with the role, as old as the bound.
    Role,
    /// A session with the role, current now.
    StrictRole,
}

impl Route {
    /// The session must be current during the request.
    #[must_use]
    pub const fn is_strict(self) -> bool {
        matches!(self, Self::Strict | Self::StrictRole)
    }

    /// It asks for the role.
    #[must_use]
    pub const fn needs_role(self) -> bool {
        matches!(self, Self::Role | Self::StrictRole)
    }
}

/// What was asked for.
#[allow(missing_docs, reason = "`session` and `by` are sessions, `attempt` an attempt")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Sign in. A session that the request presents ends with it.
    Login { attempt: Attempt, presents: Option<SessionNo> },
    /// Sign out everywhere, by password.
    LogoutEverywhere { attempt: Attempt },
    /// Change the password, in a session.
    ChangePassword { attempt: Attempt, new: NewSecret, by: SessionNo },
    /// Sign out one session.
    Logout { session: SessionNo },
    /// Open a protected page.
    Check { session: SessionNo, route: Route },
    /// Disable the user (by an administrator, like all that follow).
    Disable,
    /// Let the user sign in again.
    Enable,
    /// End the user's sessions.
    Revoke,
    /// Lift the lock.
    Unlock,
    /// Give the role, or take it away.
    SetRole { role: bool },
}

impl Action {
    /// A name for counting.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Login { .. } => "login",
            Self::LogoutEverywhere { .. } => "logout everywhere",
            Self::ChangePassword { .. } => "change password",
            Self::Logout { .. } => "logout",
            Self::Check { route: Route::Lease, .. } => "check (lease)",
            Self::Check { route: Route::Strict, .. } => "check (strict)",
            Self::Check { route: Route::Role, .. } => "check (role)",
            Self::Check { route: Route::StrictRole, .. } => "check (strict role)",
            Self::Disable => "disable",
            Self::Enable => "enable",
            Self::Revoke => "revoke",
            Self::Unlock => "unlock",
            Self::SetRole { .. } => "set role",
        }
    }

    /// The session whose cookie the request carries.
    #[must_use]
    pub const fn presents(&self) -> Option<SessionNo> {
        match self {
            Self::Login { presents, .. } => *presents,
            Self::ChangePassword { by: session, .. } | Self::Logout { session } | Self::Check { session, .. } => {
                Some(*session)
            }
            _ => None,
        }
    }

    /// The attempt, for operations with a password.
    #[must_use]
    pub const fn attempt(&self) -> Option<Attempt> {
        match self {
            Self::Login { attempt, .. } | Self::LogoutEverywhere { attempt } | Self::ChangePassword { attempt, .. } => {
                Some(*attempt)
            }
            _ => None,
        }
    }
}

/// A refusal that decides something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    /// 401 `invalid_credentials`
    Credentials,
    /// 401 `no_session`
    NoSession(Reason),
    /// 403 `forbidden`
    Forbidden,
    /// 410 `session_ended`: the attempt had succeeded.
    Gone,
    /// 429 `locked`
    Locked,
    /// 400 `invalid_request`
    Invalid,
}

/// What came of it.
#[allow(missing_docs, reason = "said with each")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// A session was made.
    SignedIn { session: SessionNo, expires_at_ms: u64 },
    /// The page was shown. `saw`: whose session the edge said that it is, and its absolute expiry.
    Accepted { saw: Option<(SessionNo, u64)> },
    /// Done.
    Done,
    /// Refused.
    Refused(Why),
    /// Nobody knows: it may have happened, may yet happen, or not. The answer's status, 0 for no answer.
    Unknown { status: u16 },
}

/// One operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Its place in the history.
    pub id: u32,
    /// Whose account.
    pub user: u32,
    /// Which client.
    pub client: u32,
    /// Through which edge; 255: the command line.
    pub edge: u8,
    /// Just before it was sent.
    pub sent_us: Us,
    /// When its answer was there, or was given up.
    pub returned_us: Us,
    /// What was asked for.
    pub action: Action,
    /// What came of it.
    pub outcome: Outcome,
    /// The answer took the cookie away of the session that the request presented ([`Action::presents`]). Histories that were
    /// written before this was do not say so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cleared: bool,
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = |us: Us| us as f64 / 1_000.0;
        write!(
            f,
            "#{} user {} client {} edge {} [{:.3} ms, {:.3} ms] {:?} -> {:?}",
            self.id,
            self.user,
            self.client,
            self.edge,
            ms(self.sent_us),
            ms(self.returned_us),
            self.action,
            self.outcome
        )?;
        f.write_str(if self.cleared { ", and its cookie is cleared" } else { "" })
    }
}

/// A stretch of time in which everything was up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calm {
    /// From when.
    pub from_us: Us,
    /// Until when.
    pub until_us: Us,
}

/// A stretch of time in which an edge could reach nobody but a coordinator of a primary that was deposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Isolated {
    /// Which edge.
    pub edge: u8,
    /// From when.
    pub from_us: Us,
    /// Until when.
    pub until_us: Us,
}

/// A stretch of time whose commits a promotion has lost, or may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// What was committed before this is on the new primary.
    pub from_us: Us,
    /// What is sent from now on is committed on the new primary, if at all.
    pub until_us: Us,
}

impl Lost {
    /// The operation, or its answer, was under way then.
    #[must_use]
    pub const fn meets(&self, op: &Operation) -> bool {
        op.sent_us <= self.until_us && op.returned_us >= self.from_us
    }
}

/// The deployment's numbers, as far as a checker needs them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// `max_staleness_ms`, in microseconds.
    pub bound_us: Us,
    /// F: places of one run of guesses.
    pub guess_limit: u32,
    /// The first wait after a run.
    pub lockout_base_us: Us,
    /// For so long an attempt belongs to the delivery that reserved it.
    pub owner_deadline_us: Us,
    /// Nothing takes effect later than this after it was sent: longer than an edge tries and any fault lasts.
    pub late_us: Us,
    /// Idle timeout of a session.
    pub idle_us: Us,
    /// Absolute timeout of a session.
    pub absolute_us: Us,
}

/// Everything that clients saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// The numbers that were in force.
    pub rules: Rules,
    /// When everything was up, in order.
    pub calm: Vec<Calm>,
    /// When edges were isolated.
    pub isolated: Vec<Isolated>,
    /// What a promotion has lost.
    pub lost: Option<Lost>,
    /// The ids of sessions by their numbers, as they stand in answers.
    pub sessions: Vec<String>,
    /// In any order.
    pub operations: Vec<Operation>,
}

/// A piece of a history, as it is written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// The first line.
    Rules(Rules),
    /// The next session's id.
    Session(String),
    /// Operations have their ids in order.
    Operation(Operation),
    /// See [`History::calm`].
    Calm(Calm),
    /// See [`History::isolated`].
    Isolated(Isolated),
    /// See [`History::lost`].
    Lost(Lost),
}

impl Line {
    /// Writes it down.
    ///
    /// # Errors
    /// If that fails.
    pub fn write(&self, to: &mut impl Write) -> std::io::Result<()> {
        serde_json::to_writer(&mut *to, self)?;
        to.write_all(b"\n")
    }
}

impl History {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        let (calm, isolated, sessions, operations) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { rules, calm, isolated, lost: None, sessions, operations }
    }

    /// Reads what was written down.
    ///
    /// # Errors
    /// If it cannot be read, or a line says nothing.
    pub fn read(from: impl BufRead) -> anyhow::Result<Self> {
        let mut lines = from.lines();
        let first = lines.next().ok_or_else(|| anyhow::anyhow!("an empty history"))??;
        let Line::Rules(rules) = serde_json::from_str(&first)? else { anyhow::bail!("no history: {first}") };
        let mut history = Self::new(rules);
        for line in lines {
            match serde_json::from_str(&line?)? {
                Line::Rules(_) => anyhow::bail!("two histories in one"),
                Line::Session(id) => history.sessions.push(id),
                Line::Operation(operation) => history.operations.push(operation),
                Line::Calm(calm) => history.calm.push(calm),
                Line::Isolated(isolated) => history.isolated.push(isolated),
                Line::Lost(lost) => history.lost = Some(lost),
            }
        }
        Ok(history)
    }

    /// The whole of the operation lies in one calm.
    #[must_use]
    pub fn is_calm(&self, op: &Operation) -> bool {
        let after = self.calm.partition_point(|calm| calm.from_us <= op.sent_us);
        after.checked_sub(1).and_then(|at| self.calm.get(at)).is_some_and(|calm| op.returned_us <= calm.until_us)
    }
}
