//! The proof that an upload is durable. A 200 can be built from nothing else.

use shared::id::EventId;
use shared::kafka::Delivered;
use shared::metrics::Durable;
use shared::spool::Stored;

/// Proof that an upload is durable. It is only made from the broker's confirmation of the event message, which goes out
/// after every chunk was confirmed, or from a synced spool file.
#[derive(Debug)]
#[must_use = "a receipt is what a 200 is built from"]
pub struct Receipt {
    event_id: EventId,
    durable: Durable,
}

impl Receipt {
    pub(super) fn confirmed(event_id: EventId, _event_message: Delivered) -> Self {
        Self {
            event_id,
            durable: Durable::Kafka,
        }
    }

    pub(super) fn stored(stored: &Stored, durable: Durable) -> Self {
        Self {
            event_id: stored.event_id(),
            durable,
        }
    }

    /// The same proof for a repeat of the upload: what is durable stays so.
    pub(crate) fn repeated(&self) -> Self {
        Self { ..*self }
    }

    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        Self {
            event_id: EventId::random(),
            durable: Durable::Local,
        }
    }

    /// The upload.
    #[must_use]
    pub fn event_id(&self) -> EventId {
        self.event_id
    }

    /// What made it durable.
    #[must_use]
    pub fn durable(&self) -> Durable {
        self.durable
    }
}
