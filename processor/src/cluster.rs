//! The scaled-out processor's side of its cluster: topics and their limits, and the intake that is made anew when it is lost.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use shared::backoff::Backoff;
use shared::config::{Config, TopicNames};
use shared::kafka::{
    Admin, Expectations, KafkaError, ProducerBounds, RecordConsumer, TransactionalProducer,
};
use shared::readiness::{Need, Part, PartState, Readiness};
use shared::services::Services;
use shared::size_limit::TopicLimit;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::dead_letter::DeadLetters;
use crate::identity::ProcessorIdentity;
use crate::intake::{ChunkPlace, Delivery, IntakeParts, KafkaIntake, Patience};
use crate::publish::{Publisher, Topics};
use crate::run::ProcessorError;
use crate::topics::DescribedTopics;

/// First and longest wait for a cluster that is away.
const KAFKA_WAIT: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// How often the cluster is looked at.
const BROKER_LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// Bytes of unconfirmed reports, outcomes and dead letters.
const PRODUCER_INFLIGHT_BYTES: usize = 32 << 20;

/// What the scaled-out processor knows of its cluster.
pub(crate) struct Cluster {
    admin: Admin,
    expected: Expectations,
    limits: watch::Sender<Limits>,
    /// How long the ingest topic keeps records.
    retention: watch::Sender<Option<Duration>>,
}

/// The limits of the output topics.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) reports: TopicLimit,
    pub(crate) outcomes: TopicLimit,
    pub(crate) dead_letters: TopicLimit,
}

impl Limits {
    /// Sizes for a producer of all three topics: a batch is of one topic, and must fit the lowest limit.
    fn bounds(&self) -> ProducerBounds {
        let limits = [self.reports, self.outcomes, self.dead_letters];
        let bytes_max = limits.map(TopicLimit::client_bytes_max);
        ProducerBounds {
            record_bytes_max: bytes_max.into_iter().max().unwrap_or_default(),
            batch_bytes_max: bytes_max.into_iter().min().unwrap_or_default(),
            inflight_bytes: PRODUCER_INFLIGHT_BYTES,
        }
    }
}

impl Cluster {
    /// Asks the cluster for the topics' limits; waits while it is away. `None` when the process is stopped meanwhile.
    pub(crate) async fn open(
        config: &Config,
        services: &Services,
        shutdown: &CancellationToken,
    ) -> Result<Option<Self>, ProcessorError> {
        let readiness = &services.readiness;
        let address = config.kafka.address();
        for part in [Part::Broker, Part::Topic, Part::Consumer, Part::Producer] {
            readiness.register(part, Need::Required);
            readiness.wait_for(part, &address);
        }
        for part in [
            Part::TopicSettings,
            Part::OutputTopicSettings,
            Part::OpenTransactions,
        ] {
            readiness.register(part, Need::Informative);
            readiness.wait_for(part, &address);
        }
        readiness.register(Part::Scratch, Need::Required);
        let admin = Admin::new(&config.kafka)?;
        let (names, expected) = (&config.kafka.topics, Expectations::of(config));
        let mut backoff = backoff();
        loop {
            match DescribedTopics::ask(&admin, names).await {
                Ok(topics) => {
                    topics.judge(&expected, names, readiness)?;
                    readiness.set(Part::Broker, PartState::Ready);
                    readiness.set(Part::Topic, PartState::Ready);
                    readiness.set(Part::Producer, PartState::Ready);
                    let (retention, _) = watch::channel(topics.ingest.retention);
                    let (limits, _) = watch::channel(topics.limits(names)?);
                    return Ok(Some(Self {
                        admin,
                        expected,
                        limits,
                        retention,
                    }));
                }
                Err(error @ KafkaError::Unavailable { .. }) => {
                    readiness.set(Part::Broker, PartState::not_ready(error.to_string()));
                }
                Err(
                    error @ (KafkaError::Misconfigured { .. }
                    | KafkaError::NoTopic { .. }
                    | KafkaError::Unsuitable(_)),
                ) => return Err(error.into()),
            }
            if !rest(&mut backoff, shutdown).await {
                return Ok(None);
            }
        }
    }

    /// Shows whether the cluster answers, and what is wrong with the topics' settings, for ever.
    pub(crate) async fn watch(&self, names: &TopicNames, readiness: &Readiness) -> Infallible {
        loop {
            tokio::time::sleep(BROKER_LOOK_INTERVAL).await;
            let state = match DescribedTopics::ask(&self.admin, names).await {
                Ok(topics) => {
                    self.retention.send_replace(topics.ingest.retention);
                    if let Err(error) = topics.judge(&self.expected, names, readiness) {
                        tracing::debug!(%error, "this would not be started with");
                    }
                    PartState::Ready
                }
                Err(error) => PartState::not_ready(error.to_string()),
            };
            readiness.set(Part::Broker, state);
        }
    }

    /// Takes events in until `stop`. A consumer that is lost (a broker that took our own repeated request for somebody
    /// else's ends it for good) is replaced together with all that knew it; what it had not finished comes again.
    pub(crate) async fn take_in(
        &self,
        first: KafkaIntake,
        config: &Config,
        services: &Services,
        deliveries: mpsc::Sender<Delivery>,
        stop: CancellationToken,
    ) -> Result<(), ProcessorError> {
        let mut backoff = backoff();
        let mut intake = first;
        loop {
            let Err(lost) = intake.run(deliveries.clone(), stop.clone()).await else {
                return Ok(());
            };
            tracing::warn!(error = %lost, "the consumer is replaced");
            services.metrics.consumer_rebuilds.inc();
            let address = config.kafka.address();
            let state = PartState::not_ready(format!("{address}: {lost}"));
            services.readiness.set(Part::Consumer, state);
            if !rest(&mut backoff, &stop).await {
                return Ok(());
            }
            let names = &config.kafka.topics;
            let described = DescribedTopics::ask(&self.admin, names).await;
            let limits = described.map_err(ProcessorError::from);
            match limits.and_then(|topics| topics.limits(names)) {
                Ok(limits) => drop(self.limits.send_replace(limits)),
                Err(error) => tracing::warn!(%error, "the topics' limits are taken as they were"),
            }
            intake = self.intake(config, services)?;
        }
    }

    pub(crate) fn intake(
        &self,
        config: &Config,
        services: &Services,
    ) -> Result<KafkaIntake, ProcessorError> {
        let metrics = services.metrics.clone();
        let names = &config.kafka.topics;
        let identity = ProcessorIdentity::of(&config.data.dir);
        let identity = identity.map_err(|error| ProcessorError::Scratch {
            path: config.data.dir.clone(),
            error,
        })?;
        let limits = *self.limits.borrow();
        let producer = TransactionalProducer::new(
            &config.kafka,
            limits.bounds(),
            identity.name(&config.kafka.group),
        );
        let dead_letters = DeadLetters {
            origin_topic: names.attachments.as_str().into(),
            topic: names.dead_letters.as_str().into(),
            limit: limits.dead_letters,
            metrics: metrics.clone(),
        };
        let instance = identity.name(&config.kafka.group);
        Ok(KafkaIntake::new(IntakeParts {
            consumer: RecordConsumer::start(&config.kafka, Some(&instance), metrics.clone())?,
            producer,
            dead_letters,
            outcomes: names.outcomes.as_str().into(),
            chunks: chunk_place(config)?,
            patience: Patience {
                incomplete_after: config.processor.incomplete_after.get(),
                event_bytes_max: config.processor.scratch.get(),
            },
            retention: self.retention.subscribe(),
            metrics,
            readiness: services.readiness.clone(),
            state: services.state.clone(),
            identity,
        }))
    }

    pub(crate) fn publisher(&self, config: &Config) -> Publisher {
        let names = &config.kafka.topics;
        Publisher::Kafka(Topics {
            reports: names.reports.as_str().into(),
            outcomes: names.outcomes.as_str().into(),
            limits: self.limits.subscribe(),
        })
    }
}

fn backoff() -> Backoff {
    let (first, longest) = KAFKA_WAIT;
    Backoff::forever(first, longest)
}

/// Waits for the next try; false when the process is stopped meanwhile.
async fn rest(backoff: &mut Backoff, stop: &CancellationToken) -> bool {
    let (_, longest) = KAFKA_WAIT;
    let wait = backoff.next_wait(Instant::now()).unwrap_or(longest);
    let waited = stop.run_until_cancelled(tokio::time::sleep(wait));
    waited.await.is_some()
}

/// Makes `data.dir/scratch`.
fn chunk_place(config: &Config) -> Result<ChunkPlace, ProcessorError> {
    let dir = config.data.dir.join("scratch");
    match std::fs::create_dir_all(&dir) {
        Ok(()) => Ok(ChunkPlace {
            dir,
            memory_bytes_max: config.processor.memory.get(),
            scratch_bytes_max: config.processor.scratch.get(),
            free_bytes_min: config.spool.min_free_bytes.get(),
        }),
        Err(error) => Err(ProcessorError::Scratch { path: dir, error }),
    }
}
