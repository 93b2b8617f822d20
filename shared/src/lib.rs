//! Edgekeep's protocol and every decision that it takes, as pure code.
//!
//! Nothing in this crate reads a clock, draws a random number or does I/O: callers pass `now` and
//! random bytes. So the same code runs in the coordinator, in the edge worker (wasm), in the tests,
//! in the simulator and in the model checker.
//!
//! `docs/guarantees.md` names the guarantees G1-G9 that the modules below keep.

pub mod api;
pub mod attempt;
pub mod codec;
pub mod cookie;
pub mod credential;
pub mod cursor;
pub mod feed;
pub mod follow;
pub mod form_key;
pub mod gate;
pub mod gather;
pub mod identity;
pub mod ids;
pub mod inquiry;
pub mod keyring;
pub mod lease;
pub mod lockout;
pub mod moment;
pub mod path;
pub mod policy;
pub mod position;
pub mod problem;
pub mod raise;
pub mod renewal;
pub mod retry;
pub mod return_to;
pub mod revision;
pub mod revocation;
pub mod source;
pub mod subject;
pub mod takeover;
pub mod time;
pub mod token;
pub mod verdict;
pub mod view;
