//! What is finished and waits to land: outputs and positions go out in transactions, one after another.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::backoff::Backoff;
use shared::id::EventId;
use shared::kafka::{
    CommitError, CommitPosition, Doubt, OutputRecord, RecordConsumer, TransactionalProducer,
};
use shared::readiness::{Part, PartState, Readiness};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::partition::{Partition, Sealed};
use super::told::Told;

/// First and longest wait before a transaction is tried again.
const RETRY_WAIT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// The most records of one transaction, except where one item has more.
const TRANSACTION_ITEMS_MAX: usize = 200;
/// The most bytes of one transaction, except where one item has more: the producer's queue must hold all of it.
const TRANSACTION_BYTES_MAX: usize = 16 << 20;
/// Items and bytes that wait for a transaction before nothing more is read: dead letters come as fast as they are read.
const WAITING_ITEMS_MAX: usize = 10_000;
const WAITING_BYTES_MAX: usize = 2 * TRANSACTION_BYTES_MAX;

/// Something that is finished, with the records that tell of it.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(super) partition: i32,
    pub(super) sealed: Sealed,
    pub(super) records: Vec<Arc<OutputRecord>>,
    /// Told when the records and the position have landed; dropped when the partition is gone.
    pub(super) landed: Option<oneshot::Sender<()>>,
}

impl Finished {
    /// The event that it is the end of, with its partition.
    fn event(&self) -> Option<(EventId, i32)> {
        match self.sealed {
            Sealed::Event { event_id, .. } => Some((event_id, self.partition)),
            Sealed::DeadLetter { .. } | Sealed::Truncated { .. } => None,
        }
    }

    fn bytes(&self) -> usize {
        self.records.iter().map(|record| record.bytes()).sum()
    }
}

/// The transactions.
pub(super) struct Outbox {
    consumer: Arc<RecordConsumer>,
    /// Away while a transaction runs.
    producer: Option<TransactionalProducer>,
    running: Option<JoinHandle<Ended>>,
    /// Finished, and in no transaction yet.
    waiting: Vec<Finished>,
    waiting_bytes: usize,
    /// In the running transaction, or in one that failed and will be tried again.
    in_hand: Vec<Finished>,
    /// What was in hand may have landed.
    doubt: Option<Doubt>,
    /// Dropped when no transaction with their partitions is running.
    revoked: Vec<oneshot::Sender<Infallible>>,
    /// A record is larger than its topic takes by now.
    has_outgrown: bool,
    backoff: Backoff,
    /// A failed transaction is not tried again before.
    not_before: Instant,
    told: Told,
    readiness: Readiness,
}

struct Ended {
    producer: TransactionalProducer,
    result: Result<Step, CommitError>,
}

/// What a transaction's task has come to.
enum Step {
    /// What was in hand has landed.
    Landed,
    /// It has not, and goes into the next transaction.
    NotLanded,
}

impl Outbox {
    pub(super) fn new(
        consumer: Arc<RecordConsumer>,
        producer: TransactionalProducer,
        told: Told,
        readiness: Readiness,
    ) -> Self {
        Self {
            consumer,
            producer: Some(producer),
            running: None,
            waiting: Vec::new(),
            waiting_bytes: 0,
            in_hand: Vec::new(),
            doubt: None,
            revoked: Vec::new(),
            has_outgrown: false,
            backoff: fresh_backoff(),
            not_before: Instant::now(),
            told,
            readiness,
        }
    }

    /// Takes something finished, to be told in the next transaction.
    pub(super) fn push(&mut self, finished: Finished) {
        self.waiting_bytes += finished.bytes();
        self.waiting.push(finished);
    }

    /// Whether more may be read that could end here at once.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < WAITING_ITEMS_MAX && self.waiting_bytes < WAITING_BYTES_MAX
    }

    /// Whether a record in hand is larger than its topic takes: its topic's limit was lowered, and it has to be cut again.
    pub(super) fn has_outgrown(&self) -> bool {
        self.has_outgrown
    }

    /// Whether everything has landed.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.in_hand.is_empty() && self.running.is_none()
    }

    /// Forgets what belongs to partitions that are no longer ours: whoever has them next will tell it, from where they
    /// were left when the running transaction has ended. Then `settled` is dropped.
    pub(super) fn forget(&mut self, partitions: &[i32], settled: oneshot::Sender<Infallible>) {
        let is_ours = |finished: &Finished| !partitions.contains(&finished.partition);
        self.waiting.retain(is_ours);
        self.waiting_bytes = self.waiting.iter().map(Finished::bytes).sum();
        self.in_hand.retain(is_ours);
        if self.running.is_some() {
            self.revoked.push(settled);
        }
    }

    /// Begins a transaction when none is running and there is something to tell or to commit.
    pub(super) fn begin(&mut self, partitions: &mut HashMap<i32, Partition>) {
        if self.not_before > Instant::now() {
            return;
        }
        let Some(producer) = self.producer.take() else {
            return;
        };
        if let Some(doubt) = self.doubt.clone() {
            return self.settle(producer, doubt);
        }
        for finished in self.take_waiting() {
            if let Some(partition) = partitions.get_mut(&finished.partition) {
                partition.seal(finished.sealed);
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
            return self.rest(producer);
        }
        let records: Vec<Arc<OutputRecord>> = self
            .in_hand
            .iter()
            .flat_map(|finished| finished.records.iter().cloned())
            .collect();
        let consumer = Arc::clone(&self.consumer);
        self.running = Some(tokio::task::spawn_blocking(move || {
            let mut producer = producer;
            let result = producer.commit(&records, &positions, &consumer);
            Ended {
                producer,
                result: result.map(|()| Step::Landed),
            }
        }));
    }

    /// What there is room for beside what is in hand.
    fn take_waiting(&mut self) -> Vec<Finished> {
        let mut items = self.in_hand.len();
        let mut bytes: usize = self.in_hand.iter().map(Finished::bytes).sum();
        let fits = |finished: &&Finished| {
            let is_first = items == 0;
            items += 1;
            bytes += finished.bytes();
            is_first || (items <= TRANSACTION_ITEMS_MAX && bytes <= TRANSACTION_BYTES_MAX)
        };
        let fitting = self.waiting.iter().take_while(fits).count();
        let taken: Vec<Finished> = self.waiting.drain(..fitting).collect();
        self.waiting_bytes -= taken.iter().map(Finished::bytes).sum::<usize>();
        taken
    }

    /// Finds out whether what is in hand has landed.
    fn settle(&mut self, producer: TransactionalProducer, doubt: Doubt) {
        let consumer = Arc::clone(&self.consumer);
        self.running = Some(tokio::task::spawn_blocking(move || {
            let mut producer = producer;
            let result = match producer.settle(&doubt, &consumer) {
                Ok(true) => Ok(Step::Landed),
                Ok(false) => Ok(Step::NotLanded),
                Err(error) => Err(CommitError::InDoubt { doubt, error }),
            };
            Ended { producer, result }
        }));
    }

    /// There is nothing to tell; but what an earlier client left open is ended.
    fn rest(&mut self, producer: TransactionalProducer) {
        if !producer.is_unsettled() {
            self.producer = Some(producer);
            return;
        }
        self.running = Some(tokio::task::spawn_blocking(move || {
            let mut producer = producer;
            let result = producer.reopen();
            Ended {
                producer,
                result: result.map(|()| Step::NotLanded).map_err(CommitError::from),
            }
        }));
    }

    /// Waits a moment until the state has heard what is told.
    pub(super) async fn finish_telling(&mut self) {
        self.told.finish().await;
    }

    /// These were told by another processor, or in an earlier life.
    pub(super) fn note_told(&self, events: Vec<(EventId, i32)>) {
        self.told.note(events);
    }

    /// Waits for the running transaction, and begins no other. What has not landed is left to whoever comes next.
    pub(super) async fn halt(&mut self) {
        if self.running.is_some() {
            self.ended().await;
        }
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
        self.revoked.clear();
        self.doubt = None;
        match result {
            Ok(step) => {
                self.backoff = fresh_backoff();
                self.readiness.set(Part::Producer, PartState::Ready);
                if matches!(step, Step::NotLanded) {
                    return;
                }
                let told = self.in_hand.iter().filter_map(Finished::event);
                self.told.note(told.collect());
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
                let items = self.in_hand.len();
                match &error {
                    CommitError::TooLarge(error) => {
                        tracing::error!(%error, items, "outputs have to be cut again");
                        self.has_outgrown = true;
                    }
                    CommitError::NotLanded(error) => {
                        tracing::warn!(%error, items, "outputs have not landed; trying again");
                    }
                    CommitError::InDoubt { doubt, error } => {
                        tracing::warn!(%error, items, "outputs may have landed; settling that");
                        self.doubt = Some(doubt.clone());
                    }
                }
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
