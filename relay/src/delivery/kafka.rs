//! The Kafka queue: its parts and how they start and stop, and an upload's wait for its confirmation.

use std::sync::Arc;
use std::time::Duration;

use shared::config::{Config, KafkaConfig};
use shared::envelope::Envelope;
use shared::id::EventId;
use shared::kafka::{Admin, Expectations, GroupLog, KafkaError, PartitionCount, RecordProducer};
use shared::metrics::Metrics;
use shared::readiness::{Need, Part};
use shared::services::Services;
use shared::size_limit::TopicLimit;
use shared::spool::SpoolDirectory;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::breaker::{Breaker, BreakerWatch};
use super::courier::{Courier, Share};
use super::drain::Drain;
use super::gate::Gate;
use super::group_watch::GroupWatch;
use super::limit::{LimitFollower, LimitReader, producer_bounds};
use super::placement::Placement;
use super::supervisor::Supervisor;
use super::{DeliveryError, Receipt};

/// How long a start waits for the cluster's first word before it goes on without.
const FIRST_ANSWER_WAIT: Duration = Duration::from_secs(3);
/// How long a start waits to hear from a cluster that does not answer why it does not.
const REFUSAL_WAIT: Duration = Duration::from_millis(500);
/// How long a stop waits for reports nobody waits for any more.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

pub(super) struct KafkaQueue {
    courier: Arc<Courier>,
    breaker: BreakerWatch,
    hurry: CancellationToken,
    ack_deadline: Duration,
    placement: Arc<Placement>,
}

impl KafkaQueue {
    /// Reads the topic's limit and starts the producer and those who look after it. A cluster that is away is no error:
    /// uploads go to the spool then.
    pub(super) async fn open(
        config: &Config,
        services: &Services,
        spool: &SpoolDirectory,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<Self, KafkaError> {
        let Services {
            readiness, metrics, ..
        } = services;
        // Without any of these the spool takes uploads.
        let address = config.kafka.address();
        for part in [
            Part::Broker,
            Part::Topic,
            Part::TopicSettings,
            Part::Limit,
            Part::Producer,
        ] {
            readiness.register(part, Need::Informative);
            readiness.wait_for(part, &address);
        }
        let topic = config.kafka.topics.attachments.clone();
        let placement = Arc::new(Placement::new());
        let partitions = PartitionCount::default();
        let reader = LimitReader::new(
            Admin::new(&config.kafka)?,
            (&topic, Expectations::of(config)),
            services,
            Arc::clone(&placement),
            partitions.clone(),
        );
        let retention = reader.retention();
        let inflight_bytes = (config.relay.max_inflight_bytes.get() / 2) as usize;
        let (producer, limit) =
            first_contact(&config.kafka, &reader, inflight_bytes, metrics).await?;
        let (follower, limit) = LimitFollower::new(reader, producer.clone(), limit, inflight_bytes);
        let (breaker, breaker_watch) = Breaker::new(limit.current().is_some());
        let configured = config.kafka.chunk.max_bytes;
        let configured = configured.map_or(u64::MAX, |bytes| bytes.get().max(1));
        let courier = Arc::new(Courier {
            topic: topic.into(),
            partitions,
            producer: producer.clone(),
            limit: limit.clone(),
            chunk_bytes_max: configured.min(inflight_bytes as u64 / 2),
            metrics: metrics.clone(),
        });
        tasks.spawn(follower.follow(stop.clone()));
        let supervisor = Supervisor {
            producer,
            limit,
            spool: spool.clone(),
            breaker,
            address,
            readiness: readiness.clone(),
            metrics: metrics.clone(),
        };
        tasks.spawn(supervisor.run(stop.clone()));
        let drain = Drain {
            spool: spool.clone(),
            courier: Arc::clone(&courier),
            breaker: breaker_watch.clone(),
            state: services.state.clone(),
            metrics: metrics.clone(),
        };
        tasks.spawn(drain.run(stop.clone()));
        let group = GroupWatch::new(GroupLog::open(&config.kafka)?, retention, metrics.clone());
        tasks.spawn(group.run(stop.clone()));
        Ok(Self {
            courier,
            breaker: breaker_watch,
            hurry: CancellationToken::new(),
            ack_deadline: config.relay.ack_deadline.get(),
            placement,
        })
    }

    /// An id for an upload that is coming in now.
    pub(super) fn fresh_event_id(&self) -> EventId {
        self.placement.fresh_event_id()
    }

    /// Why uploads go straight to the spool now; `None` when they do not.
    pub(super) fn is_away(&self) -> Option<String> {
        self.breaker.open()
    }

    /// Sends the envelope until the broker has confirmed all of it, or until waiting is of no use any more.
    pub(super) async fn publish(
        &self,
        envelope: &Envelope,
        gate: &Gate,
    ) -> Result<Receipt, DeliveryError> {
        if let Some(why) = self.is_away() {
            return Err(DeliveryError::Unavailable(why));
        }
        tokio::select! {
            biased;
            sent = self.courier.deliver(envelope, Share::Live, gate) => {
                sent.map(|event_message| Receipt::confirmed(envelope.event_id, event_message))
            }
            why = self.breaker.opened() => Err(DeliveryError::Unavailable(why)),
            () = self.hurry.cancelled() => {
                Err(DeliveryError::Unavailable("the relay is stopping".to_owned()))
            }
            () = self.deadline(gate) => {
                let deadline = self.ack_deadline;
                Err(DeliveryError::Unconfirmed { deadline })
            }
        }
    }

    /// The wait for Kafka; one for the gate is none.
    async fn deadline(&self, gate: &Gate) {
        gate.passed().await;
        sleep(self.ack_deadline).await;
    }

    /// From now on nobody waits for Kafka.
    pub(super) fn hurry(&self) {
        self.hurry.cancel();
    }

    /// Gives records that nobody waits for any more a last moment.
    pub(super) async fn close(&self) {
        let producer = self.courier.producer.clone();
        match tokio::task::spawn_blocking(move || producer.flush(FLUSH_TIMEOUT)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::info!(%error, "records without a report are left behind; no 200 rests on them");
            }
            Err(error) => tracing::error!(%error, "flushing the producer panicked; this is a bug"),
        }
    }
}

/// Asks for the topic's limit and starts the producer. A cluster that does not answer may be away, which is no error, or
/// refuse us, which is one.
async fn first_contact(
    config: &KafkaConfig,
    reader: &LimitReader,
    inflight_bytes: usize,
    metrics: &Metrics,
) -> Result<(RecordProducer, Option<TopicLimit>), KafkaError> {
    let start = |limit| {
        let bounds = producer_bounds(limit, inflight_bytes);
        RecordProducer::start(config, bounds, "relay", metrics.clone())
    };
    let error = match timeout(FIRST_ANSWER_WAIT, reader.read_first()).await {
        Ok(Ok(limit)) => return Ok((start(limit)?, limit)),
        Ok(Err(
            error @ (KafkaError::Misconfigured { .. }
            | KafkaError::NoTopic { .. }
            | KafkaError::Unsuitable(_)),
        )) => {
            return Err(error);
        }
        Ok(Err(error @ KafkaError::Unavailable { .. })) => error,
        Err(_elapsed) => KafkaError::Unavailable {
            doing: "describing a topic",
            error: format!(
                "{}: no answer within {}s",
                config.address(),
                FIRST_ANSWER_WAIT.as_secs()
            ),
        },
    };
    let producer = start(None)?;
    sleep(REFUSAL_WAIT).await;
    if let Some(refusal) = producer.health().refusal {
        return Err(KafkaError::Misconfigured {
            doing: "connecting",
            error: refusal,
        });
    }
    tracing::warn!(%error, "starting without kafka: uploads go to the spool until it answers");
    reader.is_away(&error);
    Ok((producer, None))
}
