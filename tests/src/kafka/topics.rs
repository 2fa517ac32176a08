//! Topics of one test, created with a stated message limit and removed with the test.

use std::future::Future;
use std::time::Duration;

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, ConfigResource, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

const DEADLINE: Duration = Duration::from_secs(30);

/// Names of the four topics of one stack.
#[derive(Clone, Debug)]
pub struct Topics {
    /// Chunks and events, from relays to processors.
    pub attachments: String,
    /// Reports.
    pub reports: String,
    /// Outcomes.
    pub outcomes: String,
    /// Refused records.
    pub dead_letters: String,
}

impl Topics {
    /// Names nobody else uses.
    pub fn unique() -> Self {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let name = |what: &str| format!("test-{}-{what}", &id[..12]);
        Self {
            attachments: name("attachments"),
            reports: name("reports"),
            outcomes: name("outcomes"),
            dead_letters: name("dead-letters"),
        }
    }

    /// Creates all four at `broker`; the attachments topic gets `partitions` and, when given, its own message limit.
    pub fn create(&self, broker: &str, partitions: i32, limit_bytes: Option<u32>) {
        create(broker, &self.attachments, partitions, limit_bytes);
        for topic in [&self.reports, &self.outcomes, &self.dead_letters] {
            create(
                broker,
                topic,
                partitions,
                limit_bytes.map(|limit| limit.max(1_048_588)),
            );
        }
    }

    /// Removes all four; a topic that is not there is as good.
    pub fn delete(&self, broker: &str) {
        let topics = [
            self.attachments.as_str(),
            &self.reports,
            &self.outcomes,
            &self.dead_letters,
        ];
        let admin = admin(broker);
        // Best effort: the broker goes away with the test run anyway.
        wait_for(admin.delete_topics(&topics, &AdminOptions::new())).ok();
    }
}

/// Creates one topic; `limit_bytes` sets its own `max.message.bytes`.
pub fn create(broker: &str, topic: &str, partitions: i32, limit_bytes: Option<u32>) {
    let limit = limit_bytes.map(|limit| limit.to_string());
    let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    if let Some(limit) = &limit {
        new = new.set("max.message.bytes", limit);
    }
    let results = wait_for(admin(broker).create_topics([&new], &AdminOptions::new()))
        .unwrap_or_else(|error| panic!("topic {topic} cannot be created at {broker}: {error}"));
    for result in results {
        result.unwrap_or_else(|(name, code)| panic!("topic {name} cannot be created: {code}"));
    }
}

/// Sets `max.message.bytes` of a topic that exists.
pub fn alter_limit(broker: &str, topic: &str, limit_bytes: u32) {
    let limit = limit_bytes.to_string();
    let change = AlterConfig::new(ResourceSpecifier::Topic(topic)).set("max.message.bytes", &limit);
    let results = wait_for(admin(broker).alter_configs([&change], &AdminOptions::new()))
        .unwrap_or_else(|error| panic!("the limit of {topic} cannot be set: {error}"));
    for result in results {
        result.unwrap_or_else(|(_, code)| panic!("the limit of {topic} cannot be set: {code}"));
    }
}

/// Removes what stands below `offset`, as retention would.
pub fn delete_records(broker: &str, topic: &str, partition: i32, offset: i64) {
    let mut below = TopicPartitionList::new();
    below
        .add_partition_offset(topic, partition, Offset::Offset(offset))
        .expect("a partition can be listed");
    let removed = wait_for(admin(broker).delete_records(&below, &AdminOptions::new()))
        .unwrap_or_else(|error| panic!("records of {topic} cannot be removed: {error}"));
    for partition in removed.elements() {
        partition
            .error()
            .unwrap_or_else(|error| panic!("records of {topic} cannot be removed: {error}"));
    }
}

/// The effective `max.message.bytes` of a topic.
pub fn limit(broker: &str, topic: &str) -> u32 {
    let asked = [ResourceSpecifier::Topic(topic)];
    let results = wait_for(admin(broker).describe_configs(&asked, &AdminOptions::new()))
        .unwrap_or_else(|error| panic!("the limit of {topic} cannot be read: {error}"));
    results
        .into_iter()
        .find_map(|result| limit_of(&result.ok()?))
        .unwrap_or_else(|| panic!("{topic} has no max.message.bytes"))
}

/// Asks the broker for its metadata; `Err` says why it did not answer.
pub fn ping(broker: &str) -> Result<(), String> {
    let consumer: BaseConsumer = client(broker).create().map_err(|error| error.to_string())?;
    let metadata = consumer
        .fetch_metadata(None, Duration::from_secs(2))
        .map_err(|error| error.to_string())?;
    if metadata.brokers().is_empty() {
        return Err("the broker has not registered itself".to_owned());
    }
    Ok(())
}

pub(super) fn client(broker: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", broker)
        .set("log_level", "0")
        .set("allow.auto.create.topics", "false");
    config
}

pub(super) fn admin(broker: &str) -> AdminClient<DefaultClientContext> {
    client(broker)
        .create()
        .unwrap_or_else(|error| panic!("no Kafka client for {broker}: {error}"))
}

fn limit_of(resource: &ConfigResource) -> Option<u32> {
    resource
        .get("max.message.bytes")?
        .value
        .as_ref()?
        .parse()
        .ok()
}

pub(super) fn wait_for<F, T>(future: F) -> Result<T, String>
where
    F: Future<Output = Result<T, rdkafka::error::KafkaError>>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime for one call");
    runtime
        .block_on(async { tokio::time::timeout(DEADLINE, future).await })
        .map_err(|_| format!("no answer within {DEADLINE:?}"))?
        .map_err(|error| error.to_string())
}
