//! The lease: how long an edge may decide from memory (G2), and what it knows of coordinator time.
//!
//! A lease is counted from when the edge *sent* its question and from how old the answer was, in
//! edge time, which is used only for differences. The only assumption about clocks is that they run
//! at the same rate to within 1 % and are not stepped back; a step back that is seen ends the lease.
//! All arithmetic rounds towards the shorter lease.

/// Edge time, in milliseconds since the Unix epoch; compared only with itself.
pub type EdgeMs = i64;

/// 98 % of a span, rounded down: what surely has not passed on the other clock (two clocks, 1 % each).
#[must_use]
pub const fn at_least(span_ms: u32) -> i64 {
    span_ms as i64 * 98 / 100
}

/// 102 % of a span, rounded up: what surely has passed on the other clock.
#[must_use]
pub const fn at_most(span_ms: i64) -> i64 {
    (span_ms * 102 + 99) / 100
}

/// When a statement about the database was true, in edge time: the latest moment of which that is certain.
///
/// `sent + 0.98 · held − 1.02 · age`: the answer left no earlier than `held` after the question was sent, and what
/// it says was read `age` before it left.
#[must_use]
pub const fn true_at(sent_ms: EdgeMs, held_ms: u32, age_ms: u32) -> EdgeMs {
    sent_ms + at_least(held_ms) - at_most(age_ms as i64)
}

/// When a question left, on a clock that may since have been stepped back: made by [`Lease::sent`] just before sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sent {
    /// Edge time.
    pub at_ms: EdgeMs,
    /// How often the clock had been seen to step back by then.
    clock_steps: u32,
}

/// What an isolate may rely on, and until when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    granted: Option<Grant>,
    /// The latest edge time that was seen.
    seen_ms: EdgeMs,
    /// How often the clock was seen to step back.
    clock_steps: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Grant {
    true_at_ms: EdgeMs,
    max_staleness_ms: u32,
    keys_version: u64,
}

impl Lease {
    /// Notes the clock. A step back ends the lease: nobody can tell how much time has passed.
    pub fn observe(&mut self, now_ms: EdgeMs) {
        if now_ms < self.seen_ms {
            self.granted = None;
            self.clock_steps = self.clock_steps.wrapping_add(1);
        }
        self.seen_ms = now_ms;
    }

    /// Stamps a question that leaves now.
    #[must_use]
    pub const fn sent(&self, now_ms: EdgeMs) -> Sent {
        Sent { at_ms: now_ms, clock_steps: self.clock_steps }
    }

    /// The time between sending and now can be told: the clock was not seen to step back since.
    #[must_use]
    pub const fn can_measure_since(&self, sent: Sent, now_ms: EdgeMs) -> bool {
        sent.clock_steps == self.clock_steps && sent.at_ms <= now_ms && self.seen_ms <= now_ms
    }

    /// Takes an answer into account: what it says was true at `true_at_ms` (see [`true_at`]). An older answer never
    /// shortens or extends what a newer one gave.
    pub fn extend(&mut self, true_at_ms: EdgeMs, max_staleness_ms: u32, keys_version: u64) {
        if self.granted.is_none_or(|granted| true_at_ms > granted.true_at_ms) {
            let keys_version = self.granted.map_or(keys_version, |granted| granted.keys_version.max(keys_version));
            self.granted = Some(Grant { true_at_ms, max_staleness_ms, keys_version });
        }
    }

    /// Ends the lease.
    pub fn end(&mut self) {
        self.granted = None;
    }

    /// Until when a route with this bound may decide from memory; `None` without a lease.
    #[must_use]
    pub fn until_ms(&self, route_staleness_ms: Option<u32>) -> Option<EdgeMs> {
        self.granted.map(|granted| {
            let bound_ms = route_staleness_ms.map_or(granted.max_staleness_ms, |ms| ms.min(granted.max_staleness_ms));
            granted.true_at_ms + at_least(bound_ms)
        })
    }

    /// The lease holds now, for a route with this bound. Keys older than the answer named end it.
    #[must_use]
    pub fn holds(&self, now_ms: EdgeMs, route_staleness_ms: Option<u32>, keys_version: u64) -> bool {
        now_ms >= self.seen_ms
            && self.keys_needed().is_some_and(|needed| keys_version >= needed)
            && self.until_ms(route_staleness_ms).is_some_and(|until_ms| now_ms < until_ms)
    }

    /// The key set's version that the answers named; `None` without a lease.
    #[must_use]
    pub fn keys_needed(&self) -> Option<u64> {
        self.granted.map(|granted| granted.keys_version)
    }

    /// The deployment's bound as last heard, in milliseconds.
    #[must_use]
    pub fn max_staleness_ms(&self) -> Option<u32> {
        self.granted.map(|granted| granted.max_staleness_ms)
    }

    /// How old the view may be at most, in milliseconds; `None` without a lease.
    #[must_use]
    pub fn age_ms(&self, now_ms: EdgeMs) -> Option<u64> {
        self.granted.map(|granted| now_ms.saturating_sub(granted.true_at_ms).max(0) as u64)
    }
}

/// What an isolate knows of coordinator time: two bounds that drift apart until the next answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockBounds {
    sent_ms: EdgeMs,
    received_ms: EdgeMs,
    held_ms: u32,
    age_ms: u32,
    read_at_ms: u64,
}

impl ClockBounds {
    /// From an answer that was read at `read_at_ms` (coordinator time) and `age_ms` old when it left.
    #[must_use]
    pub const fn from_answer(sent_ms: EdgeMs, received_ms: EdgeMs, held_ms: u32, age_ms: u32, read_at_ms: u64) -> Self {
        Self { sent_ms, received_ms, held_ms, age_ms, read_at_ms }
    }

    /// Coordinator time is at least this.
    #[must_use]
    pub const fn earliest_ms(&self, now_ms: EdgeMs) -> u64 {
        let since_ms = now_ms.saturating_sub(self.received_ms);
        if since_ms <= 0 { self.read_at_ms } else { self.read_at_ms + (since_ms * 98 / 100) as u64 }
    }

    /// Coordinator time is at most this.
    #[must_use]
    pub const fn latest_ms(&self, now_ms: EdgeMs) -> u64 {
        let since_ms = now_ms.saturating_sub(self.sent_ms).saturating_sub(at_least(self.held_ms));
        let since_ms = if since_ms < 0 { 0 } else { since_ms };
        self.read_at_ms + at_most(since_ms + self.age_ms as i64) as u64
    }
}

/// A delay that jitter only ever shortens: between 3/4 and all of `delay_ms`. `random` is any 32 random bits.
#[must_use]
pub const fn jittered_ms(delay_ms: u32, random: u32) -> u32 {
    delay_ms - ((delay_ms as u64 / 4 * random as u64) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_from_sending_and_from_the_age() {
        let mut lease = Lease::default();
        lease.observe(10_000);
        assert!(!lease.holds(10_000, None, 9));
        lease.extend(true_at(10_000, 1_000, 100), 5_000, 3);
        assert_eq!(lease.until_ms(None), Some(10_000 + 980 - 102 + 4_900));
        assert!(lease.holds(15_777, None, 3) && !lease.holds(15_778, None, 3));
        assert!(!lease.holds(10_000, None, 2), "keys older than the answer named");
        assert!(!lease.holds(12_000, Some(1_000), 3) && lease.holds(11_800, Some(1_000), 3));
        assert_eq!(lease.until_ms(Some(60_000)), lease.until_ms(None), "a route can only shorten the bound");
    }

    #[test]
    fn a_late_answer_changes_nothing() {
        let mut lease = Lease::default();
        lease.extend(1_000, 5_000, 3);
        lease.extend(900, 60_000, 4);
        lease.extend(1_000, 60_000, 4);
        assert_eq!((lease.until_ms(None), lease.keys_needed()), (Some(5_900), Some(3)));
    }

    #[test]
    fn a_newer_answer_counts_whole_and_a_lease_tells_its_bound_and_age() {
        let mut lease = Lease::default();
        assert_eq!((lease.max_staleness_ms(), lease.age_ms(1_000)), (None, None));
        lease.extend(1_000, 5_000, 3);
        assert_eq!(
            (lease.max_staleness_ms(), lease.age_ms(1_250), lease.age_ms(900)),
            (Some(5_000), Some(250), Some(0))
        );
        lease.extend(1_001, 1_000, 2);
        assert_eq!((lease.until_ms(None), lease.keys_needed()), (Some(1_981), Some(3)), "keys are never needed less");
    }

    #[test]
    fn a_step_back_ends_the_lease() {
        let mut lease = Lease::default();
        lease.observe(10_000);
        lease.extend(10_000, 5_000, 1);
        assert!(!lease.holds(9_999, None, 1));
        let before = lease.sent(10_000);
        lease.observe(9_999);
        assert!(!lease.holds(10_500, None, 1));
        assert!(!lease.can_measure_since(before, 20_000), "an answer that was under way tells no time");
        assert!(lease.can_measure_since(lease.sent(9_999), 20_000));
    }

    #[test]
    fn the_bounds_enclose_the_truth() {
        // Read at 500_000, answered 40 ms later, after being held for 1 000 ms; sent at 0, received at 1 100 (edge time).
        let bounds = ClockBounds::from_answer(0, 1_100, 1_000, 40, 500_000);
        for (edge_ms, truth_ms) in [(1_100, 500_040), (1_100, 500_140), (61_100, 560_040)] {
            assert!(bounds.earliest_ms(edge_ms) <= truth_ms && truth_ms <= bounds.latest_ms(edge_ms));
        }
    }

    #[test]
    fn jitter_only_shortens() {
        assert_eq!(jittered_ms(1_000, 0), 1_000);
        assert!((750..=751).contains(&jittered_ms(1_000, u32::MAX)));
        assert_eq!(jittered_ms(0, u32::MAX), 0);
    }
}
