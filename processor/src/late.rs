//! Files that came after their crash: they go to its folder, and a list of them beside its report, which stays as it is.

use bytes::Bytes;
use serde::Deserialize;
use shared::id::EventId;
use shared::outcome::{Failure, Verdict};
use shared::report::{ReportAttachment, USER_REPORT_NAME};
use shared::state::EventStatus;
use shared::storage::EventFolder;

use crate::files::corruption;
use crate::intake::Assembled;
use crate::pipeline::{Fate, Pipeline, again};

/// The one field of an event that says that it is none.
#[derive(Deserialize)]
struct Late {
    attached_to: Option<EventId>,
}

impl Assembled {
    /// The crash whose files these are, when they are no crash of their own.
    pub(crate) fn attached_to(&self) -> Option<EventId> {
        let late: Result<Late, _> = serde_json::from_slice(&self.envelope.event);
        late.ok()?.attached_to
    }
}

impl Pipeline {
    /// Stores what came of the files. One that is not whole fails the upload, whose only purpose it was; the others are
    /// kept all the same. Those of a deleted event are not kept.
    ///
    /// `scrubbed`: what the project does not keep was taken out of what users wrote; so their files are not kept as they are.
    pub(crate) async fn attach(
        &self,
        assembled: &Assembled,
        event: EventId,
        scrubbed: bool,
    ) -> Fate {
        let processed = Fate {
            verdict: Verdict::Processed,
            attempts: 0,
            report: None,
        };
        let Some(folder) = self.folder_of(assembled, event).await else {
            self.note_deleted();
            return processed;
        };
        let fate = self.attach_to(folder, assembled, scrubbed).await;
        // Deleted meanwhile: what was stored since its files were listed has to go as well.
        if self.folder_of(assembled, event).await.is_none() {
            again("removing late files of a deleted event", || async {
                let stored = self.storage.event(folder).await?;
                self.storage.remove(&[stored]).await
            })
            .await;
            self.note_deleted();
            return processed;
        }
        fate
    }

    fn note_deleted(&self) {
        self.metrics.late_files_of_deleted_events.inc();
        tracing::info!("late files of a deleted event are not kept");
    }

    async fn attach_to(&self, folder: EventFolder, assembled: &Assembled, scrubbed: bool) -> Fate {
        let envelope = &assembled.envelope;
        let mut lost: Option<Failure> = assembled
            .incomplete
            .first()
            .map(|incomplete| incomplete.failure.clone());
        let mut stored: Vec<ReportAttachment> = Vec::new();
        for (n, attachment) in envelope.attachments.iter().enumerate() {
            if scrubbed && attachment.name == USER_REPORT_NAME {
                continue;
            }
            match corruption(attachment).await {
                Some(corrupt) => {
                    lost.get_or_insert(Failure::CorruptAttachment(corrupt));
                }
                None => {
                    let path = folder.late_attachment(envelope.event_id, n, &attachment.name);
                    stored.push(self.store(attachment, path).await);
                }
            }
        }
        // INVARIANT: attachments are texts and numbers under text keys, which always make JSON.
        let list = Bytes::from(serde_json::to_vec(&stored).expect("lists encode"));
        again("listing late files", || {
            self.storage
                .store_document(folder.late_list(envelope.event_id), list.clone())
        })
        .await;
        Fate {
            verdict: lost.map_or(Verdict::Processed, Verdict::Failed),
            attempts: 0,
            report: None,
        }
    }

    /// The crash's folder; while the crash itself has not come, the one it would have today. `None`: it was deleted.
    pub(crate) async fn folder_of(
        &self,
        assembled: &Assembled,
        event_id: EventId,
    ) -> Option<EventFolder> {
        let envelope = &assembled.envelope;
        let project_id = envelope.project_id;
        let status = again("looking up the crash of late files", || {
            self.state.status(project_id, event_id)
        });
        let received_at = match status.await {
            Some(EventStatus::Accepted { received_at }) => received_at,
            Some(EventStatus::Finished(outcome)) => outcome.received_at,
            Some(EventStatus::Deleted { .. }) => return None,
            None => envelope.received_at,
        };
        Some(EventFolder {
            project_id,
            received_at,
            event_id,
        })
    }
}
