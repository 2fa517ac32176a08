//! The process's one consumer, polled by a thread of its own that hands records over a bounded channel.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError as ClientError;
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext};
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientConfig, Offset};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::error::KafkaError;
use super::error_log::ErrorLog;
use super::poller::Poller;
use super::settings;
use crate::config::KafkaConfig;
use crate::limits::{ADMIN_REQUEST_TIMEOUT, INTAKE_QUEUE_RECORDS_MAX};
use crate::message::Headers;
use crate::metrics::Metrics;

/// The wait before brokers are asked again where a partition was left.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// A record of the ingest topic.
#[derive(Debug, Clone)]
pub struct InboundRecord {
    /// Where it stands.
    pub partition: i32,
    /// Where it stands.
    pub offset: i64,
    /// Its key.
    pub key: Bytes,
    /// Our headers.
    pub headers: Headers,
    /// All headers as they are.
    pub raw_headers: Vec<(String, Bytes)>,
    /// The message.
    pub value: Bytes,
}

/// What the consumer tells.
#[derive(Debug)]
pub enum IntakeEvent {
    /// A record, in offset order within its partition.
    Record(InboundRecord),
    /// These partitions are ours from these positions on.
    Assigned(Vec<CommitPosition>),
    /// These are no longer ours.
    Revoked(Vec<i32>),
    /// Retention removed records before we read them: `first..end` is gone.
    Truncated {
        /// The partition.
        partition: i32,
        /// The first lost offset.
        first: i64,
        /// The first offset that is still there.
        end: i64,
    },
}

/// Up to where a partition is done: the offset to begin at after a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitPosition {
    /// The partition.
    pub partition: i32,
    /// The lowest offset that is not done.
    pub offset: i64,
    /// What is to be remembered with it: text of at most [`COMMIT_METADATA_BYTES_MAX`].
    pub metadata: String,
}

/// The brokers' default `offset.metadata.max.bytes`.
pub const COMMIT_METADATA_BYTES_MAX: usize = 4096;

/// The consumer. Dropping it leaves the group.
pub struct RecordConsumer {
    client: Arc<BaseConsumer<Group>>,
    topic: String,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

pub(super) struct Group {
    errors: ErrorLog,
    topic: String,
    stop: Arc<AtomicBool>,
    events: mpsc::Sender<IntakeEvent>,
    metrics: Metrics,
}

impl RecordConsumer {
    /// Joins the group and starts polling. Events come on the returned channel. Needs a tokio runtime around it.
    ///
    /// # Errors
    /// [`KafkaError::Misconfigured`] when librdkafka does not take the settings.
    pub fn start(
        config: &KafkaConfig,
        instance: Option<&str>,
        metrics: Metrics,
    ) -> Result<(Self, mpsc::Receiver<IntakeEvent>), KafkaError> {
        let settings: ClientConfig = settings::consumer(config, instance);
        let topic = config.topics.attachments.clone();
        let (events, received) = mpsc::channel(INTAKE_QUEUE_RECORDS_MAX);
        let stop = Arc::new(AtomicBool::new(false));
        let group = Group {
            stop: Arc::clone(&stop),
            errors: ErrorLog::new("consumer"),
            topic: topic.clone(),
            events: events.clone(),
            metrics,
        };
        let made = settings
            .create_with_context(group)
            .and_then(|client: BaseConsumer<Group>| {
                client.subscribe(&[&topic])?;
                Ok(Arc::new(client))
            });
        let client = made.map_err(|error| KafkaError::from_client("making a consumer", &error))?;
        let poller = Poller {
            client: Arc::clone(&client),
            topic: topic.clone(),
            events,
            stop: Arc::clone(&stop),
            runtime: Handle::current(),
        };
        let thread = thread::Builder::new()
            .name("kafka-intake".into())
            .spawn(move || poller.run())
            .map_err(|error| KafkaError::Unavailable {
                doing: "starting a thread",
                error: error.to_string(),
            })?;
        Ok((
            Self {
                client,
                topic,
                stop,
                thread: Some(thread),
            },
            received,
        ))
    }

    /// Adds positions to the transaction that `producer` has begun.
    pub(super) fn send_offsets<C: ProducerContext>(
        &self,
        producer: &BaseProducer<C>,
        positions: &[CommitPosition],
        timeout: Duration,
    ) -> Result<(), ClientError> {
        let mut list = TopicPartitionList::with_capacity(positions.len());
        for position in positions {
            let mut element = list.add_partition(&self.topic, position.partition);
            element.set_offset(Offset::Offset(position.offset))?;
            element.set_metadata(&position.metadata);
        }
        let membership = self.client.group_metadata();
        let membership =
            membership.ok_or(ClientError::ClientCreation("no group membership".into()))?;
        producer.send_offsets_to_transaction(&list, &membership, timeout)
    }

    /// Whether exactly these positions are what the group has committed. Blocks the thread.
    pub(super) fn has_committed(&self, positions: &[CommitPosition]) -> Result<bool, KafkaError> {
        let mut list = TopicPartitionList::with_capacity(positions.len());
        for position in positions {
            list.add_partition(&self.topic, position.partition);
        }
        let committed = self.client.committed_offsets(list, ADMIN_REQUEST_TIMEOUT);
        let committed = committed
            .map_err(|error| KafkaError::from_client("reading committed offsets", &error))?;
        Ok(positions.iter().all(|position| {
            let found = committed.find_partition(&self.topic, position.partition);
            found.is_some_and(|found| {
                found.offset() == Offset::Offset(position.offset)
                    && found.metadata() == position.metadata
            })
        }))
    }

    /// Whether the polling thread is alive. When it is not, no event will come any more.
    #[must_use]
    pub fn is_polling(&self) -> bool {
        self.thread
            .as_ref()
            .is_some_and(|thread| !thread.is_finished())
    }

    /// Stops polling and leaves the group. Blocks the thread.
    pub fn stop(mut self) {
        self.join();
    }

    fn join(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the intake thread panicked; this is a bug");
        }
    }
}

impl Drop for RecordConsumer {
    fn drop(&mut self) {
        self.join();
    }
}

impl ClientContext for Group {
    fn stats(&self, statistics: Statistics) {
        let Some(topic) = statistics.topics.get(&self.topic) else {
            return;
        };
        for partition in topic
            .partitions
            .values()
            .filter(|partition| partition.fetch_state == "active")
        {
            let lag = partition.hi_offset - partition.committed_offset.max(partition.lo_offset);
            if partition.hi_offset >= 0 {
                self.metrics
                    .partition(partition.partition)
                    .lag_records
                    .set(lag.max(0));
            }
        }
    }

    fn error(&self, error: ClientError, reason: &str) {
        self.errors.tell(&error, reason);
    }
}

impl ConsumerContext for Group {
    fn rebalance(
        &self,
        client: &BaseConsumer<Self>,
        error: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        let assigned = RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        let done = if error == assigned {
            self.assign(client, list)
        } else {
            self.revoke(client, list)
        };
        if let Err(error) = done {
            tracing::error!(%error, "a rebalance could not be carried out");
        }
    }
}

impl Group {
    /// Takes partitions over where they were left: at the committed offset, at the beginning when there is none, and
    /// at the beginning with a word about it when retention has passed the committed one.
    fn assign(
        &self,
        client: &BaseConsumer<Self>,
        list: &TopicPartitionList,
    ) -> Result<(), ClientError> {
        let Some((starts, truncated)) = self.starts_when_known(client, list) else {
            return Ok(());
        };
        let mut list = TopicPartitionList::with_capacity(starts.len());
        for start in &starts {
            list.add_partition_offset(&self.topic, start.partition, Offset::Offset(start.offset))?;
        }
        let numbers: Vec<(i32, i64)> = starts
            .iter()
            .map(|start| (start.partition, start.offset))
            .collect();
        tracing::info!(partitions = ?numbers, "partitions assigned");
        for event in truncated {
            self.tell(event);
        }
        self.tell(IntakeEvent::Assigned(starts));
        client.incremental_assign(&list)
    }

    /// Asks where partitions were left until the brokers say: a rebalance that is given up half-way keeps the consumer
    /// out of its group for good. `None` when the process stops meanwhile.
    fn starts_when_known(
        &self,
        client: &BaseConsumer<Self>,
        list: &TopicPartitionList,
    ) -> Option<(Vec<CommitPosition>, Vec<IntakeEvent>)> {
        while !self.stop.load(Ordering::Acquire) {
            match self.starts(client, list) {
                Ok(starts) => return Some(starts),
                Err(error) => {
                    tracing::warn!(%error, "where the partitions were left is not known yet");
                    thread::sleep(ASK_AGAIN_AFTER);
                }
            }
        }
        None
    }

    /// Where partitions begin, and what of them retention has removed.
    fn starts(
        &self,
        client: &BaseConsumer<Self>,
        list: &TopicPartitionList,
    ) -> Result<(Vec<CommitPosition>, Vec<IntakeEvent>), ClientError> {
        let committed = client.committed_offsets(list.clone(), ADMIN_REQUEST_TIMEOUT)?;
        let mut truncated = Vec::new();
        let mut starts = Vec::with_capacity(committed.count());
        for element in committed.elements() {
            // Without this, an error would pass for "nothing was committed".
            element.error()?;
            let partition = element.partition();
            let (low, _) =
                client.fetch_watermarks(&self.topic, partition, ADMIN_REQUEST_TIMEOUT)?;
            let mut start = CommitPosition {
                partition,
                offset: low,
                metadata: String::new(),
            };
            match element.offset() {
                Offset::Offset(offset) => {
                    start.metadata = element.metadata().to_owned();
                    if offset >= low {
                        start.offset = offset;
                    } else {
                        let first = offset;
                        truncated.push(IntakeEvent::Truncated {
                            partition,
                            first,
                            end: low,
                        });
                    }
                }
                Offset::Beginning
                | Offset::End
                | Offset::Stored
                | Offset::Invalid
                | Offset::OffsetTail(_) => {}
            }
            starts.push(start);
        }
        Ok((starts, truncated))
    }

    fn revoke(
        &self,
        client: &BaseConsumer<Self>,
        list: &TopicPartitionList,
    ) -> Result<(), ClientError> {
        let elements = list.elements();
        let partitions: Vec<i32> = elements.iter().map(|element| element.partition()).collect();
        tracing::info!(?partitions, "partitions revoked");
        self.tell(IntakeEvent::Revoked(partitions));
        client.incremental_unassign(list)
    }

    /// Hands an event over from the polling thread, in order with the records.
    fn tell(&self, event: IntakeEvent) {
        if self.events.blocking_send(event).is_err() {
            tracing::debug!("the intake has ended");
        }
    }
}
