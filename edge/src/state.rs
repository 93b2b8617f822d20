//! What the isolate remembers between requests. It can vanish at any time (eviction, a panic), so an empty
//! state always means "cannot know", never "nothing revoked".
//!
//! All of it is reached through [`with`], whose closure cannot await: no borrow ever crosses a suspension.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::rc::Rc;

use edgekeep_shared::ids::SessionId;
use edgekeep_shared::lease::EdgeMs;
use edgekeep_shared::problem::Reason;
use edgekeep_shared::view::View;

use crate::assertion::Recent;
use crate::config::Config;
use crate::flight::Flight;
use crate::keys::Keys;
use crate::limit::{Breaker, Bucket};

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
    pub chain: Chain,
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
    /// The coordinator that answered last.
    coordinator: Option<usize>,
    last_id: u32,
    /// Random, so that the request ids of two isolates differ.
    id_prefix: Option<u64>,
}

/// The chain of held polls (design 2.2), guarded by a deadline.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chain {
    /// The chain that may go on; an older one ends when it notices.
    pub id: u32,
    /// Past this a new chain is started, whatever became of the old one.
    pub until_ms: EdgeMs,
}

/// Sessions that the coordinator has said to be over. Session ids are never reused and an ended session never
/// comes back (G5), so this stays true; it only saves asking again.
#[derive(Debug, Default)]
pub struct Ended {
    reasons: HashMap<SessionId, Reason>,
    order: VecDeque<SessionId>,
}

/// The most ended sessions that are remembered.
const MAX_ENDED: usize = 4_096;

impl Ended {
    /// Why this session is over, if that is remembered.
    #[must_use]
    pub fn reason(&self, session_id: SessionId) -> Option<Reason> {
        self.reasons.get(&session_id).copied()
    }

    /// Remembers it. The first reason stays.
    pub fn remember(&mut self, session_id: SessionId, reason: Reason) {
        if self.reasons.contains_key(&session_id) {
            return;
        }
        if self.order.len() == MAX_ENDED
            && let Some(oldest) = self.order.pop_front()
        {
            self.reasons.remove(&oldest);
        }
        self.order.push_back(session_id);
        self.reasons.insert(session_id, reason);
    }
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

    /// The coordinator to ask: the one that answered last; at first any, so that isolates spread over them.
    #[must_use]
    pub fn coordinator(&mut self, count: usize) -> usize {
        let random = || usize::from(crate::js::random::<1>()[0]);
        *self.coordinator.get_or_insert_with(random) % count.max(1)
    }

    /// That one did not answer, or not well: go on to the next, unless somebody has already.
    pub fn coordinator_failed(&mut self, index: usize, count: usize) {
        if self.coordinator(count) == index {
            self.coordinator = Some((index + 1) % count.max(1));
        }
    }

    /// A number that was not given out before (within four billion).
    pub fn next_id(&mut self) -> u32 {
        self.last_id = self.last_id.wrapping_add(1);
        self.last_id
    }

    /// An id for a request: cheap, and unlike those of other isolates.
    pub fn request_id(&mut self) -> String {
        let prefix = *self.id_prefix.get_or_insert_with(|| u64::from_be_bytes(crate::js::random()));
        let count = self.next_id();
        format!("{prefix:016x}-{count:x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ended_sessions_are_remembered_within_bounds() {
        let mut ended = Ended::default();
        let id = |n: usize| SessionId((n as u128).to_be_bytes());
        ended.remember(id(0), Reason::SignedInElsewhere);
        ended.remember(id(0), Reason::Expired);
        assert_eq!(ended.reason(id(0)), Some(Reason::SignedInElsewhere));
        for n in 1..=MAX_ENDED {
            ended.remember(id(n), Reason::SignedOut);
        }
        assert_eq!(ended.reason(id(0)), None);
        assert_eq!(ended.reason(id(MAX_ENDED)), Some(Reason::SignedOut));
        assert_eq!(ended.reasons.len(), MAX_ENDED);
    }
}
