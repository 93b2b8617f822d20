//! What a person at the terminal sees: one line when a long step begins, one with its time when it is done.

use std::time::Instant;

/// A step under way. Say how it ended with [`Step::done`].
#[must_use = "say how the step ended"]
pub struct Step {
    name: String,
    began: Instant,
    quiet: bool,
}

/// Begins a step and says so. A quiet step says nothing (tests start many clusters).
pub fn step(name: impl Into<String>, quiet: bool) -> Step {
    let name = name.into();
    if !quiet {
        eprintln!("  … {name}");
    }
    Step { name, began: Instant::now(), quiet }
}

impl Step {
    /// The step is done; `what` came of it (may be empty).
    pub fn done(self, what: &str) {
        if !self.quiet {
            let seconds = self.began.elapsed().as_secs_f32();
            let gap = if what.is_empty() { "" } else { ": " };
            eprintln!("  ✓ {}{gap}{what} ({seconds:.1} s)", self.name);
        }
    }
}

/// Says one thing that is not a step.
pub fn say(text: &str) {
    eprintln!("{text}");
}
