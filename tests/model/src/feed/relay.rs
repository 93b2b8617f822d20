//! A relay between the edges and the coordinators: when it asks and hears. What it makes of an answer, and what it answers
//! itself, is `shared::source`.

use std::sync::Arc;

use edgekeep_shared::feed::{Answer, Question};
use edgekeep_shared::ids::Nonce;
use edgekeep_shared::moment::Moment;
use edgekeep_shared::source::{Follower, Source};

use super::Feed;
use super::feeder::answer;
use crate::Sabotage;

/// Names the relay's loads, which are nobody else's.
const INSTANCE: u64 = 1 << 32;

/// A relay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Relay {
    follower: Follower,
    source: Option<Arc<Source>>,
    /// Its questions, when they left, and what was answered: an answer may come late.
    pub(super) air: Vec<(Question, Moment, Option<Answer>)>,
}

impl Relay {
    /// Asks a coordinator; the question is not held.
    pub(super) fn ask(&mut self, number: u8, now: Moment) {
        self.air.push((self.follower.question(Nonce([100 + number; 16]), 0), now, None));
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
        let mut source = match self.source.take() {
            Some(source) => Arc::unwrap_or_clone(source),
            None => update.load(INSTANCE, 0, now),
        };
        source.follow(update, 0, INSTANCE + 1, now);
        self.source = Some(Arc::new(source));
    }

    /// Answers an edge.
    pub(super) fn answer(&self, feed: &Feed, question: &Question, now: Moment) -> Option<Answer> {
        answer(feed, self.source.as_deref()?, question, None, now)
    }
}
