//! G6: at most F passwords are evaluated of the attempts reserved in one run; and fewer than F failures lock nobody.
//!
//! A *run* begins with a success that made a session, an unlocking, or the end of a lock. Its end by a lock takes at
//! least the first wait. So of the attempts that were sent and refused as wrong within less than that wait, with nothing
//! in between that can have begun a run, there are at most F. Attempts in flight at a success belong to the run before
//! (docs/guarantees.md, G6); only those that begin and end between two possible beginnings are counted here.

use super::Violation;
use super::user::{Fate, Kind, Tried, User, by_us};
use crate::history::{Action, NEVER, Operation, Outcome, Us, Why};

/// Something that can begin a new run.
struct Reset {
    from_us: Us,
    by_us: Us,
    certain: bool,
}

/// Violations of one user.
#[must_use]
pub fn check(user: &User<'_>) -> Vec<Violation> {
    let resets = resets(user);
    let mut found = Vec::new();
    found.extend(too_many(user, &resets));
    found.extend(locked_for_nothing(user, &resets));
    found
}

fn resets(user: &User<'_>) -> Vec<Reset> {
    let made = user.attempts.iter().filter(|tried| tried.kind != Kind::LogoutEverywhere);
    let made = made.filter_map(|tried| {
        let certain = tried.certain_by_us().is_some();
        Some(Reset { from_us: tried.from_us, by_us: tried.effect_by_us()?, certain })
    });
    let unlocked = user.operations.iter().filter(|op| op.action == Action::Unlock).map(|op| Reset {
        from_us: op.sent_us,
        by_us: by_us(user.history, op),
        certain: op.outcome == Outcome::Done,
    });
    let mut all: Vec<Reset> = made.chain(unlocked).collect();
    all.sort_by_key(|reset| reset.from_us);
    all
}

/// More than F refused as wrong where only F can have been evaluated.
fn too_many(user: &User<'_>, resets: &[Reset]) -> Option<Violation> {
    let limit = user.history.rules.guess_limit as usize;
    // Until when the resets that began so far can have happened.
    let mut until = Vec::with_capacity(resets.len());
    for reset in resets {
        until.push(reset.by_us.max(until.last().copied().unwrap_or(0)));
    }
    let failed: Vec<(&Tried<'_>, Us)> = user
        .attempts
        .iter()
        .filter_map(|tried| if let Fate::Failed { by_us } = tried.fate { Some((tried, by_us)) } else { None })
        .collect();
    for (at, (first, _)) in failed.iter().enumerate() {
        let begun = resets.partition_point(|reset| reset.from_us <= first.from_us);
        if begun.checked_sub(1).is_some_and(|before| until[before] >= first.from_us) {
            continue;
        }
        let next_reset = resets.get(begun).map_or(NEVER, |reset| reset.from_us);
        let end = next_reset.min(first.from_us.saturating_add(user.history.rules.lockout_base_us));
        let within: Vec<&Operation> = failed[at..]
            .iter()
            .take_while(|(tried, _)| tried.from_us < end)
            .filter(|(_, by_us)| *by_us < end)
            .filter_map(|(tried, _)| tried.deliveries.first().copied())
            .take(limit + 1)
            .collect();
        if within.len() > limit {
            let text = format!("more than {limit} wrong passwords were evaluated in one run");
            return Some(Violation::new("G6", text, &within));
        }
    }
    None
}

/// Locked, though fewer than F attempts can have failed since the last success.
fn locked_for_nothing(user: &User<'_>, resets: &[Reset]) -> Option<Violation> {
    let limit = user.history.rules.guess_limit as usize;
    // A right password counts as well while its owner is dead: from the owner's deadline until another one settles it.
    let ends = |tried: &Tried<'_>| match tried.fate {
        Fate::Failed { by_us } => Some(by_us),
        Fate::Open => Some(tried.late_us),
        Fate::Succeeded { by_us } => (by_us - tried.from_us >= user.history.rules.owner_deadline_us).then_some(by_us),
        Fate::NotDone => None,
    };
    let counted: Vec<(Us, Us)> = user.attempts.iter().filter_map(|tried| Some((tried.from_us, ends(tried)?))).collect();
    let begun: Vec<Us> = counted.iter().map(|(from, _)| *from).collect();
    let mut ended: Vec<Us> = counted.iter().map(|(_, by)| *by).collect();
    ended.sort_unstable();
    // Certain resets by their end, with the latest beginning of those up to here.
    let mut certain: Vec<(Us, Us)> =
        resets.iter().filter(|reset| reset.certain).map(|reset| (reset.by_us, reset.from_us)).collect();
    certain.sort_unstable();
    for at in 1..certain.len() {
        certain[at].1 = certain[at].1.max(certain[at - 1].1);
    }
    for op in &user.operations {
        if op.outcome != Outcome::Refused(Why::Locked) {
            continue;
        }
        let before = certain.partition_point(|(by, _)| *by <= op.sent_us);
        let since = before.checked_sub(1).map_or(0, |at| certain[at].1);
        let possible = begun.partition_point(|from| *from <= op.returned_us) - ended.partition_point(|by| *by < since);
        // An attempt that has a place is never told that the account is locked: it gets its own outcome.
        let these = begun.partition_point(|from| *from < op.sent_us);
        let mut these = counted[these..].iter().take_while(|(from, _)| *from == op.sent_us);
        let itself = these.any(|(_, by)| *by > op.returned_us);
        let possible = possible - usize::from(itself);
        if possible < limit {
            let text = format!("locked, though at most {possible} of {limit} attempts can have failed in this run");
            return Some(Violation::new("lock", text, &[op]));
        }
    }
    None
}
