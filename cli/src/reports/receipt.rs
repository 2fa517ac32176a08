//! What `crashferry reports delete` tells of each event, for who has to prove that it is gone.

use jiff::Timestamp;
use serde::Serialize;
use shared::id::{EventId, ProjectId};
use shared::spool::SpoolCopy;
use shared::storage::{StoredEvent, StoredObject};

/// One line of the command's output.
#[derive(Debug, Serialize)]
pub(super) struct Receipt {
    pub(super) event_id: EventId,
    pub(super) project_id: ProjectId,
    /// When it was deleted first.
    pub(super) deleted_at: Timestamp,
    /// Whether that was before this run.
    pub(super) deleted_before: bool,
    /// Nothing was done: this is what would be.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) dry_run: bool,
    /// What was in the storage.
    pub(super) storage: Files,
    pub(super) state: StateLine,
    /// What of it was in the spool of this data directory.
    pub(super) spool: SpoolLine,
    /// What no one can delete: records that stay until their topic lets them go.
    pub(super) kafka: Vec<TopicLine>,
}

/// Files that were removed.
#[derive(Debug, Serialize)]
pub(super) struct Files {
    files: Vec<FileLine>,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct FileLine {
    path: String,
    bytes: u64,
}

/// What the state store keeps.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum StateLine {
    /// The outcome, marked as deleted: the event's URL answers 410, late files and repeats bring nothing back.
    OutcomeMarkedDeleted,
    /// Nothing any more: outcomes are kept for a time, and the event is older.
    NothingKept,
}

#[derive(Debug, Serialize)]
pub(super) struct SpoolLine {
    /// Damaged copies that had been set aside, and the reasons beside them.
    removed: Vec<FileLine>,
    /// Copies whose turn has not come: they are known as copies of a finished event then, and removed.
    waiting: Vec<FileLine>,
}

#[derive(Debug, Serialize)]
pub(super) struct TopicLine {
    pub(super) topic: String,
    /// When `retention.ms` is over for the last record that tells of the event. Brokers remove whole segments of a log, so
    /// it may be later by up to `segment.ms`. Null: never, or `problem` says why it is not known.
    pub(super) kept_until: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) problem: Option<String>,
}

impl From<&[StoredEvent]> for Files {
    fn from(stored: &[StoredEvent]) -> Self {
        let files: Vec<FileLine> = stored
            .iter()
            .flat_map(|event| event.files.iter().map(FileLine::from))
            .collect();
        let bytes = files.iter().map(|file| file.bytes).sum();
        Self { files, bytes }
    }
}

impl From<&StoredObject> for FileLine {
    fn from(file: &StoredObject) -> Self {
        Self {
            path: file.path.to_string(),
            bytes: file.bytes,
        }
    }
}

impl From<&[SpoolCopy]> for SpoolLine {
    fn from(copies: &[SpoolCopy]) -> Self {
        let lines = |is_quarantined: bool| {
            let copies = copies.iter();
            let copies = copies.filter(|copy| copy.is_quarantined == is_quarantined);
            let line = |copy: &SpoolCopy| FileLine {
                path: copy.path.display().to_string(),
                bytes: copy.bytes,
            };
            copies.map(line).collect()
        };
        Self {
            removed: lines(true),
            waiting: lines(false),
        }
    }
}
