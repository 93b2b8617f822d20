//! Edgekeep's guarantees, checked over every order of events of small worlds (Stateright, breadth first).
//!
//! Two models: [`feed`] (G1, G2, G3, G5, G8: sessions, renewals, the feed, edges) and [`login`] (G4, G6, G9: reserve, hash,
//! settle). What decides in them is the code of `shared/` itself: `View`, `Lease`, `gate::decide`, `Position`, `Revision`,
//! tokens, `Lifetimes`, `takeover::place`, `GuessPolicy`. What the coordinator and Postgres do around it (locks, snapshots,
//! transaction ids, the order of steps) is described here, in as few lines as possible.
//!
//! What the models show: within the stated budgets (so many logins, reads, crashes, ticks) *no* order of steps breaks a
//! guarantee. What they do not show: anything beyond the budgets, or that coordinator and edge follow these steps; that
//! is what the real parts under faults are for. A [`Sabotage`] breaks the shell around the real code in one place; the
//! checker must then find a counterexample.
//!
//! To add an event: a variant of the model's `Op`, its condition in `actions`, its effect in `step`, a budget.

pub mod feed;
pub mod login;
mod sabotage;

pub use sabotage::Sabotage;

use std::fmt::Debug;

use stateright::{Checker, HasDiscoveries, Model, Path};

/// Explores everything; panics with the counterexample if a guarantee breaks or a `sometimes` is never reached.
///
/// # Panics
/// See above.
pub fn explore<M>(model: M, threads: usize) -> usize
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + PartialEq + std::hash::Hash + Send + Sync,
    M::Action: Clone + Debug + PartialEq + Send + Sync,
{
    let checker = model.checker().threads(threads).spawn_bfs().join();
    for (name, path) in checker.discoveries() {
        let found = checker.discovery_classification(name).to_string();
        assert!(found != "counterexample", "{name}:\n{}", told(&path));
    }
    checker.assert_properties();
    checker.unique_state_count()
}

/// The shortest counterexample to any guarantee, with the guarantee's name; `None` if there is none.
pub fn refute<M>(model: M) -> Option<(&'static str, String)>
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + PartialEq + std::hash::Hash + Send + Sync,
    M::Action: Clone + Debug + PartialEq + Send + Sync,
{
    let checker = model.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let found = checker
        .discoveries()
        .into_iter()
        .filter(|(name, _)| checker.discovery_classification(name).to_string() == "counterexample")
        .min_by_key(|(name, _)| *name);
    found.map(|(name, path)| (name, told(&path)))
}

/// The steps of a counterexample, one a line, and the world that they end in.
fn told<S, A>(path: &Path<S, A>) -> String
where
    S: Clone + Debug + PartialEq,
    A: Clone + Debug + PartialEq,
{
    let actions = path.clone().into_actions();
    actions.iter().enumerate().map(|(at, action)| format!("  {:>2}. {action:?}\n", at + 1)).collect()
}
