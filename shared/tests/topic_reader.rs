//! A topic is read once, up to the end that was known: what was aborted is not in it, and neither a tail of it nor an open
//! transaction keeps the reader waiting. Against the broker that `tests/run` starts.

use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use shared::config::{Config, KafkaConfig};
use shared::kafka::{
    Admin, KafkaError, OutputRecord, PartitionRange, ProducerBounds, TopicPlan, TopicReader,
    TransactionalProducer,
};

const PARTITIONS: i32 = 3;
/// An answer comes at once, or nothing is wrong with taking this long.
const SOON: Duration = Duration::from_secs(10);

fn config() -> KafkaConfig {
    let mut config = Config::default().kafka;
    let broker = std::env::var("CRASHFERRY_TEST_KAFKA");
    let broker = broker.expect("CRASHFERRY_TEST_KAFKA is set by tests/run, which starts a broker");
    config.brokers = Some(broker);
    config
}

fn producer(config: &KafkaConfig, id: &str) -> TransactionalProducer {
    let bounds = ProducerBounds {
        record_bytes_max: 1_000_000,
        batch_bytes_max: 1_000_000,
        inflight_bytes: 1 << 20,
    };
    TransactionalProducer::new(config, bounds, id.to_owned())
}

async fn topic(config: &KafkaConfig) -> String {
    let name = format!("test-reader-{}", uuid::Uuid::new_v4().simple());
    let plan = TopicPlan {
        name: name.clone(),
        partitions: PARTITIONS,
        replication: 1,
        retention: Duration::from_secs(3600),
        max_message_bytes: None,
    };
    let admin = Admin::new(config).expect("an admin client");
    admin.create(&plan).await.expect("a topic");
    let begun = Instant::now();
    // A broker may know the name of a new topic before it knows its settings.
    while let Err(error) = admin.describe(&name).await {
        assert!(begun.elapsed() < SOON, "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    name
}

async fn remove(config: &KafkaConfig, topic: &str) {
    let mut settings = ClientConfig::new();
    let brokers = config.brokers.as_deref().unwrap_or_default();
    let client: Result<AdminClient<_>, _> = settings.set("bootstrap.servers", brokers).create();
    let client = client.expect("an admin client");
    let removed = client.delete_topics(&[topic], &AdminOptions::new()).await;
    removed.expect("an answer");
}

fn record(topic: &str, partition: i32, value: &str) -> OutputRecord {
    OutputRecord {
        topic: topic.into(),
        partition: Some(partition),
        key: Bytes::new(),
        headers: vec![("name".into(), Bytes::from_static(b"\xff"))],
        value: value.to_owned().into(),
    }
}

/// Reads these ranges to their end.
fn read(reader: &mut TopicReader, ranges: &[PartitionRange]) -> Vec<String> {
    let started = Instant::now();
    reader.read(ranges).expect("reads");
    let mut values = Vec::new();
    while let Some(record) = reader.next_record().expect("a record") {
        assert_eq!(record.headers[0].1, Bytes::from_static(b"\xff"));
        values.push(String::from_utf8_lossy(&record.value).into_owned());
    }
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    values
}

fn whole(reader: &TopicReader) -> Vec<PartitionRange> {
    let partitions = reader.partitions().iter();
    let ranges = partitions.map(|partition| reader.whole(*partition));
    ranges.map(|range| range.expect("a range")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_aborted_or_is_open_is_not_read_and_not_waited_for() {
    let settings = config();
    let name = topic(&settings).await;
    let (config, topic) = (settings.clone(), name.clone());
    let reading = tokio::task::spawn_blocking(move || {
        let mut producer = producer(&config, &topic);
        // Two partitions have records, and behind them what is aborted; the third has nothing.
        for name in ["first", "second"] {
            let mut transaction = producer.begin().expect("begins");
            for partition in 0..2 {
                let value = format!("{name} {partition}");
                let sent = transaction.send(&record(&topic, partition, &value));
                sent.expect("sends");
            }
            transaction.commit().expect("commits");
        }
        let mut aborted = producer.begin().expect("begins");
        // More than may be in flight, so that some of it is in the log.
        for _ in 0..20 {
            let noise = "n".repeat(100_000);
            aborted.send(&record(&topic, 0, &noise)).expect("sends");
        }
        drop(aborted);
        let mut reader = TopicReader::open(&config, &topic).expect("a reader");
        assert_eq!(reader.partitions(), [0, 1, 2]);
        // The broker ends a transaction a moment after it said so.
        let started = Instant::now();
        while reader.whole(0).expect("a range").end <= 5 {
            assert!(
                started.elapsed() < SOON,
                "nothing that was aborted is in the log"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        let ranges = whole(&reader);
        let mut all = read(&mut reader, &ranges);
        all.sort();
        assert_eq!(all, ["first 0", "first 1", "second 0", "second 1"]);

        let second = PartitionRange {
            partition: 1,
            start: 1,
            end: ranges[1].end,
        };
        assert_eq!(read(&mut reader, &[second]), ["second 1"]);
        let first = PartitionRange {
            start: 0,
            end: 1,
            ..second
        };
        assert_eq!(read(&mut reader, &[first]), ["first 1"]);
        assert_eq!(read(&mut reader, &[]), [""; 0]);
        let now = reader.since(0, jiff::Timestamp::now()).expect("a range");
        assert_eq!(now.start, now.end, "nothing is that young");
        let then = reader.since(0, jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(then.expect("a range").start, 0);

        // A transaction that nobody ends.
        let mut open = producer.begin().expect("begins");
        for _ in 0..20 {
            let noise = "n".repeat(100_000);
            open.send(&record(&topic, 1, &noise)).expect("sends");
        }
        let ranges = whole(&reader);
        assert_eq!(read(&mut reader, &ranges).len(), 4);
    });
    reading.await.expect("reads");
    remove(&settings, &name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_not_there_is_named() {
    let config = config();
    let absent = tokio::task::spawn_blocking(move || TopicReader::open(&config, "no-such-topic"));
    let absent = absent
        .await
        .expect("ends")
        .map(|_| ())
        .expect_err("no topic");
    let expected = KafkaError::NoTopic {
        topic: "no-such-topic".to_owned(),
    };
    assert_eq!(absent, expected);
}
