//! Deliveries from the spool directory: the files are read where they are, oldest first.

use bytes::Bytes;
use jiff::Timestamp;
use shared::envelope::{AttachmentKind, Envelope};
use shared::metrics::Metrics;
use shared::outcome::{CorruptAttachment, Failure};
use shared::spool::{SpoolDamage, SpoolDirectory, SpoolEntry};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Assembled, Claim, Completion, Delivery, Incomplete};

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
        let spool = self.spool.clone();
        let read = tokio::task::spawn_blocking(move || {
            let read = spool.read(&entry);
            (entry, read)
        });
        // INVARIANT: reading does not panic, and blocking tasks are not cancelled.
        let (entry, read) = read.await.expect("reading a spool file does not panic");
        match read {
            Ok(envelope) => {
                let claim = Claim::Spool {
                    spool: self.spool.clone(),
                    entry,
                };
                let assembled = Assembled {
                    envelope,
                    incomplete: Vec::new(),
                    offset: 0,
                };
                Some(Delivery {
                    assembled,
                    partition: None,
                    completion: Completion::new(claim),
                })
            }
            Err(damage) => self.quarantine(entry, &damage),
        }
    }

    /// A damaged file is kept aside, and its crash fails with what is wrong with it: its 200 has been given.
    fn quarantine(&self, entry: SpoolEntry, damage: &SpoolDamage) -> Option<Delivery> {
        self.metrics.spool_quarantined_files.inc();
        match self.spool.quarantine(&entry, damage) {
            Ok(kept) => {
                tracing::error!(%damage, kept = %kept.display(), "a damaged spool file was set aside")
            }
            Err(error) => {
                tracing::error!(%damage, %error, "a damaged spool file cannot be set aside")
            }
        }
        let Some((project_id, event_id)) = entry.ids() else {
            tracing::error!(
                ?entry,
                "a spool file without an event id in its name has no outcome"
            );
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
        let failure = Failure::CorruptAttachment(CorruptAttachment {
            attachment: entry.name().to_owned(),
            check: "spool file".into(),
            expected: "a whole spool file".into(),
            found: damage.to_string(),
        });
        let incomplete = vec![Incomplete {
            kind: AttachmentKind::Minidump,
            failure,
        }];
        let assembled = Assembled {
            envelope,
            incomplete,
            offset: 0,
        };
        Some(Delivery {
            assembled,
            partition: None,
            completion: Completion::new(Claim::Quarantined),
        })
    }
}
