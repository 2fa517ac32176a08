//! Deliveries from the ingest topic: records in, assembled events out; what is finished lands with the watermark.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use shared::kafka::{
    AssignmentChange, ConsumerEvents, InboundRecord, IntakeEvent, OutputRecord, RecordConsumer,
    TransactionalProducer, Truncated,
};
use shared::message::{Message, MessageError};
use shared::metrics::{Metrics, Stage};
use shared::outcome::LogTruncated;
use shared::readiness::{Part, PartState, Readiness};
use shared::state::{State, UntoldEvent};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::assembly::Action;
use super::held_back::HeldBack;
use super::lost_events::{self, LostEvents, Untold};
use super::outbox::{Finished, Outbox};
use super::partition::{Partition, Patience, Sealed};
use super::reading_clock::ReadingClock;
use super::scratch::{ChunkPlace, ChunkStore, Room};
use super::told::Told;
use super::watermark::Watermark;
use super::{Assembled, Claim, Completion, Delivery};
use crate::dead_letter::DeadLetters;
use crate::identity::ProcessorIdentity;

/// How often time is told to the assembly, and positions without outputs are committed.
const TICK: Duration = Duration::from_millis(500);
/// How long leaving the group may take.
const LEAVING_TIMEOUT: Duration = Duration::from_secs(20);
/// Finished events waiting to be taken note of.
const FINISHED_QUEUE_MAX: usize = 256;
/// Assembled events that may wait while their partitions are crowded: the event that holds the watermark may need
/// records behind them.
const ASSEMBLED_MAX: usize = 4096;

/// The consuming half of the Kafka queue.
pub(crate) struct KafkaIntake {
    consumer: Arc<RecordConsumer>,
    events: ConsumerEvents,
    partitions: HashMap<i32, Partition>,
    chunks: ChunkStore,
    held_back: HeldBack,
    patience: Patience,
    clock: ReadingClock,
    /// Assembled, and waiting for a place among the deliveries.
    assembled: VecDeque<Delivery>,
    /// Given to each delivery; `None` once no more are made.
    finished: Option<mpsc::Sender<Finished>>,
    finished_told: mpsc::Receiver<Finished>,
    outbox: Outbox,
    lost: LostEvents,
    dead_letters: DeadLetters,
    outcomes: Arc<str>,
    retention: watch::Receiver<Option<Duration>>,
    metrics: Metrics,
    readiness: Readiness,
    /// Held for as long as the group knows us by it.
    _identity: ProcessorIdentity,
}

/// What a Kafka intake is made of.
pub(crate) struct IntakeParts {
    /// The consumer and what it tells.
    pub(crate) consumer: (RecordConsumer, ConsumerEvents),
    /// The way to the output topics.
    pub(crate) producer: TransactionalProducer,
    /// How dead letters are written.
    pub(crate) dead_letters: DeadLetters,
    /// The topic of outcomes.
    pub(crate) outcomes: Arc<str>,
    /// Where chunks are kept.
    pub(crate) chunks: ChunkPlace,
    /// What is waited for.
    pub(crate) patience: Patience,
    /// How long the ingest topic keeps records.
    pub(crate) retention: watch::Receiver<Option<Duration>>,
    /// Where its figures are shown.
    pub(crate) metrics: Metrics,
    /// Where its state is shown.
    pub(crate) readiness: Readiness,
    /// What knows which events are not told.
    pub(crate) state: State,
    /// Who we are to the group.
    pub(crate) identity: ProcessorIdentity,
}

/// This intake goes no further: its consumer will not read any more, or what it has to tell must be cut anew.
#[derive(Debug, thiserror::Error)]
#[error(
    "the consumer failed for good, or an output topic's limit was lowered; why is in the log above"
)]
pub(crate) struct IntakeLost;

impl KafkaIntake {
    /// An intake over a consumer that has joined its group.
    pub(crate) fn new(parts: IntakeParts) -> Self {
        let (consumer, events) = parts.consumer;
        let consumer = Arc::new(consumer);
        let (finished, finished_told) = mpsc::channel(FINISHED_QUEUE_MAX);
        Self {
            outbox: Outbox::new(
                Arc::clone(&consumer),
                parts.producer,
                Told::start(parts.state.clone()),
                parts.readiness.clone(),
            ),
            lost: LostEvents::new(parts.state),
            consumer,
            events,
            partitions: HashMap::new(),
            chunks: ChunkStore::new(parts.chunks),
            held_back: HeldBack::default(),
            patience: parts.patience,
            clock: ReadingClock::start(),
            assembled: VecDeque::new(),
            finished: Some(finished),
            finished_told,
            dead_letters: parts.dead_letters,
            outcomes: parts.outcomes,
            retention: parts.retention,
            metrics: parts.metrics,
            readiness: parts.readiness,
            _identity: parts.identity,
        }
    }

    /// Hands events over until `stop`, then waits until what it handed over has landed, and leaves the group.
    ///
    /// # Errors
    /// [`IntakeLost`]: what is not finished, and what is not told, is left to the next one.
    pub(crate) async fn run(
        mut self,
        deliveries: mpsc::Sender<Delivery>,
        stop: CancellationToken,
    ) -> Result<(), IntakeLost> {
        let ended = self.hand_over(deliveries, stop).await;
        match &ended {
            Ok(()) => self.finish().await,
            Err(IntakeLost) => self.outbox.halt().await,
        }
        self.outbox.finish_telling().await;
        drop(self.events);
        let consumer = (self.consumer, self.outbox);
        let left = tokio::task::spawn_blocking(move || drop(consumer));
        match timeout(LEAVING_TIMEOUT, left).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "leaving the group panicked; this is a bug"),
            // librdkafka has been seen to hang here: its threads then stay until the process ends.
            Err(_elapsed) => tracing::error!("the consumer does not leave its group"),
        }
        ended
    }

    async fn hand_over(
        &mut self,
        deliveries: mpsc::Sender<Delivery>,
        stop: CancellationToken,
    ) -> Result<(), IntakeLost> {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let next = self.next_assembled();
            let has_room = self.assembled.len() < ASSEMBLED_MAX && self.outbox.has_room();
            let may_read = next.is_none() && has_room;
            self.clock
                .note_wait(next.is_some() || !self.outbox.has_room());
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                Some(change) = self.events.changes.recv() => self.take_change(change),
                () = self.outbox.ended() => {
                    if self.outbox.has_outgrown() {
                        return Err(IntakeLost);
                    }
                    self.outbox.begin(&mut self.partitions);
                }
                Some(finished) = self.finished_told.recv() => self.take_finished(finished),
                found = self.lost.found() => self.end_lost(found),
                _ = tick.tick() => {
                    self.take_time();
                    if !self.consumer.is_polling() {
                        return Err(IntakeLost);
                    }
                }
                place = deliveries.reserve(), if next.is_some() && self.outbox.has_room() => {
                    let Ok(place) = place else { return Ok(()) };
                    if let Some(delivery) = next.and_then(|next| self.assembled.remove(next)) {
                        place.send(delivery);
                    }
                }
                event = self.events.records.recv(), if may_read => match event {
                    Some(event) => self.take_event(event),
                    None => return Err(IntakeLost),
                },
            }
        }
    }

    /// No more is handed over: waits until what was has landed.
    async fn finish(&mut self) {
        self.events.records.close();
        self.assembled.clear();
        self.finished = None;
        let mut tick = interval(TICK);
        let mut under_way = true;
        while under_way || !self.outbox.is_empty() {
            tokio::select! {
                Some(change) = self.events.changes.recv() => self.take_change(change),
                () = self.outbox.ended() => {}
                finished = self.finished_told.recv(), if under_way => match finished {
                    Some(finished) => self.outbox.push(finished),
                    None => under_way = false,
                },
                _ = tick.tick() => {}
            }
            self.outbox.begin(&mut self.partitions);
        }
    }

    /// The first assembled event that may be begun.
    fn next_assembled(&self) -> Option<usize> {
        self.assembled.iter().position(|delivery| {
            let partition = delivery
                .partition
                .and_then(|number| self.partitions.get(&number));
            partition.is_none_or(|partition| partition.may_begin(delivery.assembled.offset))
        })
    }

    fn take_change(&mut self, change: AssignmentChange) {
        match change {
            AssignmentChange::Assigned {
                starts,
                uncommitted,
                truncated,
                assignment,
            } => {
                for start in starts {
                    let number = start.partition;
                    let gauges = self.metrics.partition(number);
                    let mut partition =
                        Partition::resumed(start, assignment, self.patience, gauges);
                    if uncommitted.contains(&number) {
                        partition.commit_soon();
                    }
                    self.partitions.insert(number, partition);
                }
                truncated.into_iter().for_each(|range| self.note(range));
                self.readiness.set(Part::Consumer, PartState::Ready);
            }
            AssignmentChange::Revoked {
                partitions,
                settled,
            } => {
                for number in &partitions {
                    self.partitions.remove(number);
                    self.held_back.forget(*number);
                    self.metrics.forget_partition(*number);
                }
                self.assembled.retain(|delivery| {
                    delivery
                        .partition
                        .is_none_or(|number| !partitions.contains(&number))
                });
                self.outbox.forget(&partitions, settled);
                if self.partitions.is_empty() {
                    let why = "its partitions were taken away, and it has not been given any since";
                    let state = PartState::not_ready(why);
                    self.readiness.set(Part::Consumer, state);
                }
            }
        }
    }

    fn take_event(&mut self, event: IntakeEvent) {
        match event {
            IntakeEvent::Record(record) => self.take_record(*record),
            IntakeEvent::Truncated(range) => self.note(range),
            IntakeEvent::End(number) => {
                if let Some(partition) = self.partitions.get_mut(&number) {
                    partition.reach_end();
                }
            }
        }
    }

    /// Tells what is gone, together with the position behind it: once, whatever happens to us.
    fn note(&mut self, range: Truncated) {
        let Truncated {
            partition,
            first,
            end,
            metadata,
        } = range;
        let gone = LogTruncated {
            topic: self.dead_letters.origin_topic.to_string(),
            partition,
            first_offset: first,
            last_offset: end - 1,
            offsets: u64::try_from(end - first).unwrap_or_default(),
            already_finished: Watermark::resumed(first, first, &metadata).finished_below(end),
            noticed_at: Timestamp::now(),
        };
        if let Some(partition) = self.partitions.get_mut(&partition) {
            partition.note_gone(first..end);
        }
        self.metrics.log_truncated_offsets.inc_by(gone.offsets);
        self.metrics.log_truncations.inc();
        tracing::error!(
            ?gone,
            "retention removed records before they were read: more processors or longer retention are needed"
        );
        let record = OutputRecord {
            topic: Arc::clone(&self.outcomes),
            partition: None,
            key: Bytes::copy_from_slice(&gone.key()),
            headers: Vec::new(),
            value: gone.encode().into(),
        };
        self.take_finished(Finished {
            partition,
            sealed: Sealed::Truncated { end },
            records: vec![Arc::new(record)],
            landed: None,
        });
    }

    fn take_record(&mut self, record: InboundRecord) {
        let number = record.partition;
        let partition = self.partitions.get_mut(&number);
        let Some(partition) = partition.filter(|partition| partition.is_read_by(&record)) else {
            tracing::debug!(
                partition = number,
                "a record of a partition that was revoked"
            );
            return;
        };
        self.clock.note_record();
        self.metrics.records_consumed.inc();
        let now = Timestamp::now();
        if partition.read(&record, now) {
            self.metrics.records_first_seen.inc();
        }
        let message = Message::decode(&record.value);
        let taken =
            message.and_then(|message| partition.take(message, &record, now, &mut self.chunks));
        match taken {
            Ok(Some(action)) => self.act(number, action),
            Ok(None) => {}
            // Read again for the chunks around it; it is with the dead letters already.
            Err(_) if partition.was_finished(record.offset) => {}
            Err(error) => self.bury(&record, &error),
        }
        if self.chunks.is_without_disk() && self.held_back.room() != Room::NoDisk {
            self.make_room();
        }
    }

    fn act(&mut self, number: i32, action: Action) {
        match action {
            Action::Process(assembled) => {
                let Some(finished) = self.finished.clone() else {
                    return;
                };
                self.hand_over_soon(number, *assembled, finished);
            }
            Action::Abandon {
                event_id, chunks, ..
            } => {
                tracing::warn!(%event_id, partition = number, chunks, "chunks without an event");
                self.metrics.abandoned_events.inc();
                self.metrics.abandoned_chunks.inc_by(chunks);
            }
        }
    }

    fn hand_over_soon(
        &mut self,
        number: i32,
        assembled: Assembled,
        finished: mpsc::Sender<Finished>,
    ) {
        let (event_id, offset) = (assembled.envelope.event_id, assembled.offset);
        let claim = Claim::Kafka {
            finished,
            partition: number,
            sealed: Sealed::Event { event_id, offset },
        };
        self.assembled.push_back(Delivery {
            assembled,
            partition: Some(number),
            completion: Completion::new(claim),
            waiting: self.metrics.enter(Stage::Wait),
        });
    }

    /// Brings to their end events whose messages are gone, as many as there is room for; the others are found again.
    fn end_lost(&mut self, found: Vec<UntoldEvent>) {
        let mut told = Vec::new();
        for untold in found {
            let number = untold.place.partition;
            let log = self.consumer.log_span(number);
            let (Some(finished), Some(partition), Some(span)) =
                (self.finished.clone(), self.partitions.get_mut(&number), log)
            else {
                continue;
            };
            match partition.judge(&untold, span.start) {
                Untold::Expected => {}
                Untold::Told => told.push((untold.event_id, number)),
                Untold::Lost if self.assembled.len() < ASSEMBLED_MAX => {
                    let topic = &self.dead_letters.origin_topic;
                    if let Some(lost) = lost_events::assembled(&untold, topic, span.start) {
                        partition.begin_lost(untold.event_id);
                        self.hand_over_soon(number, lost, finished);
                    }
                }
                Untold::Lost => break,
            }
        }
        self.outbox.note_told(told);
    }

    /// Looks for events whose messages are gone.
    fn look_for_lost(&mut self) {
        let (partitions, consumer) = (&self.partitions, &self.consumer);
        self.lost.ask(|| {
            let parts = partitions.iter().filter_map(|(number, partition)| {
                partition.should_be_told(consumer.log_span(*number)?.start)
            });
            parts.collect()
        });
    }

    /// Keeps a record that cannot be taken; its offset is held until it is with the dead letters.
    fn bury(&mut self, record: &InboundRecord, error: &MessageError) {
        if let Some(partition) = self.partitions.get_mut(&record.partition) {
            partition.hold(record.offset);
        }
        self.take_finished(Finished {
            partition: record.partition,
            sealed: Sealed::DeadLetter {
                offset: record.offset,
            },
            records: vec![Arc::new(self.dead_letters.letter(record, error))],
            landed: None,
        });
    }

    fn take_finished(&mut self, finished: Finished) {
        self.outbox.push(finished);
        self.outbox.begin(&mut self.partitions);
    }

    fn take_time(&mut self) {
        let read_for = self.clock.read_for();
        let wall_ms = Timestamp::now().as_millisecond();
        let retention = *self.retention.borrow();
        // Nothing more is read before an event is finished that waits for more to be read: it has waited long enough.
        let is_stuck = self.assembled.len() >= ASSEMBLED_MAX && self.next_assembled().is_none();
        let mut actions = Vec::new();
        let mut open_events = 0;
        let mut complaints = Vec::new();
        for (number, partition) in &mut self.partitions {
            let read_for = match self.held_back.holds(*number) {
                true => Duration::ZERO,
                false => read_for,
            };
            let brought = partition.take_time(read_for, wall_ms, is_stuck);
            actions.extend(brought.into_iter().map(|action| (*number, action)));
            let log = self.consumer.log_span(*number);
            let now = (self.clock.running_for(), wall_ms);
            open_events += partition.show(now, log, retention);
            complaints.extend(partition.complaint(&self.dead_letters.origin_topic, log));
        }
        self.readiness.set(
            Part::OpenTransactions,
            match complaints.is_empty() {
                true => PartState::Ready,
                false => PartState::not_ready(complaints.join("\n")),
            },
        );
        for (number, action) in actions {
            self.act(number, action);
        }
        self.make_room();
        self.look_for_lost();
        self.metrics.open_events.set(open_events as i64);
        self.outbox.begin(&mut self.partitions);
    }

    /// Looks how much room there is for chunks, holds partitions back as it asks for, and shows both.
    fn make_room(&mut self) {
        let room = self.chunks.room(self.held_back.room());
        let ours = self.partitions.iter().map(|(number, partition)| {
            let oldest = partition.oldest_waiting();
            (*number, oldest.map(|oldest| oldest.written_ms))
        });
        self.held_back.adjust(room, ours, &self.consumer);
        let metrics = &self.metrics;
        metrics.pending_bytes.set(self.chunks.memory_bytes() as i64);
        metrics
            .scratch_bytes
            .set(self.chunks.scratch_bytes() as i64);
        metrics
            .partitions_held_back
            .set(self.held_back.count() as i64);
        let state = match room {
            Room::Some | Room::Full => PartState::Ready,
            Room::NoDisk => PartState::not_ready(
                "no room for chunks: memory is full (processor.memory), and the volume of data.dir takes no more",
            ),
        };
        self.readiness.set(Part::Scratch, state);
    }
}
