//! What an edge remembers of the feed, and the rules by which an answer changes it (G2, G5).
//!
//! Guarantees: an entry's revision and time only grow; the position never moves backwards; the lease
//! is extended only by an answer that is complete for a view that covers its `from`; nothing is
//! forgotten before coordinator time, as the database stated it, has passed its `needed_until`.

mod table;

pub use table::{RevisionTable, TableFull};

use crate::cursor::Cursor;
use crate::feed::{Answer, Question};
use crate::ids::{Nonce, UserId};
use crate::lease::{ClockBounds, EdgeMs, Lease, Sent, true_at};
use crate::revision::Revision;

/// The view of one isolate with its lease.
#[derive(Clone, Debug, Default)]
pub struct View {
    table: RevisionTable,
    cursor: Cursor,
    pruned_to_ms: u64,
    lease: Lease,
    clock: Option<ClockBounds>,
    /// The entries did not fit: such an isolate asks for every request.
    overflowed: bool,
}

/// What became of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It is in, and the lease counts from it.
    Complete,
    /// A page is in; ask for the next.
    More,
    /// It changes nothing.
    Dropped(Why),
}

/// Why an answer changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It answers another question.
    OtherQuestion,
    /// It is of an epoch that is over.
    OldEpoch,
    /// It starts past what the view covers.
    Gap,
    /// It continues an answer that was given up.
    OtherPages,
    /// The clock went back while it was under way.
    ClockStepped,
    /// The entries do not fit into memory.
    TooManyEntries,
    /// It ends where a relay has been already: another upstream is further.
    Behind,
    /// It is older than the clock that it would be dated with.
    TooOld,
    /// It goes on from an older epoch, and a relay asks for everything in a new one.
    NewEpoch,
}

impl View {
    /// The next question: the rest of an answer that was begun, or what lies past the cursor.
    #[must_use]
    pub fn question(&self, nonce: Nonce, hold_ms: u32) -> Question {
        self.cursor.question(nonce, hold_ms)
    }

    /// Stamps a question that leaves now: see [`Lease::sent`].
    #[must_use]
    pub const fn sent(&self, now_ms: EdgeMs) -> Sent {
        self.lease.sent(now_ms)
    }

    /// Applies an answer to a question that was stamped with `sent` and that arrived at `received_ms`.
    pub fn apply(&mut self, question: &Question, answer: &Answer, sent: Sent, received_ms: EdgeMs) -> Applied {
        let head = &answer.head;
        if head.nonce != question.nonce {
            return Applied::Dropped(Why::OtherQuestion);
        }
        self.lease.observe(received_ms);
        if !self.lease.can_measure_since(sent, received_ms) {
            return Applied::Dropped(Why::ClockStepped);
        }
        if let Err(why) = self.cursor.admit(question, head) {
            return Applied::Dropped(why);
        }
        if head.next_page.is_some() {
            self.table.expect_more();
        }
        for entry in &answer.entries {
            if self.table.raise(entry.user_id, entry.revision, entry.needed_until_ms).is_err() {
                self.reset();
                self.overflowed = true;
                return Applied::Dropped(Why::TooManyEntries);
            }
        }
        if !self.cursor.advance(head) {
            return Applied::More;
        }
        self.table.fit();
        self.overflowed = false;
        self.pruned_to_ms = self.pruned_to_ms.max(head.read_at_ms);
        self.lease.extend(true_at(sent.at_ms, head.held_ms, head.age_ms), head.max_staleness_ms, head.keys_version);
        self.clock =
            Some(ClockBounds::from_answer(sent.at_ms, received_ms, head.held_ms, head.age_ms, head.read_at_ms));
        Applied::Complete
    }

    /// Forgets everything: no position, no lease. What is pruned stays pruned.
    pub fn reset(&mut self) {
        let mut cursor = core::mem::take(&mut self.cursor);
        cursor.reset();
        *self = Self { pruned_to_ms: self.pruned_to_ms, cursor, lease: self.lease, ..Self::default() };
        self.lease.end();
    }

    /// Drops entries that no proof can need any more. A few milliseconds at a million entries: call it now and then.
    pub fn prune(&mut self) {
        self.table.prune(self.pruned_to_ms);
    }

    /// Notes the edge's clock; a step back ends the lease.
    pub fn observe_clock(&mut self, now_ms: EdgeMs) {
        self.lease.observe(now_ms);
    }

    /// Proofs of this user with a lower revision must ask first.
    #[must_use]
    pub fn revision_of(&self, user_id: UserId) -> Option<Revision> {
        self.table.get(user_id)
    }

    /// Proofs with a `renew_after` up to here may need entries that are gone: they must ask first.
    #[must_use]
    pub const fn pruned_to_ms(&self) -> u64 {
        self.pruned_to_ms
    }

    /// The feed epoch of the view; 0 before the first answer.
    #[must_use]
    pub const fn epoch(&self) -> u16 {
        self.cursor.epoch()
    }

    /// A complete answer was applied at some time, and all of it fitted.
    #[must_use]
    pub const fn is_loaded(&self) -> bool {
        self.cursor.position().is_some() && !self.overflowed
    }

    /// Some pages of an answer are here, the rest is still to be asked for.
    #[must_use]
    pub const fn is_paging(&self) -> bool {
        self.cursor.is_paging()
    }

    /// The lease.
    #[must_use]
    pub const fn lease(&self) -> &Lease {
        &self.lease
    }

    /// What is known of coordinator time; `None` before the first answer.
    #[must_use]
    pub const fn clock(&self) -> Option<&ClockBounds> {
        self.clock.as_ref()
    }

    /// How many users have entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// No user has an entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }
}
