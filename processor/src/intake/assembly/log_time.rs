//! When something stands in a partition's log, and how far the log has been read since. Pure.

use std::ops::Add;
use std::time::Duration;

use jiff::Timestamp;

/// A moment as one partition sees it. Both parts must pass a wait before what was waited for counts as lost: time in which we
/// did not read (paused, stalled, stopped) proves nothing, and neither does time spent on a backlog.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(in crate::intake) struct LogTime {
    /// For how long the partition has been read.
    pub(in crate::intake) reading: Duration,
    /// Up to when its records were written, in milliseconds since 1970; now, once its end was reached.
    pub(in crate::intake) written_ms: i64,
}

impl LogTime {
    /// Notes that a record was written then, which is read `now`. A producer's clock that is ahead makes nothing older that
    /// is waited for.
    pub(in crate::intake) fn note_written(&mut self, written: Timestamp, now: Timestamp) {
        let written = written.min(now);
        self.written_ms = self.written_ms.max(written.as_millisecond());
    }

    /// Whether `wait` has passed since `then`.
    pub(in crate::intake) fn is_past(self, then: Self, wait: Duration) -> bool {
        let due = then + wait;
        self.reading >= due.reading && self.written_ms >= due.written_ms
    }
}

impl Add<Duration> for LogTime {
    type Output = Self;

    fn add(self, wait: Duration) -> Self {
        let wait_ms = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
        Self {
            reading: self.reading.saturating_add(wait),
            written_ms: self.written_ms.saturating_add(wait_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_a_backlog_nor_a_stall_counts_as_waiting() {
        let (start, wait) = (LogTime::default(), Duration::from_secs(5));
        let stalled = LogTime {
            reading: Duration::ZERO,
            written_ms: 60_000,
        };
        let backlog = LogTime {
            reading: Duration::from_secs(60),
            written_ms: 0,
        };
        assert!(!stalled.is_past(start, wait) && !backlog.is_past(start, wait));
        assert!((start + wait).is_past(start, wait));
    }

    #[test]
    fn the_log_gets_no_older_by_a_clock_that_is_ahead_or_behind() {
        let now: Timestamp = "2026-11-22T10:00:00Z".parse().expect("a time");
        let mut log = LogTime::default();
        for written in ["2100-01-01T00:00:00Z", "1970-01-01T00:00:00Z"] {
            log.note_written(written.parse().expect("a time"), now);
            assert_eq!(log.written_ms, now.as_millisecond(), "{written}");
        }
    }
}
