//! What the end-to-end tests share: clusters of real parts, a client with cookies, faults, and an oracle.
//!
//! Nothing here stands in for a part of Edgekeep. [`world::World`] starts the real Postgres, coordinators, workerd with
//! the real worker, and the example site; [`proxy::Proxy`] is put between two of them to lose, hold or cut what passes;
//! [`oracle::Probe`] says when a cookie was last accepted.
//!
//! House rules for tests:
//!
//! - What is asserted about time is a guarantee (`max_staleness`), never a speed; speeds are printed ([`print_figure`]).
//! - Nothing sleeps in order to wait for something: [`until`] asks until it is so, or fails at its deadline.
//! - A test that shares a cluster makes its own users, and ends only their sessions.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a test that cannot go on fails, here and now"
)]

pub mod client;
pub mod clock;
pub mod contract;
pub mod feed;
pub mod http;
pub mod oracle;
pub mod proxy;
pub mod raw;
pub mod shape;
pub mod sql;
pub mod websocket;
pub mod world;

use std::io::Write as _;
use std::time::{Duration, Instant};

/// How long anything may take that is bound to happen. Generous: two cores, several clusters.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Asks again and again until there is an answer.
///
/// # Panics
/// With `what` if there is none within [`PATIENCE`].
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "never happened within {} s: {what}", PATIENCE.as_secs());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Prints a measurement, past the test harness, which keeps the output of passing tests to itself.
pub fn print_figure(text: &str) {
    let _ = writeln!(std::io::stderr(), "figure: {text}");
}

/// Random hexadecimal digits: idempotency keys, names.
#[must_use]
pub fn random_hex(bytes: usize) -> String {
    let mut random = vec![0; bytes];
    getrandom::fill(&mut random).expect("randomness");
    edgekeep_shared::ids::to_hex(&random)
}
