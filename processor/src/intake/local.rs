//! Deliveries from the spool directory: the files are read where they are, oldest first.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use shared::envelope::{AttachmentKind, Envelope};
use shared::metrics::{InStage, Metrics, Stage};
use shared::outcome::{CorruptAttachment, Failure};
use shared::spool::{SpoolDamage, SpoolDirectory, SpoolEntry, SpooledUpload, UnreadEntry};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{Assembled, Claim, Completion, Delivery, Incomplete};

/// How long intake rests when the system has no means to read a file.
const UNREADABLE_WAIT: Duration = Duration::from_secs(1);

/// Takes uploads out of the spool.
pub(crate) struct LocalIntake {
    pub(crate) spool: SpoolDirectory,
    pub(crate) metrics: Metrics,
}

impl LocalIntake {
    /// Hands uploads over until `stop`.
    pub(crate) async fn run(self, deliveries: mpsc::Sender<Delivery>, stop: CancellationToken) {
        loop {
            let next = async {
                let place = deliveries.reserve().await.ok()?;
                Some((place, self.spool.take().await))
            };
            let Some(Some((place, entry))) = stop.run_until_cancelled(next).await else {
                return;
            };
            self.metrics.records_consumed.inc();
            self.metrics.records_first_seen.inc();
            if let Some(delivery) = self.delivery(entry).await {
                place.send(delivery);
            }
        }
    }

    async fn delivery(&self, entry: SpoolEntry) -> Option<Delivery> {
        let read = tokio::task::spawn_blocking(move || {
            let read = entry.read();
            (entry, read)
        });
        // INVARIANT: reading does not panic, and blocking tasks are not cancelled.
        let (entry, read) = read.await.expect("reading a spool file does not panic");
        match read {
            Ok(upload) => Some(self.whole(entry, upload)),
            Err(UnreadEntry::Damaged(damage)) => self.damaged(entry, &damage).await,
            Err(UnreadEntry::Unreadable(error)) => {
                tracing::warn!(%error, name = entry.name(), "a spool file cannot be read now");
                sleep(UNREADABLE_WAIT).await;
                None
            }
        }
    }

    /// An upload that can be read, if not in all parts: then the pipeline finds what changed by its hash.
    fn whole(&self, entry: SpoolEntry, upload: SpooledUpload) -> Delivery {
        let damage = upload.damage_report();
        let SpooledUpload { mut envelope, .. } = upload;
        let claim = match damage {
            None => {
                // Verified a moment ago: once is enough.
                for attachment in &mut envelope.attachments {
                    attachment.blake3 = None;
                }
                Claim::Spool(entry)
            }
            Some(damage) => self.kept(entry, damage),
        };
        delivery(envelope, Vec::new(), claim, self.metrics.enter(Stage::Wait))
    }

    /// A damaged file is kept aside, and its crash fails with what is wrong with it: its 200 has been given.
    async fn damaged(&self, entry: SpoolEntry, damage: &SpoolDamage) -> Option<Delivery> {
        let damage = damage.to_string();
        let Some((project_id, event_id)) = entry.ids() else {
            tracing::error!(
                ?entry,
                "a spool file without an event id in its name has no outcome"
            );
            let kept = Completion::new(self.kept(entry, damage));
            kept.complete(Vec::new()).await.wait().await;
            return None;
        };
        let envelope = Envelope {
            event_id,
            project_id,
            received_at: entry.received_at().unwrap_or_else(Timestamp::now),
            remote_addr: None,
            event: Bytes::from_static(b"{}"),
            attachments: Vec::new(),
        };
        let corrupt = CorruptAttachment::spool_file(entry.name(), &damage);
        let incomplete = vec![Incomplete {
            kind: AttachmentKind::Minidump,
            failure: Failure::CorruptAttachment(corrupt),
        }];
        let kept = self.kept(entry, damage);
        let waiting = self.metrics.enter(Stage::Wait);
        Some(delivery(envelope, incomplete, kept, waiting))
    }

    fn kept(&self, entry: SpoolEntry, damage: String) -> Claim {
        Claim::Damaged {
            entry,
            damage,
            metrics: self.metrics.clone(),
        }
    }
}

fn delivery(
    envelope: Envelope,
    incomplete: Vec<Incomplete>,
    claim: Claim,
    waiting: InStage,
) -> Delivery {
    Delivery {
        assembled: Assembled {
            envelope,
            incomplete,
            warnings: Vec::new(),
            offset: 0,
        },
        partition: None,
        completion: Completion::new(claim),
        waiting,
    }
}
