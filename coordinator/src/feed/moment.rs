//! The one place that reads this process's clocks for ages ([`edgekeep_shared::moment`] says why there are two).

use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

pub use edgekeep_shared::moment::{Moment, ms_rounded_up};

/// What the monotonic part of every [`Moment`] is at [`ORIGIN`]: moments before this process began have one too, because a
/// relay dates its upstream's answers back by their age, which is never an hour.
const START: Duration = Duration::from_secs(3_600);
/// Where the monotonic part of every [`Moment`] begins.
static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Now.
#[must_use]
pub fn now() -> Moment {
    // The origin first: it must not lie after the moment that is counted from it.
    let origin = *ORIGIN;
    Moment {
        monotonic: START + Instant::now().saturating_duration_since(origin),
        wall: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO),
    }
}

/// The time that has passed since, at least.
#[must_use]
pub fn elapsed(since: Moment) -> Duration {
    since.until(now())
}

/// The instant of a moment's monotonic part.
#[must_use]
pub(super) fn instant(monotonic: Duration) -> Instant {
    *ORIGIN + monotonic.saturating_sub(START)
}

/// So long ago, by the wall clock.
#[cfg(test)]
pub(crate) fn ago(passed: Duration) -> Moment {
    let now = now();
    Moment { wall: now.wall - passed, ..now }
}
