//! Reads a topic once, from where it is told up to where it is told: for operator commands. It has no place in a group,
//! holds what librdkafka has fetched and nothing else, and never waits for a partition without an end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError as ClientError;
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::{ClientContext, Offset, consumer};

use super::error::KafkaError;
use super::error_log::ErrorLog;
use super::record::TopicRecord;
use super::settings;
use crate::config::KafkaConfig;
use crate::limits::{ADMIN_REQUEST_TIMEOUT, TOPIC_READ_STALL_MAX};

const READING: &str = "reading a topic";
const POLL: Duration = Duration::from_millis(100);

/// A topic's reader. Its calls block the thread.
pub struct TopicReader {
    client: BaseConsumer<Told>,
    topic: String,
    partitions: Vec<i32>,
    /// What is still to be read: partitions and the offsets to stop before.
    open: BTreeMap<i32, i64>,
    /// Partitions that were read to their end, and are not fetched any more.
    paused: TopicPartitionList,
}

/// Some offsets of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionRange {
    /// The partition.
    pub partition: i32,
    /// The first offset.
    pub start: i64,
    /// The offset to stop before.
    pub end: i64,
}

/// What the client says by itself.
struct Told(ErrorLog);

impl ClientContext for Told {
    fn stats_raw(&self, _statistics: &[u8]) {}

    fn error(&self, error: ClientError, reason: &str) {
        self.0.tell(&error, reason);
    }
}

impl consumer::ConsumerContext for Told {}

impl TopicReader {
    /// A reader of `topic`, which reads nothing yet.
    ///
    /// # Errors
    /// [`KafkaError::NoTopic`], or why the cluster did not say what is in it.
    pub fn open(config: &KafkaConfig, topic: &str) -> Result<Self, KafkaError> {
        let told = Told(ErrorLog::new("reader"));
        let client: BaseConsumer<Told> = settings::reader(config)
            .create_with_context(told)
            .map_err(|error| {
                KafkaError::from_settings("making a reader", &error, &config.options)
            })?;
        let metadata = client
            .fetch_metadata(Some(topic), ADMIN_REQUEST_TIMEOUT)
            .map_err(|error| KafkaError::from_client("reading metadata", &error))?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let mut partitions: Vec<i32> = found.map_or_else(Vec::new, |found| {
            let partitions = found.partitions().iter();
            partitions.map(|partition| partition.id()).collect()
        });
        if partitions.is_empty() {
            let topic = topic.to_owned();
            return Err(KafkaError::NoTopic { topic });
        }
        partitions.sort_unstable();
        Ok(Self {
            client,
            topic: topic.to_owned(),
            partitions,
            open: BTreeMap::new(),
            paused: TopicPartitionList::new(),
        })
    }

    /// The topic's partitions, ascending.
    #[must_use]
    pub fn partitions(&self) -> &[i32] {
        &self.partitions
    }

    /// All that a partition holds now. Its end is that of the last transaction that has ended.
    ///
    /// # Errors
    /// [`KafkaError`]
    pub fn whole(&self, partition: i32) -> Result<PartitionRange, KafkaError> {
        let (start, end) = self
            .client
            .fetch_watermarks(&self.topic, partition, ADMIN_REQUEST_TIMEOUT)
            .map_err(|error| KafkaError::from_client(READING, &error))?;
        Ok(PartitionRange {
            partition,
            start,
            end,
        })
    }

    /// All that a partition holds now and was written at `time` or later.
    ///
    /// # Errors
    /// [`KafkaError`]
    pub fn since(&self, partition: i32, time: Timestamp) -> Result<PartitionRange, KafkaError> {
        let failed = |error| KafkaError::from_client(READING, &error);
        let mut range = self.whole(partition)?;
        let mut asked = TopicPartitionList::with_capacity(1);
        let millis = time.as_millisecond().max(0);
        asked
            .add_partition_offset(&self.topic, partition, Offset::Offset(millis))
            .map_err(failed)?;
        let found = self.client.offsets_for_times(asked, ADMIN_REQUEST_TIMEOUT);
        for element in found.map_err(failed)?.elements() {
            element.error().map_err(failed)?;
            range.start = match element.offset() {
                Offset::Offset(offset) => offset.max(range.start),
                Offset::Beginning
                | Offset::End
                | Offset::Stored
                | Offset::Invalid
                | Offset::OffsetTail(_) => range.end,
            };
        }
        Ok(range)
    }

    /// Begins to read `ranges`, at most one a partition, in the place of what was being read.
    ///
    /// # Errors
    /// [`KafkaError`]
    pub fn read(&mut self, ranges: &[PartitionRange]) -> Result<(), KafkaError> {
        let failed = |error| KafkaError::from_client(READING, &error);
        let paused = std::mem::take(&mut self.paused);
        self.client.resume(&paused).map_err(failed)?;
        self.open.clear();
        let mut list = TopicPartitionList::with_capacity(ranges.len());
        for range in ranges.iter().filter(|range| range.start < range.end) {
            list.add_partition_offset(&self.topic, range.partition, Offset::Offset(range.start))
                .map_err(failed)?;
            self.open.insert(range.partition, range.end);
        }
        self.client.assign(&list).map_err(failed)
    }

    /// The next record, in offset order within its partition; `None` at the end of all ranges.
    ///
    /// # Errors
    /// [`KafkaError::Unavailable`] when the partitions that are left give nothing for [`TOPIC_READ_STALL_MAX`].
    pub fn next_record(&mut self) -> Result<Option<TopicRecord>, KafkaError> {
        let mut waiting_since = Instant::now();
        while !self.open.is_empty() {
            let ended = match self.client.poll(POLL) {
                Some(Ok(message)) => {
                    waiting_since = Instant::now();
                    let (partition, offset) = (message.partition(), message.offset());
                    let Some(end) = self.open.get(&partition) else {
                        continue;
                    };
                    let record = (offset < *end).then(|| TopicRecord::copied(&message));
                    let is_last = offset + 1 >= *end;
                    drop(message);
                    if is_last {
                        self.close(partition)?;
                    }
                    match record {
                        Some(record) => return Ok(Some(record)),
                        None => continue,
                    }
                }
                // Behind the last record there may be more offsets: of transactions' marks, and of what was aborted.
                Some(Err(ClientError::PartitionEOF(partition))) => Some(partition),
                Some(Err(error)) => self.survive(&error)?,
                None => None,
            };
            if let Some(partition) = ended {
                waiting_since = Instant::now();
                self.close(partition)?;
            } else if waiting_since.elapsed() > TOPIC_READ_STALL_MAX {
                return Err(KafkaError::Unavailable {
                    doing: READING,
                    error: format!(
                        "partitions {:?} of topic {} gave nothing for {}s",
                        self.open.keys(),
                        self.topic,
                        TOPIC_READ_STALL_MAX.as_secs()
                    ),
                });
            }
        }
        Ok(None)
    }

    /// A passing error is waited for, as long as partitions may be silent; any other ends the reading.
    fn survive(&self, error: &ClientError) -> Result<Option<i32>, KafkaError> {
        match KafkaError::from_client(READING, error) {
            KafkaError::Unavailable { .. } => Ok(None),
            error @ (KafkaError::Misconfigured { .. }
            | KafkaError::NoTopic { .. }
            | KafkaError::Unsuitable(_)) => Err(error),
        }
    }

    /// A partition's range is read: no more of it is fetched.
    fn close(&mut self, partition: i32) -> Result<(), KafkaError> {
        self.open.remove(&partition);
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition(&self.topic, partition);
        self.paused.add_partition(&self.topic, partition);
        self.client
            .pause(&list)
            .map_err(|error| KafkaError::from_client(READING, &error))
    }
}
