//! A counterexample that is kept: steps as JSON, with the same `Op` as the simulation's plans. It is walked again in the
//! sabotaged world, which it must break, and in the whole one, which it must not, as far as it was possible there when it was kept.

use std::fmt::Debug;

use serde::{Deserialize, Serialize};
use stateright::{Expectation, Model};

use crate::Sabotage;

/// A kept counterexample. `T`: the turns of its model.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Saved<T> {
    /// What was found with it, for the reader.
    pub story: String,
    /// Which world.
    pub world: String,
    /// What is broken in it.
    pub sabotage: Sabotage,
    /// The guarantee that breaks.
    pub guarantee: String,
    /// How many of the steps are possible in the whole world: up to the first one that the sabotage makes possible, or all.
    pub possible_when_whole: usize,
    /// The way there.
    pub steps: Vec<crate::Step<T>>,
}

/// What a walk came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walk {
    /// The first guarantee that broke, and after how many steps.
    pub broke: Option<(&'static str, usize)>,
    /// How many steps were possible.
    pub walked: usize,
}

/// Takes these steps for as long as they are possible and nothing breaks.
pub fn walk<M: Model>(model: &M, steps: &[M::Action]) -> Walk
where
    M::Action: Clone + Debug + PartialEq,
{
    let mut walked = 0;
    let Some(mut state) = model.init_states().into_iter().next() else { return Walk { broke: None, walked } };
    let guarantees: Vec<_> =
        model.properties().into_iter().filter(|known| matches!(known.expectation, Expectation::Always)).collect();
    loop {
        if let Some(broken) = guarantees.iter().find(|known| !(known.condition)(model, &state)) {
            return Walk { broke: Some((broken.name, walked)), walked };
        }
        let mut possible = vec![];
        model.actions(&state, &mut possible);
        let next = steps.get(walked).filter(|step| possible.contains(step));
        let Some(next) = next.and_then(|step| model.next_state(&state, step.clone())) else {
            return Walk { broke: None, walked };
        };
        state = next;
        walked += 1;
    }
}

/// The same guarantee broken without the steps that it takes no part in: each is left out once, for as long as that helps.
pub(crate) fn shortened<M: Model>(model: &M, guarantee: &str, mut steps: Vec<M::Action>) -> Vec<M::Action>
where
    M::Action: Clone + Debug + PartialEq,
{
    let breaks = |steps: &[M::Action]| {
        walk(model, steps).broke.filter(|(broken, _)| *broken == guarantee).map(|(_, length)| length)
    };
    let mut before = steps.len() + 1;
    while steps.len() < before {
        before = steps.len();
        for at in (0..steps.len()).rev() {
            let mut fewer = steps.clone();
            if at < fewer.len() {
                fewer.remove(at);
            }
            if let Some(length) = breaks(&fewer) {
                fewer.truncate(length);
                steps = fewer;
            }
        }
    }
    steps
}
