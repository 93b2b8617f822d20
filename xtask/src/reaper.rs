//! Nothing outlives us, not even when we are killed.
//!
//! A small shell process of its own group reads from a pipe that we hold open which process groups are ours. When the
//! pipe closes, however we came to an end, it stops those groups: politely, then, after two seconds, for good.
//! This holds for grandchildren too (wrangler starts workerd), needs no unsafe code and is the same on every Unix.

use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

const SCRIPT: &str = r#"
trap '' INT TERM HUP QUIT
groups=""
while read -r change group; do
  case $change in
    +) groups="$groups $group" ;;
    -) kept=""
       for each in $groups; do [ "$each" = "$group" ] || kept="$kept $each"; done
       groups=$kept ;;
  esac
done
for each in $groups; do kill -s TERM -- "-$each"; kill -s CONT -- "-$each"; done
tries=0
while [ $tries -lt 20 ]; do
  alive=""
  for each in $groups; do if kill -s 0 -- "-$each"; then alive=yes; fi; done
  [ -n "$alive" ] || exit 0
  sleep 0.1
  tries=$((tries + 1))
done
for each in $groups; do kill -s KILL -- "-$each"; done
"#;

struct Reaper {
    /// The shell and its input; made with the first process that is started.
    shell: Option<Child>,
    pipe: Option<ChildStdin>,
    /// We are ending: nothing is started any more.
    closed: bool,
}

static REAPER: Mutex<Reaper> = Mutex::new(Reaper { shell: None, pipe: None, closed: false });

fn reaper() -> MutexGuard<'static, Reaper> {
    REAPER.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reaper {
    fn prepare(&mut self) -> io::Result<()> {
        if self.closed {
            return Err(io::Error::other("everything is being stopped"));
        }
        if self.pipe.is_none() {
            let mut shell = Command::new("sh")
                .args(["-c", SCRIPT])
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .current_dir("/")
                .process_group(0)
                .spawn()?;
            self.pipe = shell.stdin.take();
            self.shell = Some(shell);
        }
        Ok(())
    }

    fn tell(&mut self, change: char, group: u32) {
        if let Some(pipe) = &mut self.pipe {
            // If somebody killed the shell, the parts are stopped by their owners alone.
            let _ = pipe.write_all(format!("{change} {group}\n").as_bytes());
        }
    }
}

/// Starts a command as the leader of a process group of its own, which ends when we do, however that comes about.
///
/// # Errors
/// If it cannot be started.
pub fn spawn(command: &mut Command) -> io::Result<Child> {
    let mut reaper = reaper();
    reaper.prepare()?;
    let child = command.process_group(0).spawn()?;
    reaper.tell('+', child.id());
    Ok(child)
}

/// This process group has ended; its number may become somebody else's.
pub fn release(group: u32) {
    reaper().tell('-', group);
}

/// Stops all that was started and is not released, and waits until that is done. Nothing can be started afterwards.
pub fn stop_everything() {
    let shell = {
        let mut reaper = reaper();
        reaper.closed = true;
        reaper.pipe = None;
        reaper.shell.take()
    };
    if let Some(mut shell) = shell {
        let _ = shell.wait();
    }
}
