//! The one place that reads the edge's clock.
//!
//! The platform has no monotonic clock: this one can be stepped, and in production it stands still
//! between awaits. So it is read when a request starts and again after every await, it is used for
//! differences only, and a step backwards is noticed by the lease (design 2.2).

use edgekeep_shared::lease::EdgeMs;

/// Milliseconds since the Unix epoch, as this isolate's clock has it.
#[must_use]
pub fn now_ms() -> EdgeMs {
    js_sys::Date::now() as EdgeMs
}

/// How long ago that was; 0 when the clock went back.
#[must_use]
pub fn since_ms(then_ms: EdgeMs) -> u32 {
    u32::try_from(now_ms().saturating_sub(then_ms).max(0)).unwrap_or(u32::MAX)
}
