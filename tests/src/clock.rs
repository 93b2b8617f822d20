//! An edge whose clock is off: a small library, compiled here and loaded before all others, adds to what the system
//! clock says. By how much stands in a file, so that the clock can be stepped while the edge runs. The monotonic clock,
//! and with it every timer, stays as it is.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::random_hex;

/// `clock_gettime`, `gettimeofday` and `time`, with the file's seconds added to the time of day.
const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile long *seconds;

__attribute__((constructor)) static void map(void) {
  const char *path = getenv("CLOCK_OFF_FILE");
  int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  if (file < 0) return;
  void *place = mmap(NULL, sizeof(long), PROT_READ, MAP_SHARED, file, 0);
  if (place != MAP_FAILED) seconds = place;
  close(file);
}

int clock_gettime(clockid_t which, struct timespec *time) {
  int result = (int)syscall(SYS_clock_gettime, which, time);
  if (result == 0 && seconds && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)) time->tv_sec += *seconds;
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

/// A clock that can be set. Whoever is started with [`Clock::environment`] goes by it.
#[derive(Debug)]
pub struct Clock {
    library: PathBuf,
    file: PathBuf,
}

impl Clock {
    /// A clock that is off by so many seconds. The compiler is the one that Rust links with.
    #[must_use]
    pub fn new(folder: &Path, off_by_s: i64) -> Self {
        let name = random_hex(4);
        let (source, library) = (folder.join(format!("clock-{name}.c")), folder.join(format!("clock-{name}.so")));
        std::fs::write(&source, SOURCE).expect("written");
        let status = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).status();
        assert!(status.expect("cc").success(), "the library compiles");
        let clock = Self { library, file: folder.join(format!("clock-{name}")) };
        clock.set(off_by_s);
        clock
    }

    /// Steps the clock: from now on it is off by so many seconds.
    pub fn set(&self, off_by_s: i64) {
        use std::os::unix::fs::FileExt as _;
        let file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(&self.file);
        // In place: those who run have it mapped.
        file.expect("opened").write_all_at(&off_by_s.to_ne_bytes(), 0).expect("written");
    }

    /// What a process is started with.
    #[must_use]
    pub fn environment(&self) -> [(&'static str, &Path); 2] {
        [("LD_PRELOAD", &self.library), ("CLOCK_OFF_FILE", &self.file)]
    }
}
