//! From envelope to receipt: the queue as the relay sees it.

mod kafka;
mod limit;
mod local;
mod placement;
mod receipt;
mod records;

use std::sync::Arc;
use std::time::Duration;

use shared::config::Config;
use shared::envelope::Envelope;
use shared::id::EventId;
use shared::kafka::KafkaError;
use shared::services::Services;
use shared::spool::{Draft, SpoolDirectory, SpoolError};
use tokio_util::sync::CancellationToken;

pub use receipt::Receipt;

use kafka::KafkaQueue;
use local::LocalQueue;

/// Why an upload did not become durable. Never the client's fault: the answer is 503.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// The broker had not confirmed everything by `relay.ack_deadline`.
    #[error("kafka did not confirm the upload within {}s: {last}", .deadline.as_secs_f64())]
    Unconfirmed {
        /// `relay.ack_deadline`
        deadline: Duration,
        /// What the last attempt ended with.
        last: String,
    },
    /// The queue cannot take anything now.
    #[error("the queue cannot take uploads: {0}")]
    Unavailable(String),
    /// The local queue has no room or its volume failed.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// What was received cannot be read back.
    #[error("what was received cannot be read back: {0}")]
    Unreadable(#[from] std::io::Error),
    /// A bug: a task of ours ended without an answer.
    #[error("internal: {0}")]
    Internal(String),
}

/// The queue's entrance, chosen by configuration. Cloning shares it.
#[derive(Clone)]
pub struct Delivery(Arc<Queue>);

enum Queue {
    Kafka(KafkaQueue),
    Local(LocalQueue),
}

impl Delivery {
    /// Opens the queue that the configuration names. Kafka may be away; its topic may not be missing.
    ///
    /// # Errors
    /// [`KafkaError`] when the configuration or the cluster has to change first.
    pub async fn open(
        config: &Config,
        services: &Services,
        spool: SpoolDirectory,
        shutdown: CancellationToken,
    ) -> Result<Self, KafkaError> {
        let queue = match &config.kafka.brokers {
            Some(_) => Queue::Kafka(KafkaQueue::open(config, services, shutdown).await?),
            None => Queue::Local(LocalQueue::open(services, spool)),
        };
        Ok(Self(Arc::new(queue)))
    }

    /// An id for an upload that is coming in now.
    #[must_use]
    pub fn fresh_event_id(&self) -> EventId {
        match &*self.0 {
            Queue::Kafka(queue) => queue.fresh_event_id(),
            Queue::Local(_) => EventId::random(),
        }
    }

    /// Makes the envelope durable. `draft` is the spool file that holds attachments which were not kept in memory.
    ///
    /// # Errors
    /// [`DeliveryError`]: nobody may be told that the upload is safe.
    pub async fn publish(
        &self,
        envelope: Envelope,
        draft: Option<Draft>,
    ) -> Result<Receipt, DeliveryError> {
        match &*self.0 {
            Queue::Kafka(queue) => queue.publish(&envelope).await,
            Queue::Local(queue) => queue.publish(envelope, draft).await,
        }
    }

    /// Waits until what was handed over is out of this process, and ends the tasks behind the queue.
    pub async fn close(&self) {
        match &*self.0 {
            Queue::Kafka(queue) => queue.close().await,
            Queue::Local(_) => {}
        }
    }
}
