//! One partition: its open events and its watermark, kept in step. Pure but for where chunks are kept.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use shared::id::EventId;
use shared::kafka::{CommitPosition, Headroom, InboundRecord, LogSpan, OpenTransaction, Standing};
use shared::message::{AttachmentChunk, Message, MessageError};
use shared::metrics::PartitionGauges;
use shared::state::{LogPart, UntoldEvent};

use super::assembly::{Action, Assembly, Ended, LogTime, Received, Taken};
use super::foreign;
use super::lost_events::{Gone, Reading, Untold};
use super::received_at::ReceivedAt;
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
    /// How far the log was read, and for how long.
    now: LogTime,
    /// The position at which there was nothing more to read.
    end: Option<i64>,
    headroom: Headroom,
    gone: Gone,
    open_transaction: OpenTransaction,
    /// For how long it is open.
    open_for: Option<Duration>,
    /// The position that was committed last, or is being committed; `None`: none ever was.
    committed: Option<CommitPosition>,
    gauges: PartitionGauges,
}

/// What is waited for and kept of events that are not whole.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// `processor.incomplete_after`
    pub(crate) incomplete_after: Duration,
    /// Bytes of one event: `processor.scratch`
    pub(crate) event_bytes_max: u64,
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
    /// Records that retention removed, up to `end`.
    Truncated {
        /// The first offset that is still there.
        end: i64,
    },
}

impl Partition {
    /// Takes a partition over where it was left.
    pub(super) fn resumed(
        start: CommitPosition,
        assignment: u64,
        patience: Patience,
        gauges: PartitionGauges,
    ) -> Self {
        let Patience {
            incomplete_after,
            event_bytes_max,
        } = patience;
        Self {
            number: start.partition,
            assignment,
            watermark: Watermark::resumed(start.offset, start.resume, &start.metadata),
            assembly: Assembly::new(incomplete_after, event_bytes_max),
            now: LogTime::default(),
            end: None,
            headroom: Headroom::default(),
            gone: Gone::default(),
            open_transaction: OpenTransaction::default(),
            open_for: None,
            committed: Some(start),
            gauges,
        }
    }

    /// Nothing was ever committed: where we begin is, with the next position, so that it is known what retention takes.
    pub(super) fn commit_soon(&mut self) {
        self.committed = None;
    }

    /// Whether a record was read since we have the partition this time. Others are read again.
    pub(super) fn is_read_by(&self, record: &InboundRecord) -> bool {
        record.assignment == self.assignment
    }

    /// Notes that a record was read, `now`. Whether it is the first time.
    pub(super) fn read(&mut self, record: &InboundRecord, now: Timestamp) -> bool {
        if let Some(written) = record.timestamp {
            self.now.note_written(written, now);
        }
        self.watermark.read(record.offset)
    }

    /// Notes that there is nothing more to read now.
    pub(super) fn reach_end(&mut self) {
        self.end = Some(self.watermark.position());
    }

    /// Takes a message, which is read `now`.
    ///
    /// # Errors
    /// [`MessageError`]: it is for the dead letters.
    pub(super) fn take(
        &mut self,
        message: Message<'_>,
        record: &InboundRecord,
        now: Timestamp,
        store: &mut ChunkStore,
    ) -> Result<Option<Action>, MessageError> {
        let (headers, offset, written) = (&record.headers, record.offset, record.timestamp);
        let received = match message {
            Message::AttachmentChunk(chunk) => return Ok(self.take_chunk(&chunk, record, store)),
            Message::Event(event) => Received {
                source: event.event_id,
                received_at: ReceivedAt::said(&event.start_time, written, now),
                payload: record.value.slice_ref(event.payload),
                message: event,
                headers: headers.clone(),
                offset,
            },
            Message::Attachment(file) => {
                let received_at = ReceivedAt::unsaid(written, now);
                foreign::file(file, received_at, headers.clone(), offset)
            }
            Message::UserReport(report) => {
                let received_at = ReceivedAt::said(&report.start_time, written, now);
                foreign::user_report(&report, received_at, headers.clone(), offset)?
            }
        };
        Ok(self.take_event(received))
    }

    fn take_chunk(
        &mut self,
        chunk: &AttachmentChunk<'_>,
        record: &InboundRecord,
        store: &mut ChunkStore,
    ) -> Option<Action> {
        let payload: Bytes = record.value.slice_ref(chunk.payload);
        let part = (chunk.event_id, chunk.id.clone(), chunk.chunk_index);
        let bytes = payload.len() as u64;
        let keep = || store.keep(payload);
        let taken = self
            .assembly
            .take_chunk(part, record.offset, self.now, bytes, keep);
        match taken.0 {
            Taken::Begins => self.watermark.begin(record.offset),
            Taken::Continues => {}
            Taken::Repeats(ended) => self.end_all(ended),
        }
        taken.1
    }

    fn take_event(&mut self, received: Received<'_>) -> Option<Action> {
        let offset = received.offset;
        if self.watermark.was_finished(offset) {
            let begun = self.assembly.pass_over(&received);
            self.end_all(begun);
            return None;
        }
        let (taken, action) = self.assembly.take_event(received, self.now);
        match taken {
            Taken::Begins => self.watermark.hold(offset),
            Taken::Continues => {}
            Taken::Repeats(ended) => self.end_all(ended),
        }
        action
    }

    fn end_all(&mut self, begun: Vec<i64>) {
        for offset in begun {
            self.watermark.end(offset);
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

    /// What the passing of time brings: the partition was read for so long since it was told last, and it is `wall_ms`.
    /// `is_stuck` when it can be read no further.
    pub(super) fn take_time(
        &mut self,
        read_for: Duration,
        wall_ms: i64,
        is_stuck: bool,
    ) -> Vec<Action> {
        self.now.reading += read_for;
        if is_stuck || self.is_at_end() {
            self.now.written_ms = self.now.written_ms.max(wall_ms);
        }
        let mut actions = self.assembly.take_time(self.now);
        for action in &mut actions {
            if let Action::Abandon { begun, .. } = action {
                self.end_all(std::mem::take(begun));
            }
        }
        actions
    }

    fn is_at_end(&self) -> bool {
        self.end == Some(self.watermark.position())
    }

    /// Up to when the log has been read where its oldest open event stands; `None` when nothing more of the log is needed.
    pub(super) fn oldest_waiting(&self) -> Option<LogTime> {
        self.assembly.oldest_waiting()
    }

    /// Something is done with, once the next position is committed.
    pub(super) fn seal(&mut self, sealed: Sealed) {
        match sealed {
            Sealed::Event { event_id, offset } => {
                self.watermark.finish_event(offset);
                let Ended { begun, superseded } = self.assembly.finish(event_id);
                self.end_all(begun);
                for superseded in superseded {
                    self.watermark.release(superseded);
                }
            }
            Sealed::DeadLetter { offset } => self.watermark.release(offset),
            Sealed::Truncated { end } => self.watermark.skip_to(end),
        }
    }

    /// Retention removed these offsets before they were read.
    pub(super) fn note_gone(&mut self, offsets: Range<i64>) {
        self.gone.note(offsets);
    }

    /// The part of the log that is done with or gone, whose events should all be told. `log_start` is the first offset that
    /// the log still has.
    pub(super) fn should_be_told(&self, log_start: i64) -> Option<LogPart> {
        let below = log_start.max(self.watermark.floor());
        (below > 0).then_some(LogPart {
            partition: self.number,
            below,
        })
    }

    /// What is to be done about an event that the state calls untold.
    pub(super) fn judge(&self, untold: &UntoldEvent, log_start: i64) -> Untold {
        let at = Reading {
            log_start,
            position: self.watermark.position(),
            was_finished: self.watermark.was_finished(untold.place.offset),
            is_in_hand: self.assembly.has_event(untold.event_id),
        };
        self.gone.judge(untold, at)
    }

    /// The lost event is brought to its end.
    pub(super) fn begin_lost(&mut self, event_id: EventId) {
        self.gone.begin(event_id);
    }

    /// What operators are told of another program's transaction that stays open.
    pub(super) fn complaint(&self, topic: &str, log: Option<LogSpan>) -> Option<String> {
        OpenTransaction::complaint((topic, self.number), &log?, self.open_for)
    }

    /// Whether the event whose message stands at `offset` may be begun: not while so much is finished above the watermark
    /// that no more would find room in the commit, except for the one that holds it.
    pub(super) fn may_begin(&self, offset: i64) -> bool {
        self.watermark.finished_above() < CROWDED_ABOVE
            || self.watermark.lowest_unfinished() == offset
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
        let moved = self.committed.as_ref() != Some(&position);
        self.committed = Some(position.clone());
        moved.then_some(position)
    }

    /// Shows where the partition stands; returns how many events are open. `log` is where its log begins and ends,
    /// `retention` how long records are kept, `at` the time on any steady clock.
    pub(super) fn show(
        &mut self,
        (at, wall_ms): (Duration, i64),
        log: Option<LogSpan>,
        retention: Option<Duration>,
    ) -> usize {
        let (lowest, position) = (
            self.watermark.lowest_unfinished(),
            self.watermark.position(),
        );
        self.gauges.watermark_offset.set(lowest);
        self.gauges.position_offset.set(position);
        self.gauges.span_records.set(position - lowest);
        if let Some(log) = &log {
            let unread = log.unread(position, self.is_at_end());
            self.gauges.lag_records.set(position - lowest + unread);
            self.gauges.stable_gap_records.set(log.unstable());
            self.open_for = self.open_transaction.take(at, log);
        }
        let behind_ms = match self.now.written_ms {
            // Nothing was read yet.
            0 => 0,
            written_ms => wall_ms.saturating_sub(written_ms).max(0).cast_unsigned(),
        };
        let standing = Standing {
            at,
            age: match self.open_for {
                // What stands behind an open transaction is at least as old as we know of it.
                Some(open_for) => open_for.max(Duration::from_millis(1)),
                None if self.is_at_end() => Duration::ZERO,
                None => Duration::from_millis(behind_ms),
            },
            above_start: position - log.map_or(0, |log| log.start),
        };
        let headroom = self.headroom.take(standing, retention);
        let seconds = headroom.map_or(f64::INFINITY, |headroom| headroom.as_secs_f64());
        self.gauges.headroom_seconds.set(seconds);
        self.assembly.open_events()
    }
}
