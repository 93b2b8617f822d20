//! Clocks. The world's own time is in microseconds and nobody in it can see it; every part has a clock of its own, at a rate
//! within the declared 1 %.

use core::time::Duration;

use edgekeep_shared::lease::EdgeMs;
use edgekeep_shared::moment::Moment;

/// Coordinator time at the start of a run.
pub const T0_MS: u64 = 1_800_000_000_000;

/// A clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// In millionths: 990 000 to 1 010 000.
    rate: u64,
    /// What it shows at the start, in microseconds.
    offset_us: i64,
}

impl Clock {
    /// From random numbers.
    pub fn random(rng: &mut fastrand::Rng) -> Self {
        // The extremes are the interesting ones.
        let rate = *rng.choice(&[990_000, 1_000_000, 1_010_000, 995_000, 1_004_000]).unwrap_or(&1_000_000);
        Self { rate, offset_us: rng.i64(0..4_000_000_000) }
    }

    /// Steps it back.
    pub fn step_back(&mut self, ms: u32) {
        self.offset_us -= i64::from(ms) * 1_000;
    }

    /// Steps it forward.
    pub fn step_forward(&mut self, ms: u32) {
        self.offset_us += i64::from(ms) * 1_000;
    }

    fn passed_us(&self, now_us: u64) -> u64 {
        (u128::from(now_us) * u128::from(self.rate) / 1_000_000) as u64
    }

    /// As an edge reads it.
    pub fn edge_ms(&self, now_us: u64) -> EdgeMs {
        (self.offset_us + self.passed_us(now_us).cast_signed()).div_euclid(1_000)
    }

    /// As a coordinator reads it.
    pub fn moment(&self, now_us: u64) -> Moment {
        let monotonic = Duration::from_micros(self.passed_us(now_us));
        Moment { monotonic, wall: Duration::from_millis(T0_MS) + monotonic }
    }

    /// When the monotonic part will show this.
    pub fn when_us(&self, monotonic: Duration) -> u64 {
        let us = u64::try_from(monotonic.as_micros()).unwrap_or(u64::MAX / 2);
        (u128::from(us) * 1_000_000).div_ceil(u128::from(self.rate)) as u64 + 1
    }
}

/// Coordinator time, which is the database's and the measure of everything.
#[must_use]
pub const fn database_ms(now_us: u64) -> u64 {
    T0_MS + now_us / 1_000
}
