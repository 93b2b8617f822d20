//! What a run came to, for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::Plan;
use super::faults::Kind;
use super::nemesis::{Nemesis, Spent};
use crate::checker::{self, Verdict, Violation, refusals};
use crate::history::{Action, History, Outcome, Why};

/// How many violations are explained in full.
const SHOWN: usize = 12;

/// What was done to the parts.
#[derive(Clone, Debug)]
pub struct Done {
    faults: BTreeMap<Kind, usize>,
    storms: usize,
    spent: Spent,
    remarks: Vec<String>,
}

impl Done {
    /// By this one.
    #[must_use]
    pub fn of(nemesis: &Nemesis<'_>) -> Self {
        Self {
            faults: nemesis.counts.clone(),
            storms: nemesis.storms,
            spent: nemesis.spent,
            remarks: nemesis.remarks.clone(),
        }
    }
}

/// The result of a run.
#[derive(Clone, Debug)]
pub struct Summary {
    /// All of it.
    pub text: String,
    /// What the system has broken.
    pub violations: Vec<Violation>,
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
    pub fn of(history: &History, verdict: &Verdict, done: &Done, plan: &Plan, took: Duration) -> Self {
        let mut text = String::new();
        let _ = writeln!(
            text,
            "seed {}, {:.0} s, bound {} ms, {} coordinators, {} edges, {} users, {} sessions",
            plan.seed,
            took.as_secs_f64(),
            plan.max_staleness_ms,
            plan.coordinators,
            plan.edges,
            plan.users,
            history.sessions.len()
        );
        let Spent { storm, healing, calm } = done.spent;
        let [storm, healing, calm] = [storm, healing, calm].map(|time| time.as_secs_f64());
        let _ = writeln!(text, "{storm:.0} s of storms, {healing:.0} s until all had recovered, {calm:.0} s of calm");
        operations(&mut text, history);
        let _ = writeln!(text, "\nfaults: {} in {} storms", done.faults.values().sum::<usize>(), done.storms);
        for (kind, count) in &done.faults {
            let _ = writeln!(text, "  {kind:<50} {count:>6}");
        }
        if !done.remarks.is_empty() {
            let _ = writeln!(text, "\nfailover ({:?})", plan.failover);
            for remark in &done.remarks {
                let _ = writeln!(text, "  {remark}");
            }
        }
        if let Some(forgiven) = &verdict.forgiven {
            let _ = writeln!(
                text,
                "  taken for unknown: answers to {} operations; left out: {} pages of the {} sessions that lived then",
                forgiven.operations, forgiven.pages, forgiven.sessions
            );
            counted(&mut text, "broken by what was lost", &verdict.by_loss);
            // One of each.
            let mut shown: BTreeMap<&str, &Violation> = BTreeMap::new();
            for violation in &verdict.by_loss {
                shown.entry(violation.rule).or_insert(violation);
            }
            explained(&mut text, shown.into_values(), history);
        }
        counted(&mut text, "violations", &verdict.violations);
        explained(&mut text, verdict.violations.iter().take(SHOWN), history);
        Self { text, violations: verdict.violations.clone() }
    }
}

fn operations(text: &mut String, history: &History) {
    let mut by_name: BTreeMap<&str, (usize, BTreeMap<&str, usize>)> = BTreeMap::new();
    let (mut calm, mut calm_pages) = (0, 0);
    for op in &history.operations {
        let (in_calm, outcomes) = by_name.entry(op.action.name()).or_default();
        *outcomes.entry(kind(&op.outcome)).or_default() += 1;
        if history.is_calm(op) {
            *in_calm += 1;
            calm += 1;
            calm_pages += usize::from(matches!(op.action, Action::Check { .. }));
        }
    }
    let all = history.operations.len();
    let _ = writeln!(text, "\noperations: {all}, of them in calm: {calm} ({calm_pages} pages)");
    for (name, (in_calm, outcomes)) in &by_name {
        let total: usize = outcomes.values().sum();
        let each: Vec<String> = outcomes.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        let _ = writeln!(text, "  {name:<20} {total:>8} {in_calm:>8} in calm   {}", each.join(", "));
    }
    let open: usize = checker::users(history).values().map(refusals::open_attempts).sum();
    let _ = writeln!(text, "  attempts that nobody knows the end of: {open}");
}

fn counted(text: &mut String, what: &str, violations: &[Violation]) {
    let _ = writeln!(text, "\n{what}: {}", violations.len());
    let mut by_rule: BTreeMap<&str, usize> = BTreeMap::new();
    for violation in violations {
        *by_rule.entry(violation.rule).or_default() += 1;
    }
    for (rule, count) in by_rule {
        let _ = writeln!(text, "  {rule:<10} {count}");
    }
}

fn explained<'a>(text: &mut String, violations: impl IntoIterator<Item = &'a Violation>, history: &History) {
    for violation in violations {
        let _ = writeln!(text, "{}", violation.explained(history));
    }
}
