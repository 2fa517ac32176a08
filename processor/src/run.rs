//! The processor's parts, and how they start and stop.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;

use shared::config::Config;
use shared::kafka::KafkaError;
use shared::privacy::PrivacyRules;
use shared::readiness::{Part, PartState, Readiness};
use shared::services::Services;
use shared::size_limit::TopicLimitTooSmall;
use shared::spool::SpoolDirectory;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::cluster::Cluster;
use crate::intake::{Delivery, LocalIntake};
use crate::parser::{ParserPool, ParserSettings, Protection};
use crate::pipeline::{Pipeline, again};
use crate::publish::Publisher;
use crate::retention::Sweeper;

/// Events under way for each parser process: while one is parsed, others are stored and published.
const EVENTS_PER_WORKER: usize = 4;
/// Assembled events waiting for one of those places.
const DELIVERIES_WAITING_MAX: usize = 16;
/// Of `shutdown_timeout`, what events under way may take; the rest is for the other parts to end.
const FINISHING_SHARE: f64 = 0.8;

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
            let Some(kafka) = Cluster::open(&config, &services, &shutdown).await? else {
                return Ok(());
            };
            let publisher = kafka.publisher(&config);
            // The first one is made here, so that a wrong configuration ends the start.
            let first = kafka.intake(&config, &services)?;
            let (config, services) = (Arc::clone(&config), services.clone());
            let stop = shutdown.clone();
            intakes.spawn(async move {
                let names = &config.kafka.topics;
                let watching = kafka.watch(names, &services.readiness);
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
        privacy: PrivacyRules::new(&config.projects),
        metrics: services.metrics.clone(),
    });
    let (storage, state) = (services.storage.clone(), services.state.clone());
    let sweeper = Sweeper::new(&config, storage, state, services.metrics.clone());
    let mut sweeping = JoinSet::new();
    sweeping.spawn(sweeper.run(shutdown.clone()));
    let finishing = async {
        tokio::select! {
            () = process_all(&pipeline, delivered, places) => {}
            never = announce_parser(&pipeline, &services.readiness) => match never {},
        }
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

/// Says that parser processes start, and how they are confined; then nothing more.
async fn announce_parser(pipeline: &Pipeline, readiness: &Readiness) -> Infallible {
    let start = || async {
        let confinement = pipeline.parser.confinement().await;
        confinement.inspect_err(|error| {
            readiness.set(Part::Parser, PartState::not_ready(error.to_string()));
        })
    };
    let confinement = again("starting a parser process", start).await;
    for (name, protection) in confinement.all() {
        let on = match protection {
            Protection::On => true,
            Protection::Off { why } => {
                tracing::warn!(
                    protection = name,
                    why,
                    "parser processes are less confined than they could be"
                );
                false
            }
        };
        pipeline.metrics.show_protection(name, on);
    }
    readiness.set(Part::Parser, PartState::Ready);
    std::future::pending().await
}

/// Processes deliveries side by side until there are no more.
async fn process_all(
    pipeline: &Arc<Pipeline>,
    mut delivered: mpsc::Receiver<Delivery>,
    places: usize,
) {
    let mut events = JoinSet::new();
    let places = Arc::new(Semaphore::new(places));
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            // INVARIANT: nobody closes the places.
            let place = place.expect("there are places");
            delivered.recv().await.map(|delivery| (place, delivery))
        };
        let next = tokio::select! {
            biased;
            Some(ended) = events.join_next() => {
                note(ended);
                continue;
            }
            next = next => next,
        };
        let Some((place, delivery)) = next else { break };
        let pipeline = Arc::clone(pipeline);
        let envelope = &delivery.assembled.envelope;
        let span = tracing::info_span!(
            "event",
            event_id = %envelope.event_id,
            project_id = %envelope.project_id,
            partition = delivery.partition,
            offset = delivery.assembled.offset,
        );
        let processed = async move { pipeline.process(delivery, place).await };
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
