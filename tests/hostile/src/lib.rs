//! Every decoder that sees bytes from outside, with what must be true of whatever it makes of them.
//!
//! A [`Target`] is a decoder and its oracle: bytes in, a panic if the oracle is violated. The same targets run
//!
//! - as ordinary tests, on a committed corpus and a fixed number of seeded mutations of it (`tests/decoders.rs`): the
//!   same bytes every time;
//! - for as long as one likes, guided by coverage (`fuzz/`, `cargo xtask fuzz`).
//!
//! No oracle is only "does not panic". They are of four kinds: *one encoding per value* (what is accepted, encoded again,
//! is the same bytes); *the other side reads the same* (a WHATWG parser, an independent matcher); *nobody without the
//! key* (only what was really signed or sealed is accepted); *no way around* (what is accepted stays harmless when it is
//! decoded once more, folded as an origin would fold it, or joined to an address as a browser would).
//!
//! [`forge`] makes forged session cookies by the million (`tests/forged_cookies.rs`).
//!
//! To add a decoder: a function in a file of `targets/`, a line in [`TARGETS`].

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a violated oracle is a panic: that is what tests and fuzzers look for"
)]

pub mod corpus;
pub mod forge;
pub mod keys;
pub mod random;
mod targets;

pub use targets::TARGETS;

/// A decoder with its oracle.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and its corpus's folder.
    pub name: &'static str,
    /// Inputs to begin with, the real shapes first.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Runs the decoder and the oracle. Whether the decoder accepted: so that a run can show that both ways were taken.
    ///
    /// # Panics
    /// If the oracle is violated.
    pub run: fn(&[u8]) -> bool,
}

/// The target of this name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
