//! A moment of this process, for ages that must never come out too small.
//!
//! The monotonic clock stands still while a machine is suspended, the wall clock can be stepped. An age is
//! therefore the larger of what the two say: a step back of the wall clock changes nothing, a suspension or a
//! step forward makes an answer look older than it is, and that is the safe direction (G2).

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// A moment, taken on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    monotonic: Instant,
    wall: SystemTime,
}

impl Moment {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        Self { monotonic: Instant::now(), wall: SystemTime::now() }
    }

    /// So long ago, for tests.
    #[cfg(test)]
    pub(crate) fn ago(passed: Duration) -> Self {
        let now = Self::now();
        Self { wall: now.wall - passed, ..now }
    }

    /// The time that has passed since, at least.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        self.until(Self::now())
    }

    /// From here to `later`, as the larger of both clocks says.
    #[must_use]
    pub fn until(self, later: Self) -> Duration {
        let wall = later.wall.duration_since(self.wall).unwrap_or(Duration::ZERO);
        later.monotonic.saturating_duration_since(self.monotonic).max(wall)
    }

    /// From here to `later` by the monotonic clock alone.
    #[must_use]
    pub fn monotonic_until(self, later: Self) -> Duration {
        later.monotonic.saturating_duration_since(self.monotonic)
    }

    /// How far the two clocks disagree about the time from here to `later`.
    #[must_use]
    pub fn disagreement(self, later: Self) -> Duration {
        let wall_ahead = later.wall.duration_since(self.wall);
        let monotonic = self.monotonic_until(later);
        wall_ahead.map_or_else(|back| back.duration() + monotonic, |wall| wall.abs_diff(monotonic))
    }

    /// The earlier of two moments.
    #[must_use]
    pub fn earlier(self, other: Self) -> Self {
        Self { monotonic: self.monotonic.min(other.monotonic), wall: self.wall.min(other.wall) }
    }
}

/// Whole milliseconds, rounded up: an age is never told too small.
#[must_use]
pub fn ms_rounded_up(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suspension_shows_on_the_wall_clock_only_and_counts() {
        let then = Moment::now();
        let slept = Moment { monotonic: then.monotonic, wall: then.wall + Duration::from_secs(3600) };
        assert_eq!(then.until(slept), Duration::from_secs(3600));
        let stepped_back =
            Moment { monotonic: then.monotonic + Duration::from_secs(2), wall: then.wall - Duration::from_secs(3600) };
        assert_eq!(then.until(stepped_back), Duration::from_secs(2));
        assert_eq!(then.disagreement(slept), Duration::from_secs(3600));
        assert_eq!(then.disagreement(stepped_back), Duration::from_secs(3602));
    }

    #[test]
    fn ages_are_rounded_up() {
        assert_eq!(ms_rounded_up(Duration::from_nanos(1)), 1);
        assert_eq!(ms_rounded_up(Duration::from_millis(7)), 7);
    }
}
