//! Builds the edge, starts clusters of real parts, and runs the tests.
//!
//! The two commands are thin shells around [`cluster::Cluster`], which tests use as well: real Postgres, the real
//! coordinator, the real wasm in real workerd. A cluster owns what it started. Nothing outlives it: not when it is
//! dropped, not on Ctrl-C, and not when the process that holds it is killed (see [`reaper`]).
//!
//! Everything listens on loopback, and everything that is written lies below `target/` (for one exception, made for
//! root in a folder that nobody else may enter, see [`postgres`]).

pub mod apt;
pub mod artifacts;
pub mod bench;
pub mod cli;
pub mod cluster;
pub mod command;
pub mod console;
pub mod dev;
pub mod endpoints;
pub mod fuzz;
pub mod node;
pub mod parts;
pub mod paths;
pub mod postgres;
pub mod probe;
pub mod process;
pub mod reaper;
pub mod state;
pub mod suites;
pub mod tls;
pub mod torture;
pub mod users;
pub mod wasm;
pub mod wasm_tests;
