//! Questions to the feed: what the answer is, and how long a question is held (design 2.2).
//!
//! What this module guarantees:
//! - [`scope`] decides alone, from the question's cursor and what was last read, which entries an answer must hold.
//! - A held question is answered as soon as something lies past its cursor (after the coalescing gap), when the key
//!   set or the settings change, when its hold is over, or when this coordinator shuts down.
//! - `held_ms` is rounded down and the age up: a lease made from them is never too long.
//! - A chain of pages belongs to one load of one reader; anything else starts over with page one.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Bytes;
use edgekeep_shared::feed::{Entry, Head, PageToken, Question, encode_body, encode_head};
use edgekeep_shared::position::Position;
use tokio::time::{Instant, sleep_until};

use super::moment::{Moment, ms_rounded_up};
use super::store::{Place, Row, Store, Unseen};
use super::{Bodies, FeedHandle, Loaded, Shared};
use crate::failure::Failure;

/// The longest hold, whatever the bound, in milliseconds: connections in between close idle ones.
const LONGEST_HOLD_MS: u32 = 20_000;
/// A question whose cursor is ahead of this coordinator's last read waits at least so long, in milliseconds, for a
/// heartbeat and a read that catch up.
const CATCH_UP_MS: u32 = 300;
/// How many different cursors' entries are kept encoded.
const CACHED_BODIES: usize = 256;
/// Entries of longer answers are encoded for each question: they are rare.
const CACHED_ENTRIES: usize = 1_024;
/// With no more held polls than these, every change is sent at once.
const FEW_POLLERS: usize = 64;

/// How long changes are gathered before the next wave of answers: nothing with few pollers, 1 ms for every 50 of
/// them, at most 200 ms and a sixteenth of the bound.
pub(super) fn coalescing_gap(pollers: usize, max_staleness_ms: u32) -> Duration {
    if pollers <= FEW_POLLERS {
        return Duration::ZERO;
    }
    let by_number = u64::try_from(pollers / 50).unwrap_or(u64::MAX);
    Duration::from_millis(by_number.min(200).min(u64::from(max_staleness_ms) / 16))
}

/// How long a question is held: what it allows, a quarter of the bound, and what connections bear.
fn hold_ms(asked_ms: u32, max_staleness_ms: u32) -> u32 {
    asked_ms.min(max_staleness_ms / 4).min(LONGEST_HOLD_MS)
}

/// Which entries an answer to a question must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything: there is no cursor, or its transaction ids mean nothing here.
    All,
    /// What is not visible at the cursor.
    AfterCursor,
    /// The same, or of a newer epoch than the cursor's.
    AfterCursorOfEpoch(u16),
    /// The cursor is of an epoch that this coordinator has not reached: it cannot answer.
    Ahead,
}

/// What a question with a cursor of `cursor_epoch` (`None` without one) needs from a reader in `epoch`, when cursors
/// from `cursors_from_epoch` on share one history of transaction ids.
#[must_use]
pub const fn scope(cursor_epoch: Option<u16>, epoch: u16, cursors_from_epoch: u16) -> Scope {
    match cursor_epoch {
        None => Scope::All,
        Some(cursor) if cursor > epoch => Scope::Ahead,
        Some(cursor) if cursor == epoch => Scope::AfterCursor,
        Some(cursor) if cursor >= cursors_from_epoch => Scope::AfterCursorOfEpoch(cursor),
        Some(_) => Scope::All,
    }
}

/// What entries were encoded for: only for the store's state at one change.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct CursorKey {
    from: Option<Position>,
    /// The cursor's epoch if it is an older one, else 0.
    of_epoch: u16,
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

/// What a look at the feed says to a question.
enum Look {
    Answer(Box<Reply>),
    /// Nothing yet; the entries are due at this moment if there are some.
    Wait {
        due: Option<Instant>,
        until_ms: u32,
    },
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
    pub async fn poll(&self, question: &Question) -> Result<Reply, Failure> {
        let shared = &*self.0;
        let asked = Instant::now();
        let (_held, before) = Counted::new(&shared.waiting);
        if before >= shared.max_polls {
            return Err(Failure::Overloaded);
        }
        if before == 0 {
            // The reader has been slow while nobody asked.
            shared.wake.notify_one();
        }
        let mut behind = None;
        let mut wave: Option<Instant> = None;
        let mut changes = shared.changes.subscribe();
        let mut draining = shared.draining.subscribe();
        let first_versions = shared.versions();
        loop {
            let _ = changes.borrow_and_update();
            let now = Instant::now();
            let news = shared.versions() != first_versions || *draining.borrow();
            let held = now.saturating_duration_since(asked);
            let (due, until_ms) = match shared.look(question, held, news, wave)? {
                Look::Answer(reply) => return Ok(*reply),
                Look::Wait { due, until_ms } => (due, until_ms),
            };
            // The first wave that this question's entries fall into stays its own, whatever comes after; unless none of
            // them is needed any more when it comes: then there is nothing to be woken for.
            wave = due;
            if due.is_none() && behind.is_none() && until_ms > 0 && shared.is_ahead(question) {
                behind = Some(Counted::new(&shared.behind));
                shared.beat_wanted.store(true, Ordering::Relaxed);
                shared.wake.notify_one();
            }
            let end = asked + Duration::from_millis(u64::from(until_ms));
            let next = wave.map_or(end, |wave| wave.min(end));
            tokio::select! {
                // Whatever changes until its wave is in the answer anyway.
                _ = changes.changed(), if wave.is_none() => {}
                _ = draining.wait_for(|draining| *draining) => {}
                () = sleep_until(next) => {}
            }
        }
    }
}

impl Shared {
    /// What makes every held poll return when it changes.
    fn versions(&self) -> Option<(u64, u64, u16)> {
        self.with_loaded(|loaded| loaded.map(|loaded| (loaded.keys_version, loaded.settings.version, loaded.epoch)))
    }

    /// The question's cursor has seen what this coordinator has not read yet.
    fn is_ahead(&self, question: &Question) -> bool {
        self.with_loaded(|loaded| {
            loaded.is_some_and(|loaded| {
                question.epoch == loaded.epoch
                    && question.from.as_ref().is_some_and(|from| !loaded.position.covers(from))
            })
        })
    }

    /// Looks once: an answer, or how to wait.
    fn look(&self, question: &Question, held: Duration, news: bool, wave: Option<Instant>) -> Result<Look, Failure> {
        self.with_loaded(|loaded| {
            let loaded = loaded.ok_or(Failure::NotReady("the feed has not been read yet"))?;
            if loaded.too_old() {
                return Err(Failure::NotReady("the feed was last read too long ago"));
            }
            let scope = scope(question.from.as_ref().map(|_| question.epoch), loaded.epoch, loaded.cursors_from_epoch);
            let (unseen, from) = match (scope, question.from.as_ref()) {
                (Scope::Ahead, _) => return Err(Failure::Unknown),
                (Scope::AfterCursor, Some(from)) => (Unseen::After(from), Some(from)),
                (Scope::AfterCursorOfEpoch(epoch), Some(from)) => (Unseen::AfterInEpoch(from, epoch), Some(from)),
                (Scope::All, _) | (_, None) => (Unseen::All, None),
            };
            let page = question.page.as_ref().filter(|page| loaded.continues(page));
            if page.is_none() && matches!(scope, Scope::AfterCursor) && !news {
                let hold = hold_ms(question.hold_ms, loaded.settings.max_staleness_ms);
                let behind = from.is_some_and(|from| !loaded.position.covers(from));
                let until_ms = if behind { hold.max(CATCH_UP_MS) } else { hold };
                let over = held >= Duration::from_millis(u64::from(until_ms));
                let due = wave.unwrap_or(loaded.wave_at);
                if !over && behind {
                    return Ok(Look::Wait { due: None, until_ms });
                }
                if !over && !loaded.store.has_unseen(unseen) {
                    return Ok(Look::Wait { due: None, until_ms });
                }
                if !over && Instant::now() < due {
                    return Ok(Look::Wait { due: Some(due), until_ms });
                }
            }
            Ok(Look::Answer(Box::new(self.answer(loaded, question, unseen, from, page, held))))
        })
    }

    fn answer(
        &self,
        loaded: &Loaded,
        question: &Question,
        unseen: Unseen<'_>,
        from: Option<&Position>,
        page: Option<&PageToken>,
        held: Duration,
    ) -> Reply {
        let key = CursorKey {
            from: from.cloned(),
            of_epoch: if let Unseen::AfterInEpoch(_, epoch) = unseen { epoch } else { 0 },
            after: page.map(|page| page.after),
        };
        let body = self.body(loaded, unseen, key);
        let since_start = ms_rounded_up(loaded.started.monotonic_until(Moment::now()));
        let (to, read_at_ms) = match page {
            Some(page) => (page.to.clone(), page.read_at_ms),
            None => (loaded.position.clone(), loaded.as_of_ms()),
        };
        let next_page =
            body.next.map(|after| PageToken { instance: loaded.instance, to: to.clone(), read_at_ms, after });
        let age_ms = since_start.saturating_sub(read_at_ms).max(ms_rounded_up(loaded.age()));
        let head = Head {
            nonce: question.nonce,
            epoch: loaded.epoch,
            from: from.cloned(),
            to,
            age_ms: u32::try_from(age_ms).unwrap_or(u32::MAX),
            held_ms: u32::try_from(held.as_millis()).unwrap_or(u32::MAX),
            // The present read's, on every page: entries that ended since the first page are in no later one.
            read_at_ms: loaded.read_at_ms,
            keys_version: loaded.keys_version,
            settings_version: loaded.settings.version,
            max_staleness_ms: loaded.settings.max_staleness_ms,
            next_page,
        };
        Reply { head: encode_head(&head), body: body.bytes }
    }

    /// The entries' bytes, encoded once for all questions with the same cursor.
    fn body(&self, loaded: &Loaded, unseen: Unseen<'_>, key: CursorKey) -> Body {
        let cached = {
            let bodies = self.bodies();
            if bodies.change == loaded.change { bodies.by_cursor.get(&key).cloned() } else { None }
        };
        // The next page's place is also bounded by what was pruned since; an empty page ends the chain.
        if let Some(body) = cached {
            return body;
        }
        let (body, entries) = encode(&loaded.store, unseen, key.after, self.page_entries);
        if entries <= CACHED_ENTRIES {
            let mut bodies = self.bodies();
            if bodies.change != loaded.change || bodies.by_cursor.len() >= CACHED_BODIES {
                *bodies = Bodies { change: loaded.change, ..Bodies::default() };
            }
            bodies.by_cursor.insert(key, body.clone());
        }
        body
    }
}

fn encode(store: &Store, unseen: Unseen<'_>, after: Option<Place>, limit: usize) -> (Body, usize) {
    let (rows, next) = store.page(unseen, after, limit);
    let entries: Vec<Entry> = rows
        .iter()
        .map(|row: &Row| Entry { user_id: row.user_id, revision: row.revision, needed_until_ms: row.needed_until_ms })
        .collect();
    (Body { bytes: encode_body(&entries).into(), next }, entries.len())
}

impl Loaded {
    /// The moment that ages run from, in milliseconds since this load began, rounded down.
    fn as_of_ms(&self) -> u64 {
        u64::try_from(self.started.monotonic_until(self.as_of).as_millis()).unwrap_or(u64::MAX)
    }

    /// This page token is of this load, and no entry has moved to a place that its chain has passed.
    fn continues(&self, page: &PageToken) -> bool {
        page.instance == self.instance
            && page.read_at_ms <= self.as_of_ms()
            && self.position.covers(&page.to)
            && self.moved_back_at_ms.is_none_or(|moved| page.read_at_ms > moved)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::sync::{Arc, Mutex, PoisonError, RwLock};

    use edgekeep_shared::ids::{Nonce, UserId};
    use edgekeep_shared::revision::Revision;
    use tokio::sync::{Notify, watch};

    use super::super::EdgeSettings;
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn a_cursor_of_an_older_epoch_is_good_while_transaction_ids_are_the_same() {
        assert_eq!(scope(None, 3, 1), Scope::All);
        assert_eq!(scope(Some(3), 3, 1), Scope::AfterCursor);
        assert_eq!(scope(Some(2), 3, 1), Scope::AfterCursorOfEpoch(2));
        assert_eq!(scope(Some(2), 3, 2), Scope::AfterCursorOfEpoch(2));
        assert_eq!(scope(Some(2), 3, 3), Scope::All);
        assert_eq!(scope(Some(4), 3, 1), Scope::Ahead);
    }

    #[test]
    fn few_pollers_wait_for_nothing_and_many_for_little() {
        assert_eq!(coalescing_gap(0, 5_000), Duration::ZERO);
        assert_eq!(coalescing_gap(FEW_POLLERS, 5_000), Duration::ZERO);
        assert_eq!(coalescing_gap(1_000, 5_000), Duration::from_millis(20));
        assert_eq!(coalescing_gap(1_000_000, 5_000), Duration::from_millis(200));
        assert_eq!(coalescing_gap(1_000_000, 200), Duration::from_millis(12));
    }

    /// A feed without a reader that was loaded with one entry, which is to be sent at this moment.
    fn loaded(needed_until_ms: u64, wave_at: Instant) -> FeedHandle {
        let settings = EdgeSettings {
            version: 1,
            site: "main".into(),
            max_staleness_ms: 600_000,
            sessions_per_user: 1,
            password_min_chars: 15,
        };
        let mut store = Store::default();
        store.put(Row { user_id: UserId(1), revision: Revision(1), needed_until_ms, feed_xid: 20 });
        let loaded = Loaded {
            instance: 1,
            started: Moment::now(),
            epoch: 1,
            cursors_from_epoch: 1,
            position: Position { xmax: 21, xip: vec![] },
            as_of: Moment::now(),
            read_at_ms: 1,
            read_began: Moment::now(),
            settings,
            keys_version: 1,
            store,
            moved_back_at_ms: None,
            wave_at,
            change: 0,
        };
        FeedHandle(Arc::new(Shared {
            loaded: RwLock::new(Some(loaded)),
            bodies: Mutex::default(),
            changes: watch::Sender::new(0),
            wake: Notify::new(),
            beat_wanted: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            behind: AtomicUsize::new(0),
            draining: watch::Sender::new(false),
            fatal: watch::Sender::new(None),
            max_polls: 9,
            page_entries: 9,
            metrics: Metrics::new(),
        }))
    }

    #[tokio::test]
    async fn a_poll_whose_entries_are_pruned_before_their_wave_waits_on_quietly() {
        let feed = loaded(100, Instant::now() + Duration::from_millis(40));
        let from = Some(Position { xmax: 20, xip: vec![] });
        let question = Question { nonce: Nonce([1; 16]), epoch: 1, from, page: None, hold_ms: 200 };
        let mut turns = 0;
        let mut poll = std::pin::pin!(feed.poll(&question));
        let counted = std::future::poll_fn(|context| {
            turns += 1;
            poll.as_mut().poll(context)
        });
        let pruned = async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            if let Some(loaded) = feed.0.loaded.write().unwrap_or_else(PoisonError::into_inner).as_mut() {
                loaded.store.prune(100);
            }
        };
        let (answer, ()) = tokio::join!(counted, pruned);
        assert!(answer.is_ok());
        assert!(turns < 20, "{turns} turns in 200 ms");
    }

    #[test]
    fn a_hold_is_at_most_a_quarter_of_the_bound() {
        assert_eq!(hold_ms(1_000, 5_000), 1_000);
        assert_eq!(hold_ms(4_000, 5_000), 1_250);
        assert_eq!(hold_ms(u32::MAX, 600_000), LONGEST_HOLD_MS);
    }
}
