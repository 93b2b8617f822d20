//! Relays (design 4): G2 holds behind them, whatever happens to questions and answers on either side.
//!
//! `world`: a toy database commits revocations out of order of their transaction ids; two coordinators read it; a relay
//! follows either of them; two edges ask the relay or a coordinator, in any order. The network delays, loses, repeats and
//! reorders; every clock runs up to 1 % fast or slow; coordinators, the relay and edges forget everything now and then, and
//! the database changes its epoch. Sources, held questions, the follower and the views are the real code.
//!
//! What counts as a failure: an edge's lease holds at a true time later than commit + max_staleness of a revocation that
//! some proof could still need and that the edge's view does not have.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)] // a failed expectation is a failed test

mod follower;
mod world;

use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestError, TestRng, TestRunner};
use world::{Broken, Op, World, op};

fn ops() -> impl Strategy<Value = (Vec<i64>, Vec<Op>)> {
    (prop::collection::vec(991_i64..=1_009, 5), prop::collection::vec(op(), 1..160))
}

fn run(broken: Broken, rates: &[i64], ops: &[Op]) -> Result<World, TestCaseError> {
    let mut world = World::new(broken, rates);
    for op in ops {
        world.step(op);
        if let Some(text) = world.violation() {
            return Err(TestCaseError::fail(format!("{text} after {op:?}")));
        }
    }
    Ok(world)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]
    #[test]
    fn no_lease_behind_a_relay_outlives_the_bound((rates, ops) in ops()) {
        run(Broken::Nothing, &rates, &ops)?;
    }
}

/// Each broken rule is found with a fixed seed.
#[test]
fn broken_relays_are_found() {
    for broken in Broken::RULES {
        let config = ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() };
        let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
        match runner.run(&ops(), |(rates, ops)| run(broken, &rates, &ops).map(|_| ())) {
            Err(TestError::Fail(reason, (_, ops))) => println!("{broken:?}: {reason}\n  {ops:?}"),
            other => panic!("{broken:?} was not found: {other:?}"),
        }
    }
}

/// The world is not one in which nothing happens.
#[test]
fn edges_live_on_a_relay() {
    let mut runner = TestRunner::new_with_rng(
        ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() },
        TestRng::deterministic_rng(RngAlgorithm::ChaCha),
    );
    let seen = std::cell::RefCell::new(world::Seen::default());
    let ran = runner.run(&ops(), |(rates, ops)| {
        seen.borrow_mut().add(&run(Broken::Nothing, &rates, &ops)?.seen);
        Ok(())
    });
    assert!(ran.is_ok(), "{ran:?}");
    let seen = seen.into_inner();
    println!("{seen:?}");
    assert!(seen.is_everything(), "{seen:?}");
}
