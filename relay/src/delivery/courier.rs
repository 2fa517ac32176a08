//! One envelope into the topic: chunks, confirmed; then the event, confirmed. Again from the start until that is so.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use shared::backoff::Backoff;
use shared::envelope::Envelope;
use shared::id::{EventId, ProjectId};
use shared::kafka::{Delivered, PartitionCount, Record, RecordProducer, RefusedRecord};
use shared::metrics::Metrics;
use shared::size_limit::TopicLimit;
use tokio::time::sleep;

use super::DeliveryError;
use super::gate::Gate;
use super::limit::LimitWatch;
use super::records::{Chunk, Sending, damage_record};

/// First and longest wait before an unconfirmed upload is sent again.
const RESEND_WAIT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// How much of the producer one upload may take.
#[derive(Debug, Clone, Copy)]
pub(super) enum Share {
    /// A client waits.
    Live,
    /// Nobody waits: it is durable already.
    Spooled,
}

impl Share {
    /// Chunks of the upload that are unconfirmed at once: a large upload leaves room for small ones.
    fn chunks_in_flight(self) -> usize {
        match self {
            Self::Live => 8,
            Self::Spooled => 2,
        }
    }
}

/// Carries envelopes to the topic.
pub(super) struct Courier {
    pub(super) topic: Arc<str>,
    pub(super) partitions: PartitionCount,
    pub(super) producer: RecordProducer,
    pub(super) limit: LimitWatch,
    pub(super) chunk_bytes_max: u64,
    pub(super) metrics: Metrics,
}

impl Courier {
    /// Sends the envelope until the broker has confirmed all of it; its event message once `gate` is open. Whoever cannot wait for ever drops this: records
    /// that were sent may then arrive all the same.
    ///
    /// # Errors
    /// [`DeliveryError::Unavailable`] when sending makes no sense now, [`DeliveryError::Unreadable`] when the envelope's
    /// file cannot be read.
    pub(super) async fn deliver(
        &self,
        envelope: &Envelope,
        share: Share,
        gate: &Gate,
    ) -> Result<Delivered, DeliveryError> {
        let (first_wait, longest_wait) = RESEND_WAIT;
        let mut backoff = Backoff::forever(first_wait, longest_wait);
        loop {
            let limit = self.limit()?;
            let refused = match self.send(envelope, limit, share, gate).await {
                Ok(event_message) => return Ok(event_message),
                Err(SendError::Unreadable(error)) => return Err(error.into()),
                Err(SendError::Refused(refused)) => refused,
            };
            tracing::debug!(%refused, "sending again");
            self.metrics.upload_resends.inc();
            match refused {
                RefusedRecord::TooLarge(_) => self.limit.clone().other_than(limit).await,
                RefusedRecord::Refused(error) => return Err(DeliveryError::Unavailable(error)),
                // A lost producer is replaced by whoever looks after it.
                RefusedRecord::ProducerLost(_) | RefusedRecord::Unconfirmed(_) => {}
            }
            let wait = backoff.next_wait(std::time::Instant::now());
            sleep(wait.unwrap_or(longest_wait)).await;
        }
    }

    /// Tells that an accepted upload cannot be read from its spool file any more.
    ///
    /// # Errors
    /// [`DeliveryError::Unavailable`]
    pub(super) async fn deliver_damage(
        &self,
        (project_id, event_id): (ProjectId, EventId),
        received_at: Timestamp,
        file: &str,
        damage: &str,
    ) -> Result<Delivered, DeliveryError> {
        self.limit()?;
        let record = damage_record(
            self.place(event_id),
            (project_id, event_id),
            received_at,
            file,
            damage,
        );
        let delivered = self.confirmed(record).await;
        delivered.map_err(|refused| DeliveryError::Unavailable(refused.to_string()))
    }

    fn place(&self, event: EventId) -> (Arc<str>, i32) {
        (Arc::clone(&self.topic), self.partitions.of(event))
    }

    fn limit(&self) -> Result<TopicLimit, DeliveryError> {
        self.limit.current().ok_or_else(|| {
            DeliveryError::Unavailable("the topic's limit is not known or too small".into())
        })
    }

    /// One sending under fresh attachment ids: every chunk confirmed, the gate passed, then the event confirmed.
    async fn send(
        &self,
        envelope: &Envelope,
        limit: TopicLimit,
        share: Share,
        gate: &Gate,
    ) -> Result<Delivered, SendError> {
        let sending = Sending::new(
            envelope,
            self.place(envelope.event_id),
            limit,
            Some(self.chunk_bytes_max),
        );
        stream::iter(sending.chunks())
            .map(|chunk| self.deliver_chunk(&sending, chunk))
            .buffer_unordered(share.chunks_in_flight())
            .try_for_each(|_delivered| std::future::ready(Ok(())))
            .await?;
        gate.passed().await;
        Ok(self.confirmed(sending.event_record()).await?)
    }

    async fn deliver_chunk(
        &self,
        sending: &Sending<'_>,
        chunk: Chunk,
    ) -> Result<Delivered, SendError> {
        let room = self.producer.room(chunk.bytes()).await;
        let record: Record = if chunk.is_in_memory() {
            sending.chunk_record(&chunk)?
        } else {
            let (topic, partition, traceparent) = sending.chunk_context();
            let made =
                tokio::task::spawn_blocking(move || chunk.record(&topic, partition, traceparent));
            made.await.map_err(std::io::Error::other)??
        };
        self.metrics.chunks_produced.inc();
        Ok(self.producer.enqueue(record, room)?.await?)
    }

    async fn confirmed(&self, record: Record) -> Result<Delivered, RefusedRecord> {
        let room = self.producer.room(record.value.len()).await;
        self.producer.enqueue(record, room)?.await
    }
}

enum SendError {
    Refused(RefusedRecord),
    Unreadable(std::io::Error),
}

impl From<RefusedRecord> for SendError {
    fn from(refused: RefusedRecord) -> Self {
        Self::Refused(refused)
    }
}

impl From<std::io::Error> for SendError {
    fn from(error: std::io::Error) -> Self {
        Self::Unreadable(error)
    }
}
