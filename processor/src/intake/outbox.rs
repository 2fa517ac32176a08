//! What is finished and waits to land: outputs and positions go out in transactions, one after another.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::backoff::Backoff;
use shared::kafka::{CommitPosition, KafkaError, Record, RecordConsumer, TransactionalProducer};
use shared::readiness::{Part, PartState, Readiness};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::partition::{Partition, Sealed};

/// First and longest wait before a transaction is tried again.
const RETRY_WAIT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// The most records of one transaction, except where one item has more.
const TRANSACTION_ITEMS_MAX: usize = 200;

/// Something that is finished, with the records that tell of it.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(super) partition: i32,
    pub(super) sealed: Sealed,
    pub(super) records: Vec<Arc<Record>>,
    /// Told when the records and the position have landed; dropped when the partition is gone.
    pub(super) landed: Option<oneshot::Sender<()>>,
}

/// The transactions.
pub(super) struct Outbox {
    consumer: Arc<RecordConsumer>,
    /// Away while a transaction runs.
    producer: Option<TransactionalProducer>,
    running: Option<JoinHandle<Ended>>,
    /// Finished, and in no transaction yet.
    waiting: Vec<Finished>,
    /// In the running transaction, or in one that failed and will be tried again.
    in_hand: Vec<Finished>,
    backoff: Backoff,
    /// A failed transaction is not tried again before.
    not_before: Instant,
    readiness: Readiness,
}

struct Ended {
    producer: TransactionalProducer,
    result: Result<(), KafkaError>,
}

impl Outbox {
    pub(super) fn new(
        consumer: Arc<RecordConsumer>,
        producer: TransactionalProducer,
        readiness: Readiness,
    ) -> Self {
        Self {
            consumer,
            producer: Some(producer),
            running: None,
            waiting: Vec::new(),
            in_hand: Vec::new(),
            backoff: fresh_backoff(),
            not_before: Instant::now(),
            readiness,
        }
    }

    /// Takes something finished, to be told in the next transaction.
    pub(super) fn push(&mut self, finished: Finished) {
        self.waiting.push(finished);
    }

    /// Whether everything has landed.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.in_hand.is_empty() && self.running.is_none()
    }

    /// Forgets what belongs to a partition that is no longer ours: whoever has it now will tell it.
    pub(super) fn forget(&mut self, partition: i32) {
        self.waiting
            .retain(|finished| finished.partition != partition);
        self.in_hand
            .retain(|finished| finished.partition != partition);
    }

    /// Begins a transaction when none is running and there is something to tell or to commit.
    pub(super) fn begin(&mut self, partitions: &mut HashMap<i32, Partition>) {
        if self.not_before > Instant::now() {
            return;
        }
        let Some(producer) = self.producer.take() else {
            return;
        };
        let room = TRANSACTION_ITEMS_MAX
            .saturating_sub(self.in_hand.len())
            .min(self.waiting.len());
        let mut moved = Vec::new();
        for finished in self.waiting.drain(..room) {
            if let Some(partition) = partitions.get_mut(&finished.partition) {
                partition.seal(finished.sealed);
                moved.push(finished.partition);
                self.in_hand.push(finished);
            }
        }
        // A transaction that is tried again names its positions again, whether or not they moved since.
        let again: Vec<i32> = self
            .in_hand
            .iter()
            .map(|finished| finished.partition)
            .collect();
        let positions: Vec<CommitPosition> = partitions
            .iter_mut()
            .filter_map(|(number, partition)| {
                let position = partition.next_commit();
                position.or_else(|| again.contains(number).then(|| partition.position()))
            })
            .collect();
        if positions.is_empty() {
            self.producer = Some(producer);
            return;
        }
        let records: Vec<Arc<Record>> = self
            .in_hand
            .iter()
            .flat_map(|finished| finished.records.iter().cloned())
            .collect();
        let consumer = Arc::clone(&self.consumer);
        self.running = Some(tokio::task::spawn_blocking(move || {
            let mut producer = producer;
            let result = producer.commit(&records, &positions, &consumer);
            Ended { producer, result }
        }));
    }

    /// Waits for the running transaction; never ends when there is none.
    pub(super) async fn ended(&mut self) {
        let Some(running) = &mut self.running else {
            return std::future::pending().await;
        };
        let ended = running.await;
        self.running = None;
        // INVARIANT: a transaction does not panic, and blocking tasks are not cancelled.
        let Ended { producer, result } = ended.expect("a transaction does not panic");
        self.producer = Some(producer);
        match result {
            Ok(()) => {
                self.backoff = fresh_backoff();
                self.readiness.set(Part::Producer, PartState::Ready);
                for landed in self
                    .in_hand
                    .drain(..)
                    .filter_map(|finished| finished.landed)
                {
                    // Whoever waited may have been cut off by a stop; it has landed all the same.
                    let _cut_off = landed.send(());
                }
            }
            Err(error) => {
                tracing::warn!(%error, items = self.in_hand.len(), "outputs have not landed; trying again");
                self.readiness
                    .set(Part::Producer, PartState::not_ready(error.to_string()));
                let (_, longest) = RETRY_WAIT;
                let now = Instant::now();
                self.not_before = now + self.backoff.next_wait(now).unwrap_or(longest);
            }
        }
    }
}

fn fresh_backoff() -> Backoff {
    let (first, longest) = RETRY_WAIT;
    Backoff::forever(first, longest)
}
