//! The Kafka queue: chunks, confirmed; then the event, confirmed; then the receipt.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use shared::backoff::Backoff;
use shared::config::Config;
use shared::envelope::Envelope;
use shared::id::EventId;
use shared::kafka::{Admin, Delivered, KafkaError, Record, RecordProducer, RefusedRecord};
use shared::metrics::Metrics;
use shared::readiness::{Need, Part, PartState, Readiness};
use shared::services::Services;
use shared::size_limit::TopicLimit;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::limit::{LimitFollower, LimitReader, LimitWatch, producer_bounds};
use super::placement::Placement;
use super::records::{Chunk, Sending};
use super::{DeliveryError, Receipt};

/// Chunks of one upload that are unconfirmed at once: a large upload leaves room for small ones.
const UPLOAD_CHUNKS_IN_FLIGHT: usize = 8;
/// First and longest wait before an unconfirmed upload is sent again.
const RESEND_WAIT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// How often the producer's health is looked at.
const HEALTH_INTERVAL: Duration = Duration::from_secs(1);
/// Reports must come, and be looked at, within this time.
const HEALTHY_WITHIN: Duration = Duration::from_secs(10);
/// How long a stop waits for reports.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(20);

pub(super) struct KafkaQueue {
    topic: Arc<str>,
    producer: RecordProducer,
    limit: LimitWatch,
    chunk_bytes_max: u64,
    ack_deadline: Duration,
    metrics: Metrics,
    placement: Arc<Placement>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl KafkaQueue {
    /// Reads the topic's limit and starts the producer. A cluster that is away is no error: the queue is not ready then.
    pub(super) async fn open(
        config: &Config,
        services: &Services,
        stop: CancellationToken,
    ) -> Result<Self, KafkaError> {
        let Services {
            readiness, metrics, ..
        } = services;
        for part in [Part::Broker, Part::Topic, Part::Limit, Part::Producer] {
            readiness.register(part, Need::Required);
        }
        let topic = config.kafka.topics.attachments.clone();
        let placement = Arc::new(Placement::new());
        let reader = LimitReader {
            admin: Admin::new(&config.kafka)?,
            topic: topic.clone(),
            readiness: readiness.clone(),
            metrics: metrics.clone(),
            placement: Arc::clone(&placement),
        };
        let limit = match reader.read().await {
            Ok(limit) => limit,
            Err(error @ KafkaError::Unavailable { .. }) => {
                tracing::warn!(%error, "starting without kafka");
                None
            }
            Err(error @ (KafkaError::Misconfigured { .. } | KafkaError::NoTopic { .. })) => {
                return Err(error);
            }
        };
        let inflight_bytes = (config.relay.max_inflight_bytes.get() / 2) as usize;
        let bounds = producer_bounds(limit, inflight_bytes);
        let producer = RecordProducer::start(&config.kafka, bounds, "relay", metrics.clone())?;
        let (follower, limit) = LimitFollower::new(reader, producer.clone(), limit, inflight_bytes);
        let tasks = TaskTracker::new();
        tasks.spawn(follower.follow(stop.clone()));
        let watch = HealthWatch {
            producer: producer.clone(),
            readiness: readiness.clone(),
            metrics: metrics.clone(),
        };
        tasks.spawn(watch.run(stop.clone()));
        let configured = config
            .kafka
            .chunk
            .max_bytes
            .map_or(u64::MAX, |bytes| bytes.get().max(1));
        Ok(Self {
            topic: topic.into(),
            producer,
            limit,
            chunk_bytes_max: configured.min(inflight_bytes as u64 / 2),
            ack_deadline: config.relay.ack_deadline.get(),
            metrics: metrics.clone(),
            placement,
            tasks,
            stop,
        })
    }

    /// An id for an upload that is coming in now.
    pub(super) fn fresh_event_id(&self) -> EventId {
        self.placement.fresh_event_id()
    }

    /// Sends the envelope until the broker has confirmed all of it, or until the deadline.
    pub(super) async fn publish(&self, envelope: &Envelope) -> Result<Receipt, DeliveryError> {
        let deadline = Instant::now() + self.ack_deadline;
        let mut last = String::from("no answer yet");
        match timeout_at(
            deadline,
            self.send_until_confirmed(envelope, deadline, &mut last),
        )
        .await
        {
            Ok(sent) => {
                sent.map(|event_message| Receipt::confirmed(envelope.event_id, event_message))
            }
            Err(_elapsed) => Err(DeliveryError::Unconfirmed {
                deadline: self.ack_deadline,
                last,
            }),
        }
    }

    async fn send_until_confirmed(
        &self,
        envelope: &Envelope,
        deadline: Instant,
        last: &mut String,
    ) -> Result<Delivered, DeliveryError> {
        let (first_wait, longest_wait) = RESEND_WAIT;
        let mut backoff = Backoff::until(first_wait, longest_wait, deadline.into_std());
        loop {
            let Some(limit) = self.limit.current() else {
                return Err(DeliveryError::Unavailable(
                    "the topic's limit is not known or too small".into(),
                ));
            };
            let refused = match self.send(envelope, limit).await {
                Ok(event_message) => return Ok(event_message),
                Err(SendError::Unreadable(error)) => return Err(error.into()),
                Err(SendError::Refused(refused)) => refused,
            };
            *last = refused.to_string();
            self.metrics.upload_resends.inc();
            match refused {
                RefusedRecord::TooLarge(_) => self.limit.clone().other_than(limit).await,
                RefusedRecord::Refused(error) => return Err(DeliveryError::Unavailable(error)),
                RefusedRecord::ProducerLost(_) => {
                    self.producer
                        .rebuild()
                        .map_err(|error| DeliveryError::Unavailable(error.to_string()))?;
                }
                RefusedRecord::Unconfirmed(_) => {}
            }
            match backoff.next_wait(std::time::Instant::now()) {
                Some(wait) => sleep(wait).await,
                None => std::future::pending().await,
            }
        }
    }

    /// One sending under fresh attachment ids: every chunk confirmed, then the event confirmed.
    async fn send(&self, envelope: &Envelope, limit: TopicLimit) -> Result<Delivered, SendError> {
        let sending = Sending::new(
            envelope,
            Arc::clone(&self.topic),
            limit,
            Some(self.chunk_bytes_max),
        );
        stream::iter(sending.chunks())
            .map(|chunk| self.deliver_chunk(&sending, chunk))
            .buffer_unordered(UPLOAD_CHUNKS_IN_FLIGHT)
            .try_for_each(|_delivered| std::future::ready(Ok(())))
            .await?;
        let event = sending.event_record();
        let room = self.producer.room(event.value.len()).await;
        Ok(self.producer.enqueue(event, room)?.await?)
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
            let (topic, traceparent) = sending.chunk_context();
            let made = tokio::task::spawn_blocking(move || chunk.record(&topic, traceparent));
            made.await.map_err(std::io::Error::other)??
        };
        self.metrics.chunks_produced.inc();
        Ok(self.producer.enqueue(record, room)?.await?)
    }

    pub(super) async fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        let producer = self.producer.clone();
        match tokio::task::spawn_blocking(move || producer.flush(FLUSH_TIMEOUT)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "records without a report are left behind; no 200 was given for them")
            }
            Err(error) => tracing::error!(%error, "flushing the producer panicked; this is a bug"),
        }
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

/// Looks at the producer every second and tells readiness and metrics.
struct HealthWatch {
    producer: RecordProducer,
    readiness: Readiness,
    metrics: Metrics,
}

impl HealthWatch {
    async fn run(self, stop: CancellationToken) {
        loop {
            self.look();
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(HEALTH_INTERVAL) => {}
            }
        }
    }

    fn look(&self) {
        let health = self.producer.health();
        self.metrics
            .producer_queue_messages
            .set(health.unconfirmed as i64);
        self.metrics
            .producer_queue_bytes
            .set(health.unconfirmed_bytes as i64);
        self.metrics
            .oldest_unconfirmed_seconds
            .set(health.oldest.as_secs_f64());
        let state = if health.oldest > HEALTHY_WITHIN {
            PartState::not_ready(format!(
                "expected confirmations within {}s, the oldest of {} unconfirmed records is {}s old",
                HEALTHY_WITHIN.as_secs(),
                health.unconfirmed,
                health.oldest.as_secs()
            ))
        } else if health.silent > HEALTHY_WITHIN {
            PartState::not_ready(format!(
                "nobody has read delivery reports for {}s",
                health.silent.as_secs()
            ))
        } else {
            PartState::Ready
        };
        self.readiness.set(Part::Producer, state);
    }
}
