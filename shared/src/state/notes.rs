//! Accepted notes on their way to the store: a bounded queue in front of it, so that no upload ever waits for it.

use std::time::Instant;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::store::Store;
use super::{AcceptedNote, StateError};
use crate::backoff::Backoff;
use crate::limits;
use crate::metrics::{Metrics, StateOperation};

/// The queue's sending end.
#[derive(Debug)]
pub(super) struct Notes {
    queue: mpsc::Sender<Entry>,
    metrics: Metrics,
}

#[derive(Debug)]
enum Entry {
    Note(AcceptedNote),
    /// Answered when everything before it is written, or could not be.
    Flush(oneshot::Sender<Result<(), StateError>>),
}

impl Notes {
    /// Starts the task that writes notes to `store` until `stop`.
    pub(super) fn start(
        store: Store,
        metrics: Metrics,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let (queue, entries) = mpsc::channel(limits::STATE_QUEUE_NOTES_MAX);
        let recorder = Recorder {
            entries,
            notes: Vec::new(),
            flushes: Vec::new(),
            store,
            metrics: metrics.clone(),
            stop,
        };
        tasks.spawn(recorder.run());
        Self { queue, metrics }
    }

    /// Queues a note, or drops and counts it.
    pub(super) fn push(&self, note: AcceptedNote) {
        if self.queue.try_send(Entry::Note(note)).is_err() {
            self.metrics.state_dropped_notes.inc();
        }
    }

    /// Waits until every note queued so far is written.
    pub(super) async fn flush(&self) -> Result<(), StateError> {
        let away = |problem: &str| StateError::Away(problem.into());
        let (flush, flushed) = oneshot::channel();
        self.queue
            .try_send(Entry::Flush(flush))
            .map_err(|_| away("the queue of accepted notes is full or closed"))?;
        timeout(limits::STATE_REQUEST_TIMEOUT, flushed)
            .await
            .map_err(|_| away("the queue of accepted notes does not empty"))?
            .map_err(|_| away("stopped"))?
    }
}

/// The queue's receiving end.
struct Recorder {
    entries: mpsc::Receiver<Entry>,
    notes: Vec<AcceptedNote>,
    flushes: Vec<oneshot::Sender<Result<(), StateError>>>,
    store: Store,
    metrics: Metrics,
    stop: CancellationToken,
}

impl Recorder {
    async fn run(mut self) {
        let mut backoff = Self::backoff();
        while !self.stop.is_cancelled() {
            self.gather().await;
            if self.write().await.is_ok() {
                backoff = Self::backoff();
                continue;
            }
            let wait = backoff.next_wait(Instant::now());
            let wait = tokio::time::sleep(wait.unwrap_or(limits::STATE_RETRY_WAIT_MAX));
            self.stop.run_until_cancelled(wait).await;
        }
        self.drain().await;
    }

    fn backoff() -> Backoff {
        Backoff::forever(limits::STATE_FLUSH_INTERVAL, limits::STATE_RETRY_WAIT_MAX)
    }

    /// Waits for a note, then for its company: until the batch is full, a flush is asked for, or they waited enough.
    async fn gather(&mut self) {
        if self.notes.is_empty() {
            let Some(entry) = self.stop.run_until_cancelled(self.entries.recv()).await else {
                return;
            };
            self.take(entry);
        }
        let enough = tokio::time::sleep(limits::STATE_FLUSH_INTERVAL);
        tokio::pin!(enough);
        while self.wants_company() {
            let entry = tokio::select! {
                biased;
                entry = self.entries.recv() => entry,
                () = &mut enough => return,
                () = self.stop.cancelled() => return,
            };
            self.take(entry);
        }
    }

    fn wants_company(&self) -> bool {
        let full = self.notes.len() >= limits::STATE_BATCH_RECORDS_MAX;
        !full && self.flushes.is_empty() && !self.stop.is_cancelled()
    }

    fn take(&mut self, entry: Option<Entry>) {
        match entry {
            Some(Entry::Note(note)) => self.notes.push(note),
            Some(Entry::Flush(flush)) => self.flushes.push(flush),
            // The last handle on the state is gone: nobody will say stop.
            None => self.stop.cancel(),
        }
    }

    /// Writes the batch; keeps it when that fails. Answers the flushes either way.
    async fn write(&mut self) -> Result<(), StateError> {
        let written = if self.notes.is_empty() {
            Ok(())
        } else {
            self.store.accept(self.notes.clone()).await
        };
        match &written {
            Ok(()) => self.notes.clear(),
            Err(_) => self.metrics.count_state_error(StateOperation::Accept),
        }
        for flush in self.flushes.drain(..) {
            // Whoever asked may have gone.
            drop(flush.send(written.clone()));
        }
        written
    }

    /// Writes what is left, as long as a stop may take.
    async fn drain(&mut self) {
        self.entries.close();
        let deadline = Instant::now() + limits::STATE_STOP_TIMEOUT;
        let wait = limits::STATE_FLUSH_INTERVAL;
        let mut backoff = Backoff::until(wait, limits::STATE_RETRY_WAIT_MAX, deadline);
        loop {
            while self.notes.len() < limits::STATE_BATCH_RECORDS_MAX {
                match self.entries.try_recv() {
                    Ok(entry) => self.take(Some(entry)),
                    Err(_) => break,
                }
            }
            match self.write().await {
                Ok(()) if self.entries.is_empty() => return,
                Ok(()) => {}
                Err(error) => match backoff.next_wait(Instant::now()) {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => return self.give_up(&error),
                },
            }
        }
    }

    fn give_up(&mut self, error: &StateError) {
        let notes = self.notes.len() + self.entries.len();
        self.metrics.state_dropped_notes.inc_by(notes as u64);
        tracing::warn!(%error, notes, "accepted notes were not written; their outcomes will count them");
    }
}
