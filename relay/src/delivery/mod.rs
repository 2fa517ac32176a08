//! From envelope to receipt: the queue as the relay sees it.
//!
//! With Kafka, the `courier` carries an envelope to the topic and the receipt rests on the broker's confirmations. While
//! the `breaker` is open, or when a confirmation does not come in time, it rests on a spool file instead, which the
//! `drain` hands to the courier later. Without Kafka the spool is the queue.

mod breaker;
mod courier;
mod drain;
mod gate;
mod group_watch;
mod kafka;
mod limit;
mod placement;
mod receipt;
mod records;
mod spooling;
mod supervisor;

use std::sync::Arc;
use std::time::Duration;

use shared::config::Config;
use shared::envelope::Envelope;
use shared::id::EventId;
use shared::kafka::KafkaError;
use shared::metrics::Durable;
use shared::readiness::{Need, Part};
use shared::services::Services;
use shared::spool::{Draft, SpaceShare, SpoolDirectory, SpoolError};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use gate::Gate;
pub use receipt::Receipt;

use kafka::KafkaQueue;
use spooling::SpoolWatch;

/// Why an upload did not become durable. Never the client's fault: the answer is 503.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// The broker had not confirmed everything by `relay.ack_deadline`.
    #[error("kafka did not confirm the upload within {}s", .deadline.as_secs_f64())]
    Unconfirmed {
        /// `relay.ack_deadline`
        deadline: Duration,
    },
    /// Kafka cannot take anything now.
    #[error("kafka cannot take uploads: {0}")]
    Unavailable(String),
    /// The spool has no room or its volume failed.
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

struct Queue {
    kafka: Option<KafkaQueue>,
    spool: SpoolDirectory,
    tasks: TaskTracker,
    stop: CancellationToken,
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
    ) -> Result<Self, KafkaError> {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let kafka = match &config.kafka.brokers {
            Some(_) => Some(KafkaQueue::open(config, services, &spool, &tasks, &stop).await?),
            None => None,
        };
        services.readiness.register(Part::Spool, Need::Required);
        let watch = SpoolWatch {
            spool: spool.clone(),
            readiness: services.readiness.clone(),
            metrics: services.metrics.clone(),
        };
        let max_bytes = config.spool.max_bytes.get();
        services.metrics.spool_max_bytes.set(max_bytes as i64);
        watch.look(Ok(()));
        tasks.spawn(watch.run(stop.clone()));
        tasks.close();
        Ok(Self(Arc::new(Queue {
            kafka,
            spool,
            tasks,
            stop,
        })))
    }

    /// An id for an upload that is coming in now.
    #[must_use]
    pub fn fresh_event_id(&self) -> EventId {
        match &self.0.kafka {
            Some(queue) => queue.fresh_event_id(),
            None => EventId::random(),
        }
    }

    /// A place in the spool for an upload of `bytes`, as far as is known before it is read.
    ///
    /// # Errors
    /// [`SpoolError`] when there is no room and nothing but the spool could take it.
    pub fn reserve(&self, bytes: u64) -> Result<Draft, SpoolError> {
        self.reserve_for(bytes, None)
    }

    /// The same, for a sender whose unfinished uploads have a share of the spool.
    ///
    /// # Errors
    /// [`SpoolError`]
    pub fn reserve_for(
        &self,
        bytes: u64,
        sender: Option<&SpaceShare>,
    ) -> Result<Draft, SpoolError> {
        match (self.0.spool.reserve(bytes, sender), &self.0.kafka) {
            // Kafka will take it, as far as we know.
            (Err(_), Some(kafka)) if kafka.is_away().is_none() => Ok(self.0.spool.draft_of(sender)),
            (reserved, _) => reserved,
        }
    }

    /// A place in the spool with nothing promised to it, for a file that has a budget of its own.
    #[must_use]
    pub fn draft(&self) -> Draft {
        self.0.spool.draft()
    }

    /// Bytes that the spool could still take.
    #[must_use]
    pub fn room_bytes(&self) -> u64 {
        self.0.spool.room_bytes()
    }

    /// Makes the envelope durable once `gate` is open; what can be done before that is. `draft` is its place in the spool,
    /// with those attachments that were not kept in memory.
    ///
    /// # Errors
    /// [`DeliveryError`]: nobody may be told that the upload is safe.
    pub(crate) async fn publish(
        &self,
        envelope: Envelope,
        draft: Draft,
        gate: Gate,
    ) -> Result<Receipt, DeliveryError> {
        let durable = match &self.0.kafka {
            None => Durable::Local,
            Some(kafka) => match kafka.publish(&envelope, &gate).await {
                Ok(receipt) => return Ok(receipt),
                Err(why) => {
                    tracing::debug!(%why, "to the spool");
                    Durable::Spool
                }
            },
        };
        gate.passed().await;
        let stored = spooling::store(&self.0.spool, envelope, draft).await?;
        Ok(Receipt::stored(&stored, durable))
    }

    /// From now on no upload waits for Kafka: what is not confirmed goes to the spool.
    pub fn hurry(&self) {
        if let Some(kafka) = &self.0.kafka {
            kafka.hurry();
        }
    }

    /// Ends the tasks behind the queue. Call it when nothing is published any more.
    pub async fn close(&self) {
        self.0.stop.cancel();
        self.0.tasks.wait().await;
        if let Some(kafka) = &self.0.kafka {
            kafka.close().await;
        }
    }
}
