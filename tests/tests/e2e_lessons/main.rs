//! One test for each lesson that others had to learn, named after the advisory or after what went wrong.
//!
//! Each is written as the attacker would who read the advisory and tries it, and its neighbours, here. More checks of the
//! same behaviours, from the side of what is promised, are in `e2e_steady`, `e2e_settings` and `e2e_faults`.
//!
//! All tests share one cluster and run side by side, each with users of its own. Proofs live two seconds, so that renewals
//! are under way all the time.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod bodies;
mod caches;
mod enumeration;
mod guesses;
mod headers;
mod passwords;
mod paths;
mod replays;
mod sessions;
mod smuggling;

use std::net::SocketAddr;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use edgekeep_tests::raw::Site;
use edgekeep_tests::world::World;

struct Lessons {
    world: World,
    /// Its last edge stands in front of this site.
    site: Mutex<Site>,
}

static LESSONS: LazyLock<Lessons> = LazyLock::new(|| {
    let mut world = World::start("lessons", |options| {
        options.coordinators = 2;
        options.edges = 2;
    });
    world.edgekeep(&["settings", "set", "proof_life_ms=2000"], "");
    let site = Site::start();
    let address = site.address;
    let edge = world.add_edge(|setup| setup.origin_url = format!("http://{address}"));
    assert_eq!(edge, EDGE_OF_SITE);
    Lessons { world, site: Mutex::new(site) }
});

/// The place of the edge in front of the site that notes everything.
const EDGE_OF_SITE: usize = 2;

/// The cluster.
fn world() -> &'static World {
    &LESSONS.world
}

/// The site that notes what reaches it, for one test alone, and the edge in front of it.
fn site() -> (MutexGuard<'static, Site>, SocketAddr) {
    let site = LESSONS.site.lock().unwrap_or_else(PoisonError::into_inner);
    site.answer_with("");
    drop(site.take());
    (site, world().edge(EDGE_OF_SITE))
}
