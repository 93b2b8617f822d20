//! A relay between the edges and the coordinators: when it asks and hears. What it makes of an answer, and what it answers
//! itself, is `shared::source`.

use std::sync::Arc;

use edgekeep_shared::feed::{Answer, Question};
use edgekeep_shared::ids::Nonce;
use edgekeep_shared::moment::Moment;
use edgekeep_shared::source::{Follower, Source};
use edgekeep_shared::view::{Applied, Why};

use super::Feed;
use super::feeder::answer;
use crate::Sabotage;

/// Names the relay's loads, which are nobody else's; each start has two.
const INSTANCE: u64 = 1 << 32;

/// A relay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Relay {
    follower: Follower,
    source: Option<Arc<Source>>,
    restarts: u8,
    /// Its questions, when they left, and what was answered: an answer may come late.
    pub(super) air: Vec<(Question, Moment, Option<Answer>)>,
}

impl Relay {
    /// Asks a coordinator; the question is not held.
    pub(super) fn ask(&mut self, number: u8, now: Moment) {
        self.air.push((self.follower.question(Nonce([100 + number; 16]), 0), now, None));
    }

    /// A restart forgets everything. Its questions are answered all the same: the harder case.
    pub(super) fn restart(&mut self, feed: &Feed) {
        if !feed.broken(Sabotage::RelayKeepsItsCursor) {
            self.follower = Follower::default();
        }
        self.source = None;
        self.restarts += 1;
    }

    /// It has nothing to answer from.
    pub(super) const fn is_down(&self) -> bool {
        self.source.is_none()
    }

    /// An answer is on its way that would be dropped, now, for this.
    pub(super) fn would_drop(&self, why: Why) -> bool {
        self.air.iter().any(|(question, sent, answer)| {
            let taken = answer.clone().map(|answer| self.follower.clone().take(question, answer, *sent).0);
            taken == Some(Applied::Dropped(why))
        })
    }

    /// An answer arrives.
    pub(super) fn deliver(&mut self, feed: &Feed, which: usize, now: Moment) {
        if which >= self.air.len() {
            return;
        }
        // Once: it numbers what it takes, so that repetitions of one answer would have no end.
        let (question, sent, Some(answer)) = self.air.remove(which) else { return };
        let sent = if feed.broken(Sabotage::RelayAgeFromReceipt) { now } else { sent };
        let (_, update) = self.follower.take(&question, answer, sent);
        let Some(mut update) = update else { return };
        if feed.broken(Sabotage::RelayTakesTheLastForAll) {
            self.source = None;
        }
        let instance = INSTANCE + 2 * u64::from(self.restarts);
        let mut source = match self.source.take() {
            Some(source) => Arc::unwrap_or_clone(source),
            None => update.load(instance, 0, now),
        };
        source.follow(update, 0, instance + 1, now);
        self.source = Some(Arc::new(source));
    }

    /// Answers an edge.
    pub(super) fn answer(&self, feed: &Feed, question: &Question, now: Moment) -> Option<Answer> {
        answer(feed, self.source.as_deref()?, question, None, now)
    }
}
