//! Tells the state which outcomes have landed in their topics, behind the transactions.

use std::time::{Duration, Instant};

use shared::backoff::Backoff;
use shared::id::EventId;
use shared::state::State;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Transactions whose events wait to be noted. Of more it is not noted that they are told: it is found out when the partition
/// is taken over the next time, and matters only when somebody resets the group's offsets before.
const WAITING_MAX: usize = 256;
/// First and longest wait before it is tried again.
const RETRY_WAIT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How long a stop waits for the last of it.
const STOP_WAIT: Duration = Duration::from_secs(2);

/// The way to the state.
pub(super) struct Told {
    events: Option<mpsc::Sender<Vec<(EventId, i32)>>>,
    writing: JoinSet<()>,
}

impl Told {
    pub(super) fn start(state: State) -> Self {
        let (events, told) = mpsc::channel(WAITING_MAX);
        let mut writing = JoinSet::new();
        writing.spawn(write(state, told));
        Self {
            events: Some(events),
            writing,
        }
    }

    /// Events with their partitions that are told. Never waits.
    pub(super) fn note(&self, events: Vec<(EventId, i32)>) {
        if events.is_empty() {
            return;
        }
        let sent = self.events.as_ref().map(|told| told.try_send(events));
        if sent.is_none_or(|sent| sent.is_err()) {
            tracing::debug!("the state does not hear now which outcomes are told");
        }
    }

    /// Waits a moment until all of it is written.
    pub(super) async fn finish(&mut self) {
        self.events = None;
        let written = tokio::time::timeout(STOP_WAIT, self.writing.join_next());
        if written.await.is_err() {
            tracing::debug!("the state did not hear which outcomes are told");
        }
    }
}

async fn write(state: State, mut told: mpsc::Receiver<Vec<(EventId, i32)>>) {
    let (first, longest) = RETRY_WAIT;
    while let Some(mut events) = told.recv().await {
        while let Ok(more) = told.try_recv() {
            events.extend(more);
        }
        let mut backoff = Backoff::forever(first, longest);
        while let Err(error) = state.note_told(&events).await {
            tracing::debug!(%error, "which outcomes are told is noted later");
            tokio::time::sleep(backoff.next_wait(Instant::now()).unwrap_or(longest)).await;
        }
    }
}
