//! Deliveries from the ingest topic: records in, assembled events out, the watermark committed behind them.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use shared::kafka::{CommitPosition, InboundRecord, IntakeEvent, RecordConsumer};
use shared::message::{AttachmentChunk, EventMessage, Message, MessageError};
use shared::metrics::{Metrics, PartitionGauges};
use shared::readiness::{Part, PartState, Readiness};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::assembly::{Action, Assembly, Taken};
use super::scratch::ChunkStore;
use super::watermark::Watermark;
use super::{Claim, Completion, Delivery, Done};
use crate::dead_letter::DeadLetters;

/// How often time is told to the assembly, and the watermark committed.
const TICK: Duration = Duration::from_millis(500);
/// Completions waiting to be taken note of.
const DONE_QUEUE_MAX: usize = 256;

/// The consuming half of the Kafka queue.
pub(crate) struct KafkaIntake {
    consumer: Arc<RecordConsumer>,
    events: mpsc::Receiver<IntakeEvent>,
    partitions: HashMap<i32, Partition>,
    chunks: ChunkStore,
    incomplete_after: Duration,
    /// Assembled, and waiting for a place among the deliveries.
    assembled: VecDeque<Delivery>,
    done: mpsc::Sender<Done>,
    done_told: mpsc::Receiver<Done>,
    dead_letters: DeadLetters,
    dead_letter_tasks: TaskTracker,
    commit: Option<JoinHandle<()>>,
    metrics: Metrics,
    readiness: Readiness,
}

/// The consumer's polling thread ended by itself.
#[derive(Debug, thiserror::Error)]
#[error(
    "the thread that polls kafka ended by itself; this is a bug, and the reason is in the log above"
)]
pub struct IntakeLost;

struct Partition {
    watermark: Watermark,
    assembly: Assembly,
    committed: i64,
    gauges: PartitionGauges,
}

impl KafkaIntake {
    /// An intake over a consumer that has joined its group. Chunks past `memory_bytes_max` go to files in `scratch`.
    pub(crate) fn new(
        (consumer, events): (RecordConsumer, mpsc::Receiver<IntakeEvent>),
        dead_letters: DeadLetters,
        (scratch, memory_bytes_max): (PathBuf, u64),
        incomplete_after: Duration,
        metrics: Metrics,
        readiness: Readiness,
    ) -> Self {
        let (done, done_told) = mpsc::channel(DONE_QUEUE_MAX);
        Self {
            consumer: Arc::new(consumer),
            events,
            partitions: HashMap::new(),
            chunks: ChunkStore::new(scratch, memory_bytes_max),
            incomplete_after,
            assembled: VecDeque::new(),
            done,
            done_told,
            dead_letters,
            dead_letter_tasks: TaskTracker::new(),
            commit: None,
            metrics,
            readiness,
        }
    }

    /// Hands events over until `stop`, then waits for what it handed over, and commits.
    ///
    /// # Errors
    /// [`IntakeLost`] when the consumer ended by itself: a bug, and nothing but a restart helps.
    pub(crate) async fn run(
        mut self,
        deliveries: mpsc::Sender<Delivery>,
        stop: CancellationToken,
    ) -> Result<(), IntakeLost> {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut lost = Ok(());
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(done) = self.done_told.recv() => self.take_done(&done),
                _ = tick.tick() => {
                    self.take_time();
                    if !self.consumer.is_polling() {
                        lost = Err(IntakeLost);
                        break;
                    }
                }
                place = deliveries.reserve(), if !self.assembled.is_empty() => {
                    let Ok(place) = place else { break };
                    if let Some(delivery) = self.assembled.pop_front() {
                        place.send(delivery);
                    }
                }
                event = self.events.recv(), if self.assembled.is_empty() => match event {
                    Some(event) => self.take_event(event),
                    None => break,
                },
            }
        }
        drop(deliveries);
        self.close().await;
        lost
    }

    /// Waits until everything handed over is done, commits, and leaves the group.
    async fn close(mut self) {
        self.events.close();
        self.assembled.clear();
        self.dead_letter_tasks.close();
        let (unused, _) = mpsc::channel(1);
        drop(std::mem::replace(&mut self.done, unused));
        while let Some(done) = self.done_told.recv().await {
            self.take_done(&done);
        }
        self.dead_letter_tasks.wait().await;
        if let Some(commit) = self.commit.take() {
            drop(commit.await);
        }
        self.begin_commit();
        if let Some(commit) = self.commit.take() {
            drop(commit.await);
        }
        drop(self.events);
        let consumer = self.consumer;
        let left = tokio::task::spawn_blocking(move || drop(consumer)).await;
        if let Err(error) = left {
            tracing::error!(%error, "leaving the group panicked; this is a bug");
        }
    }

    fn take_event(&mut self, event: IntakeEvent) {
        match event {
            IntakeEvent::Record(record) => self.take_record(record),
            IntakeEvent::Assigned(partitions) => {
                for (number, offset) in partitions {
                    let partition = Partition {
                        watermark: Watermark::starting_at(offset),
                        assembly: Assembly::new(self.incomplete_after),
                        committed: offset,
                        gauges: self.metrics.partition(number),
                    };
                    self.partitions.insert(number, partition);
                }
                self.readiness.set(Part::Consumer, PartState::Ready);
            }
            IntakeEvent::Revoked(partitions) => {
                for number in partitions {
                    self.partitions.remove(&number);
                    self.metrics.forget_partition(number);
                }
            }
            IntakeEvent::Truncated {
                partition,
                first,
                end,
            } => {
                let lost = u64::try_from(end - first).unwrap_or_default();
                self.metrics.log_truncated_offsets.inc_by(lost);
                tracing::error!(
                    partition,
                    first,
                    last = end - 1,
                    "retention removed records before they were read"
                );
            }
        }
    }

    fn take_record(&mut self, record: InboundRecord) {
        let number = record.partition;
        let Some(partition) = self.partitions.get_mut(&number) else {
            tracing::debug!(
                partition = number,
                "a record of a partition that was revoked"
            );
            return;
        };
        self.metrics.records_consumed.inc();
        if partition.watermark.read(record.offset) {
            self.metrics.records_first_seen.inc();
        }
        let now = Instant::now();
        let value = record.value.clone();
        let action = match Message::decode(&value) {
            Ok(Message::AttachmentChunk(chunk)) => {
                take_chunk(partition, &mut self.chunks, &chunk, &record, now)
            }
            Ok(Message::Event(event)) => take_event_message(partition, event, record, now),
            Err(error) => return self.bury(record, &error),
        };
        if let Some(action) = action {
            self.act(number, action);
        }
    }

    fn act(&mut self, number: i32, action: Action) {
        match action {
            Action::Process(assembled) => {
                let event_id = assembled.envelope.event_id;
                let claim = Claim::Kafka {
                    done: self.done.clone(),
                    partition: number,
                    event_id,
                };
                let completion = Completion::new(claim);
                self.assembled.push_back(Delivery {
                    assembled: *assembled,
                    partition: Some(number),
                    completion,
                });
            }
            Action::Abandon {
                event_id,
                first_offset,
                chunks,
            } => {
                tracing::warn!(%event_id, partition = number, offset = first_offset, chunks, "chunks without an event");
                self.metrics.abandoned_events.inc();
                self.metrics.abandoned_chunks.inc_by(chunks);
                if let Some(partition) = self.partitions.get_mut(&number) {
                    partition.watermark.release(first_offset);
                }
            }
        }
    }

    /// Sends a record to the dead letters; its offset is held until that is confirmed.
    fn bury(&mut self, record: InboundRecord, error: &MessageError) {
        let (number, offset) = (record.partition, record.offset);
        if let Some(partition) = self.partitions.get_mut(&number) {
            partition.watermark.hold(offset);
        }
        let (dead_letters, done) = (self.dead_letters.clone(), self.done.clone());
        let (reason, error) = (error.reason(), error.to_string());
        self.dead_letter_tasks.spawn(async move {
            if dead_letters.send(record, reason, &error).await {
                drop(
                    done.send(Done::DeadLetter {
                        partition: number,
                        offset,
                    })
                    .await,
                );
            }
        });
    }

    fn take_done(&mut self, done: &Done) {
        match *done {
            Done::Event {
                partition,
                event_id,
            } => {
                if let Some(partition) = self.partitions.get_mut(&partition)
                    && let Some(first_offset) = partition.assembly.finish(event_id)
                {
                    partition.watermark.release(first_offset);
                }
            }
            Done::DeadLetter { partition, offset } => {
                if let Some(partition) = self.partitions.get_mut(&partition) {
                    partition.watermark.release(offset);
                }
            }
        }
    }

    fn take_time(&mut self) {
        let now = Instant::now();
        let mut actions = Vec::new();
        for (number, partition) in &mut self.partitions {
            actions.extend(
                partition
                    .assembly
                    .take_time(now)
                    .into_iter()
                    .map(|action| (*number, action)),
            );
        }
        for (number, action) in actions {
            self.act(number, action);
        }
        self.show();
        if self.commit.as_ref().is_none_or(JoinHandle::is_finished) {
            self.begin_commit();
        }
    }

    fn show(&self) {
        let mut open_events = 0;
        for partition in self.partitions.values() {
            let (lowest, position) = (
                partition.watermark.lowest_unfinished(),
                partition.watermark.position(),
            );
            partition.gauges.watermark_offset.set(lowest);
            partition.gauges.position_offset.set(position);
            partition.gauges.span_records.set(position - lowest);
            open_events += partition.assembly.open_events();
        }
        self.metrics.open_events.set(open_events as i64);
        self.metrics
            .pending_bytes
            .set(self.chunks.memory_bytes() as i64);
    }

    /// Commits every watermark that moved. A commit that fails is made up for by the next one.
    fn begin_commit(&mut self) {
        let mut positions = Vec::new();
        for (number, partition) in &mut self.partitions {
            let offset = partition.watermark.lowest_unfinished();
            if offset != partition.committed {
                partition.committed = offset;
                positions.push(CommitPosition {
                    partition: *number,
                    offset,
                });
            }
        }
        if positions.is_empty() {
            return;
        }
        let consumer = Arc::clone(&self.consumer);
        self.commit = Some(tokio::task::spawn_blocking(move || {
            if let Err(error) = consumer.commit(&positions) {
                tracing::warn!(%error, "the watermark could not be committed");
            }
        }));
    }
}

fn take_chunk(
    partition: &mut Partition,
    store: &mut ChunkStore,
    chunk: &AttachmentChunk<'_>,
    record: &InboundRecord,
    now: Instant,
) -> Option<Action> {
    let payload: Bytes = record.value.slice_ref(chunk.payload);
    let part = (chunk.event_id, chunk.id.clone(), chunk.chunk_index);
    let (taken, action) = partition
        .assembly
        .take_chunk(part, record.offset, now, || store.keep(payload));
    hold_if_begun(partition, &taken, record.offset);
    action
}

fn take_event_message(
    partition: &mut Partition,
    event: EventMessage<'_>,
    record: InboundRecord,
    now: Instant,
) -> Option<Action> {
    let payload = record.value.slice_ref(event.payload);
    let (taken, action) =
        partition
            .assembly
            .take_event(event, payload, record.headers, record.offset, now);
    hold_if_begun(partition, &taken, record.offset);
    action
}

fn hold_if_begun(partition: &mut Partition, taken: &Taken, offset: i64) {
    match taken {
        Taken::Begins => partition.watermark.hold(offset),
        Taken::Continues | Taken::Repeats => {}
    }
}
