//! What others do to a topic and a group: settings changed, offsets reset, a transaction left open.

use std::time::Duration;

use rdkafka::admin::{AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};

use super::topics::{admin, client, wait_for};

const DEADLINE: Duration = Duration::from_secs(30);

/// Gives a topic these settings, and the broker's defaults for all others.
pub fn alter(broker: &str, topic: &str, settings: &[(&str, &str)]) {
    let topic_of = AlterConfig::new(ResourceSpecifier::Topic(topic));
    let change = settings
        .iter()
        .fold(topic_of, |change, (name, value)| change.set(name, value));
    let results = wait_for(admin(broker).alter_configs([&change], &AdminOptions::new()))
        .unwrap_or_else(|error| panic!("{topic} cannot be changed: {error}"));
    for result in results {
        result.unwrap_or_else(|(_, code)| panic!("{topic} cannot be changed: {code}"));
    }
}

/// Sets where a group without members begins to read a partition, as an operator's tool would.
pub fn reset_offset(broker: &str, group: &str, topic: &str, partition: i32, offset: i64) {
    let consumer: BaseConsumer = client(broker)
        .set("group.id", group)
        .create()
        .unwrap_or_else(|error| panic!("no consumer for {broker}: {error}"));
    let mut position = TopicPartitionList::new();
    position
        .add_partition_offset(topic, partition, Offset::Offset(offset))
        .expect("a partition can be listed");
    consumer
        .commit(&position, CommitMode::Sync)
        .unwrap_or_else(|error| panic!("{group} cannot be reset: {error}"));
}

/// Removes a group without members, and all its offsets.
pub fn delete_group(broker: &str, group: &str) {
    let results = wait_for(admin(broker).delete_groups(&[group], &AdminOptions::new()))
        .unwrap_or_else(|error| panic!("{group} cannot be removed: {error}"));
    for result in results {
        result.unwrap_or_else(|(_, code)| panic!("{group} cannot be removed: {code}"));
    }
}

/// Whether a group has no members.
pub fn is_empty_group(broker: &str, group: &str) -> bool {
    let consumer: BaseConsumer = client(broker)
        .create()
        .unwrap_or_else(|error| panic!("no consumer for {broker}: {error}"));
    let list = consumer
        .fetch_group_list(Some(group), DEADLINE)
        .unwrap_or_else(|error| panic!("{group} cannot be looked at: {error}"));
    list.groups().iter().all(|group| group.members().is_empty())
}

/// Another program's transaction, with one record in it.
pub struct OpenTransaction(BaseProducer);

impl OpenTransaction {
    /// Writes a record into a partition, and leaves its transaction open.
    pub fn begin(broker: &str, topic: &str, partition: i32) -> Self {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let producer: BaseProducer = client(broker)
            .set("transactional.id", &id)
            .set("transaction.timeout.ms", "600000")
            .create()
            .unwrap_or_else(|error| panic!("no producer for {broker}: {error}"));
        producer
            .init_transactions(DEADLINE)
            .and_then(|()| producer.begin_transaction())
            .unwrap_or_else(|error| panic!("no transaction can begin: {error}"));
        let record = BaseRecord::<[u8], [u8]>::to(topic)
            .partition(partition)
            .key(b"stranger")
            .payload(b"never to be seen");
        producer
            .send(record)
            .unwrap_or_else(|(error, _)| panic!("{topic} refused a record: {error}"));
        producer
            .flush(DEADLINE)
            .unwrap_or_else(|error| panic!("{topic} did not confirm a record: {error}"));
        Self(producer)
    }

    /// Ends it without its record.
    pub fn abort(self) {
        self.0
            .abort_transaction(DEADLINE)
            .unwrap_or_else(|error| panic!("the transaction cannot be ended: {error}"));
    }
}
