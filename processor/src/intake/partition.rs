//! One partition: its open events and its watermark, kept in step. Pure but for where chunks are kept.

use std::time::{Duration, Instant};

use bytes::Bytes;
use shared::id::EventId;
use shared::kafka::{CommitPosition, InboundRecord};
use shared::message::{AttachmentChunk, EventMessage};
use shared::metrics::PartitionGauges;

use super::assembly::{Action, Assembly, Taken};
use super::scratch::ChunkStore;
use super::watermark::{FINISHED_ABOVE_MAX, Watermark};

/// Finished events above the watermark from which on no more are begun: those under way still find room in the commit.
const CROWDED_ABOVE: usize = FINISHED_ABOVE_MAX * 3 / 4;

/// A partition that this processor has.
pub(super) struct Partition {
    number: i32,
    assignment: u64,
    watermark: Watermark,
    assembly: Assembly,
    /// The position that was committed last, or is being committed.
    committed: CommitPosition,
    gauges: PartitionGauges,
}

/// What is done with in a partition.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Sealed {
    /// An event, whose message stands at `offset`.
    Event {
        /// Which.
        event_id: EventId,
        /// The offset of its event message.
        offset: i64,
    },
    /// A record that is kept with the dead letters.
    DeadLetter {
        /// Its offset.
        offset: i64,
    },
}

impl Partition {
    /// Takes a partition over where it was left.
    pub(super) fn resumed(
        start: CommitPosition,
        assignment: u64,
        incomplete_after: Duration,
        gauges: PartitionGauges,
    ) -> Self {
        Self {
            number: start.partition,
            assignment,
            watermark: Watermark::resumed(start.offset, start.resume, &start.metadata),
            assembly: Assembly::new(incomplete_after),
            committed: start,
            gauges,
        }
    }

    /// Whether a record was read since we have the partition this time. Others are read again.
    pub(super) fn is_read_by(&self, record: &InboundRecord) -> bool {
        record.assignment == self.assignment
    }

    /// Notes that a record was read. Whether it is the first time.
    pub(super) fn read(&mut self, offset: i64) -> bool {
        self.watermark.read(offset)
    }

    /// Takes a chunk, whose payload is kept in `store` when it is needed.
    pub(super) fn take_chunk(
        &mut self,
        chunk: &AttachmentChunk<'_>,
        record: &InboundRecord,
        store: &mut ChunkStore,
        now: Instant,
    ) -> Option<Action> {
        let payload: Bytes = record.value.slice_ref(chunk.payload);
        let part = (chunk.event_id, chunk.id.clone(), chunk.chunk_index);
        let (taken, action) = self
            .assembly
            .take_chunk(part, record.offset, now, || store.keep(payload));
        self.note_begun(&taken, record.offset);
        action
    }

    /// Takes an event message.
    pub(super) fn take_event(
        &mut self,
        event: EventMessage<'_>,
        record: InboundRecord,
        now: Instant,
    ) -> Option<Action> {
        let (event_id, offset) = (event.event_id, record.offset);
        if self.watermark.was_finished(offset) {
            self.seal(Sealed::Event { event_id, offset });
            return None;
        }
        let payload = record.value.slice_ref(event.payload);
        let (taken, action) = self
            .assembly
            .take_event(event, payload, record.headers, offset, now);
        self.note_begun(&taken, offset);
        match taken {
            Taken::Begins | Taken::Continues => self.watermark.hold(offset),
            Taken::Repeats => {}
        }
        action
    }

    fn note_begun(&mut self, taken: &Taken, offset: i64) {
        match taken {
            Taken::Begins => self.watermark.begin(offset),
            Taken::Continues | Taken::Repeats => {}
        }
    }

    /// Whether a record was done with before.
    pub(super) fn was_finished(&self, offset: i64) -> bool {
        self.watermark.was_finished(offset)
    }

    /// A record that cannot be taken is held until it is sealed.
    pub(super) fn hold(&mut self, offset: i64) {
        self.watermark.hold(offset);
    }

    /// What the passing of time brings.
    pub(super) fn take_time(&mut self, now: Instant) -> Vec<Action> {
        let actions = self.assembly.take_time(now);
        for action in &actions {
            if let Action::Abandon { first_offset, .. } = action {
                self.watermark.end(*first_offset);
            }
        }
        actions
    }

    /// Something is done with, once the next position is committed.
    pub(super) fn seal(&mut self, sealed: Sealed) {
        match sealed {
            Sealed::Event { event_id, offset } => {
                self.watermark.finish_event(offset);
                if let Some(ended) = self.assembly.finish(event_id) {
                    self.watermark.end(ended.first_offset);
                    for superseded in ended.superseded {
                        self.watermark.release(superseded);
                    }
                }
            }
            Sealed::DeadLetter { offset } => self.watermark.release(offset),
        }
    }

    /// Whether so much is finished above the watermark that no more may be begun.
    pub(super) fn is_crowded(&self) -> bool {
        self.watermark.finished_above() >= CROWDED_ABOVE
    }

    /// The position to be committed.
    pub(super) fn position(&self) -> CommitPosition {
        CommitPosition {
            partition: self.number,
            offset: self.watermark.lowest_unfinished(),
            resume: self.watermark.resume(),
            metadata: self.watermark.metadata(),
        }
    }

    /// The position to be committed, when it is another than before.
    pub(super) fn next_commit(&mut self) -> Option<CommitPosition> {
        let position = self.position();
        let moved = position != self.committed;
        self.committed = position.clone();
        moved.then_some(position)
    }

    /// Shows the watermark; returns how many events are open.
    pub(super) fn show(&self) -> usize {
        let (lowest, position) = (
            self.watermark.lowest_unfinished(),
            self.watermark.position(),
        );
        self.gauges.watermark_offset.set(lowest);
        self.gauges.position_offset.set(position);
        self.gauges.span_records.set(position - lowest);
        self.assembly.open_events()
    }
}
