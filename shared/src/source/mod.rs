//! The feed's source: what a coordinator has read of the feed, and what it answers (design 2.2). Pure: the coordinator
//! reads, waits and sends; here is which entries an answer holds, how old it is, and how long a question is kept.
//! A relay is the same with a coordinator upstream: see `relay`.
//!
//! Guarantees:
//! - An answer covers `to` completely for a view that covers `from`: entries and position come from one read, and are
//!   published together.
//! - An answer's age is never told too small: it runs from the earlier of the last completed read's start and the last
//!   committed heartbeat's start, and is rounded up; `held_ms` is rounded down.
//! - With an age past half of the bound nothing is answered.
//! - A chain of pages belongs to one load of one reader; anything else starts over with page one.

mod held;
mod relay;
mod store;

pub use held::{CannotAnswer, Due, Held, Look, Wait};
pub use relay::{Follower, Update};
pub use store::{Place, Put, Row, Store, Unseen};

use core::time::Duration;

use crate::feed::{Entry, Head, PageToken, Question};
use crate::moment::{Moment, ms_rounded_down, ms_rounded_up};
use crate::position::Position;

/// With no more held polls than these, every change is sent at once.
const FEW_POLLERS: usize = 64;
/// Ages within one chain of pages go by the monotonic clock alone while the wall clock agrees with it to this.
const CLOCKS_DISAGREE: Duration = Duration::from_millis(20);

/// The settings that edges need, as they were read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EdgeSettings {
    /// Grows with every change.
    pub version: u64,
    /// The audience of tokens.
    pub site: String,
    /// The bound of G2.
    pub max_staleness_ms: u32,
    /// Slots per user.
    pub sessions_per_user: u32,
    /// The shortest new password, in characters.
    pub password_min_chars: u32,
}

impl EdgeSettings {
    /// What the feed itself tells of them, which is all that a relay knows: the rest goes to edges with the key set.
    #[must_use]
    pub const fn of_feed(version: u64, max_staleness_ms: u32) -> Self {
        Self { version, site: String::new(), max_staleness_ms, sessions_per_user: 0, password_min_chars: 0 }
    }
}

/// What one read found.
#[derive(Clone, Debug)]
pub struct Read {
    /// The feed epoch of the database.
    pub epoch: u16,
    /// Cursors of this epoch and later are of the same history of transaction ids.
    pub cursors_from_epoch: u16,
    /// As Postgres said it; not yet lowered.
    pub position: Position,
    /// Database time of the read, rounded up.
    pub read_at_ms: u64,
    /// The settings.
    pub settings: EdgeSettings,
    /// Version of the key set.
    pub keys_version: u64,
    /// What is past the last position and may still be needed.
    pub rows: Vec<Row>,
}

/// When a read was made, and what is known to be durable.
#[derive(Clone, Copy, Debug)]
pub struct Behind {
    /// The read began.
    pub read_began: Moment,
    /// The last heartbeat whose commit was acknowledged began.
    pub beat_began: Moment,
    /// The highest transaction id known durable in this epoch: of heartbeats, and of rows that were read.
    pub durable_xid: u64,
}

/// What a read changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// An answer could differ: held questions look again.
    pub changed: bool,
    /// The position moved: questions that wait for one look again.
    pub moved_on: bool,
}

/// Everything that was read, published as one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    /// Names this load; a page token of another one starts over.
    instance: u64,
    /// When this load began; page tokens count from here.
    started: Moment,
    epoch: u16,
    cursors_from_epoch: u16,
    position: Position,
    /// The earlier of the last completed read's and the last committed heartbeat's start.
    as_of: Moment,
    read_at_ms: u64,
    read_began: Moment,
    settings: EdgeSettings,
    keys_version: u64,
    store: Store,
    /// A relay's: rows carry the number of an answer instead of a transaction id.
    log: Option<relay::Log>,
    /// When an entry last moved back in the feed's order, in milliseconds since `started`: older page chains start over.
    moved_back_at_ms: Option<u64>,
    /// When questions that have something to get may be answered (coalescing), on the monotonic clock.
    wave_at: Duration,
    /// Grows whenever an answer could differ.
    change: u64,
}

impl Source {
    /// A first load, put in order before anybody has to wait for it: takes `read`'s rows. [`Source::publish`] is called
    /// with the same read next. `change` is the number of the last change that anybody was told of.
    #[must_use]
    pub fn load(instance: u64, read: &mut Read, behind: Behind, change: u64, now: Moment) -> Self {
        let as_of = behind.read_began.earlier(behind.beat_began);
        let mut store = Store::default();
        for row in read.rows.drain(..) {
            store.put(row);
        }
        Self {
            instance,
            started: as_of,
            epoch: read.epoch,
            cursors_from_epoch: read.cursors_from_epoch,
            position: read.position.clone().lowered_to(behind.durable_xid + 1),
            as_of,
            read_at_ms: 0,
            read_began: behind.read_began,
            settings: read.settings.clone(),
            keys_version: read.keys_version,
            store,
            log: None,
            moved_back_at_ms: None,
            wave_at: now.monotonic,
            change,
        }
    }

    /// Puts what was read in the place of what was there: entries and position together. `pollers`: how many questions are
    /// held; `fresh`: a random number, for when page chains must start over.
    pub fn publish(&mut self, read: Read, behind: Behind, pollers: usize, fresh: u64, now: Moment) -> Published {
        let as_of = behind.read_began.earlier(behind.beat_began);
        let position = read.position.lowered_to(behind.durable_xid + 1);
        let gap = coalescing_gap(pollers, read.settings.max_staleness_ms);
        let mut changed = self.keys_version != read.keys_version
            || self.settings != read.settings
            || self.cursors_from_epoch != read.cursors_from_epoch
            || self.read_at_ms == 0;
        for row in read.rows {
            match self.store.put(row) {
                Put::Unchanged => {}
                Put::Changed => changed = true,
                Put::MovedBack => {
                    changed = true;
                    self.moved_back_at_ms = Some(ms_rounded_down(self.started.monotonic_until(as_of)) + 1);
                }
            }
        }
        self.store.prune(read.read_at_ms);
        if self.started.disagreement(as_of) > CLOCKS_DISAGREE {
            // The machine was suspended, or its clock was stepped: page chains from before start over.
            (self.instance, self.started, self.moved_back_at_ms) = (fresh, as_of, None);
        }
        let moved_on = self.position != position;
        self.cursors_from_epoch = read.cursors_from_epoch;
        self.position = position;
        self.as_of = as_of;
        self.read_began = behind.read_began;
        self.read_at_ms = read.read_at_ms.max(self.read_at_ms);
        self.settings = read.settings;
        self.keys_version = read.keys_version;
        if changed {
            // A wave that still lies ahead takes this change along.
            if self.wave_at <= now.monotonic {
                self.wave_at = now.monotonic.max(self.wave_at + gap);
            }
            self.change += 1;
        }
        Published { changed, moved_on }
    }

    /// How old an answer is at least said to be.
    #[must_use]
    pub fn age(&self, now: Moment) -> Duration {
        self.as_of.until(now)
    }

    /// Past this age nothing is answered any more: half of the bound, so that an edge still has time to ask elsewhere.
    #[must_use]
    pub fn too_old(&self, now: Moment) -> bool {
        ms_rounded_up(self.age(now)) > u64::from(self.settings.max_staleness_ms) / 2
    }

    /// Coordinator time now, as far as the last read tells: for showing and pruning, never for a decision that only the
    /// database may take.
    #[must_use]
    pub fn coordinator_ms(&self, now: Moment) -> u64 {
        self.read_at_ms.saturating_add(ms_rounded_down(self.read_began.until(now)))
    }

    /// The cursor that the next read goes on from.
    #[must_use]
    pub const fn position(&self) -> &Position {
        &self.position
    }

    /// The settings as last read.
    #[must_use]
    pub const fn settings(&self) -> &EdgeSettings {
        &self.settings
    }

    /// The epoch of this load.
    #[must_use]
    pub const fn epoch(&self) -> u16 {
        self.epoch
    }

    /// The number of the last change.
    #[must_use]
    pub const fn change(&self) -> u64 {
        self.change
    }

    /// How many entries there are.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.store.entries()
    }

    /// Up to `limit` of the entries that an answer must hold, and the place of the last one if there are more.
    #[must_use]
    pub fn page(&self, due: &Due<'_>, limit: usize) -> (Vec<Entry>, Option<Place>) {
        let (rows, next) = self.store.page(due.unseen, due.page.map(|page| page.after), limit);
        (rows.iter().map(Row::entry).collect(), next)
    }

    /// The answer's head; `next`: the place of its last entry, if there are more.
    #[must_use]
    pub fn head(&self, question: &Question, due: &Due<'_>, next: Option<Place>, now: Moment) -> Head {
        let since_start = ms_rounded_up(self.started.monotonic_until(now));
        let (to, read_at_ms) = match due.page {
            Some(page) => (page.to.clone(), page.read_at_ms),
            None => (self.position.clone(), self.as_of_ms()),
        };
        let next_page = next.map(|after| PageToken { instance: self.instance, to: to.clone(), read_at_ms, after });
        let age_ms = since_start.saturating_sub(read_at_ms).max(ms_rounded_up(self.age(now)));
        Head {
            nonce: question.nonce,
            epoch: self.epoch,
            from: due.from.cloned(),
            to,
            age_ms: u32::try_from(age_ms).unwrap_or(u32::MAX),
            held_ms: u32::try_from(due.held_ms).unwrap_or(u32::MAX),
            // The present read's, on every page: entries that ended since the first page are in no later one.
            read_at_ms: self.read_at_ms,
            keys_version: self.keys_version,
            settings_version: self.settings.version,
            max_staleness_ms: self.settings.max_staleness_ms,
            next_page,
        }
    }

    /// Which entries this question has not seen, and what the answer starts from.
    fn unseen<'a>(&self, question: &'a Question) -> Result<(Unseen<'a>, Option<&'a Position>), CannotAnswer> {
        let from = question.from.as_ref();
        let scope = scope(from.map(|_| question.epoch), self.epoch, self.cursors_from_epoch);
        let unseen = match (scope, from, &self.log) {
            (Scope::Ahead, ..) => return Err(CannotAnswer::Ahead),
            (Scope::AfterCursor, Some(from), None) => Some(Unseen::After(from)),
            (Scope::AfterCursor, Some(from), Some(log)) => log.number(from).map(Unseen::Since),
            (Scope::AfterCursorOfEpoch(epoch), Some(from), None) => Some(Unseen::AfterInEpoch(from, epoch)),
            // A relay's log is of one epoch.
            (Scope::AfterCursorOfEpoch(_), _, Some(_)) | (Scope::All, ..) | (_, None, _) => None,
        };
        // What everything is sent for starts from nothing.
        Ok(unseen.map_or((Unseen::All, None), |unseen| (unseen, from)))
    }

    /// The moment that ages run from, in milliseconds since this load began, rounded down.
    fn as_of_ms(&self) -> u64 {
        ms_rounded_down(self.started.monotonic_until(self.as_of))
    }

    /// This page token is of this load, and no entry has moved to a place that its chain has passed.
    fn continues(&self, page: &PageToken) -> bool {
        page.instance == self.instance
            && page.read_at_ms <= self.as_of_ms()
            && self.position.covers(&page.to)
            && self.moved_back_at_ms.is_none_or(|moved| page.read_at_ms > moved)
    }
}

/// The highest transaction id known durable, after these rows were read.
#[must_use]
pub fn durable_after(durable_xid: u64, rows: &[Row]) -> u64 {
    rows.iter().map(|row| row.feed_xid).fold(durable_xid, u64::max)
}

/// How long changes are gathered before the next wave of answers: nothing with few pollers, 1 ms for every 50 of
/// them, at most 200 ms and a sixteenth of the bound.
fn coalescing_gap(pollers: usize, max_staleness_ms: u32) -> Duration {
    if pollers <= FEW_POLLERS {
        return Duration::ZERO;
    }
    let by_number = u64::try_from(pollers / 50).unwrap_or(u64::MAX);
    Duration::from_millis(by_number.min(200).min(u64::from(max_staleness_ms) / 16))
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

#[cfg(test)]
mod tests;
