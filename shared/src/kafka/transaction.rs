//! Outputs and offsets that land together or not at all: the processor's one producer, transactional.
//!
//! librdkafka follows the older transaction protocol, in which a lost answer leaves the outcome of a commit in doubt.
//! Whatever is in doubt is settled by a new client of the same transactional id, which ends what the old one left open,
//! and by asking the group what is committed: the positions are part of the transaction and carry its mark, so they tell.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::error::KafkaError as ClientError;
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};

use super::consumer::{CommitPosition, RecordConsumer};
use super::error::KafkaError;
use super::error_log::ErrorLog;
use super::mark::TransactionMark;
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
    /// The client may begin a transaction.
    is_open: bool,
    was_used: bool,
}

/// Why a commit did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Nothing has landed.
    #[error(transparent)]
    NotLanded(#[from] KafkaError),
    /// All of it may have landed: [`TransactionalProducer::settle`] tells, and until it has, nothing of it may be repeated.
    #[error("{error}")]
    InDoubt {
        /// What to settle.
        doubt: Doubt,
        /// What went wrong.
        error: KafkaError,
    },
}

/// A commit whose answer was lost.
#[derive(Debug, Clone)]
pub struct Doubt {
    mark: TransactionMark,
    partitions: Vec<i32>,
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
            is_open: false,
            was_used: false,
        }
    }

    /// Writes the records and commits the positions, together.
    ///
    /// # Errors
    /// [`CommitError`] says whether they may have landed.
    pub fn commit(
        &mut self,
        records: &[Arc<Record>],
        positions: &[CommitPosition],
        consumer: &RecordConsumer,
    ) -> Result<(), CommitError> {
        let client = self.client()?;
        let mark = TransactionMark::random();
        match transact(client, records, positions, &mark, consumer) {
            Ok(()) => Ok(()),
            Err(Failed::BeforeCommit(error)) => {
                if client.abort_transaction(STEP_TIMEOUT).is_err() {
                    self.give_up();
                }
                Err(KafkaError::from_client("writing outputs", &error).into())
            }
            Err(Failed::InDoubt(error)) => {
                self.give_up();
                Err(CommitError::InDoubt {
                    doubt: Doubt {
                        mark,
                        partitions: positions.iter().map(|at| at.partition).collect(),
                    },
                    error: KafkaError::from_client("committing outputs", &error),
                })
            }
        }
    }

    /// Ends what an earlier client left open, and says whether the commit in doubt was carried out.
    ///
    /// # Errors
    /// [`KafkaError`]: it is not known yet.
    pub fn settle(&mut self, doubt: &Doubt, consumer: &RecordConsumer) -> Result<bool, KafkaError> {
        self.client()?;
        consumer.has_committed(&doubt.mark, &doubt.partitions)
    }

    /// Whether a client of ours may have left a transaction open: until it is ended, by us or by its time-out, nobody
    /// learns where our partitions were left.
    #[must_use]
    pub fn is_unsettled(&self) -> bool {
        !self.is_open && self.was_used
    }

    /// Ends what an earlier client left open.
    ///
    /// # Errors
    /// [`KafkaError`]
    pub fn reopen(&mut self) -> Result<(), KafkaError> {
        self.client().map(|_| ())
    }

    /// The client, open for a transaction; opening it settles what an earlier one of this id left open.
    fn client(&mut self) -> Result<&BaseProducer<Deliveries>, KafkaError> {
        let client = match self.client.take() {
            Some(client) => client,
            None => self.make_client()?,
        };
        if !self.is_open {
            match client.init_transactions(STEP_TIMEOUT) {
                Ok(()) => self.is_open = true,
                Err(error) => {
                    // Asked again, this client goes on from here; only one that failed for good is made anew.
                    if client.client().fatal_error().is_none() {
                        self.client = Some(client);
                    }
                    return Err(KafkaError::from_client("taking over transactions", &error));
                }
            }
            self.was_used = true;
        }
        Ok(self.client.insert(client))
    }

    fn make_client(&mut self) -> Result<BaseProducer<Deliveries>, KafkaError> {
        self.is_open = false;
        settings::transactional_producer(&self.config, self.bounds, &self.id)
            .create_with_context(Deliveries {
                refusal: Mutex::new(None),
                errors: Arc::clone(&self.errors),
            })
            .map_err(|error| KafkaError::from_client("making a transactional producer", &error))
    }

    /// The client cannot go on; the next one settles what it leaves open.
    fn give_up(&mut self) {
        self.client = None;
        self.is_open = false;
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
    mark: &TransactionMark,
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
        .send_offsets(client, positions, mark, STEP_TIMEOUT)
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
