//! A moment of a coordinator, for ages that must never come out too small.
//!
//! The monotonic clock stands still while a machine is suspended, the wall clock can be stepped. An age is
//! therefore the larger of what the two say: a step back of the wall clock changes nothing, a suspension or a
//! step forward makes an answer look older than it is, and that is the safe direction (G2).

use core::time::Duration;

/// A moment, as both clocks told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Moment {
    /// Since some fixed moment of this process.
    pub monotonic: Duration,
    /// Since the Unix epoch.
    pub wall: Duration,
}

impl Moment {
    /// From here to `later`, as the larger of both clocks says.
    #[must_use]
    pub fn until(self, later: Self) -> Duration {
        self.monotonic_until(later).max(later.wall.saturating_sub(self.wall))
    }

    /// From here to `later` by the monotonic clock alone.
    #[must_use]
    pub const fn monotonic_until(self, later: Self) -> Duration {
        later.monotonic.saturating_sub(self.monotonic)
    }

    /// How far the two clocks disagree about the time from here to `later`.
    #[must_use]
    pub fn disagreement(self, later: Self) -> Duration {
        let monotonic = self.monotonic_until(later);
        match later.wall.checked_sub(self.wall) {
            Some(wall) => wall.abs_diff(monotonic),
            None => self.wall.saturating_sub(later.wall) + monotonic,
        }
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

/// Whole milliseconds, rounded down: what surely has passed.
#[must_use]
pub fn ms_rounded_down(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suspension_shows_on_the_wall_clock_only_and_counts() {
        let then = Moment { monotonic: Duration::from_secs(7), wall: Duration::from_secs(1_800_000_000) };
        let slept = Moment { wall: then.wall + Duration::from_secs(3600), ..then };
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
        assert_eq!(ms_rounded_down(Duration::from_nanos(1_999_999)), 1);
    }
}
