//! Deployments with other settings: sessions per user, takeover, lifetimes, lockout, keys.
//!
//! The tests share one cluster and change its settings, so they run one after the other.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod expiry;
mod keys;
mod lockout;
mod renewal;
mod several;
mod takeover;

use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use edgekeep_tests::world::World;

static WORLD: LazyLock<Mutex<World>> = LazyLock::new(|| {
    Mutex::new(World::start("settings", |options| {
        options.coordinators = 2;
        options.edges = 2;
        options.max_staleness_ms = Some(3_000);
    }))
});

/// What the settings are where a test says nothing else.
const DEFAULTS: [(&str, &str); 11] = [
    ("sessions_per_user", "1"),
    ("takeover", "newest_wins"),
    ("proof_life_ms", "300000"),
    ("idle_timeout_ms", "3600000"),
    ("absolute_timeout_ms", "86400000"),
    ("guess_limit", "5"),
    ("lockout_base_ms", "60000"),
    ("lockout_max_ms", "3600000"),
    ("consecutive_failure_cap", "100"),
    ("login_wait_ms", "0"),
    ("max_staleness_ms", "3000"),
];

/// The cluster with these settings, for one test alone.
fn world_with(settings: &[(&str, &str)]) -> MutexGuard<'static, World> {
    let world = WORLD.lock().unwrap_or_else(PoisonError::into_inner);
    let wanted: Vec<String> = DEFAULTS
        .iter()
        .map(|(name, default)| {
            let set = settings.iter().find(|(other, _)| other == name);
            format!("{name}={}", set.map_or(*default, |(_, value)| value))
        })
        .collect();
    // All at once: some of them bound each other.
    let arguments: Vec<&str> = ["settings", "set"].into_iter().chain(wanted.iter().map(String::as_str)).collect();
    world.edgekeep(&arguments, "");
    assert!(settings.iter().all(|(name, _)| DEFAULTS.iter().any(|(known, _)| known == name)));
    world
}
