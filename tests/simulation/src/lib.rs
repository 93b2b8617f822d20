//! Many edges, coordinators and users in one deterministic world.
//!
//! What decides in it is the code of `shared/`: the gate and the loop around it (`inquiry`), the view, leases, poll chains
//! (`follow`), retries, breakers (`retry`), what a coordinator answers (`source`, `verdict`, `renewal`), tokens, cookies,
//! and the bytes on the wire. What is simulated is everything that is slow, lost, late or in another order: network,
//! database, clocks, people. The shells (what `edge/` and `coordinator/` do between two decisions) are described anew
//! here, with their awaits cut open, in as few lines as possible.
//!
//! What counts as a failure ([`checker`]): a broken G1, G2, G3, G4 (of logins), G5, G7, G8; and a 503 while nothing is
//! disturbed. What does not: a 503 within ten seconds of a disturbance.
//!
//! Nothing in a run is by chance but what its seed says: the same plan gives the same log. What this cannot see:
//! `docs/simulation.md`.

mod check;
pub mod checker;
mod client;
mod client_door;
mod clock;
mod coordinator;
mod database;
mod edge;
pub mod generate;
mod job;
mod log;
mod message;
mod op;
pub mod relay;
mod report;
mod request;
mod sabotage;
pub mod scale;
mod shrink;
mod world;

pub use checker::Violation;
pub use edgekeep_op::{Op, Route};
pub use log::Log;
pub use op::{Plan, Setup, Timed};
pub use report::Stats;
pub use sabotage::Sabotage;
pub use shrink::shrink;
pub use world::World;

/// Runs a plan: the first violation, and the hash of its log.
#[must_use]
pub fn run(plan: &Plan) -> (Option<Violation>, u64) {
    let mut world = World::new(&plan.setup, plan.sabotage, Log::default());
    let found = world.run(plan.ops.iter().copied());
    (found, world.hash())
}
