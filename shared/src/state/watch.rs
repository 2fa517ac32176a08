//! Keeps the ledger's gauges and the store's readiness up to date, and has old statuses forgotten.

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
            }
            Err(error) => {
                self.metrics.count_state_error(StateOperation::Ledger);
                let state = PartState::not_ready(error.to_string());
                self.readiness.set(Part::State, state);
            }
        }
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
