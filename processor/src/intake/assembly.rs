//! Chunks and event messages of one partition become envelopes. Pure: (message, offset, now) in, actions out.
//!
//! Chunks wait as `pieces` of an attachment until an event message lists it. What is waited for is lost only when the log
//! has been read far enough to know, see [`LogTime`].

mod log_time;
mod open_event;
mod pieces;
mod recent;

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use shared::content::Segment;
use shared::envelope::{AttachmentKind, Envelope};
use shared::id::{AttachmentId, EventId};
use shared::limits::{FINISHED_EVENTS_REMEMBERED, LATE_CHUNK_WAIT};
use shared::message::{EventMessage, Headers};
use shared::outcome::Failure;

pub(super) use log_time::LogTime;

use super::received_at::ReceivedAt;
use open_event::{OpenEvent, ReceivedEvent, Stage};
use pieces::Source;
use recent::Recent;

/// An event whose parts are all there, or will not come any more.
#[derive(Debug)]
pub(crate) struct Assembled {
    /// The event and those attachments that are whole.
    pub(crate) envelope: Envelope,
    /// Attachments that are not.
    pub(crate) incomplete: Vec<Incomplete>,
    /// What is odd about its message, for the report.
    pub(crate) warnings: Vec<String>,
    /// The offset of the event message.
    pub(crate) offset: i64,
}

/// An attachment that is not whole.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Incomplete {
    /// What it is.
    pub(crate) kind: AttachmentKind,
    /// What is wrong with it.
    pub(crate) failure: Failure,
}

/// What an event held that has come to its end.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Ended {
    /// The offsets where its attachments began.
    pub(super) begun: Vec<i64>,
    /// Offsets of its messages in whose place a better copy was processed.
    pub(super) superseded: Vec<i64>,
}

/// What the caller has to do.
#[derive(Debug)]
pub(super) enum Action {
    /// Process it; the event stays open until [`Assembly::finish`].
    Process(Box<Assembled>),
    /// Chunks are gone whose event never came: nobody was promised it.
    Abandon {
        /// The event they named.
        event_id: EventId,
        /// Where its attachments began: done with.
        begun: Vec<i64>,
        /// Chunks dropped.
        chunks: u64,
    },
}

/// How a message was taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It begins an attachment, or it is an event message: its offset is to be kept until [`Ended`] or [`Action::Abandon`].
    Begins,
    /// It belongs to an attachment that has begun.
    Continues,
    /// A copy of something that is here already, or a straggler of what is done with. So are attachments that began at
    /// these offsets.
    Repeats(Vec<i64>),
}

/// An event message with what its record says besides.
#[derive(Debug)]
pub(super) struct Received<'a> {
    /// The message.
    pub(super) message: EventMessage<'a>,
    /// The event its chunks name: itself, or the crash whose files these are.
    pub(super) source: EventId,
    /// When it was received.
    pub(super) received_at: ReceivedAt,
    /// Its event JSON.
    pub(super) payload: Bytes,
    /// The record's headers.
    pub(super) headers: Headers,
    /// Where it stands.
    pub(super) offset: i64,
}

/// The open events of one partition.
#[derive(Debug)]
pub(super) struct Assembly {
    sources: HashMap<EventId, Source>,
    events: HashMap<EventId, OpenEvent>,
    /// Attachments that an event other than their crash has listed: files sent apart from it.
    listed_by: HashMap<(EventId, AttachmentId), EventId>,
    finished: Recent<EventId>,
    finished_attachments: Recent<(EventId, AttachmentId)>,
    incomplete_after: Duration,
    event_bytes_max: u64,
}

impl Assembly {
    /// No open events. Chunks whose event does not come for `incomplete_after` will be abandoned; those of one event are
    /// kept up to `event_bytes_max`.
    pub(super) fn new(incomplete_after: Duration, event_bytes_max: u64) -> Self {
        Self {
            sources: HashMap::new(),
            events: HashMap::new(),
            listed_by: HashMap::new(),
            finished: Recent::of(FINISHED_EVENTS_REMEMBERED),
            finished_attachments: Recent::of(FINISHED_EVENTS_REMEMBERED),
            incomplete_after,
            event_bytes_max,
        }
    }

    /// Takes a chunk of `bytes`. `payload` is only called when the chunk is needed.
    pub(super) fn take_chunk(
        &mut self,
        (event_id, attachment, index): (EventId, AttachmentId, u32),
        offset: i64,
        now: LogTime,
        bytes: u64,
        payload: impl FnOnce() -> Segment,
    ) -> (Taken, Option<Action>) {
        let part = (event_id, attachment);
        let owner = self.listed_by.get(&part).copied().unwrap_or(event_id);
        let is_in_process = |open: &OpenEvent| open.is_in_process_with(&part.1);
        let is_done_with = self.finished_attachments.contains(&part)
            || self.events.get(&owner).is_some_and(is_in_process);
        if is_done_with {
            return (Taken::Repeats(Vec::new()), None);
        }
        let source = self.sources.entry(event_id).or_default();
        let taken = source.take(&part.1, index, (offset, now), bytes, payload);
        source.give_up_beyond(self.event_bytes_max);
        (taken, self.hand_over_when_whole(owner))
    }

    /// Takes an event message.
    pub(super) fn take_event(
        &mut self,
        received: Received<'_>,
        now: LogTime,
    ) -> (Taken, Option<Action>) {
        let Received {
            message,
            source,
            received_at,
            payload,
            headers,
            offset,
        } = received;
        let event_id = message.event_id;
        let mut superseded = Vec::new();
        let is_ours = headers.are_ours();
        if self.finished.contains(&event_id) {
            return (Taken::Repeats(self.forget(source, &message, is_ours)), None);
        }
        if let Some(OpenEvent { stage, .. }) = self.events.get(&event_id) {
            match stage {
                // A copy that is whole is worth more than one whose chunks were given up long ago.
                Stage::Waiting { event, .. } if self.has_all(source, &message) => {
                    superseded.push(event.offset);
                }
                Stage::Waiting { .. } => return (Taken::Repeats(Vec::new()), None),
                Stage::InProcess(_) => {
                    return (Taken::Repeats(self.forget(source, &message, is_ours)), None);
                }
            }
        }
        if source != event_id {
            let listed = message.attachments.iter();
            let listed = listed.map(|entry| ((source, entry.id.clone()), event_id));
            self.listed_by.extend(listed);
        }
        let event = Box::new(ReceivedEvent {
            offset,
            source,
            project_id: message.project_id,
            received_at,
            remote_addr: message.remote_addr,
            payload,
            entries: message.attachments,
            headers,
        });
        let open = self.events.entry(event_id).or_insert_with(|| OpenEvent {
            ended: Ended::default(),
            stage: Stage::InProcess(Vec::new()),
        });
        open.ended.superseded.append(&mut superseded);
        open.stage = Stage::Waiting { event, since: now };
        (Taken::Begins, self.hand_over_when_whole(event_id))
    }

    /// Passes over an event that was finished before we had the partition: returns where its attachments began.
    pub(super) fn pass_over(&mut self, received: &Received<'_>) -> Vec<i64> {
        let (source, message) = (received.source, &received.message);
        self.finished.insert(message.event_id);
        for entry in &message.attachments {
            let part = (source, entry.id.clone());
            self.finished_attachments.insert(part);
        }
        self.forget(source, message, received.headers.are_ours())
    }

    /// What the passing of time brings: events whose late chunks did not come, chunks whose event did not come.
    pub(super) fn take_time(&mut self, now: LogTime) -> Vec<Action> {
        let overdue: Vec<EventId> = self
            .events
            .iter()
            .filter(|(_, open)| match &open.stage {
                Stage::Waiting { since, .. } => now.is_past(*since, LATE_CHUNK_WAIT),
                Stage::InProcess(_) => false,
            })
            .map(|(event_id, _)| *event_id)
            .collect();
        let overdue = overdue.into_iter();
        let mut actions: Vec<Action> = overdue
            .filter_map(|event_id| self.hand_over(event_id))
            .collect();
        let (events, listed_by) = (&self.events, &self.listed_by);
        let is_waiting = |event: &EventId| events.get(event).is_some_and(OpenEvent::is_waiting);
        self.sources.retain(|event_id, source| {
            let listed = |attachment: &AttachmentId| {
                let part = (*event_id, attachment.clone());
                listed_by.get(&part).is_some_and(is_waiting)
            };
            let is_wanted = is_waiting(event_id) || source.attachments().any(listed);
            let stays = is_wanted || !now.is_past(source.last_seen(), self.incomplete_after);
            if !stays {
                actions.push(Action::Abandon {
                    event_id: *event_id,
                    begun: source.begun(),
                    chunks: source.chunks(),
                });
            }
            stays
        });
        actions
    }

    /// The event's fate is sealed: returns what it held.
    pub(super) fn finish(&mut self, event_id: EventId) -> Ended {
        self.finished.insert(event_id);
        let Some(open) = self.events.remove(&event_id) else {
            return Ended::default();
        };
        let (parts, ended) = open.finish();
        for part in parts {
            self.listed_by.remove(&part);
            self.finished_attachments.insert(part);
        }
        ended
    }

    /// Whether the event's message was read, and its fate is not sealed.
    pub(super) fn has_event(&self, event_id: EventId) -> bool {
        self.events.contains_key(&event_id)
    }

    /// How many events are open.
    pub(super) fn open_events(&self) -> usize {
        let alone = |event: &&EventId| !self.events.contains_key(*event);
        self.events.len() + self.sources.keys().filter(alone).count()
    }

    /// When the oldest event was seen last that needs more of the log.
    pub(super) fn oldest_waiting(&self) -> Option<LogTime> {
        let sources = self.sources.values().map(Source::last_seen);
        sources.min_by_key(|seen| seen.written_ms)
    }

    fn has_all(&self, source: EventId, message: &EventMessage<'_>) -> bool {
        let source = self.sources.get(&source);
        let mut entries = message.attachments.iter();
        entries.all(|entry| pieces::is_whole(source, entry))
    }

    /// Drops the chunks of a copy that is not needed, all of its event when it is of our own relays: returns where they began.
    fn forget(&mut self, source: EventId, copy: &EventMessage<'_>, is_ours: bool) -> Vec<i64> {
        let Some(open) = self.sources.get_mut(&source) else {
            return Vec::new();
        };
        let pieces = copy.attachments.iter();
        let begun = pieces.filter_map(|entry| open.remove(&entry.id));
        let mut begun: Vec<i64> = begun.map(|pieces| pieces.first_offset()).collect();
        if is_ours {
            begun.extend(open.clear());
        }
        if open.is_empty() {
            self.sources.remove(&source);
        }
        begun
    }

    fn hand_over_when_whole(&mut self, event_id: EventId) -> Option<Action> {
        let Stage::Waiting { event, .. } = &self.events.get(&event_id)?.stage else {
            return None;
        };
        let source = self.sources.get(&event.source);
        let mut entries = event.entries.iter();
        if entries.all(|entry| pieces::is_whole(source, entry)) {
            self.hand_over(event_id)
        } else {
            None
        }
    }

    /// Gives everything away; what is absent now stays absent.
    fn hand_over(&mut self, event_id: EventId) -> Option<Action> {
        let open = self.events.get_mut(&event_id)?;
        let event = open.begin_process()?;
        let named = event.source;
        let mut source = self.sources.remove(&named).unwrap_or_default();
        let (assembled, begun) = event.assemble(event_id, &mut source);
        open.ended.begun.extend(begun);
        if !source.is_empty() {
            self.sources.insert(named, source);
        }
        Some(Action::Process(Box::new(assembled)))
    }
}

#[cfg(test)]
mod tests;
