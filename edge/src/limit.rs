//! Two small limits that keep an isolate from asking in vain. Both err towards not asking, which is a 503.

use edgekeep_shared::lease::EdgeMs;

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
            self.until_ms = now_ms + EdgeMs::from(edgekeep_shared::lease::jittered_ms(full_ms, random));
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
            if new > 0 {
                self.left = self.left.saturating_add(new as u32).min(BURST);
                self.filled_ms += new * 1_000 / PER_S;
            }
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
    fn pauses_grow_end_and_survive_a_clock_that_goes_back() {
        let mut breaker = Breaker::default();
        breaker.failed(10_000, 0);
        assert!(breaker.is_closed(10_000));
        breaker.failed(10_000, 0);
        assert!(!breaker.is_closed(10_099) && breaker.is_closed(10_100));
        for _ in 0..50 {
            breaker.failed(10_000, 0);
        }
        assert!(!breaker.is_closed(11_999) && breaker.is_closed(12_000));
        assert!(breaker.is_closed(0));
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
