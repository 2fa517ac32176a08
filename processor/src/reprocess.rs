//! Stored dumps parsed again, by a parser that knows more: each becomes another revision of its report. The outcome stays
//! as it was told, and nothing is counted.

use std::io::{Seek as _, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use jiff::Timestamp;
use shared::config::Config;
use shared::content::{Content, Segment};
use shared::envelope::AttachmentKind;
use shared::kafka::{Admin, ProducerBounds, Record, RecordProducer, RefusedRecord};
use shared::limits::UPLOAD_MEMORY_BYTES_MAX;
use shared::metrics::Metrics;
use shared::outcome::Failure;
use shared::privacy::PrivacyRules;
use shared::report::{Processing, Report, ReportAttachment};
use shared::size_limit::TopicLimit;
use shared::storage::{EventFolder, Storage, StorageError, StoragePath, StoredFile};
use tokio::time::timeout;

use crate::parser::{Attempts, ParserPool, ParserSettings, ParserUnavailable};
use crate::pipeline::PARSER_NAME;
use crate::report::{self, DumpDetails};
use crate::run::ProcessorError;
use crate::topics::limit;

/// The header of a report's record that says which revision it is; the first telling of a report has none.
pub const REVISION_HEADER: &str = "revision";
/// Bytes of reports that are unconfirmed.
const INFLIGHT_BYTES: usize = 32 << 20;
/// How long the brokers may take to confirm a report.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(30);

/// What it takes to process crashes again.
pub struct Reprocessor {
    parser: ParserPool,
    storage: Storage,
    privacy: PrivacyRules,
    reports: Option<ReportsTopic>,
    scratch: PathBuf,
    workers: usize,
}

struct ReportsTopic {
    name: Arc<str>,
    limit: TopicLimit,
    producer: RecordProducer,
}

/// A report that was made anew.
#[derive(Debug, Clone, PartialEq)]
pub struct Renewed {
    /// Which report of its crash it is, from 1.
    pub revision: u32,
    /// Its signature.
    pub signature: Option<String>,
    /// How long parsing took.
    pub seconds: f64,
}

/// Why there is no new report. What was there before stays.
#[derive(Debug, thiserror::Error)]
pub enum NotRenewed {
    /// There never was anything to parse.
    #[error("it came without a minidump, so there is nothing to process again")]
    CameWithout,
    /// There is nothing left to parse.
    #[error("its dump is not stored: privacy.minidump, storage.keep, or it was deleted")]
    NoDump,
    /// Nothing is stored of what its client said.
    #[error("expected its report.json or event.json in the storage, found neither")]
    NoReport,
    /// The report cannot be read.
    #[error("its stored report cannot be read: {0}")]
    Unreadable(serde_json::Error),
    /// The dump cannot be parsed this time either.
    #[error("{}: {error}", reason.as_str())]
    Failed {
        /// The reason, as outcomes name it.
        reason: shared::outcome::Reason,
        /// What the parser said.
        error: String,
    },
    /// The storage.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The dump could not be kept for the parser.
    #[error("scratch file: {0}")]
    Scratch(#[from] std::io::Error),
    /// The parser.
    #[error(transparent)]
    Parser(#[from] ParserUnavailable),
    /// It is in the storage, and the topic does not have it.
    #[error("revision {revision} is stored, and not confirmed in the reports topic: {error}")]
    NotTold {
        /// Which revision.
        revision: u32,
        /// Why.
        error: RefusedRecord,
    },
}

impl Reprocessor {
    /// Opens what `config` names.
    ///
    /// # Errors
    /// [`ProcessorError`]
    pub async fn open(
        config: &Config,
        storage: Storage,
        metrics: Metrics,
    ) -> Result<Self, ProcessorError> {
        let settings = ParserSettings::new(&config.processor).map_err(ProcessorError::Parser)?;
        let reports = match config.kafka.brokers {
            Some(_) => Some(ReportsTopic::open(config, metrics).await?),
            None => None,
        };
        Ok(Self {
            workers: settings.workers,
            parser: ParserPool::start(settings),
            storage,
            privacy: PrivacyRules::new(&config.projects),
            reports,
            scratch: config.data.dir.clone(),
        })
    }

    /// How many crashes are worth being processed at once.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// Looks whether the dump of a crash is stored.
    ///
    /// # Errors
    /// [`NotRenewed`]
    pub async fn look(&self, crash: EventFolder) -> Result<(), NotRenewed> {
        self.dump(crash).await.map(drop)
    }

    /// Parses a crash's dump again, stores the report, keeps the one before, and tells it.
    ///
    /// # Errors
    /// [`NotRenewed`]
    pub async fn renew(&self, crash: EventFolder) -> Result<Renewed, NotRenewed> {
        let dump = self.dump(crash).await?;
        let dump = self.fetch(dump).await?;
        let (earlier, revision) = self.earlier(crash).await?;
        // An operator looks on: attempts count within this run only.
        let begun = AtomicU32::new(0);
        let attempts = Attempts::new(|| async { begun.fetch_add(1, Ordering::Relaxed) + 1 });
        let parsed = self
            .parser
            .parse(crash.project_id, &dump, &attempts)
            .await?
            .last;
        let told = parsed.result.map_err(|error| NotRenewed::Failed {
            error: error.to_string(),
            reason: Failure::from(error).reason(),
        })?;
        let processing = Processing {
            parser: PARSER_NAME.to_owned(),
            started_at: parsed.started_at,
            seconds: parsed.seconds,
            warnings: told.warnings,
            revision: Some(revision),
            reprocessed_at: Some(Timestamp::now()),
            partial: told.partial,
        };
        let privacy = self.privacy.of(crash.project_id);
        let dump = DumpDetails {
            details: told.details,
            time: told.time,
        };
        let report = report::rebuild(earlier, dump, processing, &privacy);
        let renewed = Renewed {
            revision,
            signature: report.crash.signature.clone(),
            seconds: parsed.seconds,
        };
        let encoded = report::encode(&report);
        let document = encoded.clone();
        self.storage
            .store_document(crash.report(), document)
            .await?;
        if self.storage.read(crash.minidump()).await?.is_none() {
            // It was deleted meanwhile: nothing of it stays, and nobody is told.
            let stored = self.storage.event(crash).await?;
            self.storage.remove(&[stored]).await?;
            return Err(NotRenewed::NoDump);
        }
        if let Some(topic) = &self.reports {
            let told = topic.tell(report, &encoded, revision).await;
            told.map_err(|error| NotRenewed::NotTold { revision, error })?;
        }
        Ok(renewed)
    }

    /// Ends the parser processes.
    pub async fn stop(&self) {
        self.parser.stop().await;
    }

    async fn dump(&self, crash: EventFolder) -> Result<StoredFile, NotRenewed> {
        if let Some(dump) = self.storage.read(crash.minidump()).await? {
            return Ok(dump);
        }
        // A report lists the minidump, stored or not, when there was one.
        let is_minidump = |file: &ReportAttachment| file.kind == AttachmentKind::Minidump.as_str();
        match self.storage.report(crash).await? {
            Some(json) if !parse(&json)?.attachments.iter().any(is_minidump) => {
                Err(NotRenewed::CameWithout)
            }
            Some(_) | None => Err(NotRenewed::NoDump),
        }
    }

    /// The report to begin from, kept under its own name from now on, and the revision that follows. Without one it is
    /// what the client said, and the first report is still to come.
    async fn earlier(&self, crash: EventFolder) -> Result<(Report, u32), NotRenewed> {
        if let Some(json) = self.storage.report(crash).await? {
            let report = parse(&json)?;
            let revision = report.processing.revision.unwrap_or(1);
            let kept = crash.earlier_report(revision);
            self.storage.store(kept, &json.into()).await?;
            return Ok((report, revision + 1));
        }
        let event = self.whole(crash.event()).await?;
        Ok((parse(&event.ok_or(NotRenewed::NoReport)?)?, 1))
    }

    async fn whole(&self, path: StoragePath) -> Result<Option<Vec<u8>>, StorageError> {
        let Some(mut file) = self.storage.read(path).await? else {
            return Ok(None);
        };
        let mut whole = Vec::new();
        while let Some(piece) = file.pieces.next().await {
            whole.extend_from_slice(&piece?);
        }
        Ok(Some(whole))
    }

    /// A dump out of the storage: in memory when it is small, else in a file without a name.
    async fn fetch(&self, mut dump: StoredFile) -> Result<Content, NotRenewed> {
        let mut held = Vec::new();
        let mut file = None;
        while let Some(piece) = dump.pieces.next().await {
            held.extend_from_slice(&piece?);
            if held.len() >= UPLOAD_MEMORY_BYTES_MAX {
                file = Some(self.spill(file.take(), std::mem::take(&mut held)).await?);
            }
        }
        let Some(file) = file else {
            return Ok(held.into());
        };
        let mut file = self.spill(Some(file), held).await?;
        let mut content = Content::default();
        let bytes = file.stream_position()?;
        content.push(Segment::File {
            file: Arc::new(file),
            offset: 0,
            bytes,
        });
        Ok(content)
    }

    async fn spill(
        &self,
        file: Option<std::fs::File>,
        bytes: Vec<u8>,
    ) -> std::io::Result<std::fs::File> {
        let scratch = self.scratch.clone();
        let spilled = tokio::task::spawn_blocking(move || {
            let mut file = match file {
                Some(file) => file,
                None => tempfile::tempfile_in(scratch)?,
            };
            file.write_all(&bytes)?;
            Ok(file)
        });
        spilled.await.map_err(std::io::Error::other)?
    }
}

fn parse(report: &[u8]) -> Result<Report, NotRenewed> {
    serde_json::from_slice(report).map_err(NotRenewed::Unreadable)
}

impl ReportsTopic {
    async fn open(config: &Config, metrics: Metrics) -> Result<Self, ProcessorError> {
        let admin = Admin::new(&config.kafka)?;
        let name = config.kafka.topics.reports.as_str();
        let limit = limit(name, &admin.describe(name).await?)?;
        let bounds = ProducerBounds {
            record_bytes_max: limit.client_bytes_max(),
            batch_bytes_max: limit.client_bytes_max(),
            inflight_bytes: INFLIGHT_BYTES,
        };
        Ok(Self {
            name: name.into(),
            limit,
            producer: RecordProducer::start(&config.kafka, bounds, "reprocess", metrics)?,
        })
    }

    async fn tell(
        &self,
        report: Report,
        encoded: &bytes::Bytes,
        revision: u32,
    ) -> Result<(), RefusedRecord> {
        let key = *report.event_id.as_bytes();
        let revision = revision.to_string();
        let headers = [(REVISION_HEADER, revision.as_str())];
        let bytes_max = self.limit.value_bytes_max(key.len(), headers);
        let value = report::fit(report, encoded, bytes_max).to_vec();
        let room = self.producer.room(value.len()).await;
        let record = Record {
            topic: Arc::clone(&self.name),
            partition: None,
            key: key.to_vec(),
            headers: vec![(REVISION_HEADER, revision)],
            value,
        };
        let delivered = self.producer.enqueue(record, room)?;
        let late = |_| {
            RefusedRecord::Unconfirmed(format!("nothing within {}s", CONFIRMED_WITHIN.as_secs()))
        };
        timeout(CONFIRMED_WITHIN, delivered).await.map_err(late)??;
        Ok(())
    }
}
