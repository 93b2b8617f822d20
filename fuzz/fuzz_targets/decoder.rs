//! One of the targets of `tests/hostile`, by the name in `TARGET`, under libFuzzer.
//!
//! `cargo xtask fuzz path --seconds 60` does all of it on a stable toolchain; with cargo-fuzz:
//! `TARGET=path cargo +nightly fuzz run decoder fuzz/work/path tests/hostile/corpus/path`.
#![no_main]

use std::sync::LazyLock;

use edgekeep_hostile::{TARGETS, Target, target};

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("TARGET").unwrap_or_default();
    target(&name).unwrap_or_else(|| panic!("TARGET must be one of {:?}", TARGETS.map(|target| target.name)))
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    (TARGET.run)(bytes);
});
