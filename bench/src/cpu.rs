//! How much processor time processes have used, as the system accounts it: to a tick, and to far less where a process has
//! one thread, as those of Postgres have. A sum over many of them would else be off by a tick for each.

use std::fs;

/// What `/proc` counts in: ticks of 10 ms on every Linux that matters here.
const TICKS_PER_S: f64 = 100.0;

/// Seconds of processor time of these processes together since they began, user and system. Linux only: 0 elsewhere.
#[must_use]
pub fn seconds(pids: &[u32]) -> f64 {
    pids.iter().map(|pid| of(*pid).unwrap_or(0.0)).sum()
}

/// Seconds of processor time of the children that this process has waited for, with theirs.
#[must_use]
pub fn seconds_of_ended_children(pid: u32) -> f64 {
    fields(pid).map_or(0.0, |[_, _, user, system]| (user + system) / TICKS_PER_S)
}

fn of(pid: u32) -> Option<f64> {
    let [user, system, ..] = fields(pid)?;
    let ticked = (user + system) / TICKS_PER_S;
    // The two are of one clock. Where they differ by more than the ticks' rounding, other threads have ended before.
    Some(exactly(pid).filter(|exact| (exact - ticked).abs() < 3.0 / TICKS_PER_S).unwrap_or(ticked))
}

/// utime, stime, cutime and cstime in ticks.
fn fields(pid: u32) -> Option<[f64; 4]> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything, so from its last parenthesis: state is then the first field, utime the 12th.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11).map(str::parse);
    let mut next = || fields.next()?.ok();
    Some([next()?, next()?, next()?, next()?])
}

/// Of a process with one thread: the scheduler's own count, in nanoseconds.
fn exactly(pid: u32) -> Option<f64> {
    if fs::read_dir(format!("/proc/{pid}/task")).ok()?.count() != 1 {
        return None;
    }
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).ok()?;
    text.split_whitespace().next()?.parse::<f64>().ok().map(|ns| ns / 1e9)
}

/// The most memory that the process has had at once, in bytes.
#[must_use]
pub fn peak_memory_bytes(pid: u32) -> Option<u64> {
    memory(pid, "VmHWM:")
}

/// The memory that the process has now, in bytes.
#[must_use]
pub fn memory_bytes(pid: u32) -> Option<u64> {
    memory(pid, "VmRSS:")
}

fn memory(pid: u32, what: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(what))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// The process and all that it has started, however deep.
#[must_use]
pub fn family(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut parents: Vec<(u32, u32)> = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(child) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
        parents.extend(parent.map(|parent: u32| (child, parent)));
    }
    let mut at = 0;
    while at < all.len() {
        let parent = all[at];
        all.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(child, _)| *child));
        at += 1;
    }
    all
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn our_own_time_and_memory_are_counted() {
        let own = std::process::id();
        let before = seconds(&[own]);
        let begun = std::time::Instant::now();
        let mut x = 1_u64;
        while seconds(&[own]) < before + 0.05 && begun.elapsed().as_secs() < 20 {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        }
        assert!(seconds(&[own]) >= before + 0.05, "{x}");
        // In this order: what is read now may be more than any peak until then. The kernel batches these counters per
        // thread, so they are told to within some pages.
        let now = memory_bytes(own).unwrap_or_default();
        assert!(peak_memory_bytes(own).unwrap_or_default() + 4_000_000 >= now);
        assert!(now > 100_000);
        assert_eq!(family(own).first(), Some(&own));
    }

    #[test]
    fn a_child_is_counted_while_it_runs_and_after_it_was_waited_for() {
        let own = std::process::id();
        let before = seconds_of_ended_children(own);
        let mut busy = std::process::Command::new("sh");
        let Ok(mut child) = busy.args(["-c", "while :; do :; done"]).spawn() else { panic!("no shell") };
        let begun = std::time::Instant::now();
        while seconds(&[child.id()]) < 0.1 && begun.elapsed().as_secs() < 20 {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let used = seconds(&[child.id()]);
        assert!(used >= 0.1, "{used}");
        assert!(exactly(child.id()).is_some_and(|exact| (exact - used).abs() < 0.1), "one thread is told exactly");
        let _ = child.kill();
        let _ = child.wait();
        assert!(seconds_of_ended_children(own) - before >= used - 0.03);
    }
}
