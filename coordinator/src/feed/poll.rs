//! Questions to the feed: held and answered as [`edgekeep_shared::source`] decides (design 2.2). Equal entries are encoded
//! once for all questions with the same cursor.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Bytes;
use edgekeep_shared::feed::{Question, encode_body, encode_head};
use edgekeep_shared::position::Position;
use edgekeep_shared::source::{CannotAnswer, Due, Held, Look, Place, Source, Unseen};
use tokio::time::sleep_until;

use super::moment::{self, Moment};
use super::{Bodies, FeedHandle, Shared};
use crate::failure::Failure;

/// How many different cursors' entries are kept encoded.
const CACHED_BODIES: usize = 256;
/// Entries of longer answers are encoded for each question: they are rare.
const CACHED_ENTRIES: usize = 1_024;
/// What entries were encoded for: only for the store's state at one change.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct CursorKey {
    from: Option<Position>,
    /// The cursor's epoch if it is an older one, else 0.
    of_epoch: u16,
    /// In a relay: the answer that it needs what came after.
    since: Option<u64>,
    after: Option<Place>,
}

/// Encoded entries, and where the next page starts.
#[derive(Clone)]
pub(super) struct Body {
    bytes: Bytes,
    next: Option<Place>,
}

/// An answer's bytes: the head is this question's own, the body may be shared.
pub struct Reply {
    /// [`encode_head`]
    pub head: Vec<u8>,
    /// [`encode_body`]
    pub body: Bytes,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// An edge, for itself.
    Edge,
    /// A relay, for all the edges behind it: it is answered before them.
    Relay,
}

/// Counts something up for as long as it lives.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(counter: &'a AtomicUsize) -> (Self, usize) {
        let before = counter.fetch_add(1, Ordering::Relaxed);
        (Self(counter), before)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl FeedHandle {
    /// Answers a question, at once or after holding it.
    ///
    /// # Errors
    /// [`Failure::NotReady`] while nothing fresh enough was read, [`Failure::Unknown`] for a cursor from ahead,
    /// [`Failure::Overloaded`] when too many polls are held.
    pub async fn poll(&self, question: &Question, asker: Asker) -> Result<Reply, Failure> {
        let shared = &*self.0;
        let (_held, before) = Counted::new(&shared.waiting);
        if before >= shared.max_polls {
            return Err(Failure::Overloaded);
        }
        if before == 0 {
            // The reader has been slow while nobody asked.
            shared.asked.notify_one();
        }
        let mut behind = None;
        let relay = (asker == Asker::Relay).then(|| Counted::new(&shared.relays));
        let mut changes = shared.changes(asker).subscribe();
        let mut draining = shared.draining.subscribe();
        let mut held = shared.with_loaded(|loaded| Held::new(loaded, moment::now()));
        if let Some((_, relays)) = relay {
            held = held.of_relay(relays);
        }
        loop {
            let _ = changes.borrow_and_update();
            let drains = *draining.borrow();
            let wait = shared.with_loaded(|loaded| {
                let now = moment::now();
                Ok::<_, Failure>(match (held.look(loaded, question, now, drains)?, loaded) {
                    (Look::Wait(wait), _) => Err(wait),
                    (Look::Answer(due), Some(source)) => Ok(shared.answer(source, question, &due, now)),
                    (Look::Answer(_), None) => return Err(CannotAnswer::NotLoaded.into()),
                })
            })?;
            let wait = match wait {
                Ok(reply) => return Ok(reply),
                Err(wait) => wait,
            };
            if wait.catch_up {
                behind.get_or_insert_with(|| Counted::new(&shared.behind));
                shared.beat_wanted.store(true, Ordering::Relaxed);
                shared.wake.notify_one();
            }
            tokio::select! {
                _ = changes.changed(), if wait.on_change => {}
                _ = draining.wait_for(|draining| *draining) => {}
                () = sleep_until(moment::instant(wait.until)) => {}
            }
        }
    }
}

impl From<CannotAnswer> for Failure {
    fn from(why: CannotAnswer) -> Self {
        match why {
            CannotAnswer::NotLoaded => Self::NotReady("the feed has not been read yet"),
            CannotAnswer::TooOld => Self::NotReady("the feed was last read too long ago"),
            CannotAnswer::Ahead => Self::Unknown,
        }
    }
}

impl Shared {
    fn answer(&self, source: &Source, question: &Question, due: &Due<'_>, now: Moment) -> Reply {
        let body = self.body(source, due);
        let head = source.head(question, due, body.next, now);
        Reply { head: encode_head(&head), body: body.bytes }
    }

    /// The entries' bytes, encoded once for all questions with the same cursor.
    fn body(&self, source: &Source, due: &Due<'_>) -> Body {
        let key = CursorKey {
            from: due.from.cloned(),
            of_epoch: if let Unseen::AfterInEpoch(_, epoch) = due.unseen { epoch } else { 0 },
            since: if let Unseen::Since(number) = due.unseen { Some(number) } else { None },
            after: due.page.map(|page| page.after),
        };
        let cached = {
            let bodies = self.bodies();
            if bodies.change == source.change() { bodies.by_cursor.get(&key).cloned() } else { None }
        };
        // The next page's place is also bounded by what was pruned since; an empty page ends the chain.
        if let Some(body) = cached {
            return body;
        }
        let (entries, next) = source.page(due, self.page_entries);
        let body = Body { bytes: encode_body(&entries).into(), next };
        if entries.len() <= CACHED_ENTRIES {
            let mut bodies = self.bodies();
            if bodies.change != source.change() || bodies.by_cursor.len() >= CACHED_BODIES {
                *bodies = Bodies { change: source.change(), ..Bodies::default() };
            }
            bodies.by_cursor.insert(key, body.clone());
        }
        body
    }
}
