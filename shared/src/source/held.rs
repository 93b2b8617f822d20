//! A question that is held: when it is answered, and when the shell looks at it again.
//!
//! Guarantee: it is answered as soon as something lies past its cursor (after the coalescing gap, unless a relay asks), when
//! the key set or the settings change, when its hold is over, or when the coordinator shuts down.

use core::time::Duration;

use super::{FEW_POLLERS, Source, Unseen};
use crate::feed::{PageToken, Question};
use crate::moment::{Moment, ms_rounded_down};
use crate::position::Position;

/// The longest hold, whatever the bound, in milliseconds: connections in between close idle ones.
const LONGEST_HOLD_MS: u32 = 20_000;
/// A question whose cursor is ahead of this coordinator's last read waits at least so long, in milliseconds, for a
/// heartbeat and a read that catch up.
const CATCH_UP_MS: u32 = 300;

/// How long a question is held: what it allows, a quarter of the bound, and what connections bear.
fn hold_ms(asked_ms: u32, max_staleness_ms: u32) -> u32 {
    asked_ms.min(max_staleness_ms / 4).min(LONGEST_HOLD_MS)
}

/// A question on its way to its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Held {
    /// When it came, on the monotonic clock.
    asked: Duration,
    /// What makes it return when it changes: versions of keys and settings, and the epoch.
    first_versions: Option<(u64, u64, u16)>,
    /// The first wave that its entries fall into stays its own.
    wave: Option<Duration>,
    behind: bool,
    /// It is answered with others, in waves.
    gathered: bool,
}

/// What a look at a held question says.
#[derive(Debug)]
pub enum Look<'a> {
    /// It is answered now.
    Answer(Due<'a>),
    /// Not yet.
    Wait(Wait),
}

/// What an answer must hold.
#[derive(Clone, Copy, Debug)]
pub struct Due<'a> {
    /// The entries.
    pub unseen: Unseen<'a>,
    /// The answer is complete for a view that covers this.
    pub from: Option<&'a Position>,
    /// The answer goes on here.
    pub page: Option<&'a PageToken>,
    /// How long the question was held, in milliseconds, rounded down.
    pub held_ms: u64,
}

/// When to look again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// At this moment of the monotonic clock at the latest.
    pub until: Duration,
    /// After the next change as well.
    pub on_change: bool,
    /// It has just been found to be ahead of the last read: a heartbeat and a read are wanted, and it looks again whenever
    /// the position moves.
    pub catch_up: bool,
}

/// Why a question gets no answer from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CannotAnswer {
    /// Nothing has been read yet.
    NotLoaded,
    /// The last read, or the last heartbeat, is longer ago than half of the bound.
    TooOld,
    /// The cursor is of an epoch that this coordinator has not reached.
    Ahead,
}

impl Held {
    /// A question that has just come.
    #[must_use]
    pub fn new(source: Option<&Source>, now: Moment) -> Self {
        Self { asked: now.monotonic, first_versions: source.map(versions), wave: None, behind: false, gathered: true }
    }

    /// A relay asks: many edges wait for what it is told, so it waits for no wave. `held`: how many questions of relays are
    /// held beside it; a crowd of relays is gathered like a crowd of edges.
    #[must_use]
    pub const fn of_relay(self, held: usize) -> Self {
        Self { gathered: held >= FEW_POLLERS, ..self }
    }

    /// Looks once: an answer, or how to wait.
    ///
    /// # Errors
    /// When this coordinator cannot answer.
    pub fn look<'a>(
        &mut self,
        source: Option<&Source>,
        question: &'a Question,
        now: Moment,
        draining: bool,
    ) -> Result<Look<'a>, CannotAnswer> {
        let news = source.map(versions) != self.first_versions || draining;
        let source = source.ok_or(CannotAnswer::NotLoaded)?;
        if source.too_old(now) {
            return Err(CannotAnswer::TooOld);
        }
        let (unseen, from) = source.unseen(question)?;
        let held = now.monotonic.saturating_sub(self.asked);
        let page = question.page.as_ref().filter(|page| source.continues(page));
        let cursor = question.from.as_ref().filter(|_| question.epoch == source.epoch);
        let behind = cursor.is_some_and(|cursor| !source.position.covers(cursor));
        // A cursor of an older epoch, or one that means nothing here, is replaced at once; but not by a position behind it.
        if page.is_none() && (behind || (cursor.is_some() && from.is_some())) && !news {
            let hold = hold_ms(question.hold_ms, source.settings.max_staleness_ms);
            let until_ms = if behind { hold.max(CATCH_UP_MS) } else { hold };
            let until = self.asked + Duration::from_millis(u64::from(until_ms));
            if now.monotonic < until {
                if behind || !source.store.has_unseen(unseen) {
                    // Also if its entries were pruned before their wave: then there is nothing to be woken for.
                    self.wave = None;
                    let catch_up = behind && !self.behind;
                    self.behind |= behind;
                    return Ok(Look::Wait(Wait { until, on_change: true, catch_up }));
                }
                let wave = self.wave.unwrap_or(source.wave_at);
                if self.gathered && now.monotonic < wave {
                    self.wave = Some(wave);
                    // Whatever changes until its wave is in the answer anyway.
                    return Ok(Look::Wait(Wait { until: wave.min(until), on_change: false, catch_up: false }));
                }
            }
        }
        Ok(Look::Answer(Due { unseen, from, page, held_ms: ms_rounded_down(held) }))
    }
}

fn versions(source: &Source) -> (u64, u64, u16) {
    (source.keys_version, source.settings.version, source.epoch)
}

#[cfg(test)]
mod tests {
    use super::super::{Behind, EdgeSettings, Read, Row};
    use super::*;
    use crate::ids::{Nonce, UserId};
    use crate::revision::Revision;

    fn at(ms: u64) -> Moment {
        Moment { monotonic: Duration::from_millis(ms), wall: Duration::from_millis(ms) }
    }

    fn read(rows: Vec<Row>, xmax: u64) -> Read {
        let settings = EdgeSettings::of_feed(1, 4_000);
        let position = Position { xmax, xip: vec![] };
        Read { epoch: 1, cursors_from_epoch: 1, position, read_at_ms: 1, settings, keys_version: 1, rows }
    }

    fn behind(ms: u64) -> Behind {
        Behind { read_began: at(ms), beat_began: at(ms), durable_xid: 99 }
    }

    fn source() -> Source {
        let mut first = read(vec![], 20);
        let mut source = Source::load(7, &mut first, behind(0), 0, at(0));
        source.publish(first, behind(0), 0, 8, at(0));
        source
    }

    fn question(xmax: u64) -> Question {
        let from = Some(Position { xmax, xip: vec![] });
        Question { nonce: Nonce([1; 16]), epoch: 1, from, page: None, hold_ms: 200 }
    }

    const ROW: Row = Row { user_id: UserId(1), revision: Revision(1), needed_until_ms: 100, feed_xid: 20 };

    #[test]
    fn a_hold_is_at_most_a_quarter_of_the_bound() {
        assert_eq!(hold_ms(1_000, 5_000), 1_000);
        assert_eq!(hold_ms(4_000, 5_000), 1_250);
        assert_eq!(hold_ms(u32::MAX, 600_000), LONGEST_HOLD_MS);
    }

    #[test]
    fn it_waits_for_its_hold_and_is_answered_by_news() {
        let (mut source, question) = (source(), question(20));
        let mut held = Held::new(Some(&source), at(10));
        let wait = Wait { until: Duration::from_millis(210), on_change: true, catch_up: false };
        assert!(matches!(held.look(Some(&source), &question, at(10), false), Ok(Look::Wait(told)) if told == wait));
        assert!(matches!(held.look(Some(&source), &question, at(10), true), Ok(Look::Answer(_))));
        source.publish(read(vec![ROW], 21), behind(50), 1, 8, at(50));
        let Ok(Look::Answer(due)) = held.look(Some(&source), &question, at(60), false) else { panic!("an answer") };
        let (entries, next) = source.page(&due, 9);
        let head = source.head(&question, &due, next, at(60));
        assert_eq!((entries.len(), head.held_ms, head.age_ms, head.to.xmax), (1, 50, 10, 21));
        source.publish(read(vec![], 21), behind(70), 1, 8, at(70));
        assert!(matches!(held.look(Some(&source), &question, at(2_071), false), Err(CannotAnswer::TooOld)));
        assert!(matches!(held.look(None, &question, at(2_071), false), Err(CannotAnswer::NotLoaded)));
    }

    #[test]
    fn a_question_from_ahead_asks_for_a_read_once() {
        let (source, question) = (source(), question(30));
        let mut held = Held::new(Some(&source), at(0));
        for catch_up in [true, false] {
            let wait = Wait { until: Duration::from_millis(300), on_change: true, catch_up };
            assert!(matches!(held.look(Some(&source), &question, at(0), false), Ok(Look::Wait(told)) if told == wait));
        }
        let ahead = Question { epoch: 2, ..question };
        assert!(matches!(held.look(Some(&source), &ahead, at(0), false), Err(CannotAnswer::Ahead)));
    }

    #[test]
    fn many_share_a_wave_and_entries_pruned_before_it_wake_nobody() {
        let (mut source, question) = (source(), question(20));
        source.publish(read(vec![ROW], 21), behind(5), 1_000, 8, at(5));
        let mut held = Held::new(Some(&source), at(6));
        let wait = Wait { until: Duration::from_millis(20), on_change: false, catch_up: false };
        assert!(matches!(held.look(Some(&source), &question, at(6), false), Ok(Look::Wait(told)) if told == wait));
        source.publish(Read { read_at_ms: 100, ..read(vec![], 21) }, behind(20), 1_000, 8, at(20));
        let wait = Wait { until: Duration::from_millis(206), on_change: true, catch_up: false };
        assert!(matches!(held.look(Some(&source), &question, at(20), false), Ok(Look::Wait(told)) if told == wait));
    }

    #[test]
    fn a_relay_waits_for_no_wave_unless_there_is_a_crowd_of_them() {
        let (mut source, question) = (source(), question(20));
        let held = Held::new(Some(&source), at(5));
        source.publish(read(vec![ROW], 21), behind(5), 1_000, 8, at(5));
        for (mut held, at_once) in [(held, false), (held.of_relay(63), true), (held.of_relay(64), false)] {
            let look = held.look(Some(&source), &question, at(6), false);
            assert_eq!(matches!(look, Ok(Look::Answer(_))), at_once, "{held:?}");
        }
        // With nothing past its cursor it waits like any other.
        let mut held = held.of_relay(0);
        let seen = Question { from: Some(Position { xmax: 21, xip: vec![] }), ..question };
        let wait = Wait { until: Duration::from_millis(205), on_change: true, catch_up: false };
        assert!(matches!(held.look(Some(&source), &seen, at(6), false), Ok(Look::Wait(told)) if told == wait));
    }

    #[test]
    fn new_keys_new_settings_and_a_new_epoch_are_news() {
        let question = question(20);
        let answered = |change: fn(&mut Read)| {
            let mut source = source();
            let mut held = Held::new(Some(&source), at(10));
            let mut next = read(vec![], 20);
            change(&mut next);
            if next.epoch == 1 {
                source.publish(next, behind(20), 1, 8, at(20));
            } else {
                source = Source::load(9, &mut next, behind(20), 0, at(20));
                source.publish(next, behind(20), 1, 8, at(20));
            }
            matches!(held.look(Some(&source), &question, at(20), false), Ok(Look::Answer(_)))
        };
        assert!(!answered(|_| {}));
        assert!(answered(|read| read.keys_version = 2));
        assert!(answered(|read| read.settings.version = 2));
        // Entries with a revision of the new epoch may be older than the cursor.
        assert!(answered(|read| read.epoch = 2));
    }

    #[test]
    fn the_end_of_a_hold_and_its_wave_are_moments_of_an_answer() {
        let (mut source, question) = (source(), question(20));
        let mut held = Held::new(Some(&source), at(10));
        assert!(matches!(held.look(Some(&source), &question, at(209), false), Ok(Look::Wait(_))));
        let Ok(Look::Answer(due)) = held.look(Some(&source), &question, at(210), false) else { panic!("an answer") };
        assert_eq!((due.held_ms, due.from), (200, question.from.as_ref()));
        source.publish(read(vec![ROW], 21), behind(5), 1_000, 8, at(5));
        let mut held = Held::new(Some(&source), at(6));
        assert!(matches!(held.look(Some(&source), &question, at(19), false), Ok(Look::Wait(_))));
        assert!(matches!(held.look(Some(&source), &question, at(20), false), Ok(Look::Answer(_))));
    }

    #[test]
    fn a_load_of_everything_and_the_rest_of_an_answer_are_not_held() {
        let source = source();
        let whole = Question { from: None, ..question(20) };
        let page = PageToken { instance: 7, to: Position { xmax: 20, xip: vec![] }, read_at_ms: 0, after: (10, 1) };
        let rest = Question { page: Some(page.clone()), ..question(20) };
        let of_another = Question { page: Some(PageToken { instance: 6, ..page }), ..question(20) };
        for (question, at_once) in [(whole, true), (rest, true), (of_another, false)] {
            let look =
                Held::new(Some(&source), at(0)).look(Some(&source), &question, at(0), false).map(|look| match look {
                    Look::Answer(due) => (true, due.page == question.page.as_ref()),
                    Look::Wait(_) => (false, true),
                });
            assert_eq!(look, Ok((at_once, true)), "{question:?}");
        }
    }
}
