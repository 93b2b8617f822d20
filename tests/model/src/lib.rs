//! Edgekeep's guarantees, checked over every order of events of small worlds (Stateright, breadth first).
//!
//! Two models: [`feed`] (G1, G2, G3, G5, G8: sessions, renewals, the feed, edges) and [`login`] (G4, G6, G9: reserve, hash,
//! settle). What decides in them is the code of `shared/` itself: on the edge `View`, `Lease`, `gate`, `inquiry`, tokens;
//! at the coordinator `source`, `verdict`, `Lifetimes`, `takeover`, `revocation`, `GuessPolicy`. What is described here is
//! Postgres (locks, snapshots, transaction ids, crashes), the way between two parts, and the order of their steps.
//!
//! A step is an [`Op`], which happens to a world and is the same in the simulation and in saved reproductions, or one of
//! the world's parts that goes on.
//!
//! What the models show: within the stated budgets (so many logins, reads, crashes, ticks) *no* order of steps breaks a
//! guarantee. What they do not show: anything beyond the budgets, or that coordinator and edge follow these steps; that
//! is what the real parts under faults are for. A [`Sabotage`] breaks the shell around the real code in one place, or
//! gives it wrong inputs; the checker must then find a counterexample. Some of them are kept (`paths/`) and walked again
//! as tests.
//!
//! To add a step: an `Op` or a variant of the model's `Turn`, its condition in `possible`, its effect in `step`, a budget.

pub mod feed;
pub mod login;
mod path;
mod sabotage;

pub use edgekeep_op::Op;
pub use path::{Saved, Walk, walk};
pub use sabotage::Sabotage;

use std::fmt::{self, Debug};

use path::shortened;
use serde::{Deserialize, Serialize};
use stateright::{Checker, HasDiscoveries, Model, Path};

/// One step of a small world.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Step<T> {
    /// Something happens to it.
    Happens(Op),
    /// One of its parts goes on.
    GoesOn(T),
}

impl<T: Debug> Debug for Step<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Happens(op) => write!(f, "{op:?}"),
            Self::GoesOn(turn) => write!(f, "    {turn:?}"),
        }
    }
}

/// A guarantee that breaks, and a way there.
#[derive(Clone, Debug)]
pub struct Refuted<A> {
    /// Which.
    pub guarantee: &'static str,
    /// How.
    pub steps: Vec<A>,
}

/// One step a line; what happens to the world stands before what its parts do.
impl<A: Debug> fmt::Display for Refuted<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "breaks {}:", self.guarantee)?;
        self.steps.iter().enumerate().try_for_each(|(at, step)| writeln!(f, "  {:>2}. {step:?}", at + 1))
    }
}

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
    for (guarantee, path) in checker.discoveries() {
        let found = checker.discovery_classification(guarantee).to_string();
        assert!(found != "counterexample", "{}", refuted(checker.model(), guarantee, path));
    }
    checker.assert_properties();
    checker.unique_state_count()
}

/// A counterexample to any guarantee without a step that could be left out; `None` if there is none.
pub fn refute<M>(model: M) -> Option<Refuted<M::Action>>
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
    found.map(|(guarantee, path)| refuted(checker.model(), guarantee, path))
}

/// The checker keeps the last path that it came upon within a batch of states: what is beside the point is left out here.
fn refuted<M>(model: &M, guarantee: &'static str, path: Path<M::State, M::Action>) -> Refuted<M::Action>
where
    M: Model,
    M::State: Clone + Debug + PartialEq,
    M::Action: Clone + Debug + PartialEq,
{
    Refuted { guarantee, steps: shortened(model, guarantee, path.into_actions()) }
}
