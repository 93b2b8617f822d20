//! What the isolate remembers between requests. It can vanish at any time (eviction, a panic), so an empty
//! state always means "cannot know", never "nothing revoked".
//!
//! All of it is reached through [`with`], whose closure cannot await: no borrow ever crosses a suspension.

use std::cell::RefCell;
use std::rc::Rc;

use edgekeep_shared::follow::Running;
use edgekeep_shared::inquiry::{Ended, Memory};
use edgekeep_shared::lease::EdgeMs;
use edgekeep_shared::retry::{Breaker, Bucket, Preferred, Relays};
use edgekeep_shared::view::View;

use crate::assertion::Recent;
use crate::config::Config;
use crate::coordinator::Feeder;
use crate::flight::Flight;
use crate::keys::Keys;

/// The isolate's memory.
#[derive(Default)]
pub struct State {
    /// The bindings, once they were read without an error.
    pub config: Option<Rc<Config>>,
    /// The signing keys.
    pub keys: Option<Rc<Keys>>,
    /// What was revoked lately, and the lease.
    pub view: View,
    /// When the view was last pruned, edge time.
    pub pruned_ms: EdgeMs,
    /// Sessions known to have ended.
    pub ended: Ended,
    /// Assertions made lately.
    pub assertions: Recent,
    /// The held poll that is under way.
    pub chain: Running,
    /// When a session was last presented, edge time.
    pub last_use_ms: EdgeMs,
    /// The in-line refresh that is under way.
    pub refresh_flight: Option<Flight>,
    /// The fetch of keys that is under way.
    pub keys_flight: Option<Flight>,
    /// Asking fails at the moment.
    pub breaker: Breaker,
    /// Questions about cookies with unknown keys, which anybody can make up.
    pub unknown_keys: Bucket,
    /// The relays, if there are any.
    pub relays: Relays,
    /// The coordinator that answered last.
    preferred: Preferred,
    pub(crate) last_id: u32,
    /// Random, so that the request ids of two isolates differ.
    id_prefix: Option<u64>,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

/// Reads or changes the isolate's memory.
pub fn with<T>(use_state: impl FnOnce(&mut State) -> T) -> T {
    STATE.with_borrow_mut(use_state)
}

impl State {
    /// The version of the keys; 0 without any.
    #[must_use]
    pub fn keys_version(&self) -> u64 {
        self.keys.as_ref().map_or(0, |keys| keys.ring.version())
    }

    /// What a look at a request depends on.
    pub fn memory(&mut self) -> Memory<'_> {
        Memory {
            view: &mut self.view,
            keys: self.keys.as_ref().map(|keys| (&keys.ring, keys.site)),
            ended: &mut self.ended,
            breaker: &mut self.breaker,
            unknown_keys: &mut self.unknown_keys,
        }
    }

    /// The coordinator to ask.
    #[must_use]
    pub fn coordinator(&mut self, count: usize) -> usize {
        self.preferred.index(count, || crate::js::random::<1>()[0])
    }

    /// That one did not answer, or not well.
    pub fn coordinator_failed(&mut self, index: usize, count: usize) {
        self.preferred.failed(index, count);
    }

    /// Whom to ask for the feed: a relay while relays answer, else a coordinator.
    #[must_use]
    pub fn feeder(&mut self, config: &Config, now_ms: EdgeMs) -> Feeder {
        match self.relays.index(config.relays.len(), now_ms, || crate::js::random::<1>()[0]) {
            Some(index) => Feeder::Relay(index),
            None => Feeder::Coordinator(self.coordinator(config.coordinators.len())),
        }
    }

    /// That one did not answer, or not well.
    pub fn feeder_failed(&mut self, config: &Config, whom: Feeder, now_ms: EdgeMs) {
        match whom {
            Feeder::Relay(index) => {
                let random = u32::from_be_bytes(crate::js::random());
                self.relays.failed(index, config.relays.len(), now_ms, random);
            }
            Feeder::Coordinator(index) => self.coordinator_failed(index, config.coordinators.len()),
        }
    }

    /// A number that was not given out before (within four billion).
    pub const fn next_id(&mut self) -> u32 {
        next_id(&mut self.last_id)
    }

    /// An id for a request: cheap, and unlike those of other isolates.
    pub fn request_id(&mut self) -> String {
        let prefix = *self.id_prefix.get_or_insert_with(|| u64::from_be_bytes(crate::js::random()));
        let count = self.next_id();
        format!("{prefix:016x}-{count:x}")
    }
}

/// The same, for who has borrowed other parts of the state.
pub const fn next_id(last_id: &mut u32) -> u32 {
    *last_id = last_id.wrapping_add(1);
    *last_id
}
