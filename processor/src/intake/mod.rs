//! Where deliveries come from: the Kafka topic, or the spool directory of this process.

mod assembly;
mod foreign;
mod held_back;
mod kafka;
mod local;
mod lost_events;
mod outbox;
mod partition;
mod reading_clock;
mod received_at;
mod scratch;
mod told;
mod watermark;

use std::sync::Arc;

use shared::kafka::OutputRecord;
use shared::metrics::{InStage, Metrics};
use shared::spool::SpoolEntry;
use tokio::sync::{mpsc, oneshot};

pub(crate) use assembly::{Assembled, Incomplete};
pub(crate) use kafka::{IntakeParts, KafkaIntake};
pub(crate) use local::LocalIntake;
pub(crate) use partition::Patience;
pub(crate) use scratch::ChunkPlace;

use outbox::Finished;
use partition::Sealed;

/// An event to be brought to its outcome.
#[derive(Debug)]
pub(crate) struct Delivery {
    /// What arrived of it.
    pub(crate) assembled: Assembled,
    /// Its partition; `None` from the local queue.
    pub(crate) partition: Option<i32>,
    /// To be called when the outcome is told.
    pub(crate) completion: Completion,
    /// Until a place among the events under way is free.
    pub(crate) waiting: InStage,
}

/// The queue's claim on an event. Dropped without [`Completion::complete`], the event stays in the queue and is
/// delivered again: after a restart from Kafka, at once from the spool.
#[derive(Debug)]
#[must_use = "an event that is not completed is delivered again"]
pub(crate) struct Completion(Option<Claim>);

#[derive(Debug)]
enum Claim {
    Kafka {
        finished: mpsc::Sender<Finished>,
        partition: i32,
        sealed: Sealed,
    },
    Spool(SpoolEntry),
    /// Its file is damaged: it is kept, not removed.
    Damaged {
        entry: SpoolEntry,
        damage: String,
        metrics: Metrics,
    },
}

impl Completion {
    fn new(claim: Claim) -> Self {
        Self(Some(claim))
    }

    /// The outcome is recorded: `records` tell of it, together with the queue's forgetting the event. Returns when both
    /// are on their way, and what tells when they have happened.
    pub(crate) async fn complete(mut self, records: Vec<Arc<OutputRecord>>) -> Landing {
        match self.0.take() {
            Some(Claim::Kafka {
                finished,
                partition,
                sealed,
            }) => {
                let (landed, has_landed) = oneshot::channel();
                let told = Finished {
                    partition,
                    sealed,
                    records,
                    landed: Some(landed),
                };
                // Nobody takes it when the intake has ended: then it has not landed.
                let _ended = finished.send(told).await;
                return Landing(Some((partition, sealed, has_landed)));
            }
            Some(Claim::Spool(entry)) => {
                let removed = tokio::task::spawn_blocking(move || entry.remove()).await;
                if let Ok(Err(error)) = removed {
                    tracing::error!(%error, "a finished upload stays in the spool; the next start will know it as finished");
                }
            }
            Some(Claim::Damaged {
                entry,
                damage,
                metrics,
            }) => {
                let kept = tokio::task::spawn_blocking(move || entry.set_aside(&damage)).await;
                match kept {
                    Ok(Ok(kept)) => {
                        metrics.spool_quarantined_files.inc();
                        tracing::error!(kept = %kept.display(), "a damaged spool file was set aside");
                    }
                    Ok(Err(error)) => {
                        tracing::error!(%error, "a damaged spool file cannot be set aside");
                    }
                    Err(error) => {
                        tracing::error!(%error, "setting a file aside panicked; this is a bug")
                    }
                }
            }
            None => {}
        }
        Landing(None)
    }
}

/// What was told of an event, on its way.
#[derive(Debug)]
pub(crate) struct Landing(Option<(i32, Sealed, oneshot::Receiver<()>)>);

impl Landing {
    /// Waits until it has landed, or is somebody else's business: another processor's that took the partition over.
    pub(crate) async fn wait(self) {
        let Some((partition, sealed, has_landed)) = self.0 else {
            return;
        };
        if has_landed.await.is_err() {
            tracing::info!(
                partition,
                ?sealed,
                "left to the processor that has the partition now"
            );
        }
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        match self.0.take() {
            Some(Claim::Kafka { sealed, .. }) => {
                tracing::info!(?sealed, "unfinished: it will be delivered again");
            }
            // Dropped, an entry waits again.
            Some(Claim::Spool(_) | Claim::Damaged { .. }) | None => {}
        }
    }
}
