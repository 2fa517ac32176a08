//! One event from its delivery to its outcome: keep the files, parse the dump, tell report and outcome, complete.

use std::fmt::Display;
use std::future::Future;
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use shared::backoff::Backoff;
use shared::config::{KeepMinidump, PrivacyConfig};
use shared::content::Content;
use shared::envelope::{Attachment, AttachmentKind, Envelope};
use shared::id::EventId;
use shared::metrics::{Metrics, Stage};
use shared::outcome::{Failure, Outcome, Verdict};
use shared::privacy::PrivacyRules;
use shared::report::{Processing, Report, ReportAttachment};
use shared::state::{AttemptId, Finished, State};
use shared::storage::{EventFolder, Storage, StoragePath};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::sleep;

use crate::files::{ReportFiles, corruption};
use crate::intake::{Assembled, Delivery, Incomplete};
use crate::parser::{Attempts, Parsed, ParserPool};
use crate::publish::Publisher;
use crate::report::{self, DumpDetails};
use crate::user_reports::UserReports;

/// What reports name as their parser.
pub(crate) const PARSER_NAME: &str = "rust-minidump 0.27";
/// First and longest wait before storage, parser, topics or state are tried again.
const RETRY_WAIT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// What an event passes through.
pub(crate) struct Pipeline {
    pub(crate) parser: ParserPool,
    pub(crate) storage: Storage,
    pub(crate) state: State,
    pub(crate) publisher: Publisher,
    pub(crate) privacy: PrivacyRules,
    pub(crate) metrics: Metrics,
}

/// What became of an event before it is told.
pub(crate) struct Fate {
    pub(crate) verdict: Verdict,
    pub(crate) attempts: u32,
    pub(crate) report: Option<(Report, Bytes)>,
}

impl Fate {
    fn failed(failure: Failure, attempts: u32) -> Self {
        Self {
            verdict: Verdict::Failed(failure),
            attempts,
            report: None,
        }
    }
}

impl Pipeline {
    /// Brings an event to its outcome, however long storage, parser, topics and state take to do their part.
    ///
    /// The state is told first and the topics last, together with the queue's forgetting the event. Killed in between, the
    /// event is delivered again, is known as finished, and is told as it was recorded, without being parsed again.
    ///
    /// `place` is given back as soon as the telling is on its way: a transaction takes as long for many events as for one.
    pub(crate) async fn process(&self, delivery: Delivery, place: OwnedSemaphorePermit) {
        let Delivery {
            mut assembled,
            partition,
            completion,
            waiting,
        } = delivery;
        drop(waiting);
        let ids = [assembled.envelope.event_id];
        let known = again("looking up the event", || self.state.finished(&ids)).await;
        let (outcome, report) = match known.into_iter().flatten().next() {
            Some(outcome)
                if is_of_this_message(&outcome, partition, assembled.offset)
                    && self.is_untold(&outcome).await =>
            {
                tracing::info!("finished before, and told again");
                let report = self.stored_report(&outcome).await;
                (outcome, report)
            }
            Some(_) => {
                tracing::info!("a copy of a finished event");
                return completion.complete(Vec::new()).await.wait().await;
            }
            None => {
                if let Err(error) = assembled.envelope.restore_event() {
                    tracing::error!(%error, "the event's data cannot be read back");
                }
                let attached_to = assembled.attached_to();
                let privacy = self.privacy.of(assembled.envelope.project_id);
                let reports = UserReports::of(&assembled.envelope, attached_to, &privacy);
                let fate = match attached_to {
                    Some(event) => self.attach(&assembled, event, reports.scrubbed).await,
                    None => self.decide(&assembled).await,
                };
                self.list_user_reports(&assembled, reports).await;
                let outcome = outcome(
                    &assembled,
                    attached_to,
                    partition,
                    fate.verdict,
                    fate.attempts,
                );
                (self.record(outcome).await, fate.report)
            }
        };
        log(&outcome);
        let _publishing = self.metrics.enter(Stage::Publish);
        let records = self.publisher.records(report, &outcome);
        let landing = completion.complete(records).await;
        // Only what is told is still needed.
        drop((place, assembled));
        landing.wait().await;
    }

    /// Records the outcome; returns the one that is recorded.
    async fn record(&self, outcome: Outcome) -> Outcome {
        let recording = self.metrics.enter(Stage::Record);
        let recorded = again("recording the outcome", || {
            self.state.finish(std::slice::from_ref(&outcome))
        })
        .await;
        drop(recording);
        match recorded.into_iter().next() {
            Some(Finished::Already(earlier)) => {
                // Another processor had the event, too, and was quicker; or our own answer was lost.
                tracing::info!("processed, and known as finished already");
                self.metrics.finished_again.inc();
                earlier
            }
            Some(Finished::First) | None => {
                self.metrics.count_outcome(&outcome.verdict);
                outcome
            }
        }
    }

    async fn stored_report(&self, outcome: &Outcome) -> Option<(Report, Bytes)> {
        match outcome.verdict {
            Verdict::Failed(_) => None,
            Verdict::Processed => {
                let Outcome {
                    event_id,
                    project_id,
                    received_at,
                    ..
                } = *outcome;
                let folder = EventFolder {
                    project_id,
                    received_at,
                    event_id,
                };
                let encoded = again("reading the report", || self.storage.report(folder)).await?;
                let report = serde_json::from_slice(&encoded);
                let report = report
                    .inspect_err(|error| tracing::error!(%error, "a stored report cannot be read"));
                Some((report.ok()?, encoded))
            }
        }
    }

    async fn decide(&self, assembled: &Assembled) -> Fate {
        let envelope = &assembled.envelope;
        let privacy = self.privacy.of(envelope.project_id);
        let mut files = ReportFiles {
            warnings: assembled.warnings.clone(),
            ..ReportFiles::default()
        };
        for Incomplete { kind, failure } in &assembled.incomplete {
            if *kind == AttachmentKind::Minidump {
                return Fate::failed(failure.clone(), 0);
            }
            files.note_incomplete(kind, failure);
        }
        let storing = self.metrics.enter(Stage::Store);
        let folder = EventFolder {
            project_id: envelope.project_id,
            received_at: envelope.received_at,
            event_id: envelope.event_id,
        };
        for (n, attachment) in envelope.attachments.iter().enumerate() {
            let is_minidump = attachment.kind == AttachmentKind::Minidump;
            match (corruption(attachment).await, is_minidump) {
                (Some(corrupt), true) => {
                    return Fate::failed(Failure::CorruptAttachment(corrupt), 0);
                }
                (Some(corrupt), false) => {
                    files.note_incomplete(&attachment.kind, &Failure::CorruptAttachment(corrupt));
                }
                (None, true) => match privacy.minidump {
                    KeepMinidump::Always => {
                        let stored = self.store(attachment, folder.minidump()).await;
                        files.stored.push(stored);
                    }
                    KeepMinidump::Never => files.note_not_kept(attachment, "never"),
                    KeepMinidump::Failed => files.note_not_kept(attachment, "failed"),
                },
                (None, false) => {
                    let path = folder.attachment(n, &attachment.name);
                    files.stored.push(self.store(attachment, path).await);
                }
            }
        }
        drop(storing);
        let kept = files.clone();
        let fate = self.parse(assembled, folder, files, &privacy).await;
        if let Verdict::Failed(_) = &fate.verdict {
            self.keep_failed(assembled, folder, kept, &privacy).await;
        }
        fate
    }

    /// Keeps what it takes to process a crash again whose dump could not be parsed: the dump, where the project wants it
    /// then, and what the client said. Without its dump it never will be.
    async fn keep_failed(
        &self,
        assembled: &Assembled,
        folder: EventFolder,
        mut files: ReportFiles,
        privacy: &PrivacyConfig,
    ) {
        let envelope = &assembled.envelope;
        match (privacy.minidump, envelope.minidump()) {
            (KeepMinidump::Never, _) | (_, None) => return,
            (KeepMinidump::Always, Some(_)) => {}
            (KeepMinidump::Failed, Some(minidump)) => {
                files.note_kept(self.store(minidump, folder.minidump()).await);
            }
        }
        let processing = Processing {
            parser: PARSER_NAME.to_owned(),
            started_at: Timestamp::now(),
            seconds: 0.0,
            warnings: files.warnings,
            revision: None,
            reprocessed_at: None,
            partial: None,
        };
        let dump = DumpDetails::default();
        let event = report::build(envelope, dump, files.stored, processing, privacy);
        let encoded = report::encode(&event);
        again("storing the event", || {
            self.storage.store_document(folder.event(), encoded.clone())
        })
        .await;
    }

    async fn parse(
        &self,
        assembled: &Assembled,
        folder: EventFolder,
        mut files: ReportFiles,
        privacy: &PrivacyConfig,
    ) -> Fate {
        let envelope = &assembled.envelope;
        let mut processing = Processing {
            parser: PARSER_NAME.to_owned(),
            started_at: Timestamp::now(),
            seconds: 0.0,
            warnings: std::mem::take(&mut files.warnings),
            revision: None,
            reprocessed_at: None,
            partial: None,
        };
        let mut attempts = 0;
        let mut dump = DumpDetails::default();
        if let Some(minidump) = envelope.minidump() {
            let parsed = self.parse_minidump(envelope, &minidump.content).await;
            attempts = parsed.attempts;
            processing.started_at = parsed.last.started_at;
            processing.seconds = parsed.last.seconds;
            match parsed.last.result {
                Ok(told) => {
                    dump.details = told.details;
                    dump.time = told.time;
                    processing.warnings.extend(told.warnings);
                    processing.partial = told.partial;
                    if processing.partial.is_some() {
                        self.metrics.partial_reports.inc();
                    }
                }
                Err(error) => return Fate::failed(error.into(), attempts),
            }
        }
        let report = report::build(envelope, dump, files.stored, processing, privacy);
        let encoded = report::encode(&report);
        again("storing the report", || {
            self.storage
                .store_document(folder.report(), encoded.clone())
        })
        .await;
        Fate {
            verdict: Verdict::Processed,
            attempts,
            report: Some((report, encoded)),
        }
    }

    /// Hands a dump to the parser. The attempts are counted in the state, so that a dump that takes this process with it
    /// does so no more often than it may.
    async fn parse_minidump(&self, envelope: &Envelope, minidump: &Content) -> Parsed {
        let Envelope {
            event_id: event,
            project_id: project,
            ..
        } = *envelope;
        let _parsing = self.metrics.enter(Stage::Parse);
        let attempts = Attempts::new(|| async move {
            let attempt = AttemptId::random();
            let begun = again("counting an attempt", || {
                self.state.begin_attempt(event, attempt)
            })
            .await;
            if begun <= self.parser.begun_max() {
                self.metrics.parser_attempts.inc();
            }
            begun
        });
        let parsed = again("parsing", || {
            self.parser.parse(project, minidump, &attempts)
        })
        .await;
        let seconds = parsed.last.seconds;
        self.metrics.parse_duration_seconds.observe(seconds);
        parsed
    }

    pub(crate) async fn store(
        &self,
        attachment: &Attachment,
        path: StoragePath,
    ) -> ReportAttachment {
        let stored = again("storing a file", || {
            self.storage.store(path.clone(), &attachment.content)
        })
        .await;
        ReportAttachment {
            name: attachment.name.clone(),
            kind: attachment.kind.to_string(),
            size: attachment.content.len(),
            sha256: Some(stored.sha256),
            path: Some(stored.path.to_string()),
            missing: None,
        }
    }
}

/// Whether the outcome was recorded for the very message that is being processed: then it may not have been told yet.
/// In embedded mode there is one message, the file.
fn is_of_this_message(outcome: &Outcome, partition: Option<i32>, offset: i64) -> bool {
    outcome.partition == partition && outcome.offset == partition.map(|_| offset)
}

fn outcome(
    assembled: &Assembled,
    attached_to: Option<EventId>,
    partition: Option<i32>,
    verdict: Verdict,
    attempts: u32,
) -> Outcome {
    Outcome {
        event_id: assembled.envelope.event_id,
        project_id: assembled.envelope.project_id,
        attached_to,
        verdict,
        received_at: assembled.envelope.received_at,
        finished_at: Timestamp::now(),
        attempts,
        partition,
        offset: partition.map(|_| assembled.offset),
    }
}

/// Does something until it succeeds. What cannot succeed for the event's own sake is not an error here but a verdict.
pub(crate) async fn again<T, E, F>(doing: &'static str, mut attempt: impl FnMut() -> F) -> T
where
    E: Display,
    F: Future<Output = Result<T, E>>,
{
    let (first, longest) = RETRY_WAIT;
    let mut backoff = Backoff::forever(first, longest);
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(error) => tracing::warn!(%error, doing, "trying again"),
        }
        sleep(backoff.next_wait(Instant::now()).unwrap_or(longest)).await;
    }
}

fn log(outcome: &Outcome) {
    match &outcome.verdict {
        Verdict::Processed => tracing::info!(attempts = outcome.attempts, "processed"),
        Verdict::Failed(failure) => {
            tracing::warn!(
                reason = failure.reason().as_str(),
                ?failure,
                attempts = outcome.attempts,
                "failed"
            );
        }
    }
}
