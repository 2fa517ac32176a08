//! Where deliveries come from: the Kafka topic, or the spool directory of this process.

mod assembly;
mod kafka;
mod local;
mod scratch;
mod watermark;

use shared::id::EventId;
use shared::spool::{SpoolDirectory, SpoolEntry};
use tokio::sync::mpsc;

pub(crate) use assembly::{Assembled, Incomplete};
pub use kafka::IntakeLost;
pub(crate) use kafka::KafkaIntake;
pub(crate) use local::LocalIntake;

/// An event to be brought to its outcome.
#[derive(Debug)]
pub(crate) struct Delivery {
    /// What arrived of it.
    pub(crate) assembled: Assembled,
    /// Its partition; `None` from the local queue.
    pub(crate) partition: Option<i32>,
    /// To be called when the outcome is told.
    pub(crate) completion: Completion,
}

/// The queue's claim on an event. Dropped without [`Completion::complete`], the event stays in the queue and is
/// delivered again: after a restart from Kafka, at once from the spool.
#[derive(Debug)]
#[must_use = "an event that is not completed is delivered again"]
pub(crate) struct Completion(Option<Claim>);

#[derive(Debug)]
enum Claim {
    Kafka {
        done: mpsc::Sender<Done>,
        partition: i32,
        event_id: EventId,
    },
    Spool {
        spool: SpoolDirectory,
        entry: SpoolEntry,
    },
    /// The file is in quarantine: there is nothing left to remove.
    Quarantined,
}

/// What the Kafka intake learns about its offsets.
#[derive(Debug)]
pub(crate) enum Done {
    /// The event's outcome is told.
    Event {
        /// Its partition.
        partition: i32,
        /// Which.
        event_id: EventId,
    },
    /// The record is in the dead letters.
    DeadLetter {
        /// Its partition.
        partition: i32,
        /// Its offset.
        offset: i64,
    },
}

impl Completion {
    fn new(claim: Claim) -> Self {
        Self(Some(claim))
    }

    /// The outcome is told: the queue may forget the event.
    pub(crate) async fn complete(mut self) {
        match self.0.take() {
            Some(Claim::Kafka {
                done,
                partition,
                event_id,
            }) => {
                // The intake outlives every completion; if it died, the event is delivered again and known as finished.
                drop(
                    done.send(Done::Event {
                        partition,
                        event_id,
                    })
                    .await,
                );
            }
            Some(Claim::Spool { spool, entry }) => {
                let removed = tokio::task::spawn_blocking(move || spool.remove(entry)).await;
                if let Ok(Err(error)) = removed {
                    tracing::error!(%error, "a finished upload stays in the spool; the next start will know it as finished");
                }
            }
            Some(Claim::Quarantined) | None => {}
        }
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        match self.0.take() {
            Some(Claim::Kafka { event_id, .. }) => {
                tracing::warn!(%event_id, "unfinished: it will be delivered again after a restart");
            }
            Some(Claim::Spool { spool, entry }) => spool.put_back(entry),
            Some(Claim::Quarantined) | None => {}
        }
    }
}
