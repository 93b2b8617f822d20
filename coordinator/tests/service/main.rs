//! The coordinator's service side against a real Postgres: a database of its own for each test.
//!
//! `DATABASE_URL` names a server to make databases on (and, for the crash test, to take the programs `initdb` and
//! `postgres` from). Nothing here asserts a wall-clock time that a busy machine could miss: limits are generous, and
//! what was measured is printed.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

mod checks;
mod crash;
mod database;
mod doors;
mod epochs;
mod faults;
mod feed;
mod http;
mod keys;
mod openapi;
mod reader;
mod rig;
