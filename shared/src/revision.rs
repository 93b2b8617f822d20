//! Revisions: the one number per user that makes a revocation stick (G5).
//!
//! A revision only grows. Its high 16 bits are the feed epoch, so that it grows across failovers
//! too: a row that an asynchronous standby forgot can never produce an old number again.

use serde::{Deserialize, Serialize};

/// The bits below the epoch.
const COUNTER_BITS: u32 = 48;

/// A user's revision: epoch in the high 16 bits, a counter below.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl Revision {
    /// The lowest revision of a feed epoch.
    #[must_use]
    pub const fn first_of_epoch(epoch: u16) -> Self {
        Self((epoch as u64) << COUNTER_BITS)
    }

    /// The feed epoch that this revision belongs to.
    #[must_use]
    pub const fn epoch(self) -> u16 {
        (self.0 >> COUNTER_BITS) as u16
    }

    /// The counter below the epoch.
    #[must_use]
    pub const fn counter(self) -> u64 {
        self.0 & ((1 << COUNTER_BITS) - 1)
    }

    /// What a proof signed now carries: the row's revision, or the first of the current epoch if that is higher.
    #[must_use]
    pub fn base(row: Self, epoch: u16) -> Self {
        row.max(Self::first_of_epoch(epoch))
    }

    /// What a raise stores: one above the base, so that every proof signed at the base must ask first.
    #[must_use]
    pub const fn raised(self) -> Self {
        Self(self.0 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_epoch_exceeds_every_revision_of_the_old_one() {
        let last_of_old = Revision(Revision::first_of_epoch(4).0 - 1);
        assert_eq!(last_of_old.epoch(), 3);
        assert!(Revision::base(last_of_old, 4) > last_of_old);
        assert_eq!(Revision::base(Revision::first_of_epoch(4).raised(), 4).counter(), 1);
        assert_eq!(Revision::base(Revision(7), 0), Revision(7));
    }
}
