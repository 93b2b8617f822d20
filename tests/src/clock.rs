//! An edge whose clock is off: a small library, compiled here and loaded before all others, adds to what the system
//! clock says. The monotonic clock, and with it every timer, stays as it is.

use std::path::{Path, PathBuf};
use std::process::Command;

/// `clock_gettime`, `gettimeofday` and `time`, with seconds from the environment added to the time of day.
const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long off(void) {
  static long seconds;
  static int known;
  if (!known) {
    const char *text = getenv("CLOCK_OFF_BY_S");
    seconds = text ? atol(text) : 0;
    known = 1;
  }
  return seconds;
}

int clock_gettime(clockid_t which, struct timespec *time) {
  int result = (int)syscall(SYS_clock_gettime, which, time);
  if (result == 0 && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)) time->tv_sec += off();
  return result;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
  (void)zone;
  struct timespec now;
  if (clock_gettime(CLOCK_REALTIME, &now) != 0) return -1;
  if (time) { time->tv_sec = now.tv_sec; time->tv_usec = now.tv_nsec / 1000; }
  return 0;
}

time_t time(time_t *out) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (out) *out = now.tv_sec;
  return now.tv_sec;
}
"#;

/// The variable that says by how many seconds.
pub const VARIABLE: &str = "CLOCK_OFF_BY_S";

/// Compiles the library into `folder`. The compiler is the one that Rust links with.
#[must_use]
pub fn library(folder: &Path) -> PathBuf {
    let (source, library) = (folder.join("clock.c"), folder.join("clock.so"));
    std::fs::write(&source, SOURCE).expect("written");
    let status = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).status();
    assert!(status.expect("cc").success(), "the library compiles");
    library
}
