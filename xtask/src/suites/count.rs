//! Counting tests from what test runners print.

use std::fmt;
use std::io::{BufRead as _, BufReader};
use std::ops::AddAssign;
use std::process::{Command, Stdio};

use anyhow::Result;

use crate::{command, console};

/// How tests went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Tests that passed.
    pub passed: u32,
    /// Tests that failed.
    pub failed: u32,
    /// Tests that were left out on purpose.
    pub skipped: u32,
}

impl Count {
    /// One check that passed.
    pub const PASSED: Self = Self { passed: 1, failed: 0, skipped: 0 };
    /// One check that failed.
    pub const FAILED: Self = Self { passed: 0, failed: 1, skipped: 0 };

    /// A check that is one test; its error is shown.
    pub fn of(result: Result<()>) -> Self {
        match result {
            Ok(()) => Self::PASSED,
            Err(error) => {
                console::say(&format!("error: {error:#}"));
                Self::FAILED
            }
        }
    }

    /// Adds what a line says, if it is a runner's closing line.
    fn read(&mut self, line: &str) {
        if let Some(rest) = line.trim().strip_prefix("test result: ") {
            self.passed += number_before(rest, " passed");
            self.failed += number_before(rest, " failed");
            self.skipped += number_before(rest, " ignored");
        } else if let Some(rest) = line.strip_prefix("ℹ ").or_else(|| line.strip_prefix("# ")) {
            // node --test
            let (what, number) = rest.split_once(' ').unwrap_or((rest, ""));
            let number = number.parse().unwrap_or(0);
            match what {
                "pass" => self.passed += number,
                "fail" | "cancelled" => self.failed += number,
                "skipped" | "todo" => self.skipped += number,
                _ => {}
            }
        }
    }
}

fn number_before(text: &str, what: &str) -> u32 {
    let Some(end) = text.find(what) else { return 0 };
    text[..end].rsplit(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 {
            write!(f, ", {} skipped", self.skipped)?;
        }
        Ok(())
    }
}

/// Runs a test runner, shows what it prints, and counts. A runner that fails without saying which test is a failure.
///
/// # Errors
/// If it cannot be started.
pub fn run(command: &mut Command) -> Result<Count> {
    let mut running = command::Running::start(command.stdin(Stdio::null()).stdout(Stdio::piped()))?;
    let mut count = Count::default();
    if let Some(stdout) = running.child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            count.read(&line);
        }
    }
    let status = running.wait()?;
    if !status.success() && count.failed == 0 {
        console::say(&format!("error: {} failed: {status}", command::shown(command)));
        count += Count::FAILED;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_read() {
        let mut count = Count::default();
        for line in [
            "test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; 5 filtered out; finished in 0.00s",
            "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "test one::passed ... ok",
            "ℹ tests 7",
            "ℹ pass 4",
            "ℹ fail 1",
            "ℹ cancelled 1",
            "ℹ skipped 1",
        ] {
            count.read(line);
        }
        assert_eq!(count, Count { passed: 17, failed: 4, skipped: 4 });
        assert_eq!(count.to_string(), "17 passed, 4 failed, 4 skipped");
    }
}
