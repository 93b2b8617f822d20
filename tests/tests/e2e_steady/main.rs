//! With all parts up: two coordinators, three edges, one database. What is promised to clients, end to end.
//!
//! All tests share one cluster and run side by side on it, each with users of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod contract;
mod cookies;
mod csrf;
mod doors;
mod gateway;
mod guessing;
mod login;
mod pages;
mod policy;
mod receipts;
mod replays;
mod revocation;
mod shapes;

use std::sync::LazyLock;

use edgekeep_tests::world::World;

static WORLD: LazyLock<World> = LazyLock::new(|| {
    World::start("steady", |options| {
        options.coordinators = 2;
        options.edges = 3;
    })
});

/// The cluster.
fn world() -> &'static World {
    &WORLD
}
