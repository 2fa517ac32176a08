//! The local queue: a synced spool file is the queue's entry.

use shared::envelope::Envelope;
use shared::readiness::{Need, Part, PartState};
use shared::services::Services;
use shared::spool::{Draft, SpoolDirectory};

use super::{DeliveryError, Receipt};

pub(super) struct LocalQueue {
    spool: SpoolDirectory,
}

impl LocalQueue {
    pub(super) fn open(services: &Services, spool: SpoolDirectory) -> Self {
        services.readiness.register(Part::Spool, Need::Required);
        let state = match spool.check() {
            Ok(()) => PartState::Ready,
            Err(error) => PartState::not_ready(error.to_string()),
        };
        services.readiness.set(Part::Spool, state);
        Self { spool }
    }

    pub(super) async fn publish(
        &self,
        envelope: Envelope,
        draft: Option<Draft>,
    ) -> Result<Receipt, DeliveryError> {
        let spool = self.spool.clone();
        let stored = tokio::task::spawn_blocking(move || spool.store(&envelope, draft));
        let stored = stored
            .await
            .map_err(|error| DeliveryError::Internal(error.to_string()))?;
        Ok(Receipt::queued(&stored?))
    }
}
