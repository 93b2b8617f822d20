//! A coordinator's reader: when it reads, and on which connection. What it has read, and what it answers, is
//! `shared::source`, as in the coordinator and in the simulation.

use std::sync::Arc;

use edgekeep_shared::feed::{Answer, Question};
use edgekeep_shared::moment::Moment;
use edgekeep_shared::source::{Behind, EdgeSettings, Held, Look, Read, Source, durable_after};

use super::Feed;
use super::database::Database;
use crate::Sabotage;

/// The reader of one coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Feeder {
    number: u8,
    source: Option<Arc<Source>>,
    /// Of the primary that it is connected to; 0: none.
    epoch: u16,
    durable_xid: u64,
    beat_began: Option<Moment>,
    /// Grows with every load: it names them.
    loads: u8,
}

impl Feeder {
    pub(super) const fn new(number: u8) -> Self {
        Self { number, source: None, epoch: 0, durable_xid: 0, beat_began: None, loads: 0 }
    }

    /// It has nothing to answer from.
    pub(super) const fn is_down(&self) -> bool {
        self.source.is_none()
    }

    /// A restart forgets everything.
    pub(super) fn restart(&mut self) {
        *self = Self { loads: self.loads, ..Self::new(self.number) };
    }

    /// Its last read was of this epoch, so it need not begin with a heartbeat.
    pub(super) fn knows(&self, epoch: u16) -> bool {
        self.source.as_ref().is_some_and(|source| source.epoch() == epoch)
    }

    /// It still reads a primary of an older epoch.
    pub(super) fn is_behind(&self, epoch: u16) -> bool {
        self.source.as_ref().is_some_and(|source| source.epoch() < epoch)
    }

    /// Reads the feed, with a heartbeat first if it is time for one. No heartbeat can be committed on a primary that was
    /// deposed.
    pub(super) fn read(&mut self, feed: &Feed, db: &mut Database, beat: bool, now: Moment, now_ms: u64) {
        if self.epoch != db.epoch {
            (self.epoch, self.durable_xid, self.source) = (db.epoch, 0, None);
        }
        if beat {
            self.durable_xid = self.durable_xid.max(db.heartbeat());
            self.beat_began = Some(now);
        }
        let (Some(beat_began), Some(mut position)) = (self.beat_began, db.snapshot()) else { return };
        if feed.broken(Sabotage::SerialCursor) {
            position.xip.clear();
        }
        let mut read = Read {
            epoch: db.epoch,
            cursors_from_epoch: 1,
            position,
            read_at_ms: now_ms,
            settings: EdgeSettings {
                version: 1,
                site: String::new(),
                max_staleness_ms: feed.scenario.bound_ms,
                sessions_per_user: feed.scenario.sessions_per_user,
                password_min_chars: 15,
            },
            keys_version: 1,
            rows: db.rows_past(feed, self.source.as_ref().map(|source| source.position()), now_ms),
        };
        self.durable_xid = durable_after(self.durable_xid, &read.rows);
        let durable_xid = if feed.broken(Sabotage::XmaxNotLowered) { u64::MAX - 1 } else { self.durable_xid };
        let behind = Behind { read_began: now, beat_began, durable_xid };
        let instance = u64::from(self.number) << 8 | u64::from(self.loads);
        let mut source = match self.source.take() {
            Some(source) => Arc::unwrap_or_clone(source),
            None => {
                self.loads += 1;
                Source::load(instance, &mut read, behind, 0, now)
            }
        };
        source.publish(read, behind, 0, instance, now);
        self.source = Some(Arc::new(source));
    }

    /// A heartbeat that was committed somewhere, though not where it reads.
    pub(super) const fn beat_elsewhere(&mut self, now: Moment) {
        self.beat_began = Some(now);
    }

    /// A question comes and is kept.
    pub(super) fn hold(&self, now: Moment) -> Held {
        Held::new(self.source.as_deref(), now)
    }

    /// Looks at a question, which has just come or is held: an answer; or `None`, if it waits or cannot be answered.
    pub(super) fn answer(&self, feed: &Feed, question: &Question, held: Option<Held>, now: Moment) -> Option<Answer> {
        answer(feed, self.source.as_deref()?, question, held, now)
    }
}

/// Looks at a question to this source.
pub(super) fn answer(
    feed: &Feed,
    source: &Source,
    question: &Question,
    held: Option<Held>,
    now: Moment,
) -> Option<Answer> {
    let mut held = held.unwrap_or_else(|| Held::new(Some(source), now));
    let Ok(Look::Answer(due)) = held.look(Some(source), question, now, false) else { return None };
    let limit = if feed.scenario.paged.is_some() { 1 } else { 64 };
    let (entries, next) = source.page(&due, limit);
    let mut head = source.head(question, &due, next, now);
    if feed.broken(Sabotage::CursorFromFirstPage) {
        head.next_page = None;
    }
    if feed.broken(Sabotage::CursorFromLastPage) && head.next_page.is_none() {
        head.to = source.position().clone();
    }
    if feed.broken(Sabotage::AgeNotStated) {
        head.age_ms = 0;
    }
    Some(Answer { head, entries })
}
