//! A position in the feed: which transactions a read has seen (design 2.2).
//!
//! A serial number is unsound, because a transaction with a smaller number can commit later and be
//! skipped for ever. A position is therefore what Postgres calls a `pg_snapshot`, with its `xmax`
//! lowered to one above the highest transaction id known to be durable: after a crash Postgres
//! hands out the others again.

use serde::{Deserialize, Serialize};

/// The most in-progress transactions that a position names.
pub const MAX_IN_PROGRESS: usize = 4_096;

/// Sees every transaction below `xmax` that is not in `xip`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The first transaction id that was not yet given out (or not known durable).
    pub xmax: u64,
    /// Those below it that were still in progress, ascending.
    pub xip: Vec<u64>,
}

/// The text is not a `pg_snapshot`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a pg_snapshot, or with more than {MAX_IN_PROGRESS} transactions in progress")]
pub struct InvalidSnapshot;

impl Position {
    /// A position from its parts; `None` if the list is not strictly ascending, not below `xmax`, or too long.
    #[must_use]
    pub fn new(xmax: u64, xip: Vec<u64>) -> Option<Self> {
        let ascending = xip.windows(2).all(|pair| pair[0] < pair[1]);
        let below = xip.last().is_none_or(|last| *last < xmax);
        (ascending && below && xip.len() <= MAX_IN_PROGRESS).then_some(Self { xmax, xip })
    }

    /// Reads `xmin:xmax:xip,xip,…`, the text form of Postgres.
    ///
    /// # Errors
    /// When it is not one.
    pub fn from_pg_snapshot(text: &str) -> Result<Self, InvalidSnapshot> {
        let mut parts = text.split(':');
        let (Some(_), Some(xmax), Some(xip), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err(InvalidSnapshot);
        };
        let xmax = xmax.parse().map_err(|_| InvalidSnapshot)?;
        let in_progress = if xip.is_empty() {
            Vec::new()
        } else {
            xip.split(',').map(str::parse).collect::<Result<Vec<u64>, _>>().map_err(|_| InvalidSnapshot)?
        };
        Self::new(xmax, in_progress).ok_or(InvalidSnapshot)
    }

    /// Forgets everything at or above `durable_xmax` (one above the highest transaction id known durable).
    #[must_use]
    pub fn lowered_to(mut self, durable_xmax: u64) -> Self {
        if durable_xmax < self.xmax {
            self.xmax = durable_xmax;
            self.xip.retain(|xid| *xid < durable_xmax);
        }
        self
    }

    /// A row written by this transaction was visible to the read, so it has been delivered.
    #[must_use]
    pub fn sees(&self, xid: u64) -> bool {
        xid < self.xmax && self.xip.binary_search(&xid).is_err()
    }

    /// Everything that `other` sees is seen here too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        other.xmax <= self.xmax && self.xip.iter().all(|xid| *xid >= other.xmax || other.xip.binary_search(xid).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(text: &str) -> Position {
        Position::from_pg_snapshot(text).expect("a snapshot")
    }

    #[test]
    fn reads_what_postgres_writes_and_nothing_else() {
        assert_eq!(position("10:20:10,14,15"), Position { xmax: 20, xip: vec![10, 14, 15] });
        assert_eq!(position("20:20:"), Position { xmax: 20, xip: vec![] });
        for bad in ["", "1:2", "1:2:3:4", "1:x:", "1:5:4,3", "1:5:5", "1:5:3,3", "1:5:,"] {
            assert!(Position::from_pg_snapshot(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_late_commit_below_xmax_is_not_seen() {
        let at = position("727:729:727");
        assert!(at.sees(728) && !at.sees(727) && !at.sees(729));
    }

    #[test]
    fn lowering_forgets_what_a_crash_could_hand_out_again() {
        let at = position("732:732:").lowered_to(731);
        assert!(at.sees(730) && !at.sees(731));
        assert_eq!(position("5:9:5,8").lowered_to(8), Position { xmax: 8, xip: vec![5] });
        assert_eq!(position("5:9:5,8").lowered_to(12), position("5:9:5,8"));
    }

    #[test]
    fn covering_is_set_inclusion() {
        let cases = ["3:9:3,5", "3:9:3", "5:9:5", "9:9:", "3:7:3,5", "7:7:", "12:12:", "3:12:3,10"];
        for (left, right) in cases.iter().flat_map(|a| cases.iter().map(move |b| (position(a), position(b)))) {
            let included = (0..16).all(|xid| !right.sees(xid) || left.sees(xid));
            // `covers` may be stricter only where xmax differs while the sets agree.
            assert!(!left.covers(&right) || included, "{left:?} {right:?}");
            assert_eq!(left.covers(&right), included && right.xmax <= left.xmax, "{left:?} {right:?}");
        }
    }
}
