//! A failing plan becomes a small one: ops are taken away for as long as the same guarantee breaks.

use crate::{Plan, run};

/// The same violation with fewer ops (delta debugging: ever smaller pieces are left out).
#[must_use]
pub fn shrink(plan: &Plan) -> Plan {
    let Some(found) = run(plan).0 else { return plan.clone() };
    let mut best = plan.clone();
    best.ops.retain(|timed| timed.at_ms <= found.at_ms);
    best.setup.end_ms = found.at_ms + 1;
    if !fails(&best, found.guarantee) {
        best = plan.clone();
    }
    let mut piece = best.ops.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        let mut smaller = false;
        while at < best.ops.len() {
            let mut candidate = best.clone();
            candidate.ops.drain(at..(at + piece).min(best.ops.len()));
            if fails(&candidate, found.guarantee) {
                best = candidate;
                smaller = true;
            } else {
                at += piece;
            }
        }
        if piece == 1 && !smaller {
            return best;
        }
        piece = if smaller && piece == 1 { 1 } else { (piece / 2).max(1) };
    }
}

fn fails(plan: &Plan, guarantee: &str) -> bool {
    run(plan).0.is_some_and(|found| found.guarantee == guarantee)
}
