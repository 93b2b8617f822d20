//! The log of a run: a hash over everything that was noted, and the text of it where somebody wants to read.

use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};

/// A log.
#[derive(Debug, Default)]
pub struct Log {
    hasher: DefaultHasher,
    text: Option<String>,
}

impl Log {
    /// One that keeps its text.
    #[must_use]
    pub fn with_text() -> Self {
        Self { text: Some(String::new()), ..Self::default() }
    }

    /// Notes something.
    pub fn note(&mut self, now_us: u64, what: &(impl Hash + Debug)) {
        now_us.hash(&mut self.hasher);
        what.hash(&mut self.hasher);
        if let Some(text) = &mut self.text {
            use std::fmt::Write as _;
            // Writing into a string does not fail.
            let _ = writeln!(text, "{:>12.3} {what:?}", now_us as f64 / 1_000.0);
        }
    }

    /// The same for the same run of the same build.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hasher.finish()
    }

    /// What was noted, a line each.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }
}
