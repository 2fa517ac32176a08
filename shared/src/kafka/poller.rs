//! The thread that polls the consumer and hands its records over a bounded channel.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::util::Timeout;
use tokio::runtime::Handle;
use tokio::sync::mpsc::Permit;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;

use super::consumer::{InboundRecord, IntakeEvent, QueueRoom, Truncated};
use super::group::Group;
use super::record::TopicRecord;
use crate::limits::{ADMIN_REQUEST_TIMEOUT, INTAKE_PAUSE_AFTER, INTAKE_QUEUE_BYTES_MAX};
use crate::message::Headers;

const POLL: Duration = Duration::from_millis(100);

/// The polling thread.
pub(super) struct Poller {
    pub(super) client: Arc<BaseConsumer<Group>>,
    pub(super) topic: String,
    pub(super) events: mpsc::Sender<IntakeEvent>,
    /// Bytes of records that may be in the channel.
    pub(super) room: Arc<Semaphore>,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) runtime: Handle,
}

impl Poller {
    /// Polls until `stop`, or until nobody listens any more.
    pub(super) fn run(self) {
        while !self.is_over() {
            match self.client.poll(POLL) {
                None => {}
                Some(Ok(message)) => {
                    let assignment = self.client.context().assignment_of(message.partition());
                    let record = inbound(&message, assignment);
                    drop(message);
                    self.hand_over(IntakeEvent::Record(Box::new(record)));
                }
                Some(Err(ClientError::PartitionEOF(partition))) => {
                    self.hand_over(IntakeEvent::End(partition));
                }
                Some(Err(error)) => {
                    self.handle(&error);
                    // The client never recovers from these: whoever listens makes another one.
                    if let ClientError::MessageConsumptionFatal(_) = error {
                        return;
                    }
                }
            }
        }
        if !self.client.context().is_lost() {
            self.client.unsubscribe();
        }
    }

    fn is_over(&self) -> bool {
        let stopped = self.stop.load(Ordering::Acquire);
        stopped || self.events.is_closed() || self.client.context().is_lost()
    }

    /// Hands an event over. A channel that stays full pauses the partitions, so that polling can go on: a pause throws
    /// away what was fetched ahead, so it must not come at once.
    fn hand_over(&self, event: IntakeEvent) {
        let bytes = match &event {
            IntakeEvent::Record(record) => record.value.len().min(INTAKE_QUEUE_BYTES_MAX) as u32,
            IntakeEvent::Truncated(_) | IntakeEvent::End(_) => 0,
        };
        let since = Instant::now();
        let mut paused = None;
        loop {
            // The time-out needs the runtime when it is made.
            let place = async { timeout(POLL, self.place(bytes)).await };
            match self.runtime.block_on(place) {
                Ok(Some((place, room))) => {
                    place.send(with_room(event, room));
                    break;
                }
                Ok(None) => break,
                Err(_elapsed) if self.stop.load(Ordering::Acquire) => break,
                Err(_elapsed) => {}
            }
            if paused.is_none() && since.elapsed() > INTAKE_PAUSE_AFTER {
                paused = self
                    .client
                    .assignment()
                    .ok()
                    .filter(|assigned| self.client.pause(assigned).is_ok());
            }
            // Nothing is fetched while paused: this poll serves rebalances only.
            if paused.is_some()
                && let Some(Ok(message)) = self.client.poll(Duration::ZERO)
            {
                self.seek_back(&message);
            }
        }
        if let Some(assigned) = paused
            && let Err(error) = self
                .client
                .context()
                .resume_unless_held(&self.client, &assigned)
        {
            tracing::error!(%error, "partitions could not be resumed");
        }
    }

    /// Waits for a place in the channel and for room for so many bytes; `None` when nobody listens.
    async fn place(&self, bytes: u32) -> Option<(Permit<'_, IntakeEvent>, OwnedSemaphorePermit)> {
        let room = Arc::clone(&self.room)
            .acquire_many_owned(bytes)
            .await
            .ok()?;
        let place = self.events.reserve().await.ok()?;
        Some((place, room))
    }

    /// Reads a partition from another offset on. One that was given up for want of an offset takes no seek any more.
    fn begin_anew(&self, partition: i32, offset: i64) -> Result<(), ClientError> {
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition_offset(&self.topic, partition, Offset::Offset(offset))?;
        self.client.context().begin_at(partition, offset);
        self.client.incremental_unassign(&list)?;
        self.client.incremental_assign(&list)
    }

    /// A record that slipped through a pause is read again later.
    fn seek_back(&self, message: &BorrowedMessage<'_>) {
        let offset = Offset::Offset(message.offset());
        if let Err(error) = self.client.seek(
            &self.topic,
            message.partition(),
            offset,
            Timeout::After(POLL),
        ) {
            tracing::error!(%error, partition = message.partition(), "a paused partition could not be rewound");
        }
    }

    fn handle(&self, error: &ClientError) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                self.skip_truncated()
            }
            Some(_) | None => self.client.context().complain(error, ""),
        }
    }

    /// Moves every partition whose position fell out of the log to the log's beginning, and says what is gone.
    fn skip_truncated(&self) {
        let Ok(positions) = self.client.position() else {
            return;
        };
        for element in positions.elements() {
            let partition = element.partition();
            let Ok((low, _)) =
                self.client
                    .fetch_watermarks(&self.topic, partition, ADMIN_REQUEST_TIMEOUT)
            else {
                continue;
            };
            let first = match element.offset() {
                Offset::Offset(first) => Some(first),
                Offset::Beginning
                | Offset::End
                | Offset::Stored
                | Offset::Invalid
                | Offset::OffsetTail(_) => self.client.context().begun_at(partition),
            };
            let Some(first) = first else { continue };
            if first >= low {
                continue;
            }
            match self.begin_anew(partition, low) {
                Ok(()) => self.hand_over(IntakeEvent::Truncated(Truncated {
                    partition,
                    first,
                    end: low,
                    metadata: String::new(),
                })),
                Err(error) => {
                    tracing::error!(%error, partition, "a truncated partition could not be moved on")
                }
            }
        }
    }
}

fn with_room(event: IntakeEvent, room: OwnedSemaphorePermit) -> IntakeEvent {
    match event {
        IntakeEvent::Record(mut record) => {
            record.room = room.into();
            IntakeEvent::Record(record)
        }
        IntakeEvent::Truncated(_) | IntakeEvent::End(_) => event,
    }
}

fn inbound(message: &BorrowedMessage<'_>, assignment: u64) -> InboundRecord {
    let TopicRecord {
        partition,
        offset,
        timestamp,
        key,
        headers: raw_headers,
        value,
    } = TopicRecord::copied(message);
    let read = raw_headers
        .iter()
        .map(|(name, value)| (name.as_str(), &value[..]));
    InboundRecord {
        partition,
        offset,
        timestamp,
        key,
        headers: Headers::read(read),
        raw_headers,
        value,
        assignment,
        room: QueueRoom::default(),
    }
}
