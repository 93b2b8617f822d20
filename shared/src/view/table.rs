//! A map from users to revisions in 16 bytes a user at a million, with O(1) look-ups.
//!
//! The map errs on one side only: it may say that a user must ask when none needed to (two users
//! with the same 64-bit fingerprint, a rounded-up time, a saturated counter), never the reverse.
//!
//! Layout: 1024 segments, each an ordered hash table (Amble and Knuth, "Ordered hash tables", 1974):
//! slots hold fingerprints in ascending order with holes between, at the place that the fingerprint's
//! own size points to. A miss ends at the first larger fingerprint, growth and pruning keep the order,
//! and only one segment is ever copied at a time, so that memory never peaks.

use crate::ids::UserId;
use crate::revision::Revision;

const SEGMENT_BITS: u32 = 10;
const SEGMENTS: usize = 1 << SEGMENT_BITS;
/// A fingerprint without its segment: 48 bits below the 10 that choose the segment (the lowest 6 are dropped).
const FINGERPRINT_BITS: u32 = 48;
/// The most users with entries: 32 MB of an isolate's 128 MB.
pub const MAX_USERS: usize = 2_000_000;
/// Width of a bucket of `needed_until`; times are rounded up to it.
const BUCKET_MS: u64 = 4_096;
/// A full segment grows by this part of it…
const GROWTH: usize = 16;
/// …and by this part while a load is under way: the fuller a table, the longer the way to a hole.
const LOADING_GROWTH: usize = 12;
/// Bits of the revision's counter that are kept; higher counts saturate, upwards.
const COUNTER_MAX: u64 = u32::MAX as u64;

/// The entries do not fit into [`MAX_USERS`], or one is needed longer than the table can say: 3 days past the last pruning;
/// before the first one 1.5 days longer than the first entry, because others may be needed less long than that one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many entries")]
pub struct TableFull;

/// One slot: 14 bytes in three arrays. A slot with bucket 0 is a hole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Slot {
    fingerprint: u64,
    epoch: u16,
    counter: u32,
    /// Bucket of `needed_until`, counted from the table's base; never 0.
    bucket: u16,
}

/// Slots as packed words: fingerprint 48 bits + bucket 16 bits, counter 32 bits, epoch 16 bits.
#[derive(Clone, Debug, Default)]
struct Segment {
    keys: Vec<u64>,
    counters: Vec<u32>,
    epochs: Vec<u16>,
    used: u32,
}

/// The map.
#[derive(Clone, Debug, Default)]
pub struct RevisionTable {
    segments: Vec<Segment>,
    len: usize,
    /// Bucket 0 of every slot stands for this many [`BUCKET_MS`].
    base_bucket: u64,
    /// Many more entries are to come: see [`Self::expect_more`].
    expects_more: bool,
}

/// Spreads user ids over 64 bits; a bijection (splitmix64's finaliser), so that only dropped bits can collide.
const fn mix(user_id: u64) -> u64 {
    let mut x = user_id;
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl RevisionTable {
    fn place(user_id: UserId) -> (usize, u64) {
        let mixed = mix(user_id.0);
        let segment = (mixed >> (64 - SEGMENT_BITS)) as usize;
        (segment, (mixed >> (64 - SEGMENT_BITS - FINGERPRINT_BITS)) & ((1 << FINGERPRINT_BITS) - 1))
    }

    /// Raises a user's entry to at least these values: `max` of each.
    ///
    /// # Errors
    /// When it does not fit; the caller must then treat the whole table as unknown.
    pub fn raise(&mut self, user_id: UserId, revision: Revision, needed_until_ms: u64) -> Result<(), TableFull> {
        if self.segments.is_empty() {
            self.segments.resize_with(SEGMENTS, Segment::default);
            self.base_bucket = (needed_until_ms / BUCKET_MS).saturating_sub(u64::from(u16::MAX) / 2);
        }
        let bucket = needed_until_ms.div_ceil(BUCKET_MS);
        // An entry from before the base is kept a little longer than needed; one from far ahead is an error.
        let bucket = bucket.saturating_sub(self.base_bucket).max(1);
        let bucket = u16::try_from(bucket).map_err(|_| TableFull)?;
        let (segment, fingerprint) = Self::place(user_id);
        let slot =
            Slot { fingerprint, epoch: revision.epoch(), counter: revision.counter().min(COUNTER_MAX) as u32, bucket };
        let grow_by = if self.expects_more { LOADING_GROWTH } else { GROWTH };
        if self.segments[segment].raise(slot, grow_by) {
            self.len += 1;
        }
        if self.len > MAX_USERS { Err(TableFull) } else { Ok(()) }
    }

    /// A load has begun: segments get more room than they need, until [`Self::fit`] takes it back.
    pub const fn expect_more(&mut self) {
        self.expects_more = true;
    }

    /// The load is over: whatever room was taken for it is given back.
    pub fn fit(&mut self) {
        if core::mem::take(&mut self.expects_more) {
            for segment in &mut self.segments {
                segment.fit();
            }
        }
    }

    /// The revision below which this user's proofs must ask first.
    #[must_use]
    pub fn get(&self, user_id: UserId) -> Option<Revision> {
        let (segment, fingerprint) = Self::place(user_id);
        let (epoch, counter) = self.segments.get(segment)?.get(fingerprint)?;
        // A saturated counter stands for every higher one: all proofs of its epoch ask.
        let counter = if u64::from(counter) == COUNTER_MAX { (1 << 48) - 1 } else { u64::from(counter) };
        Some(Revision(Revision::first_of_epoch(epoch).0 | counter))
    }

    /// Drops the entries that are not needed after `pruned_to_ms`, and moves the base along.
    pub fn prune(&mut self, pruned_to_ms: u64) {
        let floor = (pruned_to_ms / BUCKET_MS).saturating_sub(1);
        let shift = floor.saturating_sub(self.base_bucket);
        if shift == 0 {
            return;
        }
        self.base_bucket = floor;
        self.len = 0;
        for segment in &mut self.segments {
            segment.prune(shift);
            self.len += segment.used as usize;
        }
    }

    /// How many users have entries.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// No user has an entry.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of memory that the slots take, for the figures in `docs/`.
    #[must_use]
    pub fn slot_bytes(&self) -> usize {
        self.segments
            .iter()
            .map(|segment| {
                segment.keys.capacity() * 8 + segment.counters.capacity() * 4 + segment.epochs.capacity() * 2
            })
            .sum()
    }
}

impl Segment {
    /// Where a fingerprint wants to stand among `slots`: monotone, so that order by place is order by fingerprint.
    const fn home(fingerprint: u64, slots: usize) -> usize {
        // Of its upper 32 bits: a product in 64 bits is one instruction in wasm, one in 128 a function.
        (((fingerprint >> (FINGERPRINT_BITS - 32)) * slots as u64) >> 32) as usize
    }

    /// Slots that homes point to; a tail behind them takes what is pushed past the end.
    const fn home_slots(total: usize) -> usize {
        total - total / 16
    }

    fn slot(&self, at: usize) -> Option<Slot> {
        let key = self.keys[at];
        let bucket = key as u16;
        (bucket != 0).then(|| Slot {
            fingerprint: key >> 16,
            epoch: self.epochs[at],
            counter: self.counters[at],
            bucket,
        })
    }

    fn put(&mut self, at: usize, slot: Slot) {
        self.keys[at] = slot.fingerprint << 16 | u64::from(slot.bucket);
        self.counters[at] = slot.counter;
        self.epochs[at] = slot.epoch;
    }

    /// The place of a fingerprint: `Ok` where it stands, `Err` where it would be put (possibly past the end).
    fn find(&self, fingerprint: u64) -> Result<usize, usize> {
        let mut at = Self::home(fingerprint, Self::home_slots(self.keys.len()));
        while at < self.keys.len() {
            let key = self.keys[at];
            if key as u16 == 0 || key >> 16 > fingerprint {
                return Err(at);
            }
            if key >> 16 == fingerprint {
                return Ok(at);
            }
            at += 1;
        }
        Err(at)
    }

    fn get(&self, fingerprint: u64) -> Option<(u16, u32)> {
        if self.keys.is_empty() {
            return None;
        }
        self.find(fingerprint).ok().map(|at| (self.epochs[at], self.counters[at]))
    }

    /// Returns whether the fingerprint is new. `grow_by`: a segment that is full grows by this part of it.
    fn raise(&mut self, slot: Slot, grow_by: usize) -> bool {
        loop {
            if self.keys.is_empty() {
                self.grow(grow_by);
            }
            match self.find(slot.fingerprint) {
                Ok(at) => {
                    if let Some(old) = self.slot(at) {
                        let (epoch, counter) = (slot.epoch, slot.counter).max((old.epoch, old.counter));
                        self.put(at, Slot { epoch, counter, bucket: old.bucket.max(slot.bucket), ..old });
                    }
                    return false;
                }
                Err(at) => {
                    let hole = (at..self.keys.len()).find(|hole| self.keys[*hole] as u16 == 0);
                    // Seven eighths full, or pushed past the end: a larger table.
                    let crowded = (self.used as usize + 1) * 64 > self.keys.len() * 58;
                    if let (Some(hole), false) = (hole, crowded) {
                        self.keys.copy_within(at..hole, at + 1);
                        self.counters.copy_within(at..hole, at + 1);
                        self.epochs.copy_within(at..hole, at + 1);
                        self.put(at, slot);
                        self.used += 1;
                        return true;
                    }
                    self.grow(grow_by);
                }
            }
        }
    }

    fn slots(&self) -> Vec<Slot> {
        (0..self.keys.len()).filter_map(|at| self.slot(at)).collect()
    }

    fn grow(&mut self, by: usize) {
        let total = self.keys.len() + (self.keys.len() / by).max(16);
        let slots = self.slots();
        self.rebuild(slots, total);
    }

    /// Lays the slots out anew over no more places than they need.
    fn fit(&mut self) {
        let slots = self.slots();
        let total = if slots.is_empty() { 0 } else { slots.len() + slots.len() / 8 + 4 };
        self.rebuild(slots, total);
    }

    /// Lays ascending slots out anew over `total` places, or more if they would run over the end.
    fn rebuild(&mut self, slots: Vec<Slot>, total: usize) {
        let mut total = total;
        'sized: loop {
            *self = Self { keys: vec![0; total], counters: vec![0; total], epochs: vec![0; total], used: 0 };
            let mut next = 0;
            for slot in &slots {
                let at = next.max(Self::home(slot.fingerprint, Self::home_slots(total)));
                if at >= total {
                    total += total / 8 + 16;
                    continue 'sized;
                }
                self.put(at, *slot);
                next = at + 1;
            }
            self.used = slots.len() as u32;
            return;
        }
    }

    fn prune(&mut self, shift: u64) {
        let kept: Vec<Slot> = self
            .slots()
            .into_iter()
            .filter_map(|slot| {
                let bucket = u64::from(slot.bucket).saturating_sub(shift);
                (bucket > 0).then_some(Slot { bucket: bucket as u16, ..slot })
            })
            .collect();
        let total = if kept.is_empty() { 0 } else { kept.len() + kept.len() / 8 + 16 };
        self.rebuild(kept, total);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn random(state: &mut u64) -> u64 {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(*state)
    }

    const T0: u64 = 1_800_000_000_000;

    #[test]
    fn ids_are_spread_by_splitmix64() {
        // Its first numbers from seed 0, as published.
        let gamma = 0x9e37_79b9_7f4a_7c15_u64;
        let numbers = [1, 2, 3].map(|n| mix(gamma.wrapping_mul(n)));
        assert_eq!(numbers, [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f]);
    }

    #[test]
    fn agrees_with_a_plain_map_under_raises_and_prunes() {
        let (mut table, mut plain, mut seed) = (RevisionTable::default(), HashMap::<u64, (u64, u64)>::new(), 7);
        for step in 0..40_000u64 {
            let user = 1 + random(&mut seed) % 3_000;
            // Revisions of one user only grow; sometimes an older entry comes late.
            let late = random(&mut seed) % 4;
            let revision = Revision::first_of_epoch(1 + (step / 20_000) as u16).0 + step.saturating_sub(late);
            let needed_ms = T0 + step * 20 + random(&mut seed) % 300_000;
            table.raise(UserId(user), Revision(revision), needed_ms).expect("fits");
            let entry = plain.entry(user).or_default();
            *entry = (entry.0.max(revision), entry.1.max(needed_ms));
            if step % 5_000 == 0 {
                table.prune(T0 + step * 20);
            }
            let asked = 1 + random(&mut seed) % 3_000;
            let pruned_ms = T0 + step / 5_000 * 5_000 * 20;
            match (table.get(UserId(asked)), plain.get(&asked)) {
                (found, Some((revision, needed_ms))) if *needed_ms > pruned_ms => {
                    assert_eq!(found, Some(Revision(*revision)));
                }
                (Some(found), Some((revision, _))) => assert!(found.0 <= *revision),
                (found, None) => assert_eq!(found, None),
                (None, Some(_)) => {}
            }
        }
    }

    #[test]
    fn a_million_users_take_about_16_bytes_each() {
        let (mut table, mut seed) = (RevisionTable::default(), 1);
        for _ in 0..1_000_000 {
            table.raise(UserId(random(&mut seed)), Revision::first_of_epoch(3).raised(), T0).expect("fits");
        }
        assert_eq!(table.len(), 1_000_000);
        assert!((15_000_000..=17_000_000).contains(&table.slot_bytes()), "{}", table.slot_bytes());
        let mut seed = 1;
        assert!(
            (0..1_000_000).all(|_| table.get(UserId(random(&mut seed))) == Some(Revision::first_of_epoch(3).raised()))
        );
        table.prune(T0 + 60_000);
        assert_eq!((table.len(), table.slot_bytes()), (0, 0));
    }

    #[test]
    fn a_load_takes_no_more_room_than_its_entries_once_it_is_over() {
        let (mut table, mut seed) = (RevisionTable::default(), 1);
        let users: Vec<u64> = (0..200_000).map(|_| random(&mut seed)).collect();
        table.expect_more();
        for user in &users {
            table.raise(UserId(*user), Revision(u64::from(*user as u32)), T0).expect("fits");
        }
        let loading = table.slot_bytes();
        table.fit();
        assert_eq!(table.len(), users.len());
        assert!(table.slot_bytes() < 17 * users.len() && table.slot_bytes() < loading && loading < 24 * users.len());
        assert!(users.iter().all(|user| table.get(UserId(*user)) == Some(Revision(u64::from(*user as u32)))));
        // From here on it grows as it always does.
        table.fit();
        table.raise(UserId(random(&mut seed)), Revision(1), T0).expect("fits");
        assert!(table.slot_bytes() < 17 * users.len());
    }

    #[test]
    fn an_entry_is_never_dropped_while_it_is_needed() {
        let mut table = RevisionTable::default();
        table.raise(UserId(5), Revision(9), T0).expect("fits");
        for at in (0..20_000).step_by(100) {
            table.prune(T0 - 20_000 + at);
            assert_eq!(table.get(UserId(5)), Some(Revision(9)));
        }
        table.prune(T0 + 3 * BUCKET_MS);
        assert_eq!(table.get(UserId(5)), None);
    }

    #[test]
    fn what_cannot_be_told_exactly_errs_towards_asking() {
        let mut table = RevisionTable::default();
        let huge = Revision(Revision::first_of_epoch(2).0 | (1 << 40));
        table.raise(UserId(5), huge, T0).expect("fits");
        assert!(table.get(UserId(5)).is_some_and(|revision| revision > huge && revision.epoch() == 2));
        assert_eq!(table.raise(UserId(6), Revision(1), T0 + 4 * 86_400_000), Err(TableFull));
    }

    #[test]
    fn how_long_an_entry_may_be_needed_counts_from_the_first_one_and_then_from_the_last_pruning() {
        const HOUR_MS: u64 = 3_600_000;
        let mut table = RevisionTable::default();
        let mut fits_for_h = |hours, pruned| {
            if pruned {
                table.prune(T0);
            }
            table.raise(UserId(hours), Revision(1), T0 + hours * HOUR_MS).is_ok()
        };
        assert_eq!([0, 37, 38].map(|hours| fits_for_h(hours, false)), [true, true, false]);
        assert_eq!([74, 75].map(|hours| fits_for_h(hours, true)), [true, false]);
    }

    #[test]
    fn only_the_lowest_six_bits_of_an_id_can_collide() {
        for user in [1, 2, 0x1234_5678_9abc_def0, u64::MAX] {
            let (segment, fingerprint) = RevisionTable::place(UserId(user));
            assert_eq!((segment as u64) << FINGERPRINT_BITS | fingerprint, mix(user) >> 6);
        }
    }

    #[test]
    fn fingerprints_that_crowd_at_the_end_find_room() {
        const LAST: u64 = (1 << FINGERPRINT_BITS) - 1;
        let slot = |nth: u32| Slot { fingerprint: LAST - u64::from(nth), epoch: 1, counter: nth, bucket: 5 };
        let mut segment = Segment::default();
        for nth in 0..300 {
            assert!(segment.raise(slot(nth), GROWTH) && !segment.raise(slot(nth), GROWTH));
        }
        segment.prune(4);
        assert!(segment.slots().is_sorted_by_key(|slot| slot.fingerprint));
        assert!((0..300).all(|nth| segment.get(slot(nth).fingerprint) == Some((1, nth))));
        // Its tail is a sixteenth of it.
        assert!(segment.used == 300 && segment.keys.len() < 17 * 300 * 9 / 8, "{}", segment.keys.len());
        segment.prune(1);
        assert!(segment.keys.is_empty());
    }

    #[test]
    fn a_table_that_is_full_says_so() {
        let mut table = RevisionTable::default();
        table.raise(UserId(1), Revision(1), T0).expect("fits");
        table.len = MAX_USERS - 1;
        assert_eq!(table.raise(UserId(2), Revision(1), T0), Ok(()));
        assert_eq!(table.raise(UserId(3), Revision(1), T0), Err(TableFull));
        assert_eq!(table.raise(UserId(4), Revision(1), T0), Err(TableFull));
    }
}
