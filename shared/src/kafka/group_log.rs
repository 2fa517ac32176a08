//! How far the processors' group has come in the ingest topic, seen from outside of the group: by relays, which are there when
//! no processor is.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError as ClientError;
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::{ClientContext, Offset, consumer};

use super::error::KafkaError;
use super::error_log::ErrorLog;
use super::log_span::LogSpan;
use super::settings;
use crate::config::KafkaConfig;
use crate::limits::ADMIN_REQUEST_TIMEOUT;

const LOOKING: &str = "looking at the group's positions";
const POLL: Duration = Duration::from_millis(100);
/// How long first unread records are waited for.
const PEEK_WAIT: Duration = Duration::from_secs(3);

/// The way to look. Its calls block the thread.
pub struct GroupLog {
    /// Sees the end of the log, and the group's positions.
    all: BaseConsumer<Quiet>,
    /// Sees what can be read.
    stable: BaseConsumer<Quiet>,
    topic: String,
    /// What stood at a position the last time: first unread records do not change.
    peeked: BTreeMap<i32, Peeked>,
}

/// The first record at or above a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Peeked {
    position: i64,
    stable_end: i64,
    record: Option<Timestamp>,
}

/// One partition as the group has left it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupPartition {
    /// Its number.
    pub partition: i32,
    /// The position that is committed; where the log begins when none is, or it is gone.
    pub position: i64,
    /// Where its log begins and ends.
    pub span: LogSpan,
    /// When the first unread record was written; `None` when all that can be read is.
    pub unread_since: Option<Timestamp>,
}

impl GroupPartition {
    /// Offsets up to the high watermark that are not done with. Ends of transactions behind the last record do not count.
    #[must_use]
    pub fn lag(&self) -> i64 {
        self.span.unread(self.position, self.unread_since.is_none())
    }
}

struct Quiet(ErrorLog);

impl ClientContext for Quiet {
    fn stats_raw(&self, _statistics: &[u8]) {}

    fn error(&self, error: ClientError, reason: &str) {
        self.0.tell(&error, reason);
    }
}

impl consumer::ConsumerContext for Quiet {}

impl GroupLog {
    /// Makes the clients; they connect by themselves.
    ///
    /// # Errors
    /// [`KafkaError::Misconfigured`] when librdkafka does not take the settings.
    pub fn open(config: &KafkaConfig) -> Result<Self, KafkaError> {
        let client = |isolation| {
            settings::observer(config, isolation)
                .create_with_context(Quiet(ErrorLog::new("observer")))
                .map_err(|error| {
                    KafkaError::from_settings("making an observer", &error, &config.options)
                })
        };
        Ok(Self {
            all: client("read_uncommitted")?,
            stable: client("read_committed")?,
            topic: config.topics.attachments.clone(),
            peeked: BTreeMap::new(),
        })
    }

    /// Looks at every partition.
    ///
    /// # Errors
    /// [`KafkaError`]
    pub fn look(&mut self) -> Result<Vec<GroupPartition>, KafkaError> {
        let failed = |error| KafkaError::from_client(LOOKING, &error);
        let metadata = self
            .all
            .fetch_metadata(Some(&self.topic), ADMIN_REQUEST_TIMEOUT)
            .map_err(failed)?;
        let mut list = TopicPartitionList::new();
        for topic in metadata
            .topics()
            .iter()
            .filter(|topic| topic.name() == self.topic)
        {
            for partition in topic.partitions() {
                list.add_partition(&self.topic, partition.id());
            }
        }
        let committed = self
            .all
            .committed_offsets(list, ADMIN_REQUEST_TIMEOUT)
            .map_err(failed)?;
        let mut partitions = Vec::with_capacity(committed.count());
        for element in committed.elements() {
            element.error().map_err(failed)?;
            let partition = element.partition();
            let ends = |client: &BaseConsumer<Quiet>| {
                client.fetch_watermarks(&self.topic, partition, ADMIN_REQUEST_TIMEOUT)
            };
            // In this order: both ends move on, and the stable one is never above the other.
            let (_, stable_end) = ends(&self.stable).map_err(failed)?;
            let (start, end) = ends(&self.all).map_err(failed)?;
            let position = match element.offset() {
                Offset::Offset(offset) => offset.max(start),
                Offset::Beginning
                | Offset::End
                | Offset::Stored
                | Offset::Invalid
                | Offset::OffsetTail(_) => start,
            };
            partitions.push(GroupPartition {
                partition,
                position,
                span: LogSpan {
                    start,
                    end,
                    stable_end,
                    read_to: Some(stable_end),
                },
                unread_since: None,
            });
        }
        self.peek(&mut partitions)?;
        Ok(partitions)
    }

    /// Finds out when the first unread record of each partition was written.
    fn peek(&mut self, partitions: &mut [GroupPartition]) -> Result<(), KafkaError> {
        let failed = |error| KafkaError::from_client(LOOKING, &error);
        let mut open = TopicPartitionList::new();
        for at in partitions
            .iter()
            .filter(|at| at.position < at.span.stable_end)
        {
            let known = self.peeked.get(&at.partition).filter(|known| {
                let is_same_end = known.record.is_some() || known.stable_end == at.span.stable_end;
                known.position == at.position && is_same_end
            });
            if known.is_none() {
                open.add_partition_offset(&self.topic, at.partition, Offset::Offset(at.position))
                    .map_err(failed)?;
                self.peeked.remove(&at.partition);
            }
        }
        if open.count() > 0 {
            self.stable.assign(&open).map_err(failed)?;
            self.read_first(open.count());
            self.stable.unassign().map_err(failed)?;
        }
        for at in partitions
            .iter_mut()
            .filter(|at| at.position < at.span.stable_end)
        {
            let found = self.peeked.entry(at.partition).or_insert(Peeked {
                position: at.position,
                stable_end: at.span.stable_end,
                // It did not come in time, and is there.
                record: Some(Timestamp::now()),
            });
            (found.position, found.stable_end) = (at.position, at.span.stable_end);
            at.unread_since = found.record;
        }
        Ok(())
    }

    /// Reads until so many partitions have given a record or their end.
    fn read_first(&mut self, mut open: usize) {
        let until = Instant::now() + PEEK_WAIT;
        while open > 0 && Instant::now() < until {
            let (partition, record) = match self.stable.poll(POLL) {
                Some(Ok(message)) => {
                    let written = message.timestamp().to_millis();
                    let written =
                        written.and_then(|millis| Timestamp::from_millisecond(millis).ok());
                    (
                        message.partition(),
                        Some(written.unwrap_or_else(Timestamp::now)),
                    )
                }
                Some(Err(ClientError::PartitionEOF(partition))) => (partition, None),
                Some(Err(_)) | None => continue,
            };
            if let Entry::Vacant(unseen) = self.peeked.entry(partition) {
                unseen.insert(Peeked {
                    position: 0,
                    stable_end: 0,
                    record,
                });
                open -= 1;
            }
        }
    }
}
