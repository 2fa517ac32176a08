//! The consumer's place in its group: partitions come and go, on the polling thread.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;
use tokio::sync::{mpsc, oneshot};

use super::consumer::{AssignmentChange, CommitPosition, Truncated};
use super::error_log::ErrorLog;
use super::log_span::LogSpan;
use super::mark;
use crate::metrics::Metrics;

/// The wait before brokers are asked again where a partition was left.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// How long they may take over an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// How long they are asked. A client that has lost its way to a broker does not find it while it waits for us: after about
/// two of a hundred kills it had, and another client found it at once.
const ASK_FOR: Duration = Duration::from_secs(8);

/// What librdkafka calls back.
pub(super) struct Group {
    topic: String,
    changes: mpsc::Sender<AssignmentChange>,
    assignments: Mutex<Assignments>,
    /// Partitions that are ours and not to be read now.
    held_back: Mutex<BTreeSet<i32>>,
    /// Where each partition's log begins and ends.
    log_spans: Mutex<HashMap<i32, LogSpan>>,
    /// Where each partition was begun: that is its position until something of it was read.
    begun_at: Mutex<HashMap<i32, i64>>,
    stop: Arc<AtomicBool>,
    /// A rebalance was given up: this client is outside of its group for good.
    lost: AtomicBool,
    /// What this client has received, by its last statistics.
    received_bytes: AtomicU64,
    errors: ErrorLog,
    metrics: Metrics,
}

/// Where partitions begin.
struct Starts {
    starts: Vec<CommitPosition>,
    /// Those for which the group has no position.
    uncommitted: BTreeSet<i32>,
    /// What of them retention has removed.
    truncated: Vec<Truncated>,
}

/// Assignments, counted.
#[derive(Debug, Default)]
struct Assignments {
    last: u64,
    by_partition: HashMap<i32, u64>,
}

impl Group {
    pub(super) fn new(
        topic: String,
        changes: mpsc::Sender<AssignmentChange>,
        stop: Arc<AtomicBool>,
        metrics: Metrics,
    ) -> Self {
        Self {
            topic,
            changes,
            assignments: Mutex::default(),
            held_back: Mutex::default(),
            log_spans: Mutex::default(),
            begun_at: Mutex::default(),
            stop,
            lost: AtomicBool::new(false),
            received_bytes: AtomicU64::new(0),
            errors: ErrorLog::new("consumer"),
            metrics,
        }
    }

    /// Whether this client will never read again.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// Logs what librdkafka says, now and then.
    pub(super) fn complain(&self, error: &ClientError, reason: &str) {
        self.errors.tell(error, reason);
    }
}

impl ClientContext for Group {
    fn stats(&self, statistics: Statistics) {
        let received = u64::try_from(statistics.rx_bytes).unwrap_or_default();
        let before = self.received_bytes.swap(received, Ordering::Relaxed);
        let more = received.saturating_sub(before);
        self.metrics.consumer_received_bytes.inc_by(more);
        let Some(topic) = statistics.topics.get(&self.topic) else {
            return;
        };
        for partition in topic.partitions.values() {
            if let Some(span) = LogSpan::of(partition) {
                locked(&self.log_spans).insert(partition.partition, span);
            }
        }
    }

    fn error(&self, error: ClientError, reason: &str) {
        // The poller hears of a partition's end, too.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::PartitionEOF) {
            self.errors.tell(&error, reason);
        }
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
        let Some(Starts {
            starts,
            uncommitted,
            truncated,
        }) = self.starts_when_known(client, list)
        else {
            return Ok(());
        };
        let assignment = self.assigned(&starts);
        let mut list = TopicPartitionList::with_capacity(starts.len());
        for start in &starts {
            list.add_partition_offset(&self.topic, start.partition, Offset::Offset(start.resume))?;
            self.begin_at(start.partition, start.resume);
        }
        let numbers: Vec<(i32, i64)> = starts
            .iter()
            .map(|start| (start.partition, start.resume))
            .collect();
        tracing::info!(partitions = ?numbers, "partitions assigned");
        self.tell(AssignmentChange::Assigned {
            starts,
            uncommitted,
            truncated,
            assignment,
        });
        client.incremental_assign(&list)
    }

    /// Asks where partitions were left until the brokers say: a rebalance that is given up half-way keeps the consumer
    /// out of its group for good. `None` when the process stops meanwhile, and when they do not say: then this client is
    /// lost, and another one has to be made.
    fn starts_when_known(
        &self,
        client: &BaseConsumer<Self>,
        list: &TopicPartitionList,
    ) -> Option<Starts> {
        let until = Instant::now() + ASK_FOR;
        while !self.stop.load(Ordering::Acquire) {
            match self.starts(client, list) {
                Ok(starts) => return Some(starts),
                Err(error) if Instant::now() < until => {
                    tracing::warn!(%error, "where the partitions were left is not known yet");
                    thread::sleep(ASK_AGAIN_AFTER);
                }
                Err(error) => {
                    tracing::warn!(%error, "where the partitions were left cannot be learned by this client");
                    self.lost.store(true, Ordering::Release);
                    return None;
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
    ) -> Result<Starts, ClientError> {
        let committed = client.committed_offsets(list.clone(), ANSWER_TIMEOUT)?;
        let mut truncated = Vec::new();
        let mut uncommitted = BTreeSet::new();
        let mut starts = Vec::with_capacity(committed.count());
        for element in committed.elements() {
            // Without this, an error would pass for "nothing was committed".
            element.error()?;
            let partition = element.partition();
            let (low, _) = client.fetch_watermarks(&self.topic, partition, ANSWER_TIMEOUT)?;
            let start = match element.offset() {
                Offset::Offset(offset) if offset < low => {
                    truncated.push(Truncated {
                        partition,
                        first: offset,
                        end: low,
                        metadata: mark::committed(partition, offset, element.metadata()).metadata,
                    });
                    mark::committed(partition, low, "")
                }
                Offset::Offset(offset) => {
                    let mut start = mark::committed(partition, offset, element.metadata());
                    start.resume = start.resume.max(low);
                    start
                }
                Offset::Beginning
                | Offset::End
                | Offset::Stored
                | Offset::Invalid
                | Offset::OffsetTail(_) => {
                    uncommitted.insert(partition);
                    mark::committed(partition, low, "")
                }
            };
            starts.push(start);
        }
        Ok(Starts {
            starts,
            uncommitted,
            truncated,
        })
    }

    fn revoke(
        &self,
        client: &BaseConsumer<Self>,
        list: &TopicPartitionList,
    ) -> Result<(), ClientError> {
        let elements = list.elements();
        let partitions: Vec<i32> = elements.iter().map(|element| element.partition()).collect();
        tracing::info!(?partitions, "partitions revoked");
        let (settled, is_settled) = oneshot::channel();
        self.tell(AssignmentChange::Revoked {
            partitions,
            settled,
        });
        // Whoever gets them next, we included, must find what we commit for them now.
        drop(is_settled.blocking_recv());
        // A pause would outlast the assignment.
        locked(&self.held_back)
            .retain(|held| elements.iter().all(|gone| gone.partition() != *held));
        client.resume(list)?;
        client.incremental_unassign(list)
    }

    /// Counts a new assignment of these partitions.
    fn assigned(&self, starts: &[CommitPosition]) -> u64 {
        let mut assignments = self.assignments();
        assignments.last += 1;
        let assignment = assignments.last;
        let partitions = starts.iter().map(|start| (start.partition, assignment));
        assignments.by_partition.extend(partitions);
        assignment
    }

    /// Under which assignment a partition is read.
    pub(super) fn assignment_of(&self, partition: i32) -> u64 {
        let assignments = self.assignments();
        assignments
            .by_partition
            .get(&partition)
            .copied()
            .unwrap_or_default()
    }

    /// Which partitions are not to be read now.
    pub(super) fn held_back(&self) -> BTreeSet<i32> {
        locked(&self.held_back).clone()
    }

    /// Notes which partitions are not to be read from now on.
    pub(super) fn hold_back(&self, partitions: BTreeSet<i32>) {
        *locked(&self.held_back) = partitions;
    }

    /// Reads partitions again that were paused, but for those that are held back.
    pub(super) fn resume_unless_held(
        &self,
        client: &BaseConsumer<Self>,
        paused: &TopicPartitionList,
    ) -> Result<(), ClientError> {
        let held = locked(&self.held_back);
        let mut list = TopicPartitionList::new();
        for element in paused.elements() {
            if !held.contains(&element.partition()) {
                list.add_partition(element.topic(), element.partition());
            }
        }
        client.resume(&list)
    }

    /// Where a partition's log begins and ends.
    pub(super) fn log_span(&self, partition: i32) -> Option<LogSpan> {
        locked(&self.log_spans).get(&partition).copied()
    }

    /// Notes where a partition is begun.
    pub(super) fn begin_at(&self, partition: i32, offset: i64) {
        locked(&self.begun_at).insert(partition, offset);
    }

    /// Where a partition was begun.
    pub(super) fn begun_at(&self, partition: i32) -> Option<i64> {
        locked(&self.begun_at).get(&partition).copied()
    }

    fn assignments(&self) -> MutexGuard<'_, Assignments> {
        locked(&self.assignments)
    }

    /// Tells a change from the polling thread, and waits until there is room for it.
    fn tell(&self, change: AssignmentChange) {
        if self.changes.blocking_send(change).is_err() {
            tracing::debug!("the intake has ended");
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
