//! What the machine has, and what a process used of it: so a dump that needs too much is told from a machine that has too
//! little.

use std::time::Duration;

/// Clock ticks a second in `/proc`: part of Linux's interface (`USER_HZ`).
const TICKS_PER_SECOND: u32 = 100;
/// The kernel's setting under which it promises no more memory than it has.
const NEVER_OVERCOMMIT: &str = "2";

/// Bytes of memory that could be had without swapping; `None` where the system does not say, or promises memory by another
/// count.
pub(super) fn memory_available() -> Option<u64> {
    let policy = std::fs::read_to_string("/proc/sys/vm/overcommit_memory").ok()?;
    if policy.trim() == NEVER_OVERCOMMIT {
        return None;
    }
    available(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

/// How long a process has used processors; `None` where the system does not say.
pub(super) fn processor_time(process: u32) -> Option<Duration> {
    used(&std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?)
}

fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// The second field is a name in parentheses that may hold anything; of those behind it the 12th and 13th are the time
/// in the program and in the kernel.
fn used(stat: &str) -> Option<Duration> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u32>().ok();
    let ticks = next()?.checked_add(next()?)?;
    Some(Duration::from_secs(1) * ticks / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_words_are_read() {
        let meminfo = "MemTotal:  8 kB\nMemFree: 1 kB\nMemAvailable:    2048 kB\n";
        assert_eq!(available(meminfo), Some(2048 * 1024));
        assert_eq!(available("MemTotal: 8 kB\n"), None);
        let stat = "7 (a) b) R 1 7 7 0 -1 4194304 10 0 0 0 150 25 0 0 20 0";
        assert_eq!(used(stat), Some(Duration::from_millis(1750)));
        assert_eq!(used("7 (a"), None);
    }
}
