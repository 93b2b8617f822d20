//! Edgekeep's coordinator: the one place where logins, sessions and revocations are decided.
//!
//! Everything that must be decided once is decided in Postgres, in named transactions (`db`), by the
//! order of row locks on a user. This crate keeps no state of its own that a second coordinator would
//! need: run as many as you like on one database.
//!
//! | module | what it does |
//! |---|---|
//! | `config`, `secrets`, `cli` | how it is set up and administered |
//! | `db` | connections, named transactions, settings; "not there" and "could not look" are different results |
//! | `password` | hashing, the permit queue, rules for new passwords |
//! | `login` | the login protocol: look up, reserve, hash, settle (G4, G6, G9) |
//! | `account`, `admin` | sign-out, password change, sessions; what an administrator does |
//! | `epoch`, `feed`, `check`, `keys`, `edges` | what edges live on: revocations, renewals, keys, credentials |
//! | `http`, `metrics`, `tasks` | the service around it |
//! | `relay` | the feed alone, from another coordinator instead of from Postgres |
//! | `sabotage` | rules that a test build breaks on purpose |

pub mod account;
pub mod admin;
pub mod app;
pub mod check;
pub mod cli;
pub mod config;
pub mod db;
pub mod edges;
pub mod epoch;
pub mod failure;
pub mod feed;
pub mod http;
pub mod keys;
pub mod login;
pub mod metrics;
pub mod password;
pub mod relay;
pub mod sabotage;
pub mod secrets;
pub mod tasks;

pub use app::App;
pub use failure::Failure;
