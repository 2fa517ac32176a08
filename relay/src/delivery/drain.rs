//! From the spool to Kafka, oldest first, beneath the live uploads.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use shared::backoff::Backoff;
use shared::id::{EventId, ProjectId};
use shared::kafka::Delivered;
use shared::metrics::Metrics;
use shared::spool::{
    SpoolDamage, SpoolDirectory, SpoolEntry, SpoolError, SpooledUpload, UnreadEntry,
};
use shared::state::{AcceptedNote, State};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::DeliveryError;
use super::breaker::BreakerWatch;
use super::courier::{Courier, Share};
use super::gate::Gate;
use super::receipt::place_of;

/// Spooled uploads on their way at once, when Kafka confirms; while it does not, one goes ahead.
const DRAINED_AT_ONCE: usize = 4;
/// First and longest wait before an upload is tried again.
const RETRY_WAIT: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// How often progress is logged.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);

/// The draining task.
pub(super) struct Drain {
    pub(super) spool: SpoolDirectory,
    pub(super) courier: Arc<Courier>,
    pub(super) breaker: BreakerWatch,
    pub(super) state: State,
    pub(super) metrics: Metrics,
}

/// What one upload's way out came to.
enum Drained {
    Delivered,
    /// Its file was damaged: it is in the quarantine, and its crash fails with the reason.
    SetAside,
    /// It waits again.
    Kept,
}

impl Drain {
    /// Sends uploads until `stop`. What is on its way then stays in the spool, and is sent again after the next start.
    pub(super) async fn run(self, stop: CancellationToken) {
        let drain = Arc::new(self);
        let mut under_way = JoinSet::new();
        let mut progress = Progress::new();
        loop {
            let at_once = match drain.breaker.open() {
                None => DRAINED_AT_ONCE,
                Some(_) => 1,
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(ended) = under_way.join_next() => match ended {
                    Ok(Drained::Delivered) => progress.note(&drain.spool),
                    Ok(Drained::SetAside | Drained::Kept) => {}
                    Err(error) => tracing::error!(%error, "draining an upload panicked; this is a bug"),
                },
                entry = drain.spool.take(), if under_way.len() < at_once => {
                    let span = tracing::info_span!("drain", file = entry.name());
                    let drain = Arc::clone(&drain);
                    under_way.spawn(async move { drain.drain(entry).await }.instrument(span));
                }
            }
        }
    }

    async fn drain(&self, entry: SpoolEntry) -> Drained {
        let (entry, read) = on_disk(move || {
            let read = entry.read();
            (entry, read)
        })
        .await;
        match read {
            Ok(upload) => self.send(entry, upload).await,
            Err(UnreadEntry::Damaged(damage)) => self.send_damage(entry, &damage).await,
            Err(UnreadEntry::Unreadable(error)) => {
                tracing::warn!(%error, "a spool file cannot be read now");
                sleep(RETRY_WAIT.1).await;
                Drained::Kept
            }
        }
    }

    /// An upload that can be read. What of it has changed goes out as it is, under the hash that it was received with:
    /// the processor names it.
    async fn send(&self, entry: SpoolEntry, upload: SpooledUpload) -> Drained {
        let damage = upload.damage_report();
        let SpooledUpload { envelope, .. } = upload;
        let mut backoff = backoff();
        // It is durable already: whose it is was found out before.
        let gate = Gate::open();
        let delivered = loop {
            match self.courier.deliver(&envelope, Share::Spooled, &gate).await {
                Ok(delivered) => break delivered,
                Err(error) => {
                    if let DeliveryError::Unreadable(error) = &error {
                        tracing::warn!(%error, "a spool file cannot be read now");
                    }
                    rest(&mut backoff, &error).await;
                }
            }
        };
        let ids = (envelope.project_id, envelope.event_id);
        self.note_place(ids, envelope.received_at, delivered).await;
        match damage {
            None => self.delivered(on_disk(move || entry.remove()).await),
            Some(damage) => self.set_aside(entry, damage).await,
        }
    }

    /// A file from which no upload can be read: its crash is told to have failed, if the name still says which it is.
    async fn send_damage(&self, entry: SpoolEntry, damage: &SpoolDamage) -> Drained {
        let damage = damage.to_string();
        let mut backoff = backoff();
        let received_at = entry.received_at().unwrap_or_else(Timestamp::now);
        while let Some(ids) = entry.ids() {
            let told = self
                .courier
                .deliver_damage(ids, received_at, entry.name(), &damage);
            match told.await {
                Ok(delivered) => {
                    self.note_place(ids, received_at, delivered).await;
                    break;
                }
                Err(error) => rest(&mut backoff, &error).await,
            }
        }
        self.set_aside(entry, damage).await
    }

    /// Notes where the message stands, before the file is gone: what retention removes unread ends as a failure only when
    /// that is known. A state store that is away holds up nothing.
    async fn note_place(
        &self,
        (project_id, event_id): (ProjectId, EventId),
        received_at: Timestamp,
        delivered: Delivered,
    ) {
        self.state.note_accepted(AcceptedNote {
            event_id,
            project_id,
            received_at,
            place: place_of(delivered),
            claim: None,
        });
        if let Err(error) = self.state.flush().await {
            tracing::debug!(%error, "where a drained upload stands is noted later");
        }
    }

    fn delivered(&self, removed: Result<(), SpoolError>) -> Drained {
        if let Err(error) = removed {
            tracing::error!(%error, "a delivered upload stays in the spool; it is sent once more after the next start");
        }
        self.metrics.drained_uploads.inc();
        Drained::Delivered
    }

    async fn set_aside(&self, entry: SpoolEntry, reasons: String) -> Drained {
        let logged = reasons.clone();
        match on_disk(move || entry.set_aside(&reasons)).await {
            Ok(kept) => {
                self.metrics.spool_quarantined_files.inc();
                tracing::error!(damage = logged, kept = %kept.display(), "a damaged spool file was set aside");
            }
            Err(error) => {
                tracing::error!(%error, damage = logged, "a damaged spool file cannot be set aside");
            }
        }
        Drained::SetAside
    }
}

fn backoff() -> Backoff {
    let (first, longest) = RETRY_WAIT;
    Backoff::forever(first, longest)
}

async fn rest(backoff: &mut Backoff, error: &DeliveryError) {
    tracing::debug!(%error, "not drained yet");
    let wait = backoff.next_wait(std::time::Instant::now());
    sleep(wait.unwrap_or(RETRY_WAIT.1)).await;
}

/// Runs disk work on the threads for it.
async fn on_disk<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is going down: nobody waits for this any more.
            Err(_cancelled) => std::future::pending().await,
        },
    }
}

/// How far a drain has come, for the log.
struct Progress {
    uploads: u64,
    begun: Instant,
    told: Instant,
}

impl Progress {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            uploads: 0,
            begun: now,
            told: now,
        }
    }

    fn note(&mut self, spool: &SpoolDirectory) {
        let usage = spool.usage();
        if self.uploads == 0 {
            *self = Self::new();
        }
        self.uploads += 1;
        let seconds = self.begun.elapsed().as_secs();
        if usage.files == 0 {
            tracing::info!(uploads = self.uploads, seconds, "the spool is drained");
            self.uploads = 0;
        } else if self.told.elapsed() >= PROGRESS_INTERVAL {
            let oldest = usage.oldest.map(|oldest| oldest.to_string());
            tracing::info!(
                uploads = self.uploads,
                seconds,
                files_left = usage.files,
                bytes_left = usage.bytes,
                oldest,
                "draining the spool"
            );
            self.told = Instant::now();
        }
    }
}
