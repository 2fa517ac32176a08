//! The processor's parts, and how they start and stop.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::backoff::Backoff;
use shared::config::{Config, KafkaConfig};
use shared::kafka::{Admin, KafkaError, ProducerBounds, RecordConsumer, TransactionalProducer};
use shared::readiness::{Need, Part, PartState, Readiness};
use shared::services::Services;
use shared::size_limit::{TopicLimit, TopicLimitTooSmall};
use shared::spool::SpoolDirectory;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::dead_letter::DeadLetters;
use crate::identity::ProcessorIdentity;
use crate::intake::{Delivery, IntakeParts, KafkaIntake, LocalIntake};
use crate::parser::{ParserPool, ParserSettings};
use crate::pipeline::Pipeline;
use crate::publish::{Publisher, Topics};

/// Events under way for each parser process: while one is parsed, others are stored and published.
const EVENTS_PER_WORKER: usize = 4;
/// Assembled events waiting for one of those places.
const DELIVERIES_WAITING_MAX: usize = 16;
/// First and longest wait for a cluster that is away.
const KAFKA_WAIT: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// Of `shutdown_timeout`, what events under way may take; the rest is for the other parts to end.
const FINISHING_SHARE: f64 = 0.8;
/// How often the cluster is looked at.
const BROKER_LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// Bytes of unconfirmed reports, outcomes and dead letters.
const PRODUCER_INFLIGHT_BYTES: usize = 32 << 20;

/// The queue a processor takes its events from.
#[derive(Clone, Debug)]
pub enum Source {
    /// `kafka.brokers`
    Kafka,
    /// The spool of this process.
    Local(SpoolDirectory),
}

/// Why there is no processor.
#[derive(Debug, thiserror::Error)]
pub enum ProcessorError {
    /// The cluster or the configuration has to change first.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// A topic's limit is too small for what goes there.
    #[error("topic {topic:?}: {error}")]
    Topic {
        /// Its name.
        topic: String,
        /// Its limit.
        error: TopicLimitTooSmall,
    },
    /// The scratch directory cannot be used.
    #[error("expected a directory for scratch files at {path}: {error}")]
    Scratch {
        /// Where.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// This program cannot be started as a parser process.
    #[error("expected to find this program's file, to start parser processes from it: {0}")]
    Parser(std::io::Error),
}

/// Processes events from `source` until `shutdown`, then finishes those under way.
///
/// # Errors
/// [`ProcessorError`] when it cannot start. A cluster that is away is waited for.
pub async fn run(
    config: Arc<Config>,
    services: Services,
    source: Source,
    shutdown: CancellationToken,
) -> Result<(), ProcessorError> {
    let settings = ParserSettings::new(&config.processor).map_err(ProcessorError::Parser)?;
    let places = settings.workers * EVENTS_PER_WORKER;
    let (deliveries, delivered) = mpsc::channel(DELIVERIES_WAITING_MAX);
    let mut intakes = JoinSet::new();
    let publisher = match source {
        Source::Local(spool) => {
            let intake = LocalIntake {
                spool,
                metrics: services.metrics.clone(),
            };
            let stop = shutdown.clone();
            let running = async move {
                intake.run(deliveries, stop).await;
                Ok(())
            };
            intakes.spawn(running);
            Publisher::Embedded
        }
        Source::Kafka => {
            let Some(kafka) = KafkaSide::open(&config, &services, &shutdown).await? else {
                return Ok(());
            };
            let publisher = kafka.publisher(&config);
            // The first one is made here, so that a wrong configuration ends the start.
            let first = kafka.intake(&config, &services)?;
            let (config, services) = (Arc::clone(&config), services.clone());
            let stop = shutdown.clone();
            intakes.spawn(async move {
                let topic = &config.kafka.topics.attachments;
                let watching = kafka.watch(topic, &services.readiness);
                let taking = kafka.take_in(first, &config, &services, deliveries, stop);
                tokio::select! {
                    ended = taking => ended,
                    never = watching => match never {},
                }
            });
            publisher
        }
    };
    let pipeline = Arc::new(Pipeline {
        parser: ParserPool::start(settings),
        storage: services.storage.clone(),
        state: services.state.clone(),
        publisher,
        metrics: services.metrics.clone(),
    });
    services.readiness.set(Part::Parser, PartState::Ready);
    let finishing = async {
        process_all(&pipeline, delivered, places).await;
        pipeline.parser.stop().await;
        match intakes.join_next().await {
            Some(Err(panicked)) => std::panic::resume_unwind(panicked.into_panic()),
            Some(Ok(ended)) => ended,
            None => Ok(()),
        }
    };
    let in_time = async {
        shutdown.cancelled().await;
        tokio::time::sleep(config.shutdown_timeout.get().mul_f64(FINISHING_SHARE)).await;
    };
    tokio::select! {
        ended = finishing => ended,
        () = in_time => {
            tracing::warn!("what is not finished stays in the queue, and is delivered again after the next start");
            Ok(())
        }
    }
}

/// Processes deliveries side by side until there are no more.
async fn process_all(
    pipeline: &Arc<Pipeline>,
    mut delivered: mpsc::Receiver<Delivery>,
    places: usize,
) {
    let mut events = JoinSet::new();
    loop {
        let delivery = tokio::select! {
            biased;
            Some(ended) = events.join_next() => {
                note(ended);
                continue;
            }
            delivery = delivered.recv(), if events.len() < places => delivery,
        };
        let Some(delivery) = delivery else { break };
        let pipeline = Arc::clone(pipeline);
        let envelope = &delivery.assembled.envelope;
        let span = tracing::info_span!(
            "event",
            event_id = %envelope.event_id,
            project_id = %envelope.project_id,
            partition = delivery.partition,
            offset = delivery.assembled.offset,
        );
        let processed = async move { pipeline.process(delivery).await };
        events.spawn(processed.instrument(span));
    }
    while let Some(ended) = events.join_next().await {
        note(ended);
    }
}

/// An event's task has ended: a panic leaves its event in the queue.
fn note(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "an event's task ended early; the event is delivered again");
    }
}

/// What the scaled-out processor knows of its cluster.
struct KafkaSide {
    admin: Admin,
    limits: Limits,
}

/// The limits of the output topics.
#[derive(Clone, Copy)]
struct Limits {
    reports: TopicLimit,
    outcomes: TopicLimit,
    dead_letters: TopicLimit,
}

impl Limits {
    async fn ask(admin: &Admin, config: &KafkaConfig) -> Result<Self, ProcessorError> {
        let topics = &config.topics;
        admin.describe(&topics.attachments).await?;
        Ok(Self {
            reports: limit(admin, &topics.reports).await?,
            outcomes: limit(admin, &topics.outcomes).await?,
            dead_letters: limit(admin, &topics.dead_letters).await?,
        })
    }

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

impl KafkaSide {
    /// Asks the cluster for the topics' limits; waits while it is away. `None` when the process is stopped meanwhile.
    async fn open(
        config: &Config,
        services: &Services,
        shutdown: &CancellationToken,
    ) -> Result<Option<Self>, ProcessorError> {
        let readiness = &services.readiness;
        for part in [Part::Broker, Part::Topic, Part::Consumer, Part::Producer] {
            readiness.register(part, Need::Required);
        }
        let admin = Admin::new(&config.kafka)?;
        let (first, longest) = KAFKA_WAIT;
        let mut backoff = Backoff::forever(first, longest);
        loop {
            match Limits::ask(&admin, &config.kafka).await {
                Ok(limits) => {
                    readiness.set(Part::Broker, PartState::Ready);
                    readiness.set(Part::Topic, PartState::Ready);
                    readiness.set(Part::Producer, PartState::Ready);
                    return Ok(Some(Self { admin, limits }));
                }
                Err(ProcessorError::Kafka(error @ KafkaError::Unavailable { .. })) => {
                    readiness.set(Part::Broker, PartState::not_ready(error.to_string()));
                }
                Err(error) => return Err(error),
            }
            let wait = backoff.next_wait(Instant::now()).unwrap_or(longest);
            if shutdown
                .run_until_cancelled(tokio::time::sleep(wait))
                .await
                .is_none()
            {
                return Ok(None);
            }
        }
    }

    /// Shows whether the cluster answers, for ever.
    async fn watch(&self, topic: &str, readiness: &Readiness) -> Infallible {
        loop {
            tokio::time::sleep(BROKER_LOOK_INTERVAL).await;
            let state = match self.admin.describe(topic).await {
                Ok(_) => PartState::Ready,
                Err(error) => PartState::not_ready(error.to_string()),
            };
            readiness.set(Part::Broker, state);
        }
    }

    /// Takes events in until `stop`. A consumer that is lost (a broker that took our own repeated request for somebody
    /// else's ends it for good) is replaced together with all that knew it; what it had not finished comes again.
    async fn take_in(
        &self,
        first: KafkaIntake,
        config: &Config,
        services: &Services,
        deliveries: mpsc::Sender<Delivery>,
        stop: CancellationToken,
    ) -> Result<(), ProcessorError> {
        let (first_wait, longest) = KAFKA_WAIT;
        let mut backoff = Backoff::forever(first_wait, longest);
        let mut intake = first;
        loop {
            let Err(lost) = intake.run(deliveries.clone(), stop.clone()).await else {
                return Ok(());
            };
            tracing::error!(error = %lost, "the consumer is replaced");
            services.metrics.consumer_rebuilds.inc();
            let state = PartState::not_ready(lost.to_string());
            services.readiness.set(Part::Consumer, state);
            let wait = backoff.next_wait(Instant::now()).unwrap_or(longest);
            if stop
                .run_until_cancelled(tokio::time::sleep(wait))
                .await
                .is_none()
            {
                return Ok(());
            }
            intake = self.intake(config, services)?;
        }
    }

    fn intake(&self, config: &Config, services: &Services) -> Result<KafkaIntake, ProcessorError> {
        let metrics = services.metrics.clone();
        let names = &config.kafka.topics;
        let identity = ProcessorIdentity::of(&config.data.dir);
        let identity = identity.map_err(|error| ProcessorError::Scratch {
            path: config.data.dir.clone(),
            error,
        })?;
        let producer = TransactionalProducer::new(
            &config.kafka,
            self.limits.bounds(),
            identity.name(&config.kafka.group),
        );
        let dead_letters = DeadLetters {
            origin_topic: names.attachments.as_str().into(),
            topic: names.dead_letters.as_str().into(),
            limit: self.limits.dead_letters,
            metrics: metrics.clone(),
        };
        let instance = identity.name(&config.kafka.group);
        Ok(KafkaIntake::new(IntakeParts {
            consumer: RecordConsumer::start(&config.kafka, Some(&instance), metrics.clone())?,
            producer,
            dead_letters,
            scratch: scratch_directory(config)?,
            memory_bytes_max: config.processor.memory.get(),
            incomplete_after: config.processor.incomplete_after.get(),
            metrics,
            readiness: services.readiness.clone(),
            identity,
        }))
    }

    fn publisher(&self, config: &Config) -> Publisher {
        let names = &config.kafka.topics;
        Publisher::Kafka(Topics {
            reports: names.reports.as_str().into(),
            report_limit: self.limits.reports,
            outcomes: names.outcomes.as_str().into(),
            outcome_limit: self.limits.outcomes,
        })
    }
}

async fn limit(admin: &Admin, topic: &str) -> Result<TopicLimit, ProcessorError> {
    let described = admin.describe(topic).await?;
    let limit = TopicLimit::new(described.max_message_bytes);
    limit.map_err(|error| ProcessorError::Topic {
        topic: topic.to_owned(),
        error,
    })
}

/// Makes `data.dir/scratch`. Its files have no names, so that none outlives the process.
fn scratch_directory(config: &Config) -> Result<PathBuf, ProcessorError> {
    let path = config.data.dir.join("scratch");
    match std::fs::create_dir_all(&path) {
        Ok(()) => Ok(path),
        Err(error) => Err(ProcessorError::Scratch { path, error }),
    }
}
