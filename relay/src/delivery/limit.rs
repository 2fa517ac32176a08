//! The topic's effective limit, followed while the process runs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use shared::kafka::{
    Admin, Expectations, KafkaError, PartitionCount, ProducerBounds, RecordProducer,
    TopicDescription, TopicUse, complaint, refuse,
};
use shared::limits::{TOPIC_LIMIT_BYTES_MIN, TOPIC_LIMIT_REFRESH};
use shared::metrics::Metrics;
use shared::readiness::{Part, PartState, Readiness};
use shared::services::Services;
use shared::size_limit::TopicLimit;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::placement::Placement;

/// How often a limit that is not known is asked for.
const UNKNOWN_INTERVAL: Duration = Duration::from_secs(1);
/// How often a limit is read again that a broker's refusal contradicts: brokers learn of a change one after another.
const DOUBT_INTERVAL: Duration = Duration::from_millis(250);

/// The limit that the producer keeps to; `None` while it is not known or too small to work with.
#[derive(Clone)]
pub(super) struct LimitWatch {
    current: watch::Receiver<Option<TopicLimit>>,
    doubted: Arc<Notify>,
    answered: Arc<LastAnswer>,
}

/// When the broker answered last.
#[derive(Debug, Default)]
struct LastAnswer(Mutex<Option<Instant>>);

impl LastAnswer {
    fn get(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_now(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
}

impl LimitWatch {
    /// Whether the broker has answered a question within that time.
    pub(super) fn answered_within(&self, time: Duration) -> bool {
        self.answered.get().is_some_and(|at| at.elapsed() <= time)
    }

    /// The limit to cut by now.
    pub(super) fn current(&self) -> Option<TopicLimit> {
        *self.current.borrow()
    }

    /// The broker refused a record cut by `refused`: waits until another limit is in force.
    pub(super) async fn other_than(&mut self, refused: TopicLimit) {
        loop {
            let other = timeout(
                DOUBT_INTERVAL,
                self.current.wait_for(|limit| *limit != Some(refused)),
            );
            match other.await.map(|other| other.is_ok()) {
                Ok(true) => return,
                // The follower has ended with the process: this wait ends with the caller's deadline.
                Ok(false) => std::future::pending::<()>().await,
                Err(_elapsed) => self.doubted.notify_one(),
            }
        }
    }
}

/// Reads the limit, and tells readiness and metrics.
pub(super) struct LimitReader {
    admin: Admin,
    topic: String,
    expected: Expectations,
    readiness: Readiness,
    metrics: Metrics,
    placement: Arc<Placement>,
    partitions: PartitionCount,
    /// The topic has another number of partitions than the producer was made for.
    repartitioned: AtomicBool,
    /// How long the topic keeps records.
    retention: watch::Sender<Option<Duration>>,
    answered: Arc<LastAnswer>,
}

impl LimitReader {
    pub(super) fn new(
        admin: Admin,
        (topic, expected): (&str, Expectations),
        services: &Services,
        placement: Arc<Placement>,
        partitions: PartitionCount,
    ) -> Self {
        Self {
            admin,
            topic: topic.to_owned(),
            expected,
            readiness: services.readiness.clone(),
            metrics: services.metrics.clone(),
            placement,
            partitions,
            repartitioned: AtomicBool::new(false),
            retention: watch::Sender::new(None),
            answered: Arc::default(),
        }
    }

    /// How long the topic keeps records, followed as its limit is.
    pub(super) fn retention(&self) -> watch::Receiver<Option<Duration>> {
        self.retention.subscribe()
    }

    /// The broker gives no answer.
    pub(super) fn is_away(&self, error: &KafkaError) {
        let state = PartState::not_ready(error.to_string());
        self.readiness.set(Part::Broker, state);
    }

    /// As [`Self::read`], but an error when the topic destroys what is written to it.
    pub(super) async fn read_first(&self) -> Result<Option<TopicLimit>, KafkaError> {
        let described = self.describe().await?;
        refuse(
            &self
                .expected
                .judge(TopicUse::Ingest, &self.topic, &described),
        )?;
        Ok(self.take(&described))
    }

    /// The topic's limit; `None` when it is too small to work with.
    pub(super) async fn read(&self) -> Result<Option<TopicLimit>, KafkaError> {
        Ok(self.take(&self.describe().await?))
    }

    async fn describe(&self) -> Result<TopicDescription, KafkaError> {
        let described = self
            .admin
            .describe(&self.topic)
            .await
            .inspect_err(|error| {
                let part = match error {
                    KafkaError::Unavailable { .. } => Part::Broker,
                    KafkaError::Misconfigured { .. }
                    | KafkaError::NoTopic { .. }
                    | KafkaError::Unsuitable(_) => Part::Topic,
                };
                self.readiness
                    .set(part, PartState::not_ready(error.to_string()));
                if part == Part::Topic {
                    // It was a broker that said so.
                    self.readiness.set(Part::Broker, PartState::Ready);
                }
            })?;
        Ok(described)
    }

    fn take(&self, described: &TopicDescription) -> Option<TopicLimit> {
        self.answered.is_now();
        self.retention.send_replace(described.retention);
        for part in [Part::Broker, Part::Topic] {
            self.readiness.set(part, PartState::Ready);
        }
        self.metrics
            .topic_limit_bytes
            .set(i64::from(described.max_message_bytes));
        self.placement.set_partitions(described.partitions);
        if self.partitions.set(described.partitions) {
            self.repartitioned.store(true, Ordering::Relaxed);
        }
        let limit = TopicLimit::new(described.max_message_bytes);
        let state = match &limit {
            Ok(_) => PartState::Ready,
            Err(error) => PartState::not_ready(error.to_string()),
        };
        self.readiness.set(Part::Limit, state);
        let findings = self
            .expected
            .judge(TopicUse::Ingest, &self.topic, described);
        let state = complaint(&findings).map_or(PartState::Ready, PartState::not_ready);
        self.readiness.set(Part::TopicSettings, state);
        limit.ok()
    }
}

/// Follows the limit while the process runs: first the producer learns of a change, then those who cut by it.
pub(super) struct LimitFollower {
    pub(super) reader: LimitReader,
    pub(super) producer: RecordProducer,
    pub(super) inflight_bytes: usize,
    current: watch::Sender<Option<TopicLimit>>,
    doubted: Arc<Notify>,
}

impl LimitFollower {
    /// A follower that starts from `limit`, which `producer` keeps to already.
    pub(super) fn new(
        reader: LimitReader,
        producer: RecordProducer,
        limit: Option<TopicLimit>,
        inflight_bytes: usize,
    ) -> (Self, LimitWatch) {
        let (current, watched) = watch::channel(limit);
        let doubted = Arc::new(Notify::new());
        let answered = Arc::clone(&reader.answered);
        let follower = Self {
            reader,
            producer,
            inflight_bytes,
            current,
            doubted: Arc::clone(&doubted),
        };
        (
            follower,
            LimitWatch {
                current: watched,
                doubted,
                answered,
            },
        )
    }

    /// Reads the limit every [`TOPIC_LIMIT_REFRESH`] (sooner while it is not known, at once when somebody doubts it),
    /// until shutdown.
    pub(super) async fn follow(self, shutdown: CancellationToken) {
        let mut told = None;
        loop {
            let known = self.current.borrow().is_some();
            let interval = if known {
                TOPIC_LIMIT_REFRESH
            } else {
                UNKNOWN_INTERVAL
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = timeout(interval, self.doubted.notified()) => {}
            }
            let Some(read) = shutdown.run_until_cancelled(self.reader.read()).await else {
                return;
            };
            match read {
                Ok(limit) => {
                    told = None;
                    self.follow_partitions();
                    self.put_in_force(limit);
                }
                // The last known limit stands: a broker that is away has not changed it.
                Err(error) if told.as_ref() != Some(&error) => {
                    tracing::warn!(%error, "the topic's limit could not be read");
                    told = Some(error);
                }
                Err(_told) => {}
            }
        }
    }

    /// A client does not look for partitions that are new, so a new client does.
    fn follow_partitions(&self) {
        if !self.reader.repartitioned.swap(false, Ordering::Relaxed) {
            return;
        }
        tracing::info!("the topic's number of partitions has changed");
        if let Err(error) = self.producer.rebuild() {
            tracing::error!(%error, "the producer could not be rebuilt for the topic's new partitions");
        }
    }

    fn put_in_force(&self, limit: Option<TopicLimit>) {
        if *self.current.borrow() == limit {
            return;
        }
        if let Err(error) = self
            .producer
            .rebound(producer_bounds(limit, self.inflight_bytes))
        {
            tracing::error!(%error, "the producer could not be rebuilt for the topic's new limit");
            return;
        }
        tracing::info!(
            max_message_bytes = limit.map(TopicLimit::bytes),
            "the topic's limit has changed"
        );
        self.current.send_replace(limit);
    }
}

/// The producer's sizes for a limit. While none is known nothing is sent, so that any will do.
pub(super) fn producer_bounds(limit: Option<TopicLimit>, inflight_bytes: usize) -> ProducerBounds {
    let bytes_max = limit.map_or(TOPIC_LIMIT_BYTES_MIN as usize, TopicLimit::client_bytes_max);
    ProducerBounds {
        record_bytes_max: bytes_max,
        batch_bytes_max: bytes_max,
        inflight_bytes,
    }
}
