//! Records that retention removed before they were read: told once, among the outcomes.

use jiff::Timestamp;
use serde::Serialize;

use crate::id::EventId;

/// Which records of the ingest topic are gone. What was in them is not known, so the record on the outcomes topic names no
/// event: its JSON has an outcome's fields, `event_id`, `project_id` and `received_at` null, `outcome` `failed`, `reason`
/// `log_truncated`, `partition` and `offset` those of the first lost record, and this as `detail`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LogTruncated {
    /// The ingest topic.
    pub topic: String,
    /// The partition.
    #[serde(skip)]
    pub partition: i32,
    /// The first offset that was to be read and is gone.
    pub first_offset: i64,
    /// The last one.
    pub last_offset: i64,
    /// How many offsets that are.
    pub offsets: u64,
    /// How many event messages among them had been processed before.
    pub already_finished: u64,
    /// When it was noticed.
    #[serde(skip)]
    pub noticed_at: Timestamp,
}

#[derive(Serialize)]
struct Told<'a> {
    event_id: Option<EventId>,
    project_id: Option<u64>,
    outcome: &'static str,
    reason: &'static str,
    detail: &'a LogTruncated,
    received_at: Option<Timestamp>,
    finished_at: Timestamp,
    attempts: u32,
    partition: i32,
    offset: i64,
}

impl LogTruncated {
    /// The key of its record: the same whoever notices.
    #[must_use]
    pub fn key(&self) -> [u8; 16] {
        let numbers = [
            i64::from(self.partition),
            self.first_offset,
            self.last_offset,
        ];
        let [partition, first, last] = numbers.map(i64::to_le_bytes);
        let parts = [
            b"log_truncated",
            self.topic.as_bytes(),
            &partition,
            &first,
            &last,
        ];
        *EventId::derived(&parts).as_bytes()
    }

    /// Its record's JSON.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let told = Told {
            event_id: None,
            project_id: None,
            outcome: "failed",
            reason: "log_truncated",
            detail: self,
            received_at: None,
            finished_at: self.noticed_at,
            attempts: 0,
            partition: self.partition,
            offset: self.first_offset,
        };
        // INVARIANT: texts and numbers under text keys always make JSON.
        serde_json::to_vec(&told).expect("outcomes encode")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_like_an_outcome_of_no_event() {
        let gone = LogTruncated {
            topic: "ingest-attachments".into(),
            partition: 3,
            first_offset: 10,
            last_offset: 19,
            offsets: 10,
            already_finished: 2,
            noticed_at: Timestamp::from_second(1_790_000_000).expect("in range"),
        };
        let told: serde_json::Value = serde_json::from_slice(&gone.encode()).expect("JSON");
        insta::assert_json_snapshot!(told);
        assert_eq!(gone.key(), gone.clone().key());
    }
}
