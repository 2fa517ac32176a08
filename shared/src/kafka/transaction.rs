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
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext, PurgeConfig};

use super::consumer::{CommitPosition, RecordConsumer};
use super::error::{KafkaError, is_too_large};
use super::error_log::ErrorLog;
use super::mark::TransactionMark;
use super::producer::ProducerBounds;
use super::record::OutputRecord;
use super::settings;
use crate::config::KafkaConfig;

/// How long one step of a transaction may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(20);

const SENDING: &str = "writing records";

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
    /// Nothing has landed, and never will: a record is larger than its topic takes by now.
    #[error("{0}")]
    TooLarge(KafkaError),
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
        records: &[Arc<OutputRecord>],
        positions: &[CommitPosition],
        consumer: &RecordConsumer,
    ) -> Result<(), CommitError> {
        let client = self.client()?;
        let mark = TransactionMark::random();
        match transact(client, records, positions, &mark, consumer) {
            Ok(()) => Ok(()),
            Err(Failed::BeforeCommit(error)) => {
                if abort(client).is_err() {
                    self.give_up();
                }
                let refused = KafkaError::from_client("writing outputs", &error);
                Err(match is_too_large(&error) {
                    true => CommitError::TooLarge(refused),
                    false => CommitError::NotLanded(refused),
                })
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
            .map_err(|error| {
                let doing = "making a transactional producer";
                KafkaError::from_settings(doing, &error, &self.config.options)
            })
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
    records: &[Arc<OutputRecord>],
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

/// Ends a transaction without its records. librdkafka waits for the reports of those that it holds, and nobody but us hears
/// them: unheard, they would keep it waiting for as long as it may.
fn abort(client: &BaseProducer<Deliveries>) -> Result<(), ClientError> {
    client.purge(PurgeConfig::default().queue());
    client.flush(STEP_TIMEOUT)?;
    client.abort_transaction(STEP_TIMEOUT)
}

fn send(client: &BaseProducer<Deliveries>, record: &OutputRecord) -> Result<(), ClientError> {
    let headers = record
        .headers
        .iter()
        .fold(OwnedHeaders::new(), |all, (key, value)| {
            all.insert(Header {
                key,
                value: Some(&value[..]),
            })
        });
    let mut outgoing = BaseRecord::to(&record.topic)
        .payload(&record.value[..])
        .headers(headers);
    if !record.key.is_empty() {
        outgoing = outgoing.key(&record.key[..]);
    }
    outgoing.partition = record.partition;
    client.send(outgoing).map_err(|(error, _)| error)
}

/// Records that are given one by one and land together, without positions. Dropped before [`Transaction::commit`], none of
/// them does. Its calls block the thread.
pub struct Transaction<'p> {
    producer: &'p mut TransactionalProducer,
    /// Bytes given since librdkafka was last waited for.
    unflushed_bytes: usize,
    is_open: bool,
}

impl TransactionalProducer {
    /// Ends what an earlier client of this id left open, shuts that client out, and begins a transaction.
    ///
    /// # Errors
    /// [`KafkaError`]
    pub fn begin(&mut self) -> Result<Transaction<'_>, KafkaError> {
        let client = self.client()?;
        drop(client.client().context().take_refusal());
        client
            .begin_transaction()
            .map_err(|error| KafkaError::from_client("beginning a transaction", &error))?;
        Ok(Transaction {
            producer: self,
            unflushed_bytes: 0,
            is_open: true,
        })
    }
}

impl Transaction<'_> {
    /// Adds a record; waits for the brokers when they have not confirmed as many bytes as may be in flight.
    ///
    /// # Errors
    /// [`KafkaError`]: the transaction is to be dropped.
    pub fn send(&mut self, record: &OutputRecord) -> Result<(), KafkaError> {
        self.unflushed_bytes += record.bytes();
        if self.unflushed_bytes > self.producer.bounds.inflight_bytes {
            self.flush()?;
            self.unflushed_bytes = record.bytes();
        }
        send(self.client()?, record).map_err(|error| KafkaError::from_client(SENDING, &error))
    }

    /// Lets all of it land.
    ///
    /// # Errors
    /// [`KafkaError`]: when it is [`KafkaError::Unavailable`], it may have landed all the same, and only the topics tell.
    pub fn commit(mut self) -> Result<(), KafkaError> {
        self.flush()?;
        self.is_open = false;
        let committed = self.client()?.commit_transaction(STEP_TIMEOUT);
        committed.map_err(|error| {
            self.producer.give_up();
            KafkaError::from_client("committing a transaction", &error)
        })
    }

    fn flush(&self) -> Result<(), KafkaError> {
        let client = self.client()?;
        let flushed = client.flush(STEP_TIMEOUT);
        match client.client().context().take_refusal() {
            Some(refusal) => Err(refusal),
            None => flushed,
        }
        .map_err(|error| KafkaError::from_client(SENDING, &error))
    }

    fn client(&self) -> Result<&BaseProducer<Deliveries>, KafkaError> {
        let client = self.producer.client.as_ref();
        client.ok_or_else(|| KafkaError::Unavailable {
            doing: SENDING,
            error: "the producer was given up".into(),
        })
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if !self.is_open {
            return;
        }
        let aborted = self.client().is_ok_and(|client| abort(client).is_ok());
        if !aborted {
            self.producer.give_up();
        }
    }
}
