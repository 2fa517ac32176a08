//! Another program's transaction that stays open on the ingest topic: what was written behind its first record is not read
//! until it ends. Pure.

use std::time::Duration;

use super::log_span::LogSpan;

/// A transaction may be open for so long before it is named.
const OPEN_MAX: Duration = Duration::from_secs(45);

/// Since when a partition's last stable offset stands below its end.
#[derive(Debug, Default)]
pub struct OpenTransaction(Option<(i64, Duration)>);

impl OpenTransaction {
    /// Takes a look, at a time on any steady clock; for how long the same transaction is open.
    pub fn take(&mut self, at: Duration, span: &LogSpan) -> Option<Duration> {
        if span.unstable() == 0 {
            self.0 = None;
            return None;
        }
        match self.0 {
            Some((offset, since)) if offset == span.stable_end => Some(at.saturating_sub(since)),
            Some(_) | None => {
                self.0 = Some((span.stable_end, at));
                Some(Duration::ZERO)
            }
        }
    }

    /// What operators are told of a transaction that is open for too long.
    #[must_use]
    pub fn complaint(
        (topic, partition): (&str, i32),
        span: &LogSpan,
        open_for: Option<Duration>,
    ) -> Option<String> {
        let open_for = open_for.filter(|open_for| *open_for >= OPEN_MAX)?;
        let (offset, seconds, records) = (span.stable_end, open_for.as_secs(), span.unstable());
        Some(format!(
            "partition {partition} of {topic}: expected every transaction to end, found one of another program that is open \
             since {seconds} s at offset {offset}; {records} offsets behind it are not read. Who it is: \
             kafka-transactions.sh --bootstrap-server BROKERS describe-producers --topic {topic} --partition {partition}; \
             stop that program, or end its transaction: kafka-transactions.sh --bootstrap-server BROKERS abort \
             --topic {topic} --partition {partition} --start-offset {offset}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(stable_end: i64) -> LogSpan {
        LogSpan {
            start: 0,
            end: 10,
            stable_end,
            read_to: Some(stable_end),
        }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_transaction_is_named_when_it_stays_open_and_not_when_others_come_and_go() {
        let mut open = OpenTransaction::default();
        assert_eq!(open.take(seconds(0), &span(10)), None);
        assert_eq!(open.take(seconds(1), &span(3)), Some(seconds(0)));
        assert_eq!(
            open.take(seconds(40), &span(5)),
            Some(seconds(0)),
            "another one"
        );
        let open_for = open.take(seconds(85), &span(5));
        assert_eq!(open_for, Some(seconds(45)));
        let complaint = OpenTransaction::complaint(("ingest", 2), &span(5), open_for);
        let complaint = complaint.expect("it is open for too long");
        assert!(
            complaint.contains("--topic ingest --partition 2 --start-offset 5"),
            "{complaint}"
        );
        assert_eq!(open.take(seconds(86), &span(10)), None);
        assert_eq!(
            OpenTransaction::complaint(("ingest", 2), &span(5), Some(seconds(44))),
            None
        );
    }
}
