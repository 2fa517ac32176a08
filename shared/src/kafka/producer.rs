//! The process's one producer: records go in under a permit of bytes, and come back as delivery reports.
//!
//! The permit and the waiting half of the report travel with the record through librdkafka, so that nothing but the
//! report itself releases them: not a client that went away, not a dropped future. There is no loop on "queue full"
//! and no counter: librdkafka's queue is twice as large as all permits together.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::error::KafkaError as ClientError;
use rdkafka::message::{DeliveryResult, Header, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext, PurgeConfig};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::error::{KafkaError, RefusedRecord};
use super::oldest::Slot;
use super::producer_watch::{ProducerHealth, ProducerWatch};
use super::settings;
use crate::config::KafkaConfig;
use crate::metrics::Metrics;

/// How long one look at the delivery reports lasts.
const POLL: Duration = Duration::from_millis(50);
/// How long a producer that was replaced may take to deliver what it still holds.
const RETIREMENT: Duration = Duration::from_secs(30);
/// What a record costs librdkafka besides its bytes.
const RECORD_MEMORY_BYTES: usize = 512;

/// A record on its way to the log.
#[derive(Debug, Clone)]
pub struct Record {
    /// Topic name.
    pub topic: Arc<str>,
    /// Its partition; `None`: the one that its key belongs to. All records of an event go to that of its id.
    pub partition: Option<i32>,
    /// The event id, and for a chunk what else tells it from all others.
    pub key: Vec<u8>,
    /// Names and readable values.
    pub headers: Vec<(&'static str, String)>,
    /// The message.
    pub value: Vec<u8>,
}

/// Sizes a producer keeps to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerBounds {
    /// librdkafka's `message.max.bytes`.
    pub record_bytes_max: usize,
    /// librdkafka's `batch.size`.
    pub batch_bytes_max: usize,
    /// Bytes of unconfirmed records, all together.
    pub inflight_bytes: usize,
}

/// Proof that a record is in the log, confirmed by all in-sync replicas. Only a delivery report makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivered {
    partition: i32,
    offset: i64,
}

impl Delivered {
    /// The partition it went to.
    #[must_use]
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// Its offset there; -1 when librdkafka's own retry found it already written.
    #[must_use]
    pub fn offset(&self) -> i64 {
        self.offset
    }
}

/// The producer. Cloning shares it.
#[derive(Clone)]
pub struct RecordProducer(Arc<Shared>);

struct Shared {
    config: KafkaConfig,
    role: &'static str,
    permits: Arc<Semaphore>,
    inflight_bytes: usize,
    generation: RwLock<Arc<Generation>>,
    watch: Arc<ProducerWatch>,
}

/// One librdkafka producer and its polling thread. A change of bounds or a failure makes a new generation.
struct Generation {
    client: BaseProducer<Reports>,
    bounds: ProducerBounds,
    retired: AtomicBool,
}

/// Room for a record among the unconfirmed ones; given back when its delivery report comes.
#[derive(Debug)]
pub struct Room(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// What travels with a record through librdkafka.
struct InFlight {
    report: oneshot::Sender<Result<Delivered, RefusedRecord>>,
    slot: Slot,
    enqueued: Instant,
    _room: Room,
}

struct Reports {
    watch: Arc<ProducerWatch>,
}

impl ClientContext for Reports {
    fn stats_raw(&self, _statistics: &[u8]) {}

    fn error(&self, error: ClientError, reason: &str) {
        self.watch.complain(&error, reason);
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<InFlight>;

    fn delivery(&self, result: &DeliveryResult<'_>, inflight: Box<InFlight>) {
        let report = match result {
            Ok(message) => Ok(Delivered {
                partition: message.partition(),
                offset: message.offset(),
            }),
            Err((error, _)) => Err(RefusedRecord::from_client(error)),
        };
        self.watch
            .reported(inflight.slot, inflight.enqueued, &report);
        let InFlight { report: sender, .. } = *inflight;
        // Whoever asked may have gone away; the record is delivered all the same.
        drop(sender.send(report));
    }
}

/// A record that librdkafka has taken; resolves with its delivery report. Dropping it does not take the record back.
#[derive(Debug)]
pub struct PendingDelivery(oneshot::Receiver<Result<Delivered, RefusedRecord>>);

impl Future for PendingDelivery {
    type Output = Result<Delivered, RefusedRecord>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|report| {
            report.unwrap_or_else(|_| {
                Err(RefusedRecord::ProducerLost(
                    "it ended without a report".into(),
                ))
            })
        })
    }
}

impl RecordProducer {
    /// Makes the client; it connects by itself.
    ///
    /// # Errors
    /// [`KafkaError::Misconfigured`] when librdkafka does not take the settings.
    pub fn start(
        config: &KafkaConfig,
        bounds: ProducerBounds,
        role: &'static str,
        metrics: Metrics,
    ) -> Result<Self, KafkaError> {
        let watch = Arc::new(ProducerWatch::new(metrics));
        let generation = Generation::start(config, bounds, role, &watch)?;
        Ok(Self(Arc::new(Shared {
            config: config.clone(),
            role,
            permits: Arc::new(Semaphore::new(bounds.inflight_bytes)),
            inflight_bytes: bounds.inflight_bytes,
            generation: RwLock::new(generation),
            watch,
        })))
    }

    /// Waits for room among the unconfirmed records. Make the record only then: what waits for room takes no memory.
    pub async fn room(&self, value_bytes: usize) -> Room {
        let cost = (value_bytes + RECORD_MEMORY_BYTES).min(self.0.inflight_bytes);
        let permits = Arc::clone(&self.0.permits);
        // INVARIANT: the semaphore is never closed, and no cost exceeds it or u32 (records are under 1 GB).
        Room(
            permits
                .acquire_many_owned(cost as u32)
                .await
                .expect("never closed"),
        )
    }

    /// Hands a record to librdkafka, which copies it.
    ///
    /// # Errors
    /// [`RefusedRecord`] when librdkafka does not take it; nothing was sent then.
    pub fn enqueue(&self, record: Record, room: Room) -> Result<PendingDelivery, RefusedRecord> {
        let generation = self.generation();
        let (report, reported) = oneshot::channel();
        let now = Instant::now();
        let slot = self.0.watch.enqueued(now);
        let inflight = Box::new(InFlight {
            report,
            slot,
            enqueued: now,
            _room: room,
        });
        let headers = record.headers.iter().fold(
            OwnedHeaders::new_with_capacity(record.headers.len()),
            |all, header| {
                all.insert(Header {
                    key: header.0,
                    value: Some(header.1.as_bytes()),
                })
            },
        );
        let mut outgoing = BaseRecord::with_opaque_to(&record.topic, inflight)
            .key(&record.key[..])
            .payload(&record.value[..])
            .headers(headers);
        outgoing.partition = record.partition;
        match generation.client.send(outgoing) {
            Ok(()) => Ok(PendingDelivery(reported)),
            Err((error, refused)) => {
                self.0.watch.not_enqueued(refused.delivery_opaque.slot);
                Err(RefusedRecord::from_client(&error))
            }
        }
    }

    /// Replaces the client when the bounds are others than before. What the old one holds, it still delivers.
    ///
    /// # Errors
    /// [`KafkaError::Misconfigured`]; the old client then stays.
    pub fn rebound(&self, bounds: ProducerBounds) -> Result<(), KafkaError> {
        if self.generation().bounds == bounds {
            return Ok(());
        }
        self.replace(bounds)
    }

    /// Replaces the client whatever its state. What the old one holds and cannot deliver in half a minute is reported as
    /// unconfirmed. One task at most may decide on it: whoever only has a record that failed waits for the new client.
    ///
    /// # Errors
    /// [`KafkaError::Misconfigured`]; the old client then stays.
    pub fn rebuild(&self) -> Result<(), KafkaError> {
        self.replace(self.generation().bounds)
    }

    fn replace(&self, bounds: ProducerBounds) -> Result<(), KafkaError> {
        let next = Generation::start(&self.0.config, bounds, self.0.role, &self.0.watch)?;
        let mut current = self
            .0
            .generation
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let previous = std::mem::replace(&mut *current, next);
        drop(current);
        previous.retired.store(true, Ordering::Release);
        self.0.watch.forgive();
        Ok(())
    }

    /// How the producer is doing.
    #[must_use]
    pub fn health(&self) -> ProducerHealth {
        let free = self.0.permits.available_permits();
        let unconfirmed_bytes = self.0.inflight_bytes.saturating_sub(free);
        self.0
            .watch
            .health(unconfirmed_bytes, self.generation().lost())
    }

    /// Waits until every record taken so far has its report. Blocks the thread.
    ///
    /// # Errors
    /// [`KafkaError::Unavailable`] when that takes longer than `timeout`.
    pub fn flush(&self, timeout: Duration) -> Result<(), KafkaError> {
        let generation = self.generation();
        generation
            .client
            .flush(timeout)
            .map_err(|error| KafkaError::from_client("flushing", &error))
    }

    fn generation(&self) -> Arc<Generation> {
        Arc::clone(
            &self
                .0
                .generation
                .read()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.generation
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .retired
            .store(true, Ordering::Release);
    }
}

impl Generation {
    fn start(
        config: &KafkaConfig,
        bounds: ProducerBounds,
        role: &str,
        watch: &Arc<ProducerWatch>,
    ) -> Result<Arc<Self>, KafkaError> {
        let client = settings::producer(config, bounds, role)
            .create_with_context(Reports {
                watch: Arc::clone(watch),
            })
            .map_err(|error| {
                KafkaError::from_settings("making a producer", &error, &config.options)
            })?;
        let generation = Arc::new(Self {
            client,
            bounds,
            retired: AtomicBool::new(false),
        });
        let (polled, watch) = (Arc::clone(&generation), Arc::clone(watch));
        thread::Builder::new()
            .name("kafka-reports".into())
            .spawn(move || polled.poll_until_retired(&watch))
            .map_err(|error| KafkaError::Unavailable {
                doing: "starting a thread",
                error: error.to_string(),
            })?;
        Ok(generation)
    }

    fn lost(&self) -> Option<String> {
        let (code, text) = self.client.client().fatal_error()?;
        Some(format!("{code}: {text}"))
    }

    fn poll_until_retired(&self, watch: &ProducerWatch) {
        let mut retired_at = None;
        loop {
            // A panic in a report must not end the reports: everybody would wait for ever.
            if catch_unwind(AssertUnwindSafe(|| self.client.poll(POLL))).is_err() {
                tracing::error!("a delivery report panicked; this is a bug");
            }
            if !self.retired.load(Ordering::Acquire) {
                watch.beat();
                continue;
            }
            let retired_at: Instant = *retired_at.get_or_insert_with(Instant::now);
            if self.client.in_flight_count() == 0 {
                return;
            }
            if retired_at.elapsed() > RETIREMENT {
                self.client.purge(PurgeConfig::default().queue().inflight());
            }
        }
    }
}
