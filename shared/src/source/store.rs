//! The entries of the feed in memory: by user, in feed order, and by the time until which they are needed.
//!
//! What this module guarantees:
//! - An entry is never lowered: a row read again takes the maximum of revision and `needed_until` (merge of design 2.2).
//! - [`Store::past`] returns every entry that the cursor has not seen, in the order `(feed_xid, user_id)`, and cuts
//!   only at a page's end.
//! - Pruning goes by database time only.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{Hash, Hasher};
use std::ops::Bound;

use crate::feed::Entry;
use crate::ids::UserId;
use crate::position::Position;
use crate::revision::Revision;

/// One row as the reader found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Row {
    /// The user.
    pub user_id: UserId,
    /// Proofs with a lower revision must ask first.
    pub revision: Revision,
    /// Until when a proof could need this entry, in coordinator time, rounded up.
    pub needed_until_ms: u64,
    /// The transaction that wrote it; in a relay the number of the last answer that held it.
    pub feed_xid: u64,
}

impl Row {
    /// As it is sent.
    #[must_use]
    pub const fn entry(&self) -> Entry {
        Entry { user_id: self.user_id, revision: self.revision, needed_until_ms: self.needed_until_ms }
    }
}

/// An entry's place in the feed: the transaction that wrote it, then the user.
pub type Place = (u64, u64);

/// What putting a row did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It was there already.
    Unchanged,
    /// It is new, or newer.
    Changed,
    /// It changed and its place moved *back* in the feed's order: a transaction that had taken its id earlier
    /// committed later. A chain of pages that has passed that place must start over.
    MovedBack,
}

/// What a question has not seen.
#[derive(Clone, Copy, Debug)]
pub enum Unseen<'a> {
    /// It has seen nothing.
    All,
    /// What is not visible at this position.
    After(&'a Position),
    /// The position is of this older epoch: what is not visible in it, or has a revision of a newer epoch.
    AfterInEpoch(&'a Position, u16),
    /// What came up to this number of a relay's numbered answers.
    Since(u64),
}

fn row_at((place, (revision, needed_until_ms)): (&Place, &(Revision, u64))) -> Row {
    Row { user_id: UserId(place.1), revision: *revision, needed_until_ms: *needed_until_ms, feed_xid: place.0 }
}

/// All entries that could still be needed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Store {
    /// The transaction of each user's place.
    by_user: HashMap<u64, u64>,
    /// Revision and `needed_until`, where pages are read: to look up each entry of a page by its user took most of the time.
    by_place: BTreeMap<Place, (Revision, u64)>,
    by_expiry: BTreeSet<(u64, u64)>,
}

/// The two orders follow from the rows.
impl Hash for Store {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.unseen(Unseen::All, None).for_each(|row| row.hash(state));
    }
}

impl Store {
    /// How many entries there are.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.by_user.len()
    }

    /// Takes in a row as read from the database.
    pub fn put(&mut self, row: Row) -> Put {
        let user = row.user_id.0;
        let place = self.by_user.get(&user).map(|feed_xid| (*feed_xid, user));
        let Some(old) = place.and_then(|place| self.by_place.get_key_value(&place)).map(row_at) else {
            self.insert(row);
            return Put::Changed;
        };
        let merged = Row {
            revision: old.revision.max(row.revision),
            needed_until_ms: old.needed_until_ms.max(row.needed_until_ms),
            ..row
        };
        if merged == old {
            return Put::Unchanged;
        }
        self.by_place.remove(&(old.feed_xid, user));
        self.by_expiry.remove(&(old.needed_until_ms, user));
        self.insert(merged);
        if merged.feed_xid < old.feed_xid { Put::MovedBack } else { Put::Changed }
    }

    fn insert(&mut self, row: Row) {
        let user = row.user_id.0;
        self.by_user.insert(user, row.feed_xid);
        self.by_place.insert((row.feed_xid, user), (row.revision, row.needed_until_ms));
        self.by_expiry.insert((row.needed_until_ms, user));
    }

    /// Forgets what nobody needs any more at this database time.
    pub fn prune(&mut self, read_at_ms: u64) {
        while let Some(&(needed_until_ms, user)) = self.by_expiry.first() {
            if needed_until_ms > read_at_ms {
                return;
            }
            self.by_expiry.pop_first();
            if let Some(feed_xid) = self.by_user.remove(&user) {
                self.by_place.remove(&(feed_xid, user));
            }
        }
    }

    /// Is there anything that this question has not seen?
    #[must_use]
    pub fn has_unseen(&self, unseen: Unseen<'_>) -> bool {
        self.unseen(unseen, None).next().is_some()
    }

    /// Up to `limit` entries that this question has not seen, in feed order and after `after`; and the place of
    /// the last one if there are more.
    #[must_use]
    pub fn page(&self, unseen: Unseen<'_>, after: Option<Place>, limit: usize) -> (Vec<Row>, Option<Place>) {
        let mut rows = Vec::new();
        let mut more = None;
        for row in self.unseen(unseen, after) {
            if rows.len() == limit {
                more = rows.last().map(|last: &Row| (last.feed_xid, last.user_id.0));
                break;
            }
            rows.push(row);
        }
        (rows, more)
    }

    /// The entries past a question's cursor. For a cursor of this epoch only the ranges that can hold some are
    /// walked: its transactions in progress, and everything from its `xmax` on.
    fn unseen<'s>(&'s self, unseen: Unseen<'s>, after: Option<Place>) -> Box<dyn Iterator<Item = Row> + 's> {
        let later = move |(place, _): &(&Place, &(Revision, u64))| after.is_none_or(|after| **place > after);
        // A page begins where the last one ended, without a walk over those before it.
        let rest = || self.by_place.range((after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded));
        match unseen {
            Unseen::All => Box::new(rest().map(row_at)),
            Unseen::After(position) => {
                let in_progress = position.xip.iter().flat_map(|xid| self.by_place.range((*xid, 0)..=(*xid, u64::MAX)));
                let from = after.map_or((position.xmax, 0), |after| after.max((position.xmax, 0)));
                Box::new(in_progress.chain(self.by_place.range(from..)).filter(later).map(row_at))
            }
            Unseen::Since(number) => {
                let from = (number.saturating_add(1), 0);
                Box::new(self.by_place.range(after.map_or(from, |after| after.max(from))..).filter(later).map(row_at))
            }
            Unseen::AfterInEpoch(position, epoch) => Box::new(
                rest().map(row_at).filter(move |row| !position.sees(row.feed_xid) || row.revision.epoch() > epoch),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(user: u64, revision: u64, needed_until_ms: u64, feed_xid: u64) -> Row {
        Row { user_id: UserId(user), revision: Revision(revision), needed_until_ms, feed_xid }
    }

    fn position(text: &str) -> Position {
        Position::from_pg_snapshot(text).expect("a snapshot")
    }

    fn users(store: &Store, unseen: Unseen<'_>) -> Vec<u64> {
        store.page(unseen, None, 100).0.iter().map(|row| row.user_id.0).collect()
    }

    #[test]
    fn a_late_commit_below_xmax_is_found_and_what_was_seen_is_not() {
        let mut store = Store::default();
        for entry in [row(1, 1, 100, 10), row(2, 1, 100, 12), row(3, 1, 100, 14)] {
            assert_eq!(store.put(entry), Put::Changed);
        }
        assert_eq!(users(&store, Unseen::All), [1, 2, 3]);
        assert_eq!(users(&store, Unseen::After(&position("12:14:12"))), [2, 3]);
        assert_eq!(users(&store, Unseen::After(&position("15:15:"))), [] as [u64; 0]);
        assert!(store.has_unseen(Unseen::After(&position("10:15:10"))));
    }

    #[test]
    fn pages_hold_everything_once_and_in_order() {
        let mut store = Store::default();
        for user in 1..=10 {
            store.put(row(user, 1, 100, 20 - user / 2));
        }
        // Of users 1 to 10 the cursor sees those of 15, 16 and 18.
        let at = position("17:19:17");
        for (unseen, count) in [(Unseen::All, 10), (Unseen::After(&at), 5), (Unseen::AfterInEpoch(&at, 0), 5)] {
            for limit in 1..=10 {
                let (mut seen, mut after) = (Vec::new(), None);
                loop {
                    let (rows, next) = store.page(unseen, after, limit);
                    assert!(rows.len() <= limit && (next.is_none() || rows.len() == limit));
                    seen.extend(rows.iter().map(|row| row.user_id.0));
                    match next {
                        Some(place) => after = Some(place),
                        None => break,
                    }
                }
                assert_eq!((seen.len(), &seen), (count, &users(&store, unseen)), "{unseen:?} by {limit}");
            }
        }
    }

    #[test]
    fn merging_takes_the_maximum_and_says_when_an_entry_moved_back() {
        let mut store = Store::default();
        store.put(row(1, 5, 100, 10));
        assert_eq!(store.put(row(1, 5, 100, 10)), Put::Unchanged);
        assert_eq!(store.put(row(1, 6, 90, 9)), Put::MovedBack);
        assert_eq!(store.page(Unseen::All, None, 9).0, [row(1, 6, 100, 9)]);
        assert_eq!(store.put(row(1, 7, 200, 11)), Put::Changed);
        assert_eq!(store.put(row(1, 7, 300, 11)), Put::Changed);
        // A row that says less, such as one of before a failover, lowers nothing.
        store.put(row(1, 2, 50, 12));
        assert_eq!(store.page(Unseen::All, None, 9).0, [row(1, 7, 300, 12)]);
        assert_eq!((store.entries(), store.by_place.len(), store.by_expiry.len()), (1, 1, 1));
    }

    #[test]
    fn pruning_goes_by_database_time() {
        let mut store = Store::default();
        store.put(row(1, 1, 100, 10));
        store.put(row(2, 1, 101, 11));
        store.prune(99);
        assert_eq!(store.entries(), 2);
        store.prune(100);
        assert_eq!(users(&store, Unseen::All), [2]);
        store.prune(101);
        assert_eq!((store.entries(), store.by_place.len(), store.by_expiry.len()), (0, 0, 0));
    }

    #[test]
    fn a_cursor_of_an_older_epoch_also_gets_what_has_a_newer_revision() {
        let mut store = Store::default();
        let new = Revision::first_of_epoch(3).raised();
        store.put(row(1, 1, 100, 10));
        store.put(Row { revision: new, ..row(2, 0, 100, 11) });
        let at = position("12:12:");
        assert_eq!(users(&store, Unseen::AfterInEpoch(&at, 2)), [2]);
        assert_eq!(users(&store, Unseen::AfterInEpoch(&at, 3)), [] as [u64; 0]);
    }
    /// Models tell states apart by it.
    #[test]
    fn stores_hash_by_their_rows() {
        use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
        let hashed = |rows: &[Row]| {
            let mut store = Store::default();
            for row in rows {
                store.put(*row);
            }
            BuildHasherDefault::<DefaultHasher>::default().hash_one(&store)
        };
        let rows = [row(1, 1, 100, 10), row(2, 1, 100, 11)];
        assert_eq!(hashed(&rows), hashed(&[rows[1], rows[0]]));
        for other in [row(3, 1, 100, 10), row(1, 2, 100, 10), row(1, 1, 101, 10), row(1, 1, 100, 9)] {
            assert_ne!(hashed(&rows), hashed(&[other, rows[1]]), "{other:?}");
        }
    }
}
