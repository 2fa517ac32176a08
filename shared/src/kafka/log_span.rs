//! Where a partition's log begins and ends, by the last word of its brokers. Pure.

use rdkafka::statistics::Partition;

/// What of a partition is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSpan {
    /// The first offset that the log still has.
    pub start: i64,
    /// The next offset that it will have: the high watermark.
    pub end: i64,
    /// The offset of the first record of a transaction that is open, which holds up who reads committed records: the last
    /// stable offset. `end` when none is open.
    pub stable_end: i64,
    /// Up to where there was nothing more to read; `None` while the client holds records that were not read.
    pub read_to: Option<i64>,
}

impl LogSpan {
    /// From a client's statistics; `None` when it does not fetch the partition.
    pub(super) fn of(statistics: &Partition) -> Option<Self> {
        let (start, end) = (statistics.lo_offset, statistics.hi_offset);
        if statistics.fetch_state != "active" || start < 0 || end < 0 {
            return None;
        }
        let stable_end = match statistics.ls_offset {
            offset if offset < 0 => end,
            offset => offset.min(end),
        };
        let is_drained = statistics.fetchq_cnt == 0 && statistics.eof_offset >= 0;
        Some(Self {
            start,
            end,
            stable_end,
            read_to: is_drained.then_some(statistics.eof_offset),
        })
    }

    /// Offsets from `position` on that are not read. Where everything was read, what ends of transactions take up behind the
    /// last record does not count.
    #[must_use]
    pub fn unread(&self, position: i64, is_at_end: bool) -> i64 {
        let read_to = match self.read_to {
            Some(read_to) if is_at_end => read_to.max(position),
            Some(_) | None => position,
        };
        (self.end - read_to).max(0)
    }

    /// Offsets behind the first record of an open transaction.
    #[must_use]
    pub fn unstable(&self) -> i64 {
        self.end - self.stable_end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: LogSpan = LogSpan {
        start: 0,
        end: 12,
        stable_end: 12,
        read_to: Some(12),
    };

    #[test]
    fn the_end_of_a_transaction_behind_the_last_record_is_not_unread() {
        assert_eq!(SPAN.unread(11, true), 0);
        assert_eq!(SPAN.unread(11, false), 1, "it may be a record");
        let fetched = LogSpan {
            read_to: None,
            ..SPAN
        };
        assert_eq!(fetched.unread(11, true), 1);
        let more = LogSpan { end: 20, ..SPAN };
        assert_eq!(more.unread(11, true), 8);
    }

    #[test]
    fn what_an_open_transaction_holds_is_unread() {
        let held = LogSpan {
            stable_end: 5,
            read_to: Some(5),
            ..SPAN
        };
        assert_eq!((held.unread(5, true), held.unstable()), (7, 7));
        assert_eq!(SPAN.unstable(), 0);
    }
}
