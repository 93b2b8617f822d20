//! The coordinator against a real Postgres, each test with a database of its own.
//!
//! The server comes from `EDGEKEEP_TEST_DATABASE_URL` or `DATABASE_URL` (any database of it; the tests make their own
//! from a migrated template and drop them).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod account;
mod admin;
mod attempts;
mod clean_up;
mod command_line;
mod commits;
mod guesses;
mod locks;
mod login;
mod support;
