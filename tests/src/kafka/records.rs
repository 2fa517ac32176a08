//! Every record of a topic, read back independently of the product, and records of a foreign producer.

use std::collections::BTreeSet;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use super::topics::client;

const DEADLINE: Duration = Duration::from_secs(60);

/// Which records a reader sees.
#[derive(Clone, Copy, Debug)]
pub enum Isolation {
    /// Only those of committed transactions.
    Committed,
    /// All of them.
    Uncommitted,
}

/// One record as it stands in the log.
#[derive(Clone, Debug)]
pub struct Record {
    /// Partition number.
    pub partition: i32,
    /// Offset in the partition.
    pub offset: i64,
    /// Key, empty when it has none.
    pub key: Vec<u8>,
    /// Value, empty when it has none.
    pub value: Vec<u8>,
    /// Header names and values, in order.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Record {
    /// The first header of that name, as text.
    pub fn header(&self, name: &str) -> Option<String> {
        let (_, value) = self.headers.iter().find(|(key, _)| key == name)?;
        Some(String::from_utf8_lossy(value).into_owned())
    }

    /// The value as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.value).unwrap_or_else(|error| {
            panic!(
                "the record at {}:{} is not JSON: {error}",
                self.partition, self.offset
            )
        })
    }

    /// Key, value and headers together: what must stay below the topic's limit, framing aside.
    pub fn content_bytes(&self) -> usize {
        let headers: usize = self
            .headers
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        self.key.len() + self.value.len() + headers
    }
}

/// Reads a topic from its first record to its present end.
pub fn read_all(broker: &str, topic: &str, isolation: Isolation) -> Vec<Record> {
    let level = match isolation {
        Isolation::Committed => "read_committed",
        Isolation::Uncommitted => "read_uncommitted",
    };
    let consumer: BaseConsumer = client(broker)
        .set("group.id", "crashferry-test-reader")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", level)
        .set("fetch.message.max.bytes", "20000000")
        .create()
        .unwrap_or_else(|error| panic!("no consumer for {broker}: {error}"));
    let mut open = assign_all(&consumer, topic);
    let mut records = Vec::new();
    while !open.is_empty() {
        match consumer.poll(DEADLINE) {
            Some(Ok(message)) => records.push(record(&message)),
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                open.remove(&partition);
            }
            Some(Err(error)) => panic!("{topic} cannot be read: {error}"),
            None => panic!("{topic} did not end within {DEADLINE:?}: partitions {open:?}"),
        }
    }
    records
}

/// A record to be produced to a stated partition.
#[derive(Clone, Debug, Default)]
pub struct Outgoing {
    /// Partition number.
    pub partition: i32,
    /// Key, empty for none.
    pub key: Vec<u8>,
    /// Value.
    pub value: Vec<u8>,
    /// Header names and values.
    pub headers: Vec<(String, Vec<u8>)>,
}

/// Produces records with one client and returns their offsets once the broker has confirmed them all.
pub fn produce_all(broker: &str, topic: &str, records: &[Outgoing]) -> Vec<i64> {
    let producer = producer(broker);
    let sent: Vec<_> = records
        .iter()
        .map(|record| send(&producer, topic, record))
        .collect();
    producer
        .flush(DEADLINE)
        .unwrap_or_else(|error| panic!("{topic} did not confirm the records: {error}"));
    sent.into_iter()
        .map(|confirmed| {
            confirmed
                .recv()
                .expect("a flushed record has its delivery report")
                .unwrap_or_else(|error| panic!("{topic} refused a record: {error}"))
        })
        .collect()
}

/// Produces one record to a stated partition and returns its offset once the broker has confirmed it.
pub fn produce(
    broker: &str,
    topic: &str,
    partition: i32,
    key: &[u8],
    value: &[u8],
    headers: &[(&str, &str)],
) -> i64 {
    let owned = |(name, text): &(&str, &str)| ((*name).to_owned(), text.as_bytes().to_vec());
    let record = Outgoing {
        partition,
        key: key.to_vec(),
        value: value.to_vec(),
        headers: headers.iter().map(owned).collect(),
    };
    produce_all(broker, topic, &[record])[0]
}

fn producer(broker: &str) -> BaseProducer<Confirmation> {
    client(broker)
        .set("message.max.bytes", "20000000")
        .set("batch.size", "1000000")
        .set("acks", "all")
        .create_with_context(Confirmation)
        .unwrap_or_else(|error| panic!("no producer for {broker}: {error}"))
}

fn send(
    producer: &BaseProducer<Confirmation>,
    topic: &str,
    record: &Outgoing,
) -> Receiver<Result<i64, KafkaError>> {
    let mut owned = OwnedHeaders::new();
    for (name, value) in &record.headers {
        owned = owned.insert(Header {
            key: name,
            value: Some(value),
        });
    }
    let (confirm, confirmed) = std::sync::mpsc::sync_channel(1);
    let mut outgoing = BaseRecord::with_opaque_to(topic, Box::new(confirm))
        .partition(record.partition)
        .payload(&record.value)
        .headers(owned);
    if !record.key.is_empty() {
        outgoing = outgoing.key(&record.key);
    }
    producer
        .send(outgoing)
        .unwrap_or_else(|(error, _)| panic!("{topic} refused a record: {error}"));
    confirmed
}

/// A producer of many records, which waits for none of them.
pub struct Producer {
    client: BaseProducer,
    topic: String,
}

impl Producer {
    /// A producer to one topic, which compresses nothing, as relays do not.
    pub fn new(broker: &str, topic: &str) -> Self {
        Self::with_compression(broker, topic, "none")
    }

    /// A producer to one topic, which compresses: there are others than our relays, and test machines have small disks.
    pub fn compressing(broker: &str, topic: &str) -> Self {
        Self::with_compression(broker, topic, "zstd")
    }

    fn with_compression(broker: &str, topic: &str, compression: &str) -> Self {
        let client = client(broker)
            .set("message.max.bytes", "20000000")
            .set("acks", "all")
            .set("compression.type", compression)
            .set("linger.ms", "5")
            .create()
            .unwrap_or_else(|error| panic!("no producer for {broker}: {error}"));
        Self {
            client,
            topic: topic.to_owned(),
        }
    }

    /// Hands a record over, as soon as there is room for it.
    pub fn send(&self, partition: i32, key: &[u8], value: &[u8]) {
        let mut record = BaseRecord::<_, _>::to(&self.topic)
            .partition(partition)
            .key(key)
            .payload(value);
        loop {
            match self.client.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    self.client.poll(Duration::from_millis(10));
                }
                Err((error, _)) => panic!("{} refused a record: {error}", self.topic),
            }
        }
    }

    /// Waits until all of them are confirmed.
    pub fn flush(&self) {
        let flushed = self.client.flush(DEADLINE);
        flushed.unwrap_or_else(|error| panic!("{} did not confirm: {error}", self.topic));
    }
}

/// Hands each delivery report to the call that waits for it.
struct Confirmation;

impl ClientContext for Confirmation {}

impl ProducerContext for Confirmation {
    type DeliveryOpaque = Box<std::sync::mpsc::SyncSender<Result<i64, KafkaError>>>;

    fn delivery(&self, result: &DeliveryResult<'_>, confirm: Self::DeliveryOpaque) {
        let answer = match result {
            Ok(message) => Ok(message.offset()),
            Err((error, _)) => Err(error.clone()),
        };
        confirm.send(answer).expect("the producing call waits");
    }
}

fn assign_all(consumer: &BaseConsumer, topic: &str) -> BTreeSet<i32> {
    let metadata = consumer
        .fetch_metadata(Some(topic), DEADLINE)
        .unwrap_or_else(|error| panic!("{topic} cannot be described: {error}"));
    let partitions: BTreeSet<i32> = metadata
        .topics()
        .iter()
        .flat_map(|topic| topic.partitions())
        .map(|partition| partition.id())
        .collect();
    assert!(!partitions.is_empty(), "{topic} has no partitions");
    let mut assignment = TopicPartitionList::new();
    for partition in &partitions {
        assignment
            .add_partition_offset(topic, *partition, Offset::Beginning)
            .expect("a partition can be listed");
    }
    consumer
        .assign(&assignment)
        .unwrap_or_else(|error| panic!("{topic} cannot be assigned: {error}"));
    partitions
}

fn record(message: &rdkafka::message::BorrowedMessage<'_>) -> Record {
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        headers
            .iter()
            .map(|header| {
                let value = header.value.unwrap_or_default().to_vec();
                (header.key.to_owned(), value)
            })
            .collect()
    });
    Record {
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().unwrap_or_default().to_vec(),
        value: message.payload().unwrap_or_default().to_vec(),
        headers,
    }
}
