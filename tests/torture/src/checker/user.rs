//! One user's operations, and what follows from them at once: attempts with their deliveries, password, role, enabled.

use std::collections::HashMap;

use super::register::{Register, Write};
use crate::history::{Action, Attempt, History, NewSecret, Operation, Outcome, Secret, SessionNo, Us, Why};

/// Which operation an attempt is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `POST /auth/login`
    Login,
    /// `POST /auth/logout-everywhere`
    LogoutEverywhere,
    /// `POST /auth/password`
    ChangePassword,
}

/// What is known of an attempt.
#[allow(missing_docs, reason = "said with each")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It has happened, by then.
    Succeeded { by_us: Us },
    /// It has failed, by then.
    Failed { by_us: Us },
    /// It may have happened, or may yet.
    Open,
    /// Refused while everything was up, and never anything else: it has not happened and was not counted.
    NotDone,
}

/// An attempt with all its deliveries.
#[derive(Clone, Debug)]
pub struct Tried<'a> {
    /// Which operation.
    pub kind: Kind,
    /// Key and password.
    pub attempt: Attempt,
    /// The new password.
    pub new: Option<NewSecret>,
    /// Its deliveries, as they were sent.
    pub deliveries: Vec<&'a Operation>,
    /// When the first was sent.
    pub from_us: Us,
    /// If nobody knows when it took effect, it did by then.
    pub late_us: Us,
    /// What is known of it.
    pub fate: Fate,
    /// The session that it made, if an answer has said so.
    pub session: Option<SessionNo>,
}

impl Tried<'_> {
    /// When it had happened at the latest, if it can have happened.
    #[must_use]
    pub fn effect_by_us(&self) -> Option<Us> {
        match (self.fate, self.attempt.secret) {
            (Fate::Succeeded { by_us }, _) => Some(by_us),
            (Fate::Open, Secret::Chosen(_)) => Some(self.late_us),
            (Fate::Open, Secret::Wrong(_)) | (Fate::Failed { .. } | Fate::NotDone, _) => None,
        }
    }

    /// It has happened for certain, by then.
    #[must_use]
    pub fn certain_by_us(&self) -> Option<Us> {
        if let Fate::Succeeded { by_us } = self.fate { Some(by_us) } else { None }
    }
}

/// This answer proves that the attempt has succeeded.
#[must_use]
pub const fn is_success(op: &Operation) -> bool {
    matches!(op.outcome, Outcome::SignedIn { .. } | Outcome::Done | Outcome::Refused(Why::Gone))
}

/// This answer proves that the attempt has failed.
#[must_use]
pub const fn is_failure(op: &Operation) -> bool {
    matches!(op.outcome, Outcome::Refused(Why::Credentials))
}

/// One user.
pub struct User<'a> {
    /// The history that the operations are of.
    pub history: &'a History,
    /// All operations, as they were sent.
    pub operations: Vec<&'a Operation>,
    /// All attempts, by their first delivery.
    pub attempts: Vec<Tried<'a>>,
    /// The password, by its number.
    pub password: Register<u32>,
    /// Whether the user may sign in.
    pub enabled: Register<bool>,
    /// Whether the user has the role.
    pub role: Register<bool>,
}

impl<'a> User<'a> {
    /// Sorts and groups.
    #[must_use]
    pub fn new(history: &'a History, mut operations: Vec<&'a Operation>) -> Self {
        operations.sort_by_key(|op| (op.sent_us, op.id));
        let attempts = attempts(history, &operations);
        let changed = attempts.iter().filter_map(|tried| match (tried.kind, tried.new, tried.effect_by_us()) {
            (Kind::ChangePassword, Some(NewSecret::Good(value)), Some(by_us)) => {
                let certain = tried.certain_by_us().is_some();
                Some(Write { from_us: tried.from_us, by_us, certain, value })
            }
            _ => None,
        });
        let password = Register::new(0, changed.collect());
        let admin = |initial: bool, value: fn(&Action) -> Option<bool>| {
            let writes = operations.iter().filter_map(|op| {
                let certain = op.outcome == Outcome::Done;
                let by_us = by_us(history, op);
                Some(Write { from_us: op.sent_us, by_us, certain, value: value(&op.action)? })
            });
            Register::new(initial, writes.collect())
        };
        let enabled = admin(true, |action| match action {
            Action::Enable => Some(true),
            Action::Disable => Some(false),
            _ => None,
        });
        let role = admin(false, |action| if let Action::SetRole { role } = action { Some(*role) } else { None });
        Self { history, operations, attempts, password, enabled, role }
    }
}

fn attempts<'a>(history: &History, operations: &[&'a Operation]) -> Vec<Tried<'a>> {
    let mut all: Vec<Tried<'a>> = Vec::new();
    let mut places = HashMap::new();
    for op in operations {
        let (kind, attempt, new) = match op.action {
            Action::Login { attempt, .. } => (Kind::Login, attempt, None),
            Action::LogoutEverywhere { attempt } => (Kind::LogoutEverywhere, attempt, None),
            Action::ChangePassword { attempt, new, .. } => (Kind::ChangePassword, attempt, Some(new)),
            _ => continue,
        };
        let place = *places.entry((kind, attempt, new)).or_insert_with(|| {
            let from_us = op.sent_us;
            let (fate, session, deliveries) = (Fate::NotDone, None, vec![]);
            all.push(Tried { kind, attempt, new, deliveries, from_us, late_us: 0, fate, session });
            all.len() - 1
        });
        all[place].deliveries.push(op);
        all[place].late_us = op.sent_us.saturating_add(history.rules.late_us);
    }
    for tried in &mut all {
        let first =
            |is: fn(&Operation) -> bool| tried.deliveries.iter().filter(|op| is(op)).map(|op| op.returned_us).min();
        tried.fate = match (first(is_success), first(is_failure)) {
            (Some(by_us), _) => Fate::Succeeded { by_us },
            (None, Some(by_us)) => Fate::Failed { by_us },
            // Without calm an edge may have sent it before, lost the answer, and been refused at another coordinator.
            (None, None) if tried.deliveries.iter().all(|op| !is_unknown(op) && history.is_calm(op)) => Fate::NotDone,
            (None, None) => Fate::Open,
        };
        tried.session = tried.deliveries.iter().find_map(|op| match op.outcome {
            Outcome::SignedIn { session, .. } => Some(session),
            _ => None,
        });
    }
    all
}

/// When an operation without a password had happened at the latest, if it happened.
#[must_use]
pub fn by_us(history: &History, op: &Operation) -> Us {
    if op.outcome == Outcome::Done { op.returned_us } else { op.sent_us.saturating_add(history.rules.late_us) }
}

const fn is_unknown(op: &Operation) -> bool {
    matches!(op.outcome, Outcome::Unknown { .. })
}
