//! The revocation feed: one reader on one connection, everything else from memory (design 2.2).
//! What is answered, and when, is decided by [`edgekeep_shared::source`]; this reads, waits and sends.
//!
//! What this module guarantees:
//! - Entries and position come from one statement, and are published together; the heartbeat that an answer's age rests
//!   on is committed on the connection that reads.
//! - Before the first full read, and with an age past half of the bound, polls get 503 and readiness fails.
//! - Polls cost the database nothing.
//!
//! | file | what |
//! |---|---|
//! | `reader` | the loop on the one connection |
//! | `doubt` | commits whose replication is in doubt |
//! | `heartbeat` | the write that proves that this server still is the primary, and that it did not go back in time |
//! | `poll` | questions: what an answer is, and how long one is held |

pub mod doubt;
pub mod heartbeat;
pub mod moment;
pub mod poll;

mod reader;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

pub use edgekeep_shared::source::EdgeSettings;
use edgekeep_shared::source::{Published, Source, Update};
use sqlx::postgres::PgConnectOptions;
use tokio::sync::{Notify, watch};

use crate::config::FeedConfig;
use crate::edges::EdgeRegistry;
use crate::keys::KeyStore;
use crate::metrics::Metrics;
use moment::ms_rounded_up;
use poll::Asker;

/// What the reader needs.
pub struct Options {
    /// How its connection is opened.
    pub connect: PgConnectOptions,
    /// `[feed]` of the configuration.
    pub config: FeedConfig,
    /// Polls held at a time.
    pub max_polls: usize,
    /// Reloaded before the feed names a new version of the key set.
    pub keys: KeyStore,
    /// Reloaded when the list of edge credentials changes.
    pub edges: EdgeRegistry,
    /// Counters.
    pub metrics: Metrics,
}

/// Why this coordinator does or does not answer polls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It does; the age of its answers in milliseconds.
    Ready {
        /// Milliseconds.
        age_ms: u64,
    },
    /// Nothing has been read yet.
    NotLoaded,
    /// The last read, or the last heartbeat, is longer ago than half of the bound.
    TooOld {
        /// Milliseconds.
        age_ms: u64,
    },
    /// It is shutting down.
    Draining,
}

struct Shared {
    loaded: RwLock<Option<Source>>,
    bodies: Mutex<Bodies>,
    /// The number of the last change; held polls of edges wait for the next.
    changes: watch::Sender<u64>,
    /// The same for relays, which are told first.
    changes_for_relays: watch::Sender<u64>,
    /// Wakes the reader: it reads at once.
    wake: Notify,
    /// Somebody asks again after nobody did: the reader reads as often as it does while polls wait.
    asked: Notify,
    beat_wanted: AtomicBool,
    waiting: AtomicUsize,
    /// Those of them that relays ask.
    relays: AtomicUsize,
    /// Polls whose cursor is ahead of the last read (they came from another coordinator).
    behind: AtomicUsize,
    draining: watch::Sender<bool>,
    /// Set once: why this coordinator must stop.
    fatal: watch::Sender<Option<String>>,
    max_polls: usize,
    page_entries: usize,
    metrics: Metrics,
}

/// Encoded entries, shared by all polls with the same cursor; of one change only.
#[derive(Default)]
struct Bodies {
    change: u64,
    by_cursor: HashMap<poll::CursorKey, poll::Body>,
}

/// The feed of this coordinator.
#[derive(Clone)]
pub struct FeedHandle(Arc<Shared>);

impl FeedHandle {
    /// Starts the reader; it connects, and connects again, by itself.
    #[must_use]
    pub fn start(options: Options) -> Self {
        let handle = Self::new(options.max_polls, &options.config, options.metrics.clone());
        tokio::spawn(reader::run(Arc::clone(&handle.0), options));
        handle
    }

    /// One that nothing has been read for: a reader or a relay's follower is to publish.
    pub(crate) fn new(max_polls: usize, config: &FeedConfig, metrics: Metrics) -> Self {
        Self(Arc::new(Shared {
            loaded: RwLock::new(None),
            bodies: Mutex::default(),
            changes: watch::Sender::new(0),
            changes_for_relays: watch::Sender::new(0),
            wake: Notify::new(),
            asked: Notify::new(),
            beat_wanted: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            relays: AtomicUsize::new(0),
            behind: AtomicUsize::new(0),
            draining: watch::Sender::new(false),
            fatal: watch::Sender::new(None),
            max_polls,
            page_entries: config.page_entries.clamp(1, edgekeep_shared::feed::MAX_ENTRIES),
            metrics,
        }))
    }

    /// Publishes what a relay's upstream has answered.
    pub(crate) fn follow(&self, mut update: Update, fresh: u64) {
        let first = self.0.with_loaded(|loaded| loaded.is_none());
        let told = *self.0.changes.borrow();
        let prepared = first.then(|| update.load(fresh, told, moment::now()));
        // Nothing ever stops a relay's source.
        let _ = self.0.publish(prepared, |source, waiting| source.follow(update, waiting, fresh, moment::now()));
    }

    /// Something was committed here: read at once.
    pub fn poke(&self) {
        self.0.wake.notify_one();
    }

    /// Whether polls are answered.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        if *self.0.draining.borrow() {
            return Readiness::Draining;
        }
        self.0.with_loaded(|loaded| match loaded {
            None => Readiness::NotLoaded,
            Some(loaded) => {
                let now = moment::now();
                let age_ms = ms_rounded_up(loaded.age(now));
                if loaded.too_old(now) { Readiness::TooOld { age_ms } } else { Readiness::Ready { age_ms } }
            }
        })
    }

    /// The settings as last read; `None` before the first read.
    #[must_use]
    pub fn settings(&self) -> Option<EdgeSettings> {
        self.0.with_loaded(|loaded| loaded.map(|loaded| loaded.settings().clone()))
    }

    /// Coordinator time now, as far as the last read tells: for showing and pruning, never for a decision that only
    /// the database may take.
    #[must_use]
    pub fn now_ms(&self) -> Option<u64> {
        self.0.with_loaded(|loaded| loaded.map(|loaded| loaded.coordinator_ms(moment::now())))
    }

    /// The epoch of the last read.
    #[must_use]
    pub fn epoch(&self) -> Option<u16> {
        self.0.with_loaded(|loaded| loaded.map(Source::epoch))
    }

    /// Polls held at this moment.
    #[must_use]
    pub fn held(&self) -> usize {
        self.0.waiting.load(Ordering::Relaxed)
    }

    /// Those of them that relays ask.
    #[must_use]
    pub fn held_by_relays(&self) -> usize {
        self.0.relays.load(Ordering::Relaxed)
    }

    /// Answers every held poll now, and every new one at once: the service is shutting down.
    pub fn drain(&self) {
        self.0.draining.send_replace(true);
    }

    /// Resolves when this coordinator must stop, with the reason.
    pub async fn stopped(&self) -> String {
        let mut fatal = self.0.fatal.subscribe();
        let reason = match fatal.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone(),
            Err(_) => None,
        };
        reason.unwrap_or_else(|| "the feed's reader is gone".to_owned())
    }

    /// Stops this coordinator: what its database says cannot be trusted any more.
    pub(crate) fn stop(&self, reason: String) {
        self.0.stop(reason);
    }
}

impl Shared {
    fn with_loaded<T>(&self, look: impl FnOnce(Option<&Source>) -> T) -> T {
        look(self.loaded.read().unwrap_or_else(PoisonError::into_inner).as_ref())
    }

    /// Puts what is new in the place of what was there; `prepared` is there if nothing was.
    ///
    /// # Errors
    /// Why nothing may be published any more.
    fn publish(
        &self,
        prepared: Option<Source>,
        publish: impl FnOnce(&mut Source, usize) -> Published,
    ) -> Result<(), String> {
        let waiting = self.waiting.load(Ordering::Relaxed);
        let mut slot = self.loaded.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(reason) = self.fatal.borrow().clone() {
            return Err(reason);
        }
        if slot.is_none() {
            *slot = prepared;
        }
        // Only who publishes empties it, or who stops everything.
        let Some(source) = slot.as_mut() else { return Ok(()) };
        let Published { changed, moved_on } = publish(source, waiting);
        let (change, entries) = (source.change(), source.entries());
        drop(slot);
        self.metrics.feed_entries.set(i64::try_from(entries).unwrap_or(i64::MAX));
        self.metrics.feed_reads.inc();
        if changed || moved_on {
            // Relays first: whoever is woken first is answered first, and edges wait for what relays are told.
            for asker in [Asker::Relay, Asker::Edge] {
                self.changes(asker).send_if_modified(|told| {
                    let news = *told != change;
                    *told = change;
                    // Polls that wait for a position look again too; there are few of them.
                    news || self.behind.load(Ordering::Relaxed) > 0
                });
            }
        }
        Ok(())
    }

    const fn changes(&self, asker: Asker) -> &watch::Sender<u64> {
        match asker {
            Asker::Edge => &self.changes,
            Asker::Relay => &self.changes_for_relays,
        }
    }

    fn bodies(&self) -> MutexGuard<'_, Bodies> {
        self.bodies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self, reason: String) {
        tracing::error!(reason, "this coordinator must stop");
        // Nothing more is answered from what was read, nor from what the reader is reading now: it publishes nothing once
        // this is set.
        self.fatal.send_replace(Some(reason));
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[cfg(test)]
mod tests {
    use edgekeep_shared::feed::{Answer, Entry, Head, Question};
    use edgekeep_shared::ids::{Nonce, UserId};
    use edgekeep_shared::position::Position;
    use edgekeep_shared::revision::Revision;
    use edgekeep_shared::source::Follower;

    use super::*;

    fn question(from: &str) -> Question {
        let from = Some(Position::from_pg_snapshot(from).unwrap());
        Question { nonce: Nonce([1; 16]), epoch: 1, from, page: None, hold_ms: 60_000 }
    }

    /// A feed that is told what to publish.
    struct Told {
        feed: FeedHandle,
        follower: Follower,
    }

    impl Told {
        fn new() -> Self {
            let feed = FeedHandle::new(10, &FeedConfig::default(), Metrics::new());
            Self { feed, follower: Follower::default() }
        }

        fn tell(&mut self, to: &str, users: &[u64]) {
            let entry = |user: &u64| Entry { user_id: UserId(*user), revision: Revision(7), needed_until_ms: 900_000 };
            let question = self.follower.question(Nonce([2; 16]), 0);
            let head = Head {
                nonce: question.nonce,
                epoch: 1,
                from: question.from.clone(),
                to: Position::from_pg_snapshot(to).unwrap(),
                age_ms: 0,
                held_ms: 0,
                read_at_ms: 500_000,
                keys_version: 1,
                settings_version: 1,
                max_staleness_ms: 40_000,
                next_page: None,
            };
            let answer = Answer { head, entries: users.iter().map(entry).collect() };
            let (_, update) = self.follower.take(&question, answer, moment::now());
            self.feed.follow(update.unwrap(), 1);
        }

        /// Whom the answer names to a poll that is held already when this is told.
        async fn answered(mut self, from: &str, to: &str, users: &[u64]) -> Vec<u64> {
            let (feed, question) = (self.feed.clone(), question(from));
            let (reply, ()) = tokio::join!(biased; feed.poll(&question, Asker::Edge), async { self.tell(to, users) });
            let Ok(reply) = reply else { panic!("an answer") };
            let answer = Answer::decode(&[reply.head, reply.body.to_vec()].concat()).unwrap();
            assert!(answer.head.held_ms < 10_000, "at once, not when its hold is over");
            answer.entries.iter().map(|entry| entry.user_id.0).collect()
        }
    }

    #[tokio::test]
    async fn a_held_poll_is_woken_by_the_change_itself() {
        let mut told = Told::new();
        told.tell("20:20:", &[1]);
        // Nothing comes after this: no later change, and no later position.
        assert_eq!(told.answered("20:20:", "30:30:", &[2]).await, [2]);
    }

    #[tokio::test]
    async fn a_relay_is_answered_before_edges_that_asked_earlier() {
        let mut told = Told::new();
        told.tell("20:20:", &[1]);
        let answered = Arc::new(Mutex::new(Vec::new()));
        let mut held = Vec::new();
        for asker in [Asker::Edge, Asker::Edge, Asker::Relay] {
            let (feed, answered) = (told.feed.clone(), Arc::clone(&answered));
            held.push(tokio::spawn(async move {
                let reply = feed.poll(&question("20:20:"), asker).await;
                assert!(reply.is_ok_and(|reply| reply.body.len() > 20));
                answered.lock().unwrap().push(asker);
            }));
        }
        while told.feed.held() < 3 {
            tokio::task::yield_now().await;
        }
        assert_eq!(told.feed.held_by_relays(), 1);
        told.tell("30:30:", &[2]);
        for held in held {
            held.await.unwrap();
        }
        assert_eq!(*answered.lock().unwrap(), [Asker::Relay, Asker::Edge, Asker::Edge]);
        assert_eq!((told.feed.held(), told.feed.held_by_relays()), (0, 0));
    }

    #[tokio::test]
    async fn a_poll_from_ahead_is_woken_by_a_position_that_brings_no_change() {
        let mut told = Told::new();
        told.tell("30:30:", &[1]);
        told.tell("40:40:", &[2]);
        // It has not seen user 2, and waits because this feed has not seen all that it has.
        assert_eq!(told.answered("35:50:35", "50:50:", &[]).await, [2]);
    }
}
