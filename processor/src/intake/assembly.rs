//! Chunks and event messages of one partition become envelopes. Pure: (message, offset, now) in, actions out.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use shared::content::{Content, Segment};
use shared::envelope::{Attachment, AttachmentKind, Envelope};
use shared::id::{AttachmentId, EventId, ProjectId};
use shared::limits::{FINISHED_EVENTS_REMEMBERED, LATE_CHUNK_WAIT};
use shared::message::{AttachmentEntry, EventMessage, Headers};
use shared::outcome::{CorruptAttachment, Failure, MissingChunks};

/// An event whose parts are all there, or will not come any more.
#[derive(Debug)]
pub(crate) struct Assembled {
    /// The event and those attachments that are whole.
    pub(crate) envelope: Envelope,
    /// Attachments that are not.
    pub(crate) incomplete: Vec<Incomplete>,
    /// The offset of the event message.
    pub(crate) offset: i64,
}

/// What an event held that has come to its end.
#[derive(Debug, PartialEq)]
pub(super) struct Ended {
    /// The lowest offset of its records.
    pub(super) first_offset: i64,
    /// Offsets of its messages in whose place a better copy was processed.
    pub(super) superseded: Vec<i64>,
}

/// An attachment that is not whole.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Incomplete {
    /// What it is.
    pub(crate) kind: AttachmentKind,
    /// What is wrong with it.
    pub(crate) failure: Failure,
}

/// What the caller has to do.
#[derive(Debug)]
pub(super) enum Action {
    /// Process it; the event stays open until [`Assembly::finish`].
    Process(Box<Assembled>),
    /// The event is gone: nobody was promised it. Its first offset is done with.
    Abandon {
        /// Which.
        event_id: EventId,
        /// Where it began.
        first_offset: i64,
        /// Chunks dropped.
        chunks: u64,
    },
}

/// How a message was taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It begins an event: its offset is to be held until the event is finished or abandoned.
    Begins,
    /// It belongs to an event that is open.
    Continues,
    /// A copy of something that is here already, or a straggler of an event that is done with.
    Repeats,
}

/// The open events of one partition.
#[derive(Debug)]
pub(super) struct Assembly {
    open: HashMap<EventId, OpenEvent>,
    finished: Finished,
    incomplete_after: Duration,
}

#[derive(Debug)]
struct OpenEvent {
    first_offset: i64,
    last_offset: i64,
    last_seen: Instant,
    /// Offsets of messages in whose place a better copy is taken.
    superseded: Vec<i64>,
    chunks: HashMap<AttachmentId, BTreeMap<u32, Segment>>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// The event message has not come.
    Collecting,
    /// It has, and chunks are absent that may be late until then.
    Waiting {
        event: Box<ReceivedEvent>,
        until: Instant,
    },
    /// Everything was handed over.
    InProcess,
}

/// An event message as it was received.
#[derive(Debug)]
struct ReceivedEvent {
    offset: i64,
    project_id: ProjectId,
    received_at: Timestamp,
    remote_addr: Option<String>,
    payload: Bytes,
    entries: Vec<AttachmentEntry>,
    headers: Headers,
}

impl Assembly {
    /// No open events; chunks whose event does not come for `incomplete_after` will be abandoned.
    pub(super) fn new(incomplete_after: Duration) -> Self {
        Self {
            open: HashMap::new(),
            finished: Finished::default(),
            incomplete_after,
        }
    }

    /// Takes a chunk. `payload` is only called when the chunk is needed.
    pub(super) fn take_chunk(
        &mut self,
        (event_id, attachment, index): (EventId, AttachmentId, u32),
        offset: i64,
        now: Instant,
        payload: impl FnOnce() -> Segment,
    ) -> (Taken, Option<Action>) {
        if self.finished.contains(event_id) {
            return (Taken::Repeats, None);
        }
        let (taken, open) = self.open_event(event_id, offset, now);
        if matches!(open.stage, Stage::InProcess) || open.has_chunk(&attachment, index) {
            return (Taken::Repeats, None);
        }
        open.chunks
            .entry(attachment)
            .or_default()
            .insert(index, payload());
        (taken, open.hand_over_when_whole(event_id))
    }

    /// Takes an event message. `payload` is the message's event JSON.
    pub(super) fn take_event(
        &mut self,
        message: EventMessage<'_>,
        payload: Bytes,
        headers: Headers,
        offset: i64,
        now: Instant,
    ) -> (Taken, Option<Action>) {
        let event_id = message.event_id;
        if self.finished.contains(event_id) {
            return (Taken::Repeats, None);
        }
        let (taken, open) = self.open_event(event_id, offset, now);
        match open.stage {
            Stage::Collecting => {}
            // A copy that is whole is worth more than one whose chunks were given up long ago.
            Stage::Waiting { ref event, .. } if open.has_all(&message.attachments) => {
                let superseded = event.offset;
                open.superseded.push(superseded);
            }
            Stage::Waiting { .. } | Stage::InProcess => return (Taken::Repeats, None),
        }
        let received_at =
            Timestamp::from_second(i64::try_from(message.start_time).unwrap_or(i64::MAX));
        let event = Box::new(ReceivedEvent {
            offset,
            project_id: message.project_id,
            received_at: received_at.unwrap_or_default(),
            remote_addr: message.remote_addr,
            payload,
            entries: message.attachments,
            headers,
        });
        open.stage = Stage::Waiting {
            event,
            until: now + LATE_CHUNK_WAIT,
        };
        (taken, open.hand_over_when_whole(event_id))
    }

    /// The open event that a record at `offset` is of; begins it when there is none.
    fn open_event(
        &mut self,
        event_id: EventId,
        offset: i64,
        now: Instant,
    ) -> (Taken, &mut OpenEvent) {
        let (taken, open) = match self.open.entry(event_id) {
            Entry::Occupied(open) => (Taken::Continues, open.into_mut()),
            Entry::Vacant(place) => {
                let begun = OpenEvent::begun_at(offset, now);
                (Taken::Begins, place.insert(begun))
            }
        };
        open.saw(offset, now);
        (taken, open)
    }

    /// What the passing of time brings: events whose late chunks did not come, chunks whose event did not come.
    pub(super) fn take_time(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        let incomplete_after = self.incomplete_after;
        self.open.retain(|event_id, open| match &open.stage {
            Stage::Waiting { until, .. } if *until <= now => {
                actions.extend(open.hand_over(*event_id));
                true
            }
            Stage::Collecting if open.last_seen + incomplete_after <= now => {
                let chunks = open.chunks.values().map(|chunks| chunks.len() as u64).sum();
                actions.push(Action::Abandon {
                    event_id: *event_id,
                    first_offset: open.first_offset,
                    chunks,
                });
                false
            }
            Stage::Waiting { .. } | Stage::Collecting | Stage::InProcess => true,
        });
        actions
    }

    /// The event's fate is sealed: returns what it held.
    pub(super) fn finish(&mut self, event_id: EventId) -> Option<Ended> {
        self.finished.insert(event_id);
        self.open.remove(&event_id).map(|open| Ended {
            first_offset: open.first_offset,
            superseded: open.superseded,
        })
    }

    /// How many events are open.
    pub(super) fn open_events(&self) -> usize {
        self.open.len()
    }
}

impl OpenEvent {
    fn begun_at(offset: i64, now: Instant) -> Self {
        Self {
            first_offset: offset,
            last_offset: offset,
            last_seen: now,
            superseded: Vec::new(),
            chunks: HashMap::new(),
            stage: Stage::Collecting,
        }
    }

    fn saw(&mut self, offset: i64, now: Instant) {
        self.last_offset = self.last_offset.max(offset);
        self.last_seen = now;
    }

    fn has_chunk(&self, attachment: &AttachmentId, index: u32) -> bool {
        self.chunks
            .get(attachment)
            .is_some_and(|chunks| chunks.contains_key(&index))
    }

    fn hand_over_when_whole(&mut self, event_id: EventId) -> Option<Action> {
        let Stage::Waiting { event, .. } = &self.stage else {
            return None;
        };
        if self.has_all(&event.entries) {
            self.hand_over(event_id)
        } else {
            None
        }
    }

    fn has_all(&self, entries: &[AttachmentEntry]) -> bool {
        let whole = |entry: &AttachmentEntry| {
            entry.rate_limited || self.missing_indices(entry).next().is_none()
        };
        entries.iter().all(whole)
    }

    fn missing_indices<'a>(&'a self, entry: &'a AttachmentEntry) -> impl Iterator<Item = u32> + 'a {
        let received = self.chunks.get(&entry.id);
        (0..entry.chunks)
            .filter(move |index| received.is_none_or(|chunks| !chunks.contains_key(index)))
    }

    /// Gives everything away; what is absent now stays absent.
    fn hand_over(&mut self, event_id: EventId) -> Option<Action> {
        let Stage::Waiting { event, .. } = std::mem::replace(&mut self.stage, Stage::InProcess)
        else {
            return None;
        };
        let mut attachments = Vec::with_capacity(event.entries.len());
        let mut incomplete = Vec::new();
        for entry in &event.entries {
            match self.attachment(entry, &event.headers) {
                Ok(attachment) => attachments.push(attachment),
                Err(failure) => incomplete.push(Incomplete {
                    kind: entry.attachment_type.clone(),
                    failure,
                }),
            }
        }
        self.chunks.clear();
        let ReceivedEvent {
            offset,
            project_id,
            received_at,
            remote_addr,
            payload,
            ..
        } = *event;
        let envelope = Envelope {
            event_id,
            project_id,
            received_at,
            remote_addr,
            event: payload,
            attachments,
        };
        Some(Action::Process(Box::new(Assembled {
            envelope,
            incomplete,
            offset,
        })))
    }

    fn attachment(
        &self,
        entry: &AttachmentEntry,
        headers: &Headers,
    ) -> Result<Attachment, Failure> {
        if let Some(damage) = &headers.spool_damage {
            let corrupt = CorruptAttachment::spool_file(&entry.name, damage);
            return Err(Failure::CorruptAttachment(corrupt));
        }
        let mut content = Content::default();
        let received = self.chunks.get(&entry.id);
        for segment in received
            .into_iter()
            .flatten()
            .filter(|(index, _)| **index < entry.chunks)
        {
            content.push(segment.1.clone());
        }
        let missing: Vec<u32> = self.missing_indices(entry).collect();
        if !missing.is_empty() {
            return Err(Failure::MissingChunks(vec![MissingChunks {
                attachment: entry.name.clone(),
                expected_chunks: entry.chunks,
                missing,
                expected_bytes: entry.size,
                received_bytes: content.len(),
                first_offset: self.first_offset,
                last_offset: self.last_offset,
            }]));
        }
        if content.len() != entry.size {
            return Err(Failure::CorruptAttachment(CorruptAttachment {
                attachment: entry.name.clone(),
                check: "size".into(),
                expected: entry.size.to_string(),
                found: content.len().to_string(),
            }));
        }
        Ok(Attachment {
            id: entry.id.clone(),
            name: entry.name.clone(),
            content_type: entry.content_type.clone(),
            kind: entry.attachment_type.clone(),
            content,
            blake3: headers.blake3.get(&entry.id).copied(),
        })
    }
}

/// The events finished last, so that late copies of their messages are known.
#[derive(Debug, Default)]
struct Finished {
    known: HashSet<EventId>,
    order: VecDeque<EventId>,
}

impl Finished {
    fn contains(&self, event_id: EventId) -> bool {
        self.known.contains(&event_id)
    }

    fn insert(&mut self, event_id: EventId) {
        if !self.known.insert(event_id) {
            return;
        }
        self.order.push_back(event_id);
        if self.order.len() > FINISHED_EVENTS_REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests;
