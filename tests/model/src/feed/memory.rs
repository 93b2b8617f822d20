//! Real views, kept once each: a `View` is large, and what can be told of it is small.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use edgekeep_shared::ids::{Nonce, UserId};
use edgekeep_shared::view::View;

/// An edge's memory: a real view, compared by everything that can be told of it.
#[derive(Clone)]
pub struct Memory {
    kept: Arc<Kept>,
    /// The latest `needed_until` of the user's entry since the last reset: the one thing that a view does not tell.
    pub(super) needed_until_ms: u64,
}

struct Kept {
    view: View,
    hash: u64,
    key: String,
}

/// All views of a run.
#[derive(Default)]
pub struct Memories(Mutex<HashMap<String, Arc<Kept>>>);

impl Memories {
    /// Keeps a view.
    pub(super) fn keep(&self, view: View, needed_until_ms: u64) -> Memory {
        let key = format!(
            "{:?} {:?} {:?} {} {} {:?} {:?} {needed_until_ms}",
            view.question(Nonce([0; 16]), 0),
            view.lease(),
            view.clock(),
            view.pruned_to_ms(),
            view.is_loaded(),
            view.revision_of(UserId(1)),
            view.revision_of(UserId(2)),
        );
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = all.entry(key).or_insert_with_key(|key| {
            let mut hasher = DefaultHasher::new();
            key.hash(&mut hasher);
            Arc::new(Kept { view, hash: hasher.finish(), key: key.clone() })
        });
        Memory { kept: kept.clone(), needed_until_ms }
    }
}

impl Memory {
    /// The view.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.kept.view
    }
}

impl PartialEq for Memory {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.kept, &other.kept) || self.kept.key == other.kept.key
    }
}

impl Eq for Memory {}

impl Hash for Memory {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.kept.hash.hash(state);
    }
}

impl core::fmt::Debug for Memory {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.kept.key)
    }
}
