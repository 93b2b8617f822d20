//! Asking again: how long one question may take, when another attempt makes sense, of which coordinator, and when asking
//! is pointless for a while. Pure: the shell sends, waits and sleeps; what it does next is decided here.
//!
//! Everything errs towards giving up, which is a 503 (G8). A question is repeated with the same idempotency key, so
//! that nothing happens twice (G4).

use crate::lease::{EdgeMs, jittered_ms};
use crate::problem::Code;

/// How long and how often to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// One attempt is given up after so long.
    pub attempt_ms: u32,
    /// All of them together.
    pub total_ms: u32,
}

impl Effort {
    /// For what a request waits for in line: checks, keys.
    pub const INLINE: Self = Self { attempt_ms: 1_000, total_ms: 1_500 };
    /// For operations that hash a password or that a person waits for: the coordinator's queue has a deadline of its own.
    pub const OPERATION: Self = Self { attempt_ms: 8_000, total_ms: 10_000 };

    /// With room for an answer that is held back on purpose (`Prefer: wait`).
    #[must_use]
    pub const fn plus_s(self, wait_s: Option<u32>) -> Self {
        let wait_ms = match wait_s {
            Some(seconds) => seconds.saturating_mul(1_000),
            None => 0,
        };
        Self { attempt_ms: self.attempt_ms.saturating_add(wait_ms), total_ms: self.total_ms.saturating_add(wait_ms) }
    }
}

/// A shorter time than this is no attempt, in milliseconds.
const SHORTEST_ATTEMPT_MS: u32 = 50;
/// A clock that runs backwards must not keep anybody here.
const MAX_ATTEMPTS: u32 = 64;

/// One question, asked until it is answered, refused, or given up.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    effort: Effort,
    started_ms: EdgeMs,
    /// How many coordinators there are.
    count: usize,
    attempts: u32,
}

/// What to do after an attempt that brought no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It is the coordinator's last word: nothing is asked again.
    Stop,
    /// Ask again.
    Again {
        /// That coordinator is not the one to ask ([`Preferred::failed`]).
        elsewhere: bool,
        /// Every coordinator has been tried so many times: pause first, for [`back_off_ms`] of this.
        pause: Option<u32>,
    },
}

impl Retry {
    /// A question that is asked from now on, of `count` coordinators.
    #[must_use]
    pub const fn new(effort: Effort, count: usize, now_ms: EdgeMs) -> Self {
        Self { effort, started_ms: now_ms, count, attempts: 0 }
    }

    /// How long the next attempt may take, in milliseconds; `None`: give up.
    #[must_use]
    pub fn attempt_ms(&self, now_ms: EdgeMs) -> Option<u32> {
        let passed_ms = u32::try_from(now_ms.saturating_sub(self.started_ms).max(0)).unwrap_or(u32::MAX);
        let left_ms = self.effort.total_ms.saturating_sub(passed_ms);
        let possible = left_ms >= SHORTEST_ATTEMPT_MS && self.attempts < MAX_ATTEMPTS && self.count > 0;
        possible.then(|| self.effort.attempt_ms.min(left_ms))
    }

    /// An attempt was refused with this problem, or nothing sensible came back (`None`).
    pub fn failed(&mut self, problem: Option<Code>) -> Next {
        let elsewhere = match problem {
            // It is being worked on: wait for its outcome.
            Some(Code::LoginInFlight) => false,
            // This one cannot tell: another one may.
            None | Some(Code::Unavailable) => true,
            // It has no room: another one may, until all of them have said so.
            Some(Code::Overloaded) if (self.attempts as usize) + 1 < self.count => true,
            Some(_) => return Next::Stop,
        };
        self.attempts += 1;
        // A pause only after every coordinator has been tried.
        let round =
            (self.attempts as usize).is_multiple_of(self.count).then(|| (self.attempts - 1) / self.count as u32);
        Next::Again { elsewhere, pause: round }
    }
}

/// 100 ms, doubled up to 1.6 s, of which up to a half is taken away at random.
#[must_use]
pub fn back_off_ms(round: u32, random: u8) -> u32 {
    let full = 100 << round.min(4);
    full - full * u32::from(random) / 512
}

/// The coordinator to ask: the one that answered last; at first any, so that isolates spread over them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Preferred(
    /// Taken modulo the number of coordinators.
    Option<usize>,
);

impl Preferred {
    /// Its index below `count`; `random` is drawn once.
    #[must_use]
    pub fn index(&mut self, count: usize, random: impl FnOnce() -> u8) -> usize {
        *self.0.get_or_insert_with(|| usize::from(random())) % count.max(1)
    }

    /// That one did not answer, or not well: go on to the next, unless somebody has already.
    pub fn failed(&mut self, index: usize, count: usize) {
        let count = count.max(1);
        if self.0.is_none_or(|preferred| preferred % count == index) {
            self.0 = Some(index + 1);
        }
    }
}

/// Which relay to ask for the feed, or none for now: then a coordinator is asked.
///
/// One that does not answer costs one question: the next goes to a coordinator at once, and relays (another one first, if
/// there is) only after a pause that grows with failures in a row. So a frozen relay takes no second question out of
/// the time that the lease has left.
#[derive(Clone, Copy, Debug, Default)]
pub struct Relays {
    preferred: Preferred,
    failures: u32,
    until_ms: EdgeMs,
}

/// The first pause after a relay that did not answer; it doubles up to the longest.
const RELAY_PAUSE_MS: EdgeMs = 1_000;
/// The longest one.
const MAX_RELAY_PAUSE_MS: EdgeMs = 32_000;

impl Relays {
    /// The index below `count` of the relay to ask; `None` to ask a coordinator. `random` is drawn once.
    #[must_use]
    pub fn index(&mut self, count: usize, now_ms: EdgeMs, random: impl FnOnce() -> u8) -> Option<usize> {
        // A pause further away than any can be was set before the clock went back.
        let asked = now_ms >= self.until_ms || self.until_ms > now_ms + MAX_RELAY_PAUSE_MS;
        (count > 0 && asked).then(|| self.preferred.index(count, random))
    }

    /// A relay answered well.
    pub const fn answered(&mut self) {
        self.failures = 0;
    }

    /// That one did not answer, or not well.
    pub fn failed(&mut self, index: usize, count: usize, now_ms: EdgeMs, random: u32) {
        self.preferred.failed(index, count);
        let full_ms = (RELAY_PAUSE_MS << self.failures.min(5)).min(MAX_RELAY_PAUSE_MS);
        self.failures = self.failures.saturating_add(1);
        self.until_ms = now_ms + EdgeMs::from(jittered_ms(full_ms as u32, random));
    }
}

/// After questions that nobody answered, further ones wait a little: longer each time, up to two seconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Breaker {
    failures: u32,
    until_ms: EdgeMs,
}

/// The longest pause.
const MAX_PAUSE_MS: EdgeMs = 2_000;

impl Breaker {
    /// Asking makes sense now. A pause further away than any can be was set before the clock went back.
    #[must_use]
    pub const fn is_closed(&self, now_ms: EdgeMs) -> bool {
        now_ms >= self.until_ms || self.until_ms > now_ms + MAX_PAUSE_MS
    }

    /// Somebody answered.
    pub const fn answered(&mut self) {
        self.failures = 0;
        self.until_ms = 0;
    }

    /// Nobody did. The first failure costs no pause: it may have been this one request's bad luck.
    pub fn failed(&mut self, now_ms: EdgeMs, random: u32) {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= 2 {
            let full_ms = (100_u32 << (self.failures - 2).min(5)).min(MAX_PAUSE_MS as u32);
            self.until_ms = now_ms + EdgeMs::from(jittered_ms(full_ms, random));
        }
    }
}

/// So many a second, with room for a burst.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    left: u32,
    filled_ms: EdgeMs,
}

const BURST: u32 = 40;
const PER_S: i64 = 20;

impl Default for Bucket {
    fn default() -> Self {
        Self { left: BURST, filled_ms: 0 }
    }
}

impl Bucket {
    /// Takes one, if one is left.
    pub fn take(&mut self, now_ms: EdgeMs) -> bool {
        let since_ms = now_ms - self.filled_ms;
        if !(0..=60_000).contains(&since_ms) {
            (self.left, self.filled_ms) = (if since_ms < 0 { self.left } else { BURST }, now_ms);
        } else {
            let new = since_ms * PER_S / 1_000;
            self.left = self.left.saturating_add(new as u32).min(BURST);
            self.filled_ms += new * 1_000 / PER_S;
        }
        let taken = self.left > 0;
        self.left = self.left.saturating_sub(1);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_that_fails_is_left_alone_for_longer_and_longer() {
        let mut relays = Relays::default();
        assert_eq!(relays.index(0, 0, || 7), None, "there is none");
        assert_eq!(relays.index(2, 0, || 1), Some(1));
        relays.failed(1, 2, 0, 0);
        assert_eq!((relays.index(2, 999, || 0), relays.index(2, 1_000, || 0)), (None, Some(0)), "the other one then");
        relays.failed(0, 2, 1_000, 0);
        assert_eq!((relays.index(2, 2_999, || 0), relays.index(2, 3_000, || 0)), (None, Some(1)));
        for now_ms in [3_000, 7_000, 15_000, 31_000, 63_000, 95_000] {
            relays.failed(1, 1, now_ms, 0);
        }
        assert_eq!((relays.index(1, 126_999, || 0), relays.index(1, 127_000, || 0)), (None, Some(0)), "32 s at most");
        assert_eq!(
            (relays.index(1, 95_000, || 0), relays.index(1, 94_999, || 0)),
            (None, Some(0)),
            "the clock went back"
        );
        relays.answered();
        relays.failed(0, 1, 200_000, u32::MAX);
        assert_eq!(
            (relays.index(1, 200_750, || 0), relays.index(1, 200_751, || 0)),
            (None, Some(0)),
            "jitter only shortens"
        );
    }

    #[test]
    fn back_off_grows_and_jitter_only_shortens() {
        assert_eq!(back_off_ms(0, 0), 100);
        assert_eq!(back_off_ms(3, 0), 800);
        assert_eq!(back_off_ms(99, 0), 1_600);
        assert_eq!(back_off_ms(99, u8::MAX), 804);
        for random in 0..=u8::MAX {
            assert!((800..=1_600).contains(&back_off_ms(9, random)));
        }
    }

    #[test]
    fn waiting_on_purpose_gets_its_own_time() {
        let effort = Effort::OPERATION.plus_s(Some(10));
        assert_eq!((effort.attempt_ms, effort.total_ms), (18_000, 20_000));
        assert_eq!(Effort::OPERATION.plus_s(None).total_ms, 10_000);
    }

    #[test]
    fn every_coordinator_is_tried_before_a_pause_and_time_ends_it() {
        let mut retry = Retry::new(Effort::INLINE, 2, 10_000);
        assert_eq!(retry.attempt_ms(10_000), Some(1_000));
        assert_eq!(retry.failed(None), Next::Again { elsewhere: true, pause: None });
        assert_eq!(retry.attempt_ms(11_000), Some(500));
        assert_eq!(retry.failed(Some(Code::Unavailable)), Next::Again { elsewhere: true, pause: Some(0) });
        assert_eq!(retry.attempt_ms(11_450), Some(50));
        assert_eq!(retry.attempt_ms(11_451), None);
        assert_eq!(retry.attempt_ms(9_000), Some(1_000), "the clock went back");
        for _ in 2..MAX_ATTEMPTS {
            retry.failed(Some(Code::LoginInFlight));
        }
        assert_eq!(retry.attempt_ms(9_000), None);
        assert_eq!(Retry::new(Effort::INLINE, 0, 0).attempt_ms(0), None);
    }

    #[test]
    fn a_decision_is_final_and_a_full_queue_once_all_are_full() {
        let mut retry = Retry::new(Effort::OPERATION, 2, 0);
        assert_eq!(retry.failed(Some(Code::InvalidCredentials)), Next::Stop);
        assert_eq!(retry.failed(Some(Code::Overloaded)), Next::Again { elsewhere: true, pause: None });
        assert_eq!(retry.failed(Some(Code::Overloaded)), Next::Stop);
        assert_eq!(retry.failed(Some(Code::LoginInFlight)), Next::Again { elsewhere: false, pause: Some(0) });
    }

    #[test]
    fn of_many_who_see_one_coordinator_fail_only_the_first_goes_on() {
        let mut preferred = Preferred::default();
        assert_eq!(preferred.index(3, || 7), 1);
        preferred.failed(1, 3);
        preferred.failed(1, 3);
        assert_eq!(preferred.index(3, || 9), 2);
        preferred.failed(2, 3);
        assert_eq!(preferred.index(3, || 9), 0);
    }

    #[test]
    fn pauses_grow_end_and_survive_a_clock_that_goes_back() {
        let mut breaker = Breaker::default();
        breaker.failed(10_000, 0);
        assert!(breaker.is_closed(10_000));
        breaker.failed(10_000, 0);
        assert!(!breaker.is_closed(10_099) && breaker.is_closed(10_100));
        for _ in 0..50 {
            breaker.failed(10_000, 0);
        }
        assert!(!breaker.is_closed(10_000) && !breaker.is_closed(11_999) && breaker.is_closed(12_000));
        assert!(breaker.is_closed(9_999) && breaker.is_closed(0));
        breaker.answered();
        assert!(breaker.is_closed(10_000));
    }

    #[test]
    fn a_bucket_fills_up_again() {
        let mut bucket = Bucket::default();
        assert_eq!((0..100).filter(|_| bucket.take(1_000_000)).count(), BURST as usize);
        assert!(!bucket.take(1_000_049) && bucket.take(1_000_050) && !bucket.take(1_000_051));
        assert_eq!((0..100).filter(|_| bucket.take(1_001_050)).count(), PER_S as usize);
        assert!(!bucket.take(5), "a clock that goes back gives nothing away");
    }
}
