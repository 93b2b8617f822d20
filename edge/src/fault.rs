//! Faults on purpose, for tests of G8. Compiled only with the feature `fault-injection`, which never ships.

/// Panics: the platform must drop the isolate's memory, and the next request must find no lease.
#[allow(clippy::panic)]
pub fn panic_now() -> ! {
    panic!("on purpose")
}
