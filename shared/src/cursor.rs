//! Where somebody who follows the feed stands (design 2.2): an edge's view, or a relay. What to ask next, whether an answer
//! goes on from here, and where one stands after it.
//!
//! Guarantees: an answer counts only if it starts from nothing or from what is covered; pages are of one answer and come in
//! order; the position never moves backwards.

use crate::feed::{Head, PageToken, Question};
use crate::ids::Nonce;
use crate::position::Position;
use crate::view::Why;

/// Epoch, position, and the answer of which some pages are here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cursor {
    epoch: u16,
    position: Option<Position>,
    paging: Option<PageToken>,
}

impl Cursor {
    /// Nothing is covered any more; the epoch stays, so that an older one's answers are still refused.
    pub fn reset(&mut self) {
        (self.position, self.paging) = (None, None);
    }

    /// The epoch of the position; 0 before the first answer.
    #[must_use]
    pub const fn epoch(&self) -> u16 {
        self.epoch
    }

    /// What is covered; `None` before the first complete answer.
    #[must_use]
    pub const fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    /// Some pages of an answer are here, the rest is still to be asked for.
    #[must_use]
    pub const fn is_paging(&self) -> bool {
        self.paging.is_some()
    }

    /// Forgets the pages that are here: the next question is for the first one.
    pub fn give_up_pages(&mut self) {
        self.paging = None;
    }

    /// The next question: the rest of an answer that was begun, or what lies past the position.
    #[must_use]
    pub fn question(&self, nonce: Nonce, hold_ms: u32) -> Question {
        let hold_ms = if self.paging.is_some() { 0 } else { hold_ms };
        Question { nonce, epoch: self.epoch, from: self.position.clone(), page: self.paging.clone(), hold_ms }
    }

    /// The answer to this question goes on from here. With [`Why::Gap`] pages that are here are given up.
    ///
    /// # Errors
    /// Why it does not.
    pub fn admit(&mut self, question: &Question, head: &Head) -> Result<(), Why> {
        if head.epoch < self.epoch {
            return Err(Why::OldEpoch);
        }
        if question.page != self.paging {
            return Err(Why::OtherPages);
        }
        // Pages of one answer come from one reader and state the position of the first; a restarted one has no page.
        let continues = self.paging.as_ref().is_none_or(|page| page.to == head.to);
        if !self.covers(question, head) || !continues {
            self.paging = None;
            return Err(Why::Gap);
        }
        Ok(())
    }

    /// The answer is complete for who stands here: it starts from nothing, or from what is covered.
    ///
    /// Positions are compared within one epoch only; across epochs the answer must start exactly at the cursor that
    /// was asked with and that still is this one.
    fn covers(&self, question: &Question, head: &Head) -> bool {
        match (&head.from, &self.position) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(from), Some(at)) if head.epoch == self.epoch => at.covers(from),
            (Some(from), Some(at)) => from == at && question.epoch == self.epoch,
        }
    }

    /// The end of this answer is not behind.
    #[must_use]
    pub fn is_reached_by(&self, head: &Head) -> bool {
        head.epoch > self.epoch || self.position.as_ref().is_none_or(|at| head.to.covers(at))
    }

    /// An admitted answer is in: it was its last page (`true`), and the position moves unless that would be backwards; or
    /// the next page is to be asked for.
    pub fn advance(&mut self, head: &Head) -> bool {
        self.paging.clone_from(&head.next_page);
        if self.paging.is_some() {
            return false;
        }
        if self.is_reached_by(head) {
            self.epoch = head.epoch;
            self.position = Some(head.to.clone());
        }
        true
    }
}
