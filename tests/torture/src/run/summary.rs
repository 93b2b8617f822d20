//! What a run came to, for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::Plan;
use crate::checker::{self, Violation, refusals};
use crate::history::{History, Outcome, Why};

/// How many violations are explained in full.
const SHOWN: usize = 12;

/// The result of a run.
#[derive(Clone, Debug)]
pub struct Summary {
    /// All of it.
    pub text: String,
    /// How many violations there were.
    pub violations: usize,
}

const fn kind(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::SignedIn { .. } => "signed in",
        Outcome::Accepted { .. } => "accepted",
        Outcome::Done => "done",
        Outcome::Refused(Why::Credentials) => "wrong password",
        Outcome::Refused(Why::NoSession(_)) => "no session",
        Outcome::Refused(Why::Forbidden) => "forbidden",
        Outcome::Refused(Why::Gone) => "gone",
        Outcome::Refused(Why::Locked) => "locked",
        Outcome::Refused(Why::Invalid) => "invalid",
        Outcome::Unknown { status: 0 } => "no answer",
        Outcome::Unknown { status: 409 } => "in flight",
        Outcome::Unknown { status: 500..=502 } => "broken (500)",
        Outcome::Unknown { .. } => "cannot know",
    }
}

impl Summary {
    /// Counts.
    #[must_use]
    pub fn of(
        history: &History,
        violations: &[Violation],
        faults: BTreeMap<String, usize>,
        storms: usize,
        plan: &Plan,
        took: Duration,
    ) -> Self {
        let mut text = String::new();
        let mut operations: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
        for op in &history.operations {
            *operations.entry(op.action.name()).or_default().entry(kind(&op.outcome)).or_default() += 1;
        }
        let calm_s = history.calm.iter().map(|calm| calm.until_us - calm.from_us).sum::<u64>() as f64 / 1e6;
        let _ = writeln!(
            text,
            "seed {}, {:.0} s ({calm_s:.0} s of calm), bound {} ms, {} coordinators, {} edges, {} users, {} sessions",
            plan.seed,
            took.as_secs_f64(),
            plan.max_staleness_ms,
            plan.coordinators,
            plan.edges,
            plan.users,
            history.sessions.len()
        );
        let _ = writeln!(text, "\noperations: {}", history.operations.len());
        for (name, outcomes) in &operations {
            let total: usize = outcomes.values().sum();
            let each: Vec<String> = outcomes.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
            let _ = writeln!(text, "  {name:<20} {total:>8}   {}", each.join(", "));
        }
        let open: usize = checker::users(history).values().map(refusals::open_attempts).sum();
        let _ = writeln!(text, "  attempts that nobody knows the end of: {open}");
        let _ = writeln!(text, "\nfaults: {} in {storms} storms", faults.values().sum::<usize>());
        for (name, count) in &faults {
            let _ = writeln!(text, "  {name:<50} {count:>6}");
        }
        let _ = writeln!(text, "\nviolations: {}", violations.len());
        let mut by_rule: BTreeMap<&str, usize> = BTreeMap::new();
        for violation in violations {
            *by_rule.entry(violation.rule).or_default() += 1;
        }
        for (rule, count) in by_rule {
            let _ = writeln!(text, "  {rule:<10} {count}");
        }
        for violation in violations.iter().take(SHOWN) {
            let _ = writeln!(text, "{}", violation.explained(history));
        }
        Self { text, violations: violations.len() }
    }
}
