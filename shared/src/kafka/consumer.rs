//! The process's one consumer, polled by a thread of its own that hands records over a bounded channel.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError as ClientError;
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::{ClientConfig, Offset};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::error::KafkaError;
use super::group::Group;
use super::log_span::LogSpan;
use super::mark::TransactionMark;
use super::poller::Poller;
use super::settings;
use crate::config::KafkaConfig;
use crate::limits::{ADMIN_REQUEST_TIMEOUT, INTAKE_QUEUE_BYTES_MAX, INTAKE_QUEUE_RECORDS_MAX};
use crate::message::Headers;
use crate::metrics::Metrics;

/// Changes of the assignment that wait to be heard.
const ASSIGNMENT_CHANGES_MAX: usize = 16;

/// A record of the ingest topic.
#[derive(Debug)]
pub struct InboundRecord {
    /// Where it stands.
    pub partition: i32,
    /// Where it stands.
    pub offset: i64,
    /// When it was written, by the clock of its producer or broker.
    pub timestamp: Option<Timestamp>,
    /// Its key.
    pub key: Bytes,
    /// Our headers.
    pub headers: Headers,
    /// All headers as they are.
    pub raw_headers: Vec<(String, Bytes)>,
    /// The message.
    pub value: Bytes,
    /// Under which assignment of its partition it was read, see [`AssignmentChange::Assigned`].
    pub assignment: u64,
    /// Its room in the queue.
    pub room: QueueRoom,
}

/// Room for a record in the queue between the polling thread and the intake, given back when it is dropped.
#[derive(Debug, Default)]
pub struct QueueRoom {
    _permit: Option<OwnedSemaphorePermit>,
}

impl From<OwnedSemaphorePermit> for QueueRoom {
    fn from(permit: OwnedSemaphorePermit) -> Self {
        Self {
            _permit: Some(permit),
        }
    }
}

/// What the consumer reads.
#[derive(Debug)]
pub enum IntakeEvent {
    /// A record, in offset order within its partition.
    Record(Box<InboundRecord>),
    /// Retention removed records before we read them.
    Truncated(Truncated),
    /// Every record of the partition was read, for now.
    End(i32),
}

/// A range of offsets, `first..end`, that is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Truncated {
    /// The partition.
    pub partition: i32,
    /// The first lost offset.
    pub first: i64,
    /// The first offset that is still there.
    pub end: i64,
    /// What was committed beside `first`, when it was the committed position.
    pub metadata: String,
}

/// A change of the partitions that are ours. It is told apart from the records, because it must be heard even by an
/// intake that has no room for another record: the consumer is not in its group until it was.
#[derive(Debug)]
pub enum AssignmentChange {
    /// These partitions are ours from these positions on.
    Assigned {
        /// Where to begin.
        starts: Vec<CommitPosition>,
        /// Those of them for which the group has no position yet.
        uncommitted: BTreeSet<i32>,
        /// What of them is gone already.
        truncated: Vec<Truncated>,
        /// Which assignment this is: records of an earlier one may still be on their way, and are read again.
        assignment: u64,
    },
    /// These are no longer ours.
    Revoked {
        /// Their numbers.
        partitions: Vec<i32>,
        /// To be dropped when no commit for them is under way any more: only then is it asked where they were left.
        settled: oneshot::Sender<Infallible>,
    },
}

/// Up to where a partition is done: the offset to begin at after a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitPosition {
    /// The partition.
    pub partition: i32,
    /// The lowest offset of an event message, or of a record of no event, that is not done.
    pub offset: i64,
    /// Where reading begins again: at `offset`, or lower when chunks that are needed stand below it.
    pub resume: i64,
    /// What is to be remembered with it: text of at most [`COMMIT_METADATA_BYTES_MAX`], without a semicolon.
    pub metadata: String,
}

/// The brokers' default `offset.metadata.max.bytes`, less the mark of the transaction.
pub const COMMIT_METADATA_BYTES_MAX: usize = 4096 - TransactionMark::BYTES;

/// What a consumer tells.
#[derive(Debug)]
pub struct ConsumerEvents {
    /// What it reads.
    pub records: mpsc::Receiver<IntakeEvent>,
    /// What it is to read.
    pub changes: mpsc::Receiver<AssignmentChange>,
}

/// The consumer. Dropping it leaves the group.
pub struct RecordConsumer {
    client: Arc<BaseConsumer<Group>>,
    topic: String,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl RecordConsumer {
    /// Joins the group and starts polling. Needs a tokio runtime around it.
    ///
    /// # Errors
    /// [`KafkaError::Misconfigured`] when librdkafka does not take the settings.
    pub fn start(
        config: &KafkaConfig,
        instance: Option<&str>,
        metrics: Metrics,
    ) -> Result<(Self, ConsumerEvents), KafkaError> {
        let settings: ClientConfig = settings::consumer(config, instance);
        let topic = config.topics.attachments.clone();
        let (events, records) = mpsc::channel(INTAKE_QUEUE_RECORDS_MAX);
        let (told, changes) = mpsc::channel(ASSIGNMENT_CHANGES_MAX);
        let stop = Arc::new(AtomicBool::new(false));
        let group = Group::new(topic.clone(), told, Arc::clone(&stop), metrics);
        let made = settings
            .create_with_context(group)
            .and_then(|client: BaseConsumer<Group>| {
                client.subscribe(&[&topic])?;
                Ok(Arc::new(client))
            });
        let client = made.map_err(|error| {
            KafkaError::from_settings("making a consumer", &error, &config.options)
        })?;
        let poller = Poller {
            client: Arc::clone(&client),
            topic: topic.clone(),
            events,
            room: Arc::new(Semaphore::new(INTAKE_QUEUE_BYTES_MAX)),
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
            ConsumerEvents { records, changes },
        ))
    }

    /// Adds positions to the transaction that `producer` has begun, which is known by `mark` afterwards.
    pub(super) fn send_offsets<C: ProducerContext>(
        &self,
        producer: &BaseProducer<C>,
        positions: &[CommitPosition],
        mark: &TransactionMark,
        timeout: Duration,
    ) -> Result<(), ClientError> {
        let mut list = TopicPartitionList::with_capacity(positions.len());
        for position in positions {
            let mut element = list.add_partition(&self.topic, position.partition);
            element.set_offset(Offset::Offset(position.offset))?;
            element.set_metadata(mark.add_to(position));
        }
        let membership = self.client.group_metadata();
        let membership =
            membership.ok_or(ClientError::ClientCreation("no group membership".into()))?;
        producer.send_offsets_to_transaction(&list, &membership, timeout)
    }

    /// Whether the group has a position of any of `partitions` from the transaction with that mark.
    pub(super) fn has_committed(
        &self,
        mark: &TransactionMark,
        partitions: &[i32],
    ) -> Result<bool, KafkaError> {
        let list = self.list(partitions);
        let asked = |error| KafkaError::from_client("reading committed offsets", &error);
        let committed = self
            .client
            .committed_offsets(list, ADMIN_REQUEST_TIMEOUT)
            .map_err(asked)?;
        for element in committed.elements() {
            element.error().map_err(asked)?;
            if mark.is_in(element.metadata()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Reads nothing more of these partitions for now, and of all others again. What was fetched of them is thrown away.
    ///
    /// # Errors
    /// [`KafkaError`]: the client did not take it.
    pub fn hold_back(&self, partitions: BTreeSet<i32>) -> Result<(), KafkaError> {
        let refused = |error| KafkaError::from_client("pausing partitions", &error);
        let held = self.client.context().held_back();
        let begun: Vec<i32> = partitions.difference(&held).copied().collect();
        let ended: Vec<i32> = held.difference(&partitions).copied().collect();
        if !begun.is_empty() {
            let list = self.list(&begun);
            self.client.pause(&list).map_err(refused)?;
        }
        if !ended.is_empty() {
            let list = self.list(&ended);
            self.client.resume(&list).map_err(refused)?;
        }
        self.client.context().hold_back(partitions);
        Ok(())
    }

    /// Where a partition's log begins and ends, by the last word of the brokers.
    #[must_use]
    pub fn log_span(&self, partition: i32) -> Option<LogSpan> {
        self.client.context().log_span(partition)
    }

    fn list(&self, partitions: &[i32]) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            list.add_partition(&self.topic, *partition);
        }
        list
    }

    /// Whether the polling thread is alive. When it is not, no event will come any more.
    #[must_use]
    pub fn is_polling(&self) -> bool {
        self.thread
            .as_ref()
            .is_some_and(|thread| !thread.is_finished())
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
