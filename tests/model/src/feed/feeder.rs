//! A coordinator's reader: what it read of the feed, and what it answers (`coordinator/src/feed`, in small).

use edgekeep_shared::feed::{Answer, Entry, Head, PageToken, Question};
use edgekeep_shared::ids::UserId;
use edgekeep_shared::position::Position;
use edgekeep_shared::revision::Revision;

use super::database::Database;
use super::world::NOISE_NEEDED_UNTIL_MS;
use super::{Feed, T0_MS, TICK_MS};
use crate::Sabotage;

/// One row of the feed as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Row {
    xid: u64,
    user: u64,
    revision: Revision,
    needed_until_ms: u64,
}

/// A read: rows and position of one snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Reading {
    epoch: u16,
    position: Position,
    rows: Vec<Row>,
    read_at_ms: u64,
}

/// The reader of one coordinator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Feeder {
    reading: Option<Reading>,
    heartbeat_ms: u64,
    known_durable_xid: u64,
    /// Grows with every restart.
    instance: u64,
}

impl Feeder {
    /// It has nothing to answer from.
    pub(super) const fn is_down(&self) -> bool {
        self.reading.is_none()
    }

    /// A restart forgets everything.
    pub(super) fn restart(&mut self) {
        *self = Self { instance: self.instance + 1, ..Self::default() };
    }

    /// Its last read was of this epoch, so it need not begin with a heartbeat.
    pub(super) fn knows(&self, epoch: u16) -> bool {
        self.reading.as_ref().is_some_and(|reading| reading.epoch == epoch)
    }

    /// It still reads a primary of an older epoch.
    pub(super) fn is_behind(&self, epoch: u16) -> bool {
        self.reading.as_ref().is_some_and(|reading| reading.epoch < epoch)
    }

    /// Reads the feed, with a heartbeat first if it is time for one.
    pub(super) fn read(&mut self, feed: &Feed, db: &mut Database, beat: bool, now_ms: u64) {
        if !self.knows(db.epoch) {
            self.known_durable_xid = 0;
        }
        if beat {
            self.known_durable_xid = self.known_durable_xid.max(db.heartbeat());
            self.heartbeat_ms = now_ms;
        }
        let rows = &db.rows;
        let needed = if feed.broken(Sabotage::EntryKeptByAge) {
            now_ms < rows.raised_ms + TICK_MS
        } else {
            now_ms < rows.needed_until_ms
        };
        let own = Row { xid: rows.feed_xid, user: 1, revision: rows.revision, needed_until_ms: rows.needed_until_ms };
        let revision = Revision::first_of_epoch(1).raised();
        let noise = Row { xid: 5, user: 2, revision, needed_until_ms: NOISE_NEEDED_UNTIL_MS };
        let rows: Vec<Row> = feed
            .scenario
            .paged
            .then_some(noise)
            .into_iter()
            .chain((rows.feed_xid > 0 && needed).then_some(own))
            .collect();
        self.known_durable_xid = rows.iter().map(|row| row.xid).fold(self.known_durable_xid, u64::max);
        let Some(mut position) = db.snapshot() else { return };
        if feed.broken(Sabotage::SerialCursor) {
            position.xip.clear();
        }
        if !feed.broken(Sabotage::XmaxNotLowered) {
            position = position.lowered_to(self.known_durable_xid + 1);
        }
        self.reading = Some(Reading { epoch: db.epoch, position, rows, read_at_ms: now_ms });
    }

    /// Reads a primary that was deposed: it has not changed, and no heartbeat can be committed on it any more.
    pub(super) fn read_deposed(&mut self, feed: &Feed, now_ms: u64) {
        if let Some(reading) = &mut self.reading {
            reading.read_at_ms = now_ms;
            if feed.broken(Sabotage::HeartbeatElsewhere) {
                self.heartbeat_ms = now_ms;
            }
        }
    }

    /// Answers a question that it has kept waiting for `held_ms`; `None`: not ready, or the cursor is from ahead.
    pub(super) fn answer(&self, feed: &Feed, question: &Question, held_ms: u32, now_ms: u64) -> Option<Answer> {
        let reading = self.reading.as_ref()?;
        let from = question.from.as_ref();
        if from.is_some() && question.epoch > reading.epoch {
            return None;
        }
        let as_of_ms = reading.read_at_ms.min(self.heartbeat_ms);
        let page = question.page.as_ref().filter(|page| {
            page.instance == self.instance && page.read_at_ms <= as_of_ms - T0_MS && reading.position.covers(&page.to)
        });
        let unseen = |row: &&Row| {
            from.is_none_or(|from| {
                !from.sees(row.xid) || (question.epoch < reading.epoch && row.revision.epoch() > question.epoch)
            })
        };
        let after = page.map(|page| page.after);
        let mut rows: Vec<Row> = reading
            .rows
            .iter()
            .filter(unseen)
            .filter(|row| after.is_none_or(|after| (row.xid, row.user) > after))
            .copied()
            .collect();
        rows.sort_by_key(|row| (row.xid, row.user));
        let more = feed.scenario.paged && rows.len() > 1;
        if more {
            rows.truncate(1);
        }
        let to = page.map_or_else(|| reading.position.clone(), |page| page.to.clone());
        let first_ms = page.map_or(as_of_ms - T0_MS, |page| page.read_at_ms);
        let next = rows.last().filter(|_| more && !feed.broken(Sabotage::CursorFromFirstPage)).map(|last| PageToken {
            instance: self.instance,
            to: to.clone(),
            read_at_ms: first_ms,
            after: (last.xid, last.user),
        });
        let age_ms = if feed.broken(Sabotage::AgeNotStated) { 0 } else { now_ms - T0_MS - first_ms };
        let head = Head {
            nonce: question.nonce,
            epoch: reading.epoch,
            from: from.cloned(),
            to,
            age_ms: u32::try_from(age_ms).ok()?,
            held_ms,
            read_at_ms: reading.read_at_ms,
            keys_version: 1,
            settings_version: 1,
            max_staleness_ms: feed.scenario.bound_ms,
            next_page: next,
        };
        let entries = rows.iter().map(|row| Entry {
            user_id: UserId(row.user),
            revision: row.revision,
            needed_until_ms: row.needed_until_ms,
        });
        Some(Answer { head, entries: entries.collect() })
    }
}
