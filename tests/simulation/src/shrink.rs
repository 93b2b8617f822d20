//! A failing plan becomes a small one: ops are taken away for as long as the same guarantee breaks. In a sabotaged world that
//! is one which the sabotage breaks ([`crate::Sabotage::breaks`]).
//!
//! Without an op every later latency is another one, so a smaller list may need another seed for its latencies: a few
//! are tried.

use crate::relay::AS_EDGE;
use crate::{Plan, Violation, run};

/// Seeds that are tried for one list of ops.
const RESEEDS: u64 = 6;
/// A list of so many ops is short enough; for a longer one more seeds are tried.
const SHORT: usize = 12;

/// The same violation with fewer ops (delta debugging: ever smaller pieces are left out). A plan that does not fail, or not
/// as its sabotage must, stays as it is.
#[must_use]
pub fn shrink(plan: &Plan) -> Plan {
    let Some(found) = run(plan).0.filter(|found| found.shows(plan.sabotage)) else { return plan.clone() };
    let guarantee = found.guarantee;
    let mut best = cut(plan, &found);
    let mut reseeds = RESEEDS;
    loop {
        let before = best.ops.len();
        let mut piece = before.div_ceil(2).max(1);
        loop {
            let mut at = 0;
            while at < best.ops.len() {
                let mut candidate = best.clone();
                candidate.ops.drain(at..(at + piece).min(best.ops.len()));
                match failing(candidate, guarantee, reseeds) {
                    Some(smaller) => best = smaller,
                    None => at += piece,
                }
            }
            if piece == 1 {
                break;
            }
            piece = piece.div_ceil(2);
        }
        best = smaller_world(best, guarantee);
        if best.ops.len() == before {
            if best.ops.len() <= SHORT || reseeds > RESEEDS {
                return best;
            }
            reseeds *= 6;
        }
    }
}

/// The plan, or the same with other latencies, if it breaks this; ended where it does.
fn failing(plan: Plan, guarantee: &str, reseeds: u64) -> Option<Plan> {
    let first = plan.setup.seed;
    (0..reseeds).find_map(|more| {
        let mut plan = plan.clone();
        plan.setup.seed = first + more;
        let found = run(&plan).0.filter(|found| found.guarantee == guarantee)?;
        Some(cut(&plan, &found))
    })
}

/// Nothing after the violation matters.
fn cut(plan: &Plan, found: &Violation) -> Plan {
    let mut plan = plan.clone();
    plan.ops.retain(|timed| timed.at_ms <= found.at_ms);
    plan.setup.end_ms = found.at_ms + 1;
    plan
}

/// Fewer parts, and an earlier start, if that still breaks it.
fn smaller_world(mut best: Plan, guarantee: &str) -> Plan {
    for smaller in [
        (|plan: &mut Plan| plan.setup.coordinators = 1) as fn(&mut Plan),
        |plan| plan.setup.coordinators = 2,
        |plan| plan.setup.relays = 0,
        |plan| {
            let edges = plan.ops.iter().filter_map(|timed| timed.op.edge()).filter(|edge| *edge < AS_EDGE);
            plan.setup.edges = edges.max().map_or(1, |edge| edge + 1);
        },
        |plan| plan.setup.users = plan.ops.iter().filter_map(|timed| timed.op.user()).max().map_or(1, |user| user + 1),
        |plan| plan.setup.short_route = false,
        |plan| {
            let idle_ms = plan.ops.first().map_or(0, |timed| timed.at_ms.saturating_sub(500));
            plan.ops.iter_mut().for_each(|timed| timed.at_ms -= idle_ms);
        },
    ] {
        let mut candidate = best.clone();
        smaller(&mut candidate);
        let possible = candidate.ops.iter().all(|timed| candidate.setup.has(&timed.op));
        if possible && candidate != best {
            best = failing(candidate, guarantee, RESEEDS).unwrap_or(best);
        }
    }
    best
}
