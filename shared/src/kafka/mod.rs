//! Kafka: the only place that names `rdkafka`. Settings that keep the promise are written here, in code.

mod admin;
mod consumer;
mod error;
mod error_log;
mod group;
mod group_log;
mod headroom;
mod log_span;
mod mark;
mod oldest;
mod open_transaction;
mod partition;
mod poller;
mod producer;
mod producer_watch;
mod reader;
mod record;
mod settings;
mod topic_settings;
mod transaction;

pub use admin::{Admin, TopicDescription, TopicPlan};
pub use consumer::{
    AssignmentChange, COMMIT_METADATA_BYTES_MAX, CommitPosition, ConsumerEvents, InboundRecord,
    IntakeEvent, QueueRoom, RecordConsumer, Truncated,
};
pub use error::{KafkaError, RefusedRecord};
pub use group_log::{GroupLog, GroupPartition};
pub use headroom::{Headroom, Standing};
pub use log_span::LogSpan;
pub use open_transaction::OpenTransaction;
pub use partition::{PartitionCount, partition_of};
pub use producer::{Delivered, PendingDelivery, ProducerBounds, Record, RecordProducer, Room};
pub use producer_watch::ProducerHealth;
pub use reader::{PartitionRange, TopicReader};
pub use record::{OutputRecord, TopicRecord};
pub use topic_settings::{Expectations, TopicFinding, TopicUse, Weight, complaint, refuse};
pub use transaction::{CommitError, Doubt, Transaction, TransactionalProducer};
