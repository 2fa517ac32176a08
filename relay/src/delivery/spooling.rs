//! Uploads into the spool, and what operators see of it.

use std::time::Duration;

use jiff::Timestamp;
use shared::envelope::Envelope;
use shared::limits::UPLOAD_MEMORY_BYTES_MAX;
use shared::metrics::Metrics;
use shared::readiness::{Part, PartState, Readiness};
use shared::spool::{Draft, SpoolDirectory, SpoolError, Stored};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::DeliveryError;

/// How often the spool is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Makes an upload durable on this machine's disk.
pub(super) async fn store(
    spool: &SpoolDirectory,
    envelope: Envelope,
    draft: Draft,
) -> Result<Stored, DeliveryError> {
    let spool = spool.clone();
    let stored = tokio::task::spawn_blocking(move || spool.store(&envelope, draft));
    let stored = stored
        .await
        .map_err(|error| DeliveryError::Internal(error.to_string()))?;
    Ok(stored?)
}

/// Shows what is in the spool, and whether it would take more.
pub(super) struct SpoolWatch {
    pub(super) spool: SpoolDirectory,
    pub(super) readiness: Readiness,
    pub(super) metrics: Metrics,
}

impl SpoolWatch {
    pub(super) async fn run(self, stop: CancellationToken) {
        match self.spool.quarantined_files() {
            Ok(files) => {
                self.metrics.spool_quarantined_files.set(files as i64);
            }
            Err(error) => tracing::warn!(%error, "the quarantine cannot be listed"),
        };
        loop {
            let spool = self.spool.clone();
            let probed = tokio::task::spawn_blocking(move || spool.probe()).await;
            self.look(probed.unwrap_or(Ok(())));
            if stop
                .run_until_cancelled(sleep(LOOK_INTERVAL))
                .await
                .is_none()
            {
                return;
            }
        }
    }

    /// `probed` is what a small write has come to.
    pub(super) fn look(&self, probed: Result<(), SpoolError>) {
        let usage = self.spool.usage();
        let age = usage
            .oldest
            .map(|oldest| Timestamp::now().duration_since(oldest).as_secs_f64());
        self.metrics.spool_files.set(usage.files as i64);
        self.metrics.spool_bytes.set(usage.bytes as i64);
        self.metrics.spool_oldest_seconds.set(age.unwrap_or(0.0));
        let room = self.spool.check(UPLOAD_MEMORY_BYTES_MAX as u64);
        let state = match probed.and(room) {
            Ok(()) => PartState::Ready,
            Err(error) => PartState::not_ready(error.to_string()),
        };
        self.readiness.set(Part::Spool, state);
    }
}
