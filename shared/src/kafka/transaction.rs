//! Outputs and offsets that land together or not at all: the processor's one producer, transactional.
//!
//! librdkafka follows the older transaction protocol, in which a lost answer leaves the outcome of a commit in doubt.
//! Whatever is in doubt is settled by a new client of the same transactional id, which ends what the old one left open,
//! and by asking the group what is committed: the offsets are part of the transaction, so they tell.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::error::KafkaError as ClientError;
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};

use super::consumer::{CommitPosition, RecordConsumer};
use super::error::KafkaError;
use super::error_log::ErrorLog;
use super::producer::{ProducerBounds, Record};
use super::settings;
use crate::config::KafkaConfig;

/// How long one step of a transaction may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(20);

/// The producer of outputs. Its calls block the thread.
pub struct TransactionalProducer {
    config: KafkaConfig,
    bounds: ProducerBounds,
    id: String,
    errors: Arc<ErrorLog>,
    client: Option<BaseProducer<Deliveries>>,
}

/// What the client says by itself.
struct Deliveries {
    /// The first record of the running transaction that was refused.
    refusal: Mutex<Option<ClientError>>,
    errors: Arc<ErrorLog>,
}

impl Deliveries {
    fn take_refusal(&self) -> Option<ClientError> {
        self.refusal
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

impl ClientContext for Deliveries {
    fn stats_raw(&self, _statistics: &[u8]) {}

    fn error(&self, error: ClientError, reason: &str) {
        self.errors.tell(&error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            let mut refusal = self.refusal.lock().unwrap_or_else(PoisonError::into_inner);
            refusal.get_or_insert_with(|| error.clone());
        }
    }
}

impl TransactionalProducer {
    /// A producer whose transactions go by `id`. Another process with the same id takes them over.
    #[must_use]
    pub fn new(config: &KafkaConfig, bounds: ProducerBounds, id: String) -> Self {
        Self {
            config: config.clone(),
            bounds,
            id,
            errors: Arc::new(ErrorLog::new("transactional producer")),
            client: None,
        }
    }

    /// Writes the records and commits the positions, together. Repeat it with the same or more when it fails: nothing
    /// has landed then.
    ///
    /// # Errors
    /// [`KafkaError`]
    pub fn commit(
        &mut self,
        records: &[Arc<Record>],
        positions: &[CommitPosition],
        consumer: &RecordConsumer,
    ) -> Result<(), KafkaError> {
        let client = self.client()?;
        match transact(client, records, positions, consumer) {
            Ok(()) => Ok(()),
            Err(Failed::BeforeCommit(error)) => {
                if client.abort_transaction(STEP_TIMEOUT).is_err() {
                    self.client = None;
                }
                Err(KafkaError::from_client("writing outputs", &error))
            }
            Err(Failed::InDoubt(error)) => {
                tracing::warn!(%error, "a transaction's end is in doubt; settling it");
                self.client = None;
                self.client()?;
                if consumer.has_committed(positions)? {
                    return Ok(());
                }
                Err(KafkaError::from_client("committing outputs", &error))
            }
        }
    }

    /// The client; a new one settles what an earlier one of this id left open.
    fn client(&mut self) -> Result<&BaseProducer<Deliveries>, KafkaError> {
        if self.client.is_none() {
            let settings = settings::transactional_producer(&self.config, self.bounds, &self.id);
            let client: BaseProducer<Deliveries> = settings
                .create_with_context(Deliveries {
                    refusal: Mutex::new(None),
                    errors: Arc::clone(&self.errors),
                })
                .map_err(|error| {
                    KafkaError::from_client("making a transactional producer", &error)
                })?;
            let begun = client.init_transactions(STEP_TIMEOUT);
            begun.map_err(|error| KafkaError::from_client("taking over transactions", &error))?;
            self.client = Some(client);
        }
        // INVARIANT: it was made just now when it was absent.
        Ok(self.client.as_ref().expect("the client was made"))
    }
}

enum Failed {
    /// Nothing was committed.
    BeforeCommit(ClientError),
    /// The commit may have been carried out.
    InDoubt(ClientError),
}

fn transact(
    client: &BaseProducer<Deliveries>,
    records: &[Arc<Record>],
    positions: &[CommitPosition],
    consumer: &RecordConsumer,
) -> Result<(), Failed> {
    let deliveries = client.client().context();
    drop(deliveries.take_refusal());
    client.begin_transaction().map_err(Failed::BeforeCommit)?;
    for record in records {
        send(client, record).map_err(Failed::BeforeCommit)?;
    }
    client.flush(STEP_TIMEOUT).map_err(Failed::BeforeCommit)?;
    if let Some(error) = deliveries.take_refusal() {
        return Err(Failed::BeforeCommit(error));
    }
    consumer
        .send_offsets(client, positions, STEP_TIMEOUT)
        .map_err(Failed::BeforeCommit)?;
    client
        .commit_transaction(STEP_TIMEOUT)
        .map_err(Failed::InDoubt)
}

fn send(client: &BaseProducer<Deliveries>, record: &Record) -> Result<(), ClientError> {
    let headers = record
        .headers
        .iter()
        .fold(OwnedHeaders::new(), |all, (key, value)| {
            all.insert(Header {
                key,
                value: Some(value.as_bytes()),
            })
        });
    let outgoing = BaseRecord::to(&record.topic)
        .key(&record.key[..])
        .payload(&record.value[..])
        .headers(headers);
    client.send(outgoing).map_err(|(error, _)| error)
}
