//! A relay: a source of the feed that is fed by another source instead of by a database (design 4). It follows its upstream
//! as an edge does ([`crate::cursor`]) and answers questions as a coordinator does ([`super::Held`], [`Source`]).
//!
//! Entries carry no transaction id on the wire, so a relay cannot filter by a cursor's transactions. It numbers the complete
//! answers of its upstream, gives each entry the number of the last answer that held it, and remembers which position was
//! covered after which answer. A cursor that covers what was covered after answer *n* needs only what came after *n*.
//!
//! Guarantees:
//! - An answer is published whole, with its position, or not at all: pages wait until the last one is here.
//! - What is told after *n* is complete: whatever a later position sees and an earlier one does not came in an answer
//!   between them, because each answer is taken only if it goes on from the position and does not end behind it.
//! - A cursor that the log does not reach, or that is of another history, gets everything (`from: None`). In a new epoch
//!   everything is asked for again: the log is of one epoch, and cursors of older ones get everything.
//! - An age is never told too small: it runs from the *sending* of the upstream's question, or from that of the first page
//!   of several, plus what surely was the hold, minus what the age may have been at most ([`crate::lease`]: 1 % for each
//!   clock); and only an answer that goes as far as the position makes it younger.

use core::time::Duration;
use std::collections::VecDeque;

use super::{Behind, EdgeSettings, Published, Read, Row, Source};
use crate::cursor::Cursor;
use crate::feed::{Answer, Entry, Question};
use crate::ids::Nonce;
use crate::lease::{at_least, at_most};
use crate::moment::Moment;
use crate::position::Position;
use crate::view::{Applied, Why};

/// The most positions that are remembered: a minute and more of an answer every 15 ms. Edges ask every second.
const MAX_POSITIONS: usize = 4_096;
/// The most transactions in progress in all of them together (2 MiB); many times more than one position has.
const MAX_LOGGED_XIDS: usize = 262_144;

/// What was covered after which answer of this epoch, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Log {
    covered: VecDeque<Covered>,
    xids: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Covered {
    position: Position,
    number: u64,
}

impl Log {
    /// The number of the last answer that this cursor needs nothing of, nor of those before it.
    pub(super) fn number(&self, cursor: &Position) -> Option<u64> {
        // Positions only grow within an epoch: what the cursor covers stands first.
        let last = self.covered.partition_point(|covered| cursor.covers(&covered.position)).checked_sub(1)?;
        self.covered.get(last).map(|covered| covered.number)
    }

    fn clear(&mut self) {
        *self = Self::default();
    }

    fn push(&mut self, position: &Position, number: u64) {
        match self.covered.back_mut() {
            Some(last) if last.position == *position => last.number = number,
            _ => {
                self.xids += position.xip.len();
                self.covered.push_back(Covered { position: position.clone(), number });
            }
        }
        while self.covered.len() > MAX_POSITIONS || self.xids > MAX_LOGGED_XIDS {
            let Some(oldest) = self.covered.pop_front() else { break };
            self.xids -= oldest.position.xip.len();
        }
    }
}

/// The pages of an answer that are here.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Pages {
    entries: Vec<Entry>,
    as_of: Moment,
    read_at_ms: u64,
    /// One of them starts from nothing.
    whole: bool,
}

/// Follows the upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Follower {
    cursor: Cursor,
    pages: Option<Pages>,
    /// How many answers were complete.
    number: u64,
}

/// A complete answer of the upstream.
#[derive(Clone, Debug)]
pub struct Update {
    read: Read,
    as_of: Moment,
    number: u64,
    whole: bool,
}

/// When what an answer says was certainly true, on the clocks that stamped its question; `None`: before they began.
fn dated(sent: Moment, held_ms: u32, age_ms: u32) -> Option<Moment> {
    let ms = |span: i64| Duration::from_millis(span.unsigned_abs());
    let (held, age) = (ms(at_least(held_ms)), ms(at_most(age_ms.into())));
    let on = |clock: Duration| clock.checked_add(held)?.checked_sub(age);
    Some(Moment { monotonic: on(sent.monotonic)?, wall: on(sent.wall)? })
}

impl Follower {
    /// The next question to the upstream.
    #[must_use]
    pub fn question(&self, nonce: Nonce, hold_ms: u32) -> Question {
        self.cursor.question(nonce, hold_ms)
    }

    /// Takes an answer to a question that left at `sent`. With its last page there is something to publish.
    pub fn take(&mut self, question: &Question, answer: Answer, sent: Moment) -> (Applied, Option<Update>) {
        match self.page(question, answer, sent) {
            Ok(None) => (Applied::More, None),
            Ok(Some(update)) => (Applied::Complete, Some(update)),
            Err(why) => {
                if !self.cursor.is_paging() {
                    self.pages = None;
                }
                (Applied::Dropped(why), None)
            }
        }
    }

    fn page(&mut self, question: &Question, answer: Answer, sent: Moment) -> Result<Option<Update>, Why> {
        let Answer { head, mut entries } = answer;
        if head.nonce != question.nonce {
            return Err(Why::OtherQuestion);
        }
        let as_of = dated(sent, head.held_ms, head.age_ms).ok_or(Why::TooOld)?;
        self.cursor.admit(question, &head)?;
        if head.epoch > self.cursor.epoch() && head.from.is_some() {
            // Another primary has a clock of its own, which may be behind: what was dropped here by the old one's may be
            // needed by its. A view need not care: it remembers how far it has pruned, and those who start here would not.
            self.cursor.reset();
            return Err(Why::NewEpoch);
        }
        if !self.cursor.is_reached_by(&head) {
            // What it holds is complete as of its own time only for who covers both: another answer will hold it.
            self.cursor.give_up_pages();
            return Err(Why::Behind);
        }
        let (mut as_of, mut read_at_ms, mut whole) = (as_of, head.read_at_ms, head.from.is_none());
        if let Some(mut before) = self.pages.take().filter(|_| self.cursor.is_paging()) {
            as_of = as_of.earlier(before.as_of);
            read_at_ms = read_at_ms.max(before.read_at_ms);
            whole |= before.whole;
            before.entries.append(&mut entries);
            entries = before.entries;
        }
        if !self.cursor.advance(&head) {
            self.pages = Some(Pages { entries, as_of, read_at_ms, whole });
            return Ok(None);
        }
        self.number += 1;
        let row = |entry: &Entry| Row {
            user_id: entry.user_id,
            revision: entry.revision,
            needed_until_ms: entry.needed_until_ms,
            feed_xid: self.number,
        };
        let read = Read {
            epoch: head.epoch,
            // The log is of this epoch only.
            cursors_from_epoch: head.epoch,
            position: head.to,
            read_at_ms,
            settings: EdgeSettings::of_feed(head.settings_version, head.max_staleness_ms),
            keys_version: head.keys_version,
            rows: entries.iter().map(row).collect(),
        };
        Ok(Some(Update { read, as_of, number: self.number, whole }))
    }
}

impl Update {
    const fn behind(&self) -> Behind {
        // The upstream's position is as durable as it says.
        Behind { read_began: self.as_of, beat_began: self.as_of, durable_xid: u64::MAX - 1 }
    }

    /// A first load, put in order before anybody has to wait for it; [`Source::follow`] is called with this next. See
    /// [`Source::load`].
    #[must_use]
    pub fn load(&mut self, instance: u64, change: u64, now: Moment) -> Source {
        let behind = self.behind();
        let mut source = Source::load(instance, &mut self.read, behind, change, now);
        source.log = Some(Log::default());
        source
    }
}

impl Source {
    /// Puts what the upstream has answered in the place of what was there: entries and position together. See
    /// [`Source::publish`].
    pub fn follow(&mut self, update: Update, pollers: usize, fresh: u64, now: Moment) -> Published {
        let mut behind = update.behind();
        let Update { mut read, number, whole, .. } = update;
        if read.epoch == self.epoch {
            if self.as_of.monotonic > behind.read_began.monotonic {
                // It goes further and says so later: what was complete then still is.
                (behind.read_began, behind.beat_began) = (self.as_of, self.as_of);
            }
            read.keys_version = read.keys_version.max(self.keys_version);
            if read.settings.version < self.settings.version {
                read.settings = self.settings.clone();
            }
        } else {
            // Another primary, with a clock of its own. Pages of before start over.
            (self.epoch, self.read_at_ms, self.instance) = (read.epoch, 0, fresh);
        }
        let published = self.publish(read, behind, pollers, fresh, now);
        let log = self.log.get_or_insert_default();
        // A new epoch begins with a whole answer ([`Follower::take`]).
        if whole {
            log.clear();
        }
        log.push(&self.position, number);
        published
    }
}
