//! For how long records were read, which is not how long the process has been running.

use std::time::{Duration, Instant};

/// A longer time between two looks was no reading: the process was frozen.
const LOOK_MAX: Duration = Duration::from_secs(2);

/// Counts the time in which records were read, or would have been.
#[derive(Debug)]
pub(super) struct ReadingClock {
    started: Instant,
    looked: Instant,
    this: Period,
    /// What was written while we were kept from reading may still be on its way, so the time after that does not count yet.
    was_kept: bool,
}

/// The time between two looks.
#[derive(Clone, Copy, Debug, Default)]
struct Period {
    /// Assembled events had to wait before more records could be read.
    waited: bool,
    /// A record was read all the same.
    read: bool,
}

impl ReadingClock {
    pub(super) fn start() -> Self {
        let now = Instant::now();
        Self {
            started: now,
            looked: now,
            this: Period::default(),
            was_kept: true,
        }
    }

    /// Notes whether assembled events wait for those under way.
    pub(super) fn note_wait(&mut self, waits: bool) {
        self.this.waited |= waits;
    }

    /// Notes that a record was read.
    pub(super) fn note_record(&mut self) {
        self.this.read = true;
    }

    /// For how long records were read since this was asked last.
    pub(super) fn read_for(&mut self) -> Duration {
        self.read_until(Instant::now())
    }

    fn read_until(&mut self, now: Instant) -> Duration {
        let passed = now.duration_since(self.looked);
        self.looked = now;
        let Period { waited, read } = std::mem::take(&mut self.this);
        let is_kept = (waited && !read) || passed > LOOK_MAX;
        let was_kept = std::mem::replace(&mut self.was_kept, is_kept);
        match is_kept || was_kept {
            true => Duration::ZERO,
            false => passed,
        }
    }

    pub(super) fn running_for(&self) -> Duration {
        self.started.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_counts_while_records_are_read_or_there_are_none_and_not_while_they_are_held_up() {
        let second = Duration::from_secs(1);
        let mut clock = ReadingClock::start();
        let mut now = clock.looked;
        let mut look = |waits: bool, reads: bool, passed: Duration| {
            clock.note_wait(waits);
            if reads {
                clock.note_record();
            }
            now += passed;
            clock.read_until(now)
        };
        assert_eq!(
            look(false, false, second),
            Duration::ZERO,
            "at first nothing is known"
        );
        assert_eq!(look(false, false, second), second);
        assert_eq!(look(true, true, second), second, "busy");
        assert_eq!(look(true, false, second), Duration::ZERO, "held up");
        assert_eq!(look(false, true, second), Duration::ZERO, "just let go");
        assert_eq!(look(false, false, second), second);
        assert_eq!(look(false, false, 60 * second), Duration::ZERO, "frozen");
    }
}
