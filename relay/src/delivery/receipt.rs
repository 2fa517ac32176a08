//! The proof that an upload is durable. A 200 can be built from nothing else.

use shared::id::EventId;
use shared::kafka::Delivered;
use shared::metrics::Durable;
use shared::spool::Stored;
use shared::state::{DurableElsewhere, LogPlace};

/// Proof that an upload is durable. It is only made from the broker's confirmation of the event message, which goes out
/// after every chunk was confirmed, or from a synced spool file; and for a repeat from the word of the state store that
/// the first upload had such a proof.
#[derive(Debug)]
#[must_use = "a receipt is what a 200 is built from"]
pub struct Receipt {
    event_id: EventId,
    durable: Option<Durable>,
    /// Where its message stands in the log, when that is known.
    place: Option<LogPlace>,
}

impl Receipt {
    pub(super) fn confirmed(event_id: EventId, event_message: Delivered) -> Self {
        Self {
            event_id,
            durable: Some(Durable::Kafka),
            place: place_of(event_message),
        }
    }

    pub(super) fn stored(stored: &Stored, durable: Durable) -> Self {
        Self {
            event_id: stored.event_id(),
            durable: Some(durable),
            place: None,
        }
    }

    /// The proof of another relay, or of this one before it was started.
    pub(crate) fn elsewhere(proof: &DurableElsewhere) -> Self {
        Self {
            event_id: proof.event_id(),
            durable: None,
            place: None,
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
            durable: Some(Durable::Local),
            place: None,
        }
    }

    /// The upload.
    #[must_use]
    pub fn event_id(&self) -> EventId {
        self.event_id
    }

    /// Where its message stands in the ingest topic; `None` when it is not there, or librdkafka does not say.
    #[must_use]
    pub fn place(&self) -> Option<LogPlace> {
        self.place
    }

    /// What made it durable; `None` when this process did not.
    #[must_use]
    pub fn durable(&self) -> Option<Durable> {
        self.durable
    }
}

/// Where a confirmed message stands; `None` when librdkafka found it written by an earlier try of its own.
pub(super) fn place_of(delivered: Delivered) -> Option<LogPlace> {
    (delivered.offset() >= 0).then(|| LogPlace {
        partition: delivered.partition(),
        offset: delivered.offset(),
    })
}
