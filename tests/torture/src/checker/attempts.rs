//! G4: one attempt, one outcome, one session. And a right password is right, a wrong one wrong.

use std::collections::HashMap;

use super::Violation;
use super::user::{Fate, Kind, Tried, User, is_failure, is_success};
use crate::history::{NewSecret, Outcome, Secret, SessionNo, Why};

/// Violations of one user.
#[must_use]
pub fn check(user: &User<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut makers: HashMap<SessionNo, &Tried<'_>> = HashMap::new();
    for tried in &user.attempts {
        found.extend(one_outcome(tried));
        found.extend(password(user, tried));
        for op in &tried.deliveries {
            if let Outcome::SignedIn { session, .. } = op.outcome
                && let Some(other) = makers.insert(session, tried)
                && other.attempt != tried.attempt
            {
                let text = "two attempts got the same session";
                found.push(Violation::new("G4", text, &[other.deliveries[0], op]));
            }
        }
    }
    found
}

fn one_outcome(tried: &Tried<'_>) -> Option<Violation> {
    let success = tried.deliveries.iter().find(|op| is_success(op));
    let failure = tried.deliveries.iter().find(|op| is_failure(op));
    if let (Some(success), Some(failure)) = (success, failure) {
        return Some(Violation::new("G4", "deliveries of one attempt had different outcomes", &[success, failure]));
    }
    let mut first = None;
    for op in &tried.deliveries {
        let Outcome::SignedIn { session, .. } = op.outcome else { continue };
        match first {
            None => first = Some((session, op)),
            Some((other, before)) if other != session => {
                return Some(Violation::new("G4", "one attempt made two sessions", &[before, op]));
            }
            Some(_) => {}
        }
    }
    // A success that is over stays over.
    let gone = tried.deliveries.iter().filter(|op| op.outcome == Outcome::Refused(Why::Gone));
    let gone = gone.min_by_key(|op| op.returned_us)?;
    let again = tried
        .deliveries
        .iter()
        .find(|op| matches!(op.outcome, Outcome::SignedIn { .. }) && op.sent_us > gone.returned_us)?;
    Some(Violation::new("G5", "a login whose session was over made it valid again", &[gone, again]))
}

fn password(user: &User<'_>, tried: &Tried<'_>) -> Option<Violation> {
    let shown = tried.deliveries.iter().find(|op| is_success(op) || is_failure(op));
    match (tried.fate, tried.attempt.secret) {
        (Fate::Succeeded { .. }, Secret::Wrong(_)) => {
            Some(Violation::new("password", "a wrong password was right", &[shown?]))
        }
        (Fate::Succeeded { by_us }, Secret::Chosen(n)) => {
            if tried.new == Some(NewSecret::TooShort) {
                return Some(Violation::new("password", "a new password that breaks the rules was taken", &[shown?]));
            }
            if !user.password.possible(n, tried.from_us, by_us) {
                let text = "a password was right that cannot have been the user's at the time";
                return Some(Violation::new("password", text, &[shown?]));
            }
            if !user.enabled.possible(true, tried.from_us, by_us) {
                return Some(Violation::new("password", "a disabled user signed in", &[shown?]));
            }
            None
        }
        (Fate::Failed { by_us }, Secret::Chosen(n)) => {
            let right = user.password.certain(n, tried.from_us, by_us);
            let enabled = user.enabled.certain(true, tried.from_us, by_us);
            (right && enabled).then_some(())?;
            Some(Violation::new("password", "the right password of an enabled user was refused", &[shown?]))
        }
        (Fate::Open | Fate::NotDone, _) if tried.kind == Kind::ChangePassword => None,
        _ => None,
    }
}
