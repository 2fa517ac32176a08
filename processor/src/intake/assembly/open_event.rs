//! An event whose message has come: what it waits for, and what is made of it. Pure.

use bytes::Bytes;
use shared::content::Content;
use shared::envelope::{Attachment, Envelope};
use shared::id::{AttachmentId, EventId, ProjectId};
use shared::message::{AttachmentEntry, Headers};
use shared::outcome::{CorruptAttachment, Failure, MissingChunks};

use super::pieces::Source;
use super::{Assembled, Ended, Incomplete, LogTime, ReceivedAt};

/// An event whose message has come.
#[derive(Debug)]
pub(super) struct OpenEvent {
    pub(super) ended: Ended,
    pub(super) stage: Stage,
}

#[derive(Debug)]
pub(super) enum Stage {
    /// Chunks are absent that may be late.
    Waiting {
        event: Box<ReceivedEvent>,
        since: LogTime,
    },
    /// Everything was handed over: these attachments.
    InProcess(Vec<(EventId, AttachmentId)>),
}

/// An event message as it was received.
#[derive(Debug)]
pub(super) struct ReceivedEvent {
    pub(super) offset: i64,
    /// The event that its chunks name.
    pub(super) source: EventId,
    pub(super) project_id: ProjectId,
    pub(super) received_at: ReceivedAt,
    pub(super) remote_addr: Option<String>,
    pub(super) payload: Bytes,
    pub(super) entries: Vec<AttachmentEntry>,
    pub(super) headers: Headers,
}

impl OpenEvent {
    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.stage, Stage::Waiting { .. })
    }

    /// Whether the attachment is being processed, or was left out, as a part of this event.
    pub(super) fn is_in_process_with(&self, attachment: &AttachmentId) -> bool {
        match &self.stage {
            Stage::Waiting { .. } => false,
            Stage::InProcess(parts) => parts.iter().any(|(_, listed)| listed == attachment),
        }
    }

    /// Takes the message out to be processed, once.
    pub(super) fn begin_process(&mut self) -> Option<ReceivedEvent> {
        let Stage::Waiting { event, .. } = &self.stage else {
            return None;
        };
        let parts = event.entries.iter();
        let parts = parts
            .map(|entry| (event.source, entry.id.clone()))
            .collect();
        match std::mem::replace(&mut self.stage, Stage::InProcess(parts)) {
            Stage::Waiting { event, .. } => Some(*event),
            Stage::InProcess(_) => None,
        }
    }

    /// The attachments it was made of, and what it held.
    pub(super) fn finish(self) -> (Vec<(EventId, AttachmentId)>, Ended) {
        let parts = match self.stage {
            Stage::Waiting { .. } => Vec::new(),
            Stage::InProcess(parts) => parts,
        };
        (parts, self.ended)
    }
}

impl ReceivedEvent {
    /// Makes the envelope of what is in `source`; returns also where the pieces it took began.
    pub(super) fn assemble(self, event_id: EventId, source: &mut Source) -> (Assembled, Vec<i64>) {
        let mut attachments = Vec::with_capacity(self.entries.len());
        let mut incomplete = Vec::new();
        for entry in &self.entries {
            match self.attachment(entry, source) {
                Ok(attachment) => attachments.push(attachment),
                Err(failure) => incomplete.push(Incomplete {
                    kind: entry.attachment_type.clone(),
                    failure,
                }),
            }
        }
        let entries = self.entries.iter();
        let taken = entries.filter_map(|entry| source.remove(&entry.id));
        let mut begun: Vec<i64> = taken.map(|pieces| pieces.first_offset()).collect();
        // Our own relays list every attachment of theirs: what is left is of a sending that was given up.
        if self.headers.are_ours() {
            begun.extend(source.clear());
        }
        let envelope = Envelope {
            event_id,
            project_id: self.project_id,
            received_at: self.received_at.at,
            remote_addr: self.remote_addr,
            event: self.payload,
            attachments,
        };
        let assembled = Assembled {
            envelope,
            incomplete,
            warnings: self.received_at.warning.into_iter().collect(),
            offset: self.offset,
        };
        (assembled, begun)
    }

    fn attachment(&self, entry: &AttachmentEntry, source: &Source) -> Result<Attachment, Failure> {
        let corrupt = |check: &str, expected: String, found: String| {
            Failure::CorruptAttachment(CorruptAttachment {
                attachment: entry.name.clone(),
                check: check.into(),
                expected,
                found,
            })
        };
        if let Some(damage) = &self.headers.spool_damage {
            let corrupt = CorruptAttachment::spool_file(&entry.name, damage);
            return Err(Failure::CorruptAttachment(corrupt));
        }
        let size = entry.size;
        if entry.rate_limited {
            let found = "none: a quota of the sender's dropped them".to_owned();
            return Err(corrupt("rate_limited", format!("{size} bytes"), found));
        }
        if let Some(stored_id) = &entry.stored_id {
            let found = format!("a reference to the sender's object store, {stored_id:?}");
            return Err(corrupt(
                "stored_id",
                "bytes in chunks or in data".into(),
                found,
            ));
        }
        let content = match &entry.data {
            Some(data) => Content::from(data.clone()),
            None => self.joined(entry, source)?,
        };
        if content.len() != size {
            return Err(corrupt("size", size.to_string(), content.len().to_string()));
        }
        Ok(Attachment {
            id: entry.id.clone(),
            name: entry.name.clone(),
            content_type: entry.content_type.clone(),
            kind: entry.attachment_type.clone(),
            content,
            blake3: self.headers.blake3.get(&entry.id).copied(),
        })
    }

    /// The chunks of an attachment in one, when all are here.
    fn joined(&self, entry: &AttachmentEntry, source: &Source) -> Result<Content, Failure> {
        let mut content = Content::default();
        let pieces = source.get(&entry.id);
        let missing: Vec<u32> = match pieces {
            Some(pieces) => {
                if let Some(bytes) = pieces.given_up() {
                    return Err(Failure::CorruptAttachment(CorruptAttachment {
                        attachment: entry.name.clone(),
                        check: "size".into(),
                        expected: "an event that fits into processor.scratch".into(),
                        found: format!("{bytes} bytes and more"),
                    }));
                }
                for segment in pieces.segments(entry.chunks) {
                    content.push(segment.clone());
                }
                pieces.missing(entry.chunks).collect()
            }
            None => (0..entry.chunks).collect(),
        };
        if missing.is_empty() {
            return Ok(content);
        }
        let (first, last) = source.span().unwrap_or((self.offset, self.offset));
        Err(Failure::MissingChunks(vec![MissingChunks {
            attachment: entry.name.clone(),
            expected_chunks: entry.chunks,
            missing,
            expected_bytes: entry.size,
            received_bytes: content.len(),
            first_offset: first.min(self.offset),
            last_offset: last.max(self.offset),
        }]))
    }
}
