//! Keeps the ledger's gauges and the store's readiness up to date, and has old statuses forgotten.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::MissedTickBehavior;

use super::store::Store;
use crate::limits;
use crate::metrics::{Metrics, StateOperation};
use crate::readiness::{Part, PartState, Readiness};

/// The watching task.
pub(super) struct Watch {
    pub(super) store: Store,
    pub(super) metrics: Metrics,
    pub(super) readiness: Readiness,
    /// How far events of earlier versions are in the index of those in flight.
    pub(super) indexed_to: AtomicU64,
}

impl Watch {
    /// Looks every now and then, for ever.
    pub(super) async fn run(self) {
        let mut refresh = interval(limits::STATE_LEDGER_REFRESH);
        let mut prune = interval(limits::STATE_PRUNE_INTERVAL);
        loop {
            tokio::select! {
                _ = refresh.tick() => self.look().await,
                _ = prune.tick() => self.prune().await,
            }
        }
    }

    /// Reads the ledger, and takes the answer for the store's health.
    pub(super) async fn look(&self) {
        match self.store.ledger().await {
            Ok(ledger) => {
                self.metrics.ledger.set(ledger);
                self.readiness.set(Part::State, PartState::Ready);
                if ledger.open.is_none() {
                    self.index_open().await;
                }
            }
            Err(error) => {
                self.metrics.count_state_error(StateOperation::Ledger);
                let state = PartState::not_ready(error.to_string());
                self.readiness.set(Part::State, state);
            }
        }
    }

    /// One step of the way, or the first one again after a failure: another role may have gone further.
    async fn index_open(&self) {
        let cursor = self.indexed_to.load(Ordering::Relaxed);
        let next = self.store.index_open(cursor).await;
        if let Err(error) = &next {
            self.metrics.count_state_error(StateOperation::Ledger);
            tracing::warn!(%error, "events in flight are not all indexed yet");
        }
        let next = next.ok().flatten().unwrap_or_default();
        self.indexed_to.store(next, Ordering::Relaxed);
    }

    async fn prune(&self) {
        if let Err(error) = self
            .store
            .prune(Timestamp::now() - limits::STATUS_KEPT)
            .await
        {
            self.metrics.count_state_error(StateOperation::Prune);
            tracing::warn!(%error, "old statuses stay for now");
        }
    }
}

fn interval(period: Duration) -> tokio::time::Interval {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}
