//! What becomes of a producer that fails for good: it says so, and its successor delivers. The cluster is librdkafka's
//! own simulation, because no real broker can be made to answer with a fatal error at will.

use std::time::{Duration, Instant};

use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use shared::config::Config;
use shared::kafka::{ProducerBounds, Record, RecordProducer, RefusedRecord};
use shared::metrics::Metrics;

const TOPIC: &str = "attachments";
const DEADLINE: Duration = Duration::from_secs(30);

fn record(value: &[u8]) -> Record {
    Record {
        topic: TOPIC.into(),
        partition: None,
        key: vec![7; 16],
        headers: Vec::new(),
        value: value.to_vec(),
    }
}

async fn deliver(producer: &RecordProducer, value: &[u8]) -> Result<(), RefusedRecord> {
    let room = producer.room(value.len()).await;
    producer.enqueue(record(value), room)?.await.map(|_| ())
}

#[tokio::test]
async fn a_lost_producer_says_so_and_its_successor_delivers() {
    let cluster = MockCluster::new(1).expect("a simulated cluster");
    cluster.create_topic(TOPIC, 1, 1).expect("a topic");
    cluster.request_errors(
        RDKafkaApiKey::InitProducerId,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED],
    );
    let mut config = Config::default().kafka;
    config.brokers = Some(cluster.bootstrap_servers());
    let bounds = ProducerBounds {
        record_bytes_max: 1_000_000,
        batch_bytes_max: 1_000_000,
        inflight_bytes: 1 << 20,
    };
    let producer = RecordProducer::start(&config, bounds, "test", Metrics::default());
    let producer = producer.expect("a producer");
    let started = Instant::now();
    while producer.health().lost.is_none() {
        assert!(started.elapsed() < DEADLINE, "{:?}", producer.health());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let refused = deliver(&producer, b"first").await.expect_err("it is lost");
    assert!(
        matches!(refused, RefusedRecord::ProducerLost(_)),
        "{refused}"
    );
    producer.rebuild().expect("a successor");
    let delivered = tokio::time::timeout(DEADLINE, deliver(&producer, b"again")).await;
    delivered.expect("in time").expect("delivered");
    assert_eq!(producer.health().lost, None);
    assert_eq!(producer.health().unconfirmed, 0);
}
