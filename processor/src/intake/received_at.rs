//! When an upload was received, as far as its producer can be believed: everything of it is kept under that day, and as
//! long as that day is. Pure.

use jiff::{SignedDuration, Timestamp};
use shared::message::StartTime;

/// Clocks that nobody has set count from 1970, 1980 or 2000: no upload was received before 2001.
const EARLIEST: Timestamp = Timestamp::constant(978_307_200, 0);
/// How far a producer's clock may be ahead of ours: one that shows local time and calls it UTC is by less.
const AHEAD_MAX: SignedDuration = SignedDuration::from_hours(24);

/// A time that can be true.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ReceivedAt {
    pub(super) at: Timestamp,
    /// Why it is not what the producer said.
    pub(super) warning: Option<String>,
}

impl ReceivedAt {
    /// What the producer said, when that can be true; else as [`Self::unsaid`]. The record may be much younger: uploads wait
    /// in a spool, and are sent again.
    pub(super) fn said(said: &StartTime, written: Option<Timestamp>, now: Timestamp) -> Self {
        if let Some(at) = plausible(said.moment(), now) {
            return Self { at, warning: None };
        }
        let (at, what) = when_written(written, now);
        let warning = format!(
            "received_at is when the message was {what}: expected a start_time from 2001 on and at most a day ahead, \
             found {said}"
        );
        Self {
            at,
            warning: Some(warning),
        }
    }

    /// When the record was written; now, where it does not say, or says what cannot be true.
    pub(super) fn unsaid(written: Option<Timestamp>, now: Timestamp) -> Self {
        let (at, _) = when_written(written, now);
        Self { at, warning: None }
    }
}

fn when_written(written: Option<Timestamp>, now: Timestamp) -> (Timestamp, &'static str) {
    match plausible(written, now) {
        Some(written) => (written, "written"),
        None => (now, "read"),
    }
}

/// `at`, unless no clock that was set can have shown it by now.
fn plausible(at: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
    at.filter(|at| *at >= EARLIEST && at.duration_since(now) <= AHEAD_MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn said(value: &serde_json::Value) -> StartTime {
        serde_json::from_value(value.clone()).expect("anything is read")
    }

    #[test]
    fn what_can_be_true_is_believed() {
        let (written, now) = (time("2026-11-22T10:00:00Z"), time("2026-11-22T10:00:05Z"));
        for (value, at) in [
            (json!(1_700_000_000), "2023-11-14T22:13:20Z"),
            (json!(1_700_000_000.5), "2023-11-14T22:13:20.5Z"),
            (json!("2026-11-23T10:00:05Z"), "2026-11-23T10:00:05Z"),
            (json!(978_307_200), "2001-01-01T00:00:00Z"),
        ] {
            let found = ReceivedAt::said(&said(&value), Some(written), now);
            let expected = ReceivedAt {
                at: time(at),
                warning: None,
            };
            assert_eq!(found, expected, "{value}");
        }
    }

    #[test]
    fn what_cannot_be_true_is_named_and_the_record_is_believed() {
        let (written, now) = (time("2026-11-22T10:00:00Z"), time("2026-11-22T10:00:05Z"));
        for value in [
            json!(0),
            json!(-1),
            json!(1_u64 << 62),
            json!(u64::MAX),
            json!(978_307_199),
            json!("2026-11-23T10:00:05.001Z"),
            // Milliseconds.
            json!(1_790_000_000_000_u64),
            json!("yesterday"),
            json!(null),
        ] {
            let found = ReceivedAt::said(&said(&value), Some(written), now);
            assert_eq!(found.at, written, "{value}");
            let warning = found.warning.expect("a warning");
            assert!(warning.ends_with(&format!("found {value}")), "{warning}");
            assert!(warning.contains("was written"), "{warning}");
        }
    }

    #[test]
    fn a_record_that_says_no_time_or_an_absurd_one_was_written_now() {
        let now = time("2026-11-22T10:00:05Z");
        for written in [
            None,
            Some(Timestamp::UNIX_EPOCH),
            Some(time("2000-12-31T23:59:59Z")),
            Some(time("2026-11-23T10:00:06Z")),
            Some(Timestamp::MAX),
            Some(Timestamp::MIN),
        ] {
            assert_eq!(ReceivedAt::unsaid(written, now).at, now, "{written:?}");
            let found = ReceivedAt::said(&said(&json!(0)), written, now);
            assert_eq!(found.at, now);
            let warning = found.warning.expect("a warning");
            assert!(warning.contains("was read"), "{warning}");
        }
        let ahead = time("2026-11-23T10:00:05Z");
        assert_eq!(ReceivedAt::unsaid(Some(ahead), now).at, ahead);
    }
}
