//! The final fate of an accepted crash, told exactly once.

mod log_truncated;

pub use log_truncated::LogTruncated;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::{EventId, ProjectId};

/// The record of the outcomes topic and of the state store. Its JSON is flat: see [`Verdict`] for `outcome`, `reason`
/// and `detail`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "OutcomeRecord", try_from = "OutcomeRecord")]
pub struct Outcome {
    /// The crash.
    pub event_id: EventId,
    /// Its project.
    pub project_id: ProjectId,
    /// The crash whose files came late, when the upload is no crash of its own.
    pub attached_to: Option<EventId>,
    /// `outcome`, `reason`, `detail`
    pub verdict: Verdict,
    /// When the relay had it.
    pub received_at: Timestamp,
    /// When its fate was known.
    pub finished_at: Timestamp,
    /// How often parsing was begun.
    pub attempts: u32,
    /// Where its event message stands; absent in embedded mode.
    pub partition: Option<i32>,
    /// As `partition`.
    pub offset: Option<i64>,
}

impl Outcome {
    /// Whether a report was stored with it: late files have none of their own.
    #[must_use]
    pub fn had_report(&self) -> bool {
        match self.verdict {
            Verdict::Processed => self.attached_to.is_none(),
            Verdict::Failed(_) => false,
        }
    }
}

/// Processed, or failed for a reason of a closed set.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// There is a report.
    Processed,
    /// There is none, and this is why.
    Failed(Failure),
}

/// Why a crash has no report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reason", content = "detail", rename_all = "snake_case")]
pub enum Failure {
    /// Chunks of the minidump never arrived.
    MissingChunks(Vec<MissingChunks>),
    /// The minidump's bytes are not those that the relay hashed.
    CorruptAttachment(CorruptAttachment),
    /// rust-minidump cannot read it.
    UnreadableMinidump {
        /// What it said.
        error: String,
    },
    /// The parser's process died, on every attempt.
    ParserCrashed {
        /// How it ended, and the end of what it wrote to standard error.
        error: String,
    },
    /// Its message was removed from the ingest topic before it was read: by retention, or by somebody.
    LogTruncated(GoneMessage),
    /// The parser did not end in time, on every attempt.
    ParserTimeout {
        /// `processor.parse_timeout`, in seconds.
        limit_seconds: f64,
    },
    /// The parser wanted more memory than it may have, on every attempt.
    ParserOutOfMemory {
        /// `processor.parse_memory`, in bytes.
        limit_bytes: u64,
    },
}

/// Which bytes of an attachment are absent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingChunks {
    /// The attachment's file name.
    pub attachment: String,
    /// How many chunks the event message announced.
    pub expected_chunks: u32,
    /// The indices that never came, ascending.
    pub missing: Vec<u32>,
    /// The size the event message announced.
    pub expected_bytes: u64,
    /// What came of it.
    pub received_bytes: u64,
    /// The lowest offset of any message of this event.
    pub first_offset: i64,
    /// The highest.
    pub last_offset: i64,
}

/// An event message that is not in the log any more; where it stood is the outcome's `partition` and `offset`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoneMessage {
    /// The ingest topic.
    pub topic: String,
    /// The first offset that its partition still had when this was noticed.
    pub log_start: i64,
}

/// An attachment that is not what was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CorruptAttachment {
    /// The attachment's file name.
    pub attachment: String,
    /// What differs: `"blake3"`, `"size"` or `"spool file"`.
    pub check: String,
    /// The value the sender announced.
    pub expected: String,
    /// The value of what arrived.
    pub found: String,
}

impl CorruptAttachment {
    /// The whole upload: its spool file `name` was damaged.
    #[must_use]
    pub fn spool_file(name: &str, damage: &str) -> Self {
        Self {
            attachment: name.to_owned(),
            check: "spool file".into(),
            expected: "a whole spool file".into(),
            found: damage.to_owned(),
        }
    }
}

/// The reasons' names, for metrics and records.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Reason {
    /// [`Failure::MissingChunks`]
    MissingChunks,
    /// [`Failure::CorruptAttachment`]
    CorruptAttachment,
    /// [`Failure::UnreadableMinidump`]
    UnreadableMinidump,
    /// [`Failure::ParserCrashed`]
    ParserCrashed,
    /// [`Failure::ParserTimeout`]
    ParserTimeout,
    /// [`Failure::ParserOutOfMemory`]
    ParserOutOfMemory,
    /// [`Failure::LogTruncated`]
    LogTruncated,
}

impl Reason {
    /// Every reason there is.
    pub const ALL: [Self; 7] = [
        Self::MissingChunks,
        Self::CorruptAttachment,
        Self::UnreadableMinidump,
        Self::ParserCrashed,
        Self::ParserTimeout,
        Self::ParserOutOfMemory,
        Self::LogTruncated,
    ];

    /// The name in records and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MissingChunks => "missing_chunks",
            Self::CorruptAttachment => "corrupt_attachment",
            Self::UnreadableMinidump => "unreadable_minidump",
            Self::ParserCrashed => "parser_crashed",
            Self::ParserTimeout => "parser_timeout",
            Self::ParserOutOfMemory => "parser_out_of_memory",
            Self::LogTruncated => "log_truncated",
        }
    }
}

impl Verdict {
    /// The reason, when it failed.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Processed => None,
            Self::Failed(failure) => Some(failure.reason()),
        }
    }
}

impl Failure {
    /// The reason's name.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::MissingChunks(_) => Reason::MissingChunks,
            Self::CorruptAttachment(_) => Reason::CorruptAttachment,
            Self::UnreadableMinidump { .. } => Reason::UnreadableMinidump,
            Self::ParserCrashed { .. } => Reason::ParserCrashed,
            Self::ParserTimeout { .. } => Reason::ParserTimeout,
            Self::ParserOutOfMemory { .. } => Reason::ParserOutOfMemory,
            Self::LogTruncated(_) => Reason::LogTruncated,
        }
    }
}

/// The flat JSON of an outcome.
#[derive(Serialize, Deserialize)]
struct OutcomeRecord {
    event_id: EventId,
    project_id: ProjectId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    attached_to: Option<EventId>,
    outcome: OutcomeName,
    reason: Option<String>,
    detail: Option<Value>,
    received_at: Timestamp,
    finished_at: Timestamp,
    attempts: u32,
    partition: Option<i32>,
    offset: Option<i64>,
}

#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum OutcomeName {
    Processed,
    Failed,
}

impl From<Outcome> for OutcomeRecord {
    fn from(outcome: Outcome) -> Self {
        let (name, reason, detail) = match &outcome.verdict {
            Verdict::Processed => (OutcomeName::Processed, None, None),
            Verdict::Failed(failure) => {
                // INVARIANT: a failure is texts and numbers under text keys, which always make JSON.
                let tagged = serde_json::to_value(failure).expect("failures encode");
                (
                    OutcomeName::Failed,
                    Some(failure.reason().as_str().to_owned()),
                    tagged.get("detail").cloned(),
                )
            }
        };
        let Outcome {
            event_id,
            project_id,
            attached_to,
            verdict: _,
            received_at,
            finished_at,
            attempts,
            partition,
            offset,
        } = outcome;
        Self {
            event_id,
            project_id,
            attached_to,
            outcome: name,
            reason,
            detail,
            received_at,
            finished_at,
            attempts,
            partition,
            offset,
        }
    }
}

impl TryFrom<OutcomeRecord> for Outcome {
    type Error = serde_json::Error;

    fn try_from(record: OutcomeRecord) -> Result<Self, serde_json::Error> {
        let verdict = match record.outcome {
            OutcomeName::Processed => Verdict::Processed,
            OutcomeName::Failed => {
                let tagged =
                    serde_json::json!({ "reason": record.reason, "detail": record.detail });
                Verdict::Failed(serde_json::from_value(tagged)?)
            }
        };
        Ok(Self {
            event_id: record.event_id,
            project_id: record.project_id,
            attached_to: record.attached_to,
            verdict,
            received_at: record.received_at,
            finished_at: record.finished_at,
            attempts: record.attempts,
            partition: record.partition,
            offset: record.offset,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(verdict: Verdict) -> Outcome {
        Outcome {
            event_id: "0f1e2d3c4b5a69788796a5b4c3d2e1f0".parse().expect("an id"),
            project_id: ProjectId::new(1),
            attached_to: None,
            verdict,
            received_at: "2026-01-02T03:04:05Z".parse().expect("a time"),
            finished_at: "2026-01-02T03:04:06Z".parse().expect("a time"),
            attempts: 1,
            partition: Some(3),
            offset: Some(17),
        }
    }

    fn every_failure() -> Vec<Failure> {
        vec![
            Failure::MissingChunks(vec![MissingChunks {
                attachment: "minidump.dmp".into(),
                expected_chunks: 3,
                missing: vec![1],
                expected_bytes: 30,
                received_bytes: 20,
                first_offset: 15,
                last_offset: 17,
            }]),
            Failure::CorruptAttachment(CorruptAttachment {
                attachment: "minidump.dmp".into(),
                check: "size".into(),
                expected: "30".into(),
                found: "29".into(),
            }),
            Failure::UnreadableMinidump {
                error: "no stream directory".into(),
            },
            Failure::ParserCrashed {
                error: "signal 11".into(),
            },
            Failure::ParserTimeout {
                limit_seconds: 60.0,
            },
            Failure::ParserOutOfMemory {
                limit_bytes: 2 << 30,
            },
            Failure::LogTruncated(GoneMessage {
                topic: "ingest-attachments".into(),
                log_start: 18,
            }),
        ]
    }

    #[test]
    fn an_outcome_is_flat_json_and_reads_back() {
        let failures = every_failure().into_iter().map(Verdict::Failed);
        for verdict in failures.chain([Verdict::Processed]) {
            let outcome = outcome(verdict);
            let json = serde_json::to_value(&outcome).expect("encodes");
            assert_eq!(
                json["reason"].as_str(),
                outcome.verdict.reason().map(Reason::as_str)
            );
            assert_eq!(
                serde_json::from_value::<Outcome>(json).expect("reads back"),
                outcome
            );
        }
    }

    #[test]
    fn neither_failures_nor_late_files_had_a_report() {
        let processed = outcome(Verdict::Processed);
        assert!(processed.had_report());
        let late = Outcome {
            attached_to: Some(processed.event_id),
            ..processed
        };
        assert!(!late.had_report());
        for failure in every_failure() {
            assert!(!outcome(Verdict::Failed(failure)).had_report());
        }
    }

    #[test]
    fn a_missing_chunk_says_which() {
        let failure = every_failure().swap_remove(0);
        insta::assert_json_snapshot!(outcome(Verdict::Failed(failure)));
    }
}
