//! Kafka: the only place that names `rdkafka`. Settings that keep the promise are written here, in code.

mod admin;
mod consumer;
mod error;
mod error_log;
mod oldest;
mod partition;
mod poller;
mod producer;
mod settings;
mod transaction;

pub use admin::{Admin, TopicDescription, TopicPlan};
pub use consumer::{
    COMMIT_METADATA_BYTES_MAX, CommitPosition, InboundRecord, IntakeEvent, RecordConsumer,
};
pub use error::{KafkaError, RefusedRecord};
pub use partition::partition_of;
pub use producer::{
    Delivered, PendingDelivery, ProducerBounds, ProducerHealth, Record, RecordProducer, Room,
};
pub use transaction::TransactionalProducer;
