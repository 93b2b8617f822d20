//! When sessions were current: G1, G2, G3, G5, and expiry.
//!
//! Of each session three instants are derived, each with the operation that shows it:
//!
//! - `alive_by`: at some instant not later than this it was current (its login's answer, an acceptance).
//! - `alive_from`: at some instant not earlier than this it was current: a strict acceptance was *sent* then, or a lease's
//!   acceptance was sent *bound* later, or its login was sent then.
//! - `ended_by`: it has ended for certain: an operation that ends it has succeeded, or an answer has said so.
//!
//! A session is current in one piece. So `alive_from > ended_by` breaks G2, G3 or G5. From `alive_by` to `alive_from`
//! it was current throughout, so those stretches of a user's sessions must not overlap (G1), and the instant of a session
//! that has no such stretch must fit beside them: linearizability of a register with unique values (Gibbons and Korach).

use std::collections::HashMap;

use super::Violation;
use super::user::{Kind, User};
use crate::history::{Action, NEVER, Operation, Outcome, Reason, SessionNo, Us, Why};

/// An instant and the operation that shows it.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// When.
    pub at_us: Us,
    /// What shows it.
    pub by: &'a Operation,
}

/// One session.
#[derive(Clone, Debug)]
pub struct Life<'a> {
    /// The attempt that made it, by its place.
    pub maker: usize,
    /// Its maker's first delivery was sent then.
    pub born_from_us: Us,
    /// The answer that named it first.
    pub born: Seen<'a>,
    /// As that answer said.
    pub expires_at_ms: u64,
    /// See above.
    pub alive_by: Seen<'a>,
    /// See above.
    pub alive_from: Seen<'a>,
    /// See above.
    pub ended_by: Option<Seen<'a>>,
    /// What was sent with its cookie, as it was sent.
    pub checks: Vec<&'a Operation>,
}

/// All sessions of one user.
pub struct Lives<'a> {
    /// By number.
    pub of: HashMap<SessionNo, Life<'a>>,
}

/// Something that certainly ended every session of the user at an instant between the two.
struct Ending<'a> {
    from_us: Us,
    by: Seen<'a>,
    maker: Option<usize>,
}

impl<'a> Lives<'a> {
    /// Derives the three instants.
    #[must_use]
    pub fn new(user: &User<'a>) -> Self {
        let mut of: HashMap<SessionNo, Life<'a>> = HashMap::new();
        for (maker, tried) in user.attempts.iter().enumerate() {
            for op in &tried.deliveries {
                let Outcome::SignedIn { session, expires_at_ms } = op.outcome else { continue };
                let born = Seen { at_us: op.returned_us, by: op };
                let life = of.entry(session).or_insert_with(|| Life {
                    maker,
                    born_from_us: tried.from_us,
                    born,
                    expires_at_ms,
                    alive_by: born,
                    alive_from: Seen { at_us: tried.from_us, by: op },
                    ended_by: None,
                    checks: Vec::new(),
                });
                if op.returned_us < life.born.at_us {
                    (life.born, life.alive_by) = (born, born);
                }
            }
        }
        let bound = user.history.rules.bound_us;
        for op in &user.operations {
            let Action::Check { session, route } = op.action else { continue };
            let Some(life) = of.get_mut(&session) else { continue };
            life.checks.push(op);
            match op.outcome {
                Outcome::Accepted { .. } => {
                    let at_us = if route.is_strict() { op.sent_us } else { op.sent_us.saturating_sub(bound) };
                    if at_us > life.alive_from.at_us {
                        life.alive_from = Seen { at_us, by: op };
                    }
                }
                // Two answers that say more than "not here": it has ended.
                Outcome::Refused(Why::NoSession(reason)) if !matches!(reason, Reason::None | Reason::Invalid) => {
                    ends(life, Seen { at_us: op.returned_us, by: op });
                }
                _ => {}
            }
        }
        for op in &user.operations {
            if let (Action::Logout { session }, Outcome::Done) = (op.action, op.outcome)
                && let Some(life) = of.get_mut(&session)
            {
                ends(life, Seen { at_us: op.returned_us, by: op });
            }
        }
        for tried in &user.attempts {
            let gone = tried.deliveries.iter().filter(|op| op.outcome == Outcome::Refused(Why::Gone));
            if let (Some(op), Some(life)) =
                (gone.min_by_key(|op| op.returned_us), tried.session.and_then(|session| of.get_mut(&session)))
            {
                ends(life, Seen { at_us: op.returned_us, by: op });
            }
        }
        let mut endings = endings(user);
        endings.sort_by_key(|ending| ending.from_us);
        // The earliest to be done of those that began at or after each one, and the earliest of another maker.
        let mut best: Vec<(usize, Option<usize>)> = vec![(0, None); endings.len()];
        for at in (0..endings.len()).rev() {
            best[at] = match best.get(at + 1) {
                None => (at, None),
                Some((first, second)) => {
                    let mut of_these = [Some(at), Some(*first), *second];
                    of_these.sort_by_key(|each| each.map_or(NEVER, |each| endings[each].by.at_us));
                    let first = of_these[0].unwrap_or(at);
                    (first, of_these[1].filter(|each| endings[*each].by.at_us < NEVER))
                }
            };
        }
        for life in of.values_mut() {
            let after = endings.partition_point(|ending| ending.from_us < life.alive_by.at_us);
            let Some((first, second)) = best.get(after) else { continue };
            let own = |at: usize| endings[at].maker == Some(life.maker);
            if let Some(at) = [Some(*first), *second].into_iter().flatten().find(|at| !own(*at)) {
                ends(life, endings[at].by);
            }
        }
        Self { of }
    }

    /// Violations of one user.
    #[must_use]
    pub fn check(&self, user: &User<'_>) -> Vec<Violation> {
        let mut found = Vec::new();
        for life in self.of.values() {
            found.extend(accepted_after_its_end(life));
            found.extend(expiry(user, life));
        }
        found.extend(self.at_the_same_time());
        found
    }

    /// G1.
    fn at_the_same_time(&self) -> Vec<Violation> {
        let mut throughout: Vec<&Life<'_>> =
            self.of.values().filter(|life| life.alive_by.at_us < life.alive_from.at_us).collect();
        throughout.sort_by_key(|life| life.alive_by.at_us);
        let both = |first: &Life<'_>, second: &Life<'_>| {
            let text = "two sessions of one user were current at the same time";
            Violation::new(
                "G1",
                text,
                &[first.alive_by.by, second.alive_by.by, first.alive_from.by, second.alive_from.by],
            )
        };
        let mut found = Vec::new();
        let mut longest: Option<&Life<'_>> = None;
        for life in &throughout {
            if let Some(before) = longest.filter(|before| before.alive_from.at_us > life.alive_by.at_us) {
                found.push(both(before, life));
            }
            if longest.is_none_or(|before| before.alive_from.at_us < life.alive_from.at_us) {
                longest = Some(life);
            }
        }
        if !found.is_empty() {
            return found;
        }
        // They do not overlap. Every other session was current somewhere from `alive_from` to `alive_by`.
        for life in self.of.values().filter(|life| life.alive_by.at_us >= life.alive_from.at_us) {
            let after = throughout.partition_point(|each| each.alive_by.at_us < life.alive_from.at_us);
            let around = after.checked_sub(1).map(|at| throughout[at]);
            if let Some(around) = around.filter(|around| around.alive_from.at_us > life.alive_by.at_us) {
                found.push(both(around, life));
            }
        }
        found
    }
}

fn ends<'a>(life: &mut Life<'a>, seen: Seen<'a>) {
    if life.ended_by.is_none_or(|before| seen.at_us < before.at_us) {
        life.ended_by = Some(seen);
    }
}

fn endings<'a>(user: &User<'a>) -> Vec<Ending<'a>> {
    let mut all = Vec::new();
    for (maker, tried) in user.attempts.iter().enumerate() {
        let Some(by_us) = tried.certain_by_us() else { continue };
        let by = tried.deliveries.iter().find(|op| super::user::is_success(op) && op.returned_us == by_us);
        let maker = (tried.kind != Kind::LogoutEverywhere).then_some(maker);
        if let Some(by) = by {
            all.push(Ending { from_us: tried.from_us, by: Seen { at_us: by_us, by }, maker });
        }
    }
    let by_administrator =
        |op: &&&Operation| matches!(op.action, Action::Disable | Action::Revoke) && op.outcome == Outcome::Done;
    all.extend(user.operations.iter().filter(by_administrator).map(|op| Ending {
        from_us: op.sent_us,
        by: Seen { at_us: op.returned_us, by: op },
        maker: None,
    }));
    all
}

/// G2, G3, G5: the last acceptance shows it best, and the first one after the end.
fn accepted_after_its_end(life: &Life<'_>) -> Option<Violation> {
    let ended = life.ended_by?;
    let (from, strict) = match life.alive_from.by.action {
        Action::Check { route, .. } => (life.alive_from, route.is_strict()),
        _ => return None,
    };
    (from.at_us > ended.at_us).then_some(())?;
    let late_ms = (from.at_us - ended.at_us) as f64 / 1_000.0;
    let (rule, text) = match (ended.by.action, strict) {
        (Action::Check { .. }, _) => {
            ("G5", format!("accepted {late_ms:.1} ms too late, after an edge had said that it has ended"))
        }
        (_, true) => {
            ("G3", format!("a strict route accepted a session {late_ms:.1} ms after its end was acknowledged"))
        }
        (_, false) => ("G2", format!("accepted {late_ms:.1} ms past the bound after its end was acknowledged")),
    };
    Some(Violation::new(rule, text, &[life.born.by, ended.by, from.by]))
}

/// An expiry that moves, or an acceptance after it.
fn expiry(user: &User<'_>, life: &Life<'_>) -> Option<Violation> {
    let rules = user.history.rules;
    // Clocks may run at rates that differ by one percent.
    let at_most = |us: Us| us + us / 100;
    let absolute = life.born.at_us + at_most(rules.absolute_us) + rules.bound_us;
    let mut used = life.born.at_us;
    for op in &life.checks {
        if let Outcome::Accepted { saw } = op.outcome {
            if let Some((_, expires_at_ms)) = saw
                && expires_at_ms != life.expires_at_ms
            {
                return Some(Violation::new(
                    "expiry",
                    "the absolute expiry of a session has moved",
                    &[life.born.by, op],
                ));
            }
            if op.sent_us > absolute {
                return Some(Violation::new("expiry", "accepted after its absolute expiry", &[life.born.by, op]));
            }
            if op.sent_us > used.saturating_add(at_most(rules.idle_us) + rules.bound_us) {
                return Some(Violation::new("expiry", "accepted after it was idle for too long", &[life.born.by, op]));
            }
        }
        used = match op.outcome {
            // It may be renewed later, by a request that nobody waits for any more.
            Outcome::Unknown { .. } => used.max(op.sent_us.saturating_add(rules.late_us)),
            _ => used.max(op.returned_us),
        };
    }
    None
}
