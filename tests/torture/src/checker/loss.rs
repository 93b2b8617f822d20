//! What the promotion of an asynchronous standby costs, and that it costs nothing else.
//!
//! Such a promotion loses what was committed in a stretch of time ([`Lost`]) though it was acknowledged, and the checker finds
//! that guarantees are broken. All of it must be to the account of that stretch: the same history must be without violation
//! when
//!
//! - answers to operations (not to pages) that were under way in that stretch are taken for unknown: they may have happened
//!   or not, and their answers prove nothing;
//! - pages are left out, from that stretch on, of sessions that lived in it and that something in it can have made or ended:
//!   some edges have seen that, others have not, and the database has forgotten it.
//!
//! Everything else is judged as always: what was acknowledged before is there, what ended before stays ended, what happens
//! after the promotion keeps every rule.

use std::collections::HashSet;

use super::lives::Lives;
use super::user::User;
use crate::history::{Action, History, Lost, NEVER, Operation, Outcome, Secret, SessionNo, Us};

/// An outcome that nobody knows, and that calm does not ask about.
const NOBODY_KNOWS: Outcome = Outcome::Unknown { status: 409 };

/// A history without what was lost.
#[derive(Clone, Debug)]
pub struct Forgiven {
    /// It.
    pub history: History,
    /// So many operations were acknowledged (or refused) and are taken for unknown.
    pub operations: usize,
    /// So many sessions lived in that stretch and were touched.
    pub sessions: usize,
    /// So many of their pages are left out.
    pub pages: usize,
}

/// The history without what the promotion has lost, if there was one.
#[must_use]
pub fn forgiven(history: &History) -> Option<Forgiven> {
    let lost = history.lost?;
    let touched: HashSet<SessionNo> = super::users(history).values().flat_map(|user| touched(user, lost)).collect();
    let (mut operations, mut pages) = (0, 0);
    let kept = history.operations.iter().filter_map(|op| {
        let mut op = *op;
        match op.action {
            Action::Check { session, .. } if touched.contains(&session) && op.returned_us >= lost.from_us => {
                pages += 1;
                return None;
            }
            Action::Check { .. } => {}
            _ if lost.meets(&op) && !matches!(op.outcome, Outcome::Unknown { .. }) => {
                operations += 1;
                // What the answer did to the cookie goes with what it said.
                (op.outcome, op.cleared) = (NOBODY_KNOWS, false);
            }
            _ => {}
        }
        Some(op)
    });
    let operations_kept = kept.collect();
    let history = History {
        operations: operations_kept,
        sessions: history.sessions.clone(),
        calm: history.calm.clone(),
        isolated: history.isolated.clone(),
        ..*history
    };
    Some(Forgiven { history, operations, sessions: touched.len(), pages })
}

/// Sessions of this user that something in that stretch can have made or ended.
fn touched(user: &User<'_>, lost: Lost) -> Vec<SessionNo> {
    let in_time = |op: &&&Operation| op.sent_us <= lost.until_us && takes_until_us(user.history, op) >= lost.from_us;
    let (mut all_of_them, mut signed_out) = (false, HashSet::new());
    for op in user.operations.iter().filter(in_time) {
        match op.action {
            Action::Logout { session } => drop(signed_out.insert(session)),
            Action::Disable | Action::Revoke => all_of_them = true,
            _ => all_of_them |= matches!(op.action.attempt().map(|it| it.secret), Some(Secret::Chosen(_))),
        }
    }
    let lives = Lives::new(user);
    let lived = lives.of.iter().filter(|(_, life)| {
        life.born_from_us <= lost.until_us && life.ended_by.map_or(NEVER, |ended| ended.at_us) >= lost.from_us
    });
    lived.map(|(number, _)| *number).filter(|number| all_of_them || signed_out.contains(number)).collect()
}

/// Its effect, if it has one, has come by then.
fn takes_until_us(history: &History, op: &Operation) -> Us {
    match op.outcome {
        Outcome::Unknown { .. } => op.sent_us.saturating_add(history.rules.late_us),
        _ => op.returned_us,
    }
}
