//! Torture: real parts of Edgekeep under faults, and a checker of what clients saw.
//!
//! - [`history`]: what a run records. Every operation has the time at which it was sent and the time at which its answer
//!   was there, on one monotone clock, and an outcome. An outcome that nobody knows is [`history::Outcome::Unknown`].
//! - [`checker`]: pure, and per user. It says which guarantee a history breaks, and shows the operations that break it.
//! - [`run`]: the cluster, the faults and the clients that make a history.
//!
//! What counts as a violation stands in the headers of the checker's modules; so does what they cannot see.

pub mod checker;
pub mod history;
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a run that cannot go on fails, here and now"
)]
pub mod run;
