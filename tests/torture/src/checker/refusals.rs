//! G7 and G8: nobody is signed out by mistake. A session is refused as ended only if something can have ended it, and for
//! the reason that was said; "cannot know" is said only while something was broken, and leaves the session its cookie. Roles:
//! as old as the bound.

use std::collections::HashMap;

use super::Violation;
use super::lives::{Life, Lives};
use super::user::{Fate, Kind, User, by_us};
use crate::history::{Action, Operation, Outcome, Reason, SessionNo, Us, Why};

/// Things that can have happened, each between two instants; with the attempt that each is of.
#[derive(Default)]
struct Possible {
    /// As they began; with the last end of those up to here, and the last end among those of another attempt.
    all: Vec<(Us, (Us, Option<usize>), Us)>,
}

impl Possible {
    fn new(mut events: Vec<(Us, Us, Option<usize>)>) -> Self {
        events.sort_unstable();
        let mut all: Vec<(Us, (Us, Option<usize>), Us)> = Vec::with_capacity(events.len());
        for (from, by, attempt) in events {
            let (best, second) = match all.last() {
                None => ((by, attempt), 0),
                Some((_, best, second)) if by > best.0 => {
                    ((by, attempt), if best.1 == attempt { *second } else { best.0.max(*second) })
                }
                Some((_, best, second)) => (*best, if best.1 == attempt { *second } else { by.max(*second) }),
            };
            all.push((from, best, second));
        }
        Self { all }
    }

    /// One of them, of another attempt than this, began by `until_us` and was perhaps not over at `from_us`.
    fn between(&self, from_us: Us, until_us: Us, not: usize) -> bool {
        let begun = self.all.partition_point(|(from, ..)| *from <= until_us);
        let Some((_, best, second)) = begun.checked_sub(1).map(|at| self.all[at]) else { return false };
        let by = if best.1 == Some(not) { second } else { best.0 };
        by >= from_us && by > 0
    }
}

/// What can have ended sessions.
struct Endings {
    everywhere: Possible,
    logins: Possible,
    changes: Possible,
    disabled: Possible,
    revoked: Possible,
    /// By name: logouts, and logins that presented it.
    of_session: HashMap<SessionNo, Possible>,
}

impl Endings {
    fn new(user: &User<'_>) -> Self {
        let attempts = |kind: Kind| {
            let of_kind = user.attempts.iter().enumerate().filter(move |(_, tried)| tried.kind == kind);
            Possible::new(
                of_kind.filter_map(|(at, tried)| Some((tried.from_us, tried.effect_by_us()?, Some(at)))).collect(),
            )
        };
        let by_administrator = |action: Action| {
            let these = user.operations.iter().filter(|op| op.action == action);
            Possible::new(these.map(|op| (op.sent_us, by_us(user.history, op), None)).collect())
        };
        let mut of_session: HashMap<SessionNo, Vec<(Us, Us, Option<usize>)>> = HashMap::new();
        for op in &user.operations {
            if let Action::Logout { session } = op.action {
                of_session.entry(session).or_default().push((op.sent_us, by_us(user.history, op), None));
            }
        }
        for (at, tried) in user.attempts.iter().enumerate() {
            let Some(by_us) = tried.effect_by_us() else { continue };
            for op in &tried.deliveries {
                if let Action::Login { presents: Some(session), .. } = op.action {
                    of_session.entry(session).or_default().push((tried.from_us, by_us, Some(at)));
                }
            }
        }
        Self {
            everywhere: attempts(Kind::LogoutEverywhere),
            logins: attempts(Kind::Login),
            changes: attempts(Kind::ChangePassword),
            disabled: by_administrator(Action::Disable),
            revoked: by_administrator(Action::Revoke),
            of_session: of_session.into_iter().map(|(session, events)| (session, Possible::new(events))).collect(),
        }
    }

    /// Something can have ended this session by then, for this reason.
    fn can_have_ended(&self, user: &User<'_>, session: SessionNo, life: &Life<'_>, by_us: Us, reason: Reason) -> bool {
        let (from, own) = (life.born_from_us, life.maker);
        match reason {
            Reason::None | Reason::Invalid => false,
            Reason::SignedOut => {
                self.everywhere.between(from, by_us, own)
                    || self.of_session.get(&session).is_some_and(|these| these.between(from, by_us, own))
            }
            Reason::SignedInElsewhere => self.logins.between(from, by_us, own),
            Reason::PasswordChanged => self.changes.between(from, by_us, own),
            Reason::Disabled => self.disabled.between(from, by_us, own),
            Reason::Revoked => self.revoked.between(from, by_us, own),
            Reason::Expired => {
                let life_us = user.history.rules.idle_us.min(user.history.rules.absolute_us);
                by_us >= from + life_us - life_us / 100
            }
        }
    }
}

/// Violations of one user.
#[must_use]
pub fn check(user: &User<'_>, lives: &Lives<'_>) -> Vec<Violation> {
    let endings = Endings::new(user);
    let mut found = Vec::new();
    for op in &user.operations {
        found.extend(while_calm(user, op));
        found.extend(while_isolated(user, op));
        found.extend(cookie_dropped(op));
        let Action::Check { session, route } = op.action else { continue };
        let Some(life) = lives.of.get(&session) else {
            found.push(Violation::new("G5", "a session that no answer has named", &[op]));
            continue;
        };
        let bound = if route.is_strict() { 0 } else { user.history.rules.bound_us };
        let from = op.sent_us.saturating_sub(bound);
        match op.outcome {
            Outcome::Accepted { saw } => {
                if saw.is_some_and(|(seen, _)| seen != session) {
                    let text = "the edge took the session for another one";
                    found.push(Violation::new("G7", text, &[life.born.by, op]));
                }
                if route.needs_role() && !user.role.possible(true, from, op.returned_us) {
                    let text = "accepted on a role route without the role";
                    found.push(Violation::new("role", text, &[op]));
                }
            }
            Outcome::Refused(Why::NoSession(reason))
                if !endings.can_have_ended(user, session, life, op.returned_us, reason) =>
            {
                let text = format!("refused a session as {reason:?}, which nothing can have brought about");
                let last = life.checks.iter().rev().find(|before| {
                    before.returned_us < op.sent_us && matches!(before.outcome, Outcome::Accepted { .. })
                });
                // Nothing accepted it since its login: that is what G7 promises.
                let rule = if last.is_some() { "G8" } else { "G7" };
                let shown: Vec<&Operation> =
                    [Some(life.born.by), last.copied(), Some(*op)].into_iter().flatten().collect();
                found.push(Violation::new(rule, text, &shown));
            }
            Outcome::Refused(Why::Forbidden)
                if !route.needs_role() || !user.role.possible(false, from, op.returned_us) =>
            {
                found.push(Violation::new("role", "refused for a role that was certainly held", &[op]));
            }
            _ => {}
        }
    }
    found
}

/// While everything was up, everything is answered.
fn while_calm(user: &User<'_>, op: &Operation) -> Option<Violation> {
    let Outcome::Unknown { status } = op.outcome else { return None };
    // 409: others of this account are in flight; that is an answer.
    (status != 409 && user.history.is_calm(op)).then_some(())?;
    Some(Violation::new("G8", "not answered though everything was up", &[op]))
}

/// An answer that cannot know, or that lets the session pass, leaves its cookie where it is.
fn cookie_dropped(op: &Operation) -> Option<Violation> {
    let what = match op.outcome {
        Outcome::Accepted { .. } => "accepted the session",
        Outcome::Unknown { .. } => "could not know",
        _ => return None,
    };
    op.cleared.then(|| Violation::new("G8", format!("{what}, and cleared its cookie"), &[op]))
}

/// An edge that reaches only a deposed primary's coordinator falls closed: for strict routes at once, within the bound for
/// all.
fn while_isolated(user: &User<'_>, op: &Operation) -> Option<Violation> {
    let (Action::Check { route, .. }, Outcome::Accepted { .. }) = (op.action, op.outcome) else { return None };
    let bound = if route.is_strict() { 0 } else { user.history.rules.bound_us };
    let within = user.history.isolated.iter().any(|isolated| {
        isolated.edge == op.edge && (isolated.from_us + bound..isolated.until_us).contains(&op.sent_us)
    });
    within.then(|| Violation::new("G8", "accepted on the word of a primary that was deposed", &[op]))
}

/// Attempts that nobody knows the end of, for figures.
#[must_use]
pub fn open_attempts(user: &User<'_>) -> usize {
    user.attempts.iter().filter(|tried| tried.fate == Fate::Open).count()
}
