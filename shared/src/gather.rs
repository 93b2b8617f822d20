//! How long a batch of questions waits for more of them: a batch costs one committed write, however many share it.
//!
//! Whoever asked one question after the other asks again as soon as it is answered. Were the next batch begun with the
//! first of them, all others would wait for it to end, and each batch would have half of them at most. So a batch waits
//! until as many are there as are known to ask, and never longer than [`GATHER_LIMIT_MS`]. Who asks alone never waits.
//! (Databases do the same with commits that come together: PostgreSQL's `commit_delay` and `commit_siblings`.)
//!
//! Guarantees: a question waits for others at most [`GATHER_LIMIT_MS`] beyond the batch that is under way, and a batch has no
//! more than its room.

/// The longest wait for others, in milliseconds: less than a batch takes that commits to a disk.
pub const GATHER_LIMIT_MS: u64 = 1;

/// How many are known to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Askers {
    known: usize,
    room: usize,
}

impl Askers {
    /// Nobody yet; a batch has room for so many.
    #[must_use]
    pub const fn new(room: usize) -> Self {
        Self { known: 0, room }
    }

    /// A batch of `answered` ended while `waiting` had come for the next.
    pub const fn answered(&mut self, answered: usize, waiting: usize) {
        self.known = answered.saturating_add(waiting);
    }

    /// How many more the next batch waits for; 0: it begins now.
    #[must_use]
    pub fn missing(&self, waiting: usize) -> usize {
        self.known.min(self.room).saturating_sub(waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_alone_never_waits() {
        let mut askers = Askers::new(256);
        for _ in 0..3 {
            assert_eq!(askers.missing(1), 0);
            askers.answered(1, 0);
        }
    }

    #[test]
    fn all_who_ask_come_together() {
        let mut askers = Askers::new(256);
        // Eight ask again and again. One was first, seven came while it was answered.
        askers.answered(1, 7);
        assert_eq!(askers.missing(7), 1, "the first is awaited");
        askers.answered(8, 0);
        assert_eq!((1..=8).map(|waiting| askers.missing(waiting)).collect::<Vec<_>>(), [7, 6, 5, 4, 3, 2, 1, 0]);
        // Most have left: they are waited for once.
        assert_eq!(askers.missing(2), 6);
        askers.answered(2, 0);
        assert_eq!(askers.missing(2), 0);
    }

    #[test]
    fn a_full_batch_waits_for_nobody() {
        let mut askers = Askers::new(256);
        askers.answered(256, 1_000);
        assert_eq!(askers.missing(256), 0);
        assert_eq!(askers.missing(255), 1);
        askers.answered(usize::MAX, 1);
        assert_eq!(askers.missing(256), 0);
    }
}
