//! One upload from its request to an envelope: read under limits, in the format its client writes, and sealed. No
//! delivery here.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use shared::config::{ProjectConfig, UploadLimits};
use shared::envelope::AttachmentKind;
use shared::id::{EventId, ProjectId};
use shared::metrics::Metrics;
use shared::privacy::PrivacyRules;
use shared::spool::Draft;

use crate::admission::{Slot, Slots};
use crate::body::Receiver;
use crate::budget::MemoryBudget;
use crate::decode::{BodyReader, Encoding, WideDecoders};
use crate::error::{Rejection, TooLarge};
use crate::frames::{BodyCounters, Frames};
use crate::inflation::Inflation;
use crate::limits::{EVENT_DATA_READERS_MAX, UNWRAPPERS_MAX, UPLOAD_WAIT, WIDE_DECODERS_MAX};
use crate::multipart::Parser;
use crate::read::{
    Admit, Naming, Pieces, Reference, Tail, read_archive, read_form, read_items, read_upload,
    unwrap,
};
use crate::refused_body;
use crate::resumable::{Address, Credit, UploadRefusal, Uploads};
use crate::seal::{Need, Sender, Told, Validated, seal};
use crate::sources::EventReaders;
use crate::upload::{FileHead, Role, UploadBuilder};

/// Receives uploads. Cloning shares limits and memory.
#[derive(Clone, Debug)]
pub struct Intake {
    limits: UploadLimits,
    budget: MemoryBudget,
    receiving: Slots,
    decoders: WideDecoders,
    unwrappers: WideDecoders,
    event_readers: EventReaders,
    counters: BodyCounters,
    uploads: Uploads,
    privacy: PrivacyRules,
    /// Of the projects that have their own.
    inflations: Arc<HashMap<ProjectId, u32>>,
    metrics: Metrics,
}

/// How a request's body is to be read.
pub enum Format<'f> {
    /// A form with a minidump, or the minidump itself.
    Crash,
    /// Files of an event that came before.
    Late(EventId),
    /// Sentry's envelope.
    Envelope {
        /// Items that belong to no crash are kept as files of the event.
        keep_others: bool,
        /// Whether its header lets it in.
        admit: Admit<'f>,
    },
    /// Unreal Engine's archive.
    Unreal,
}

impl Format<'_> {
    fn need(&self) -> Need {
        match self {
            Self::Crash => Need::Minidump,
            Self::Late(_) | Self::Envelope { .. } | Self::Unreal => Need::Anything,
        }
    }
}

/// What a body says beside the files and fields of the upload.
#[derive(Default)]
struct Read {
    event_id: Option<EventId>,
    attached_to: Option<EventId>,
    sdk: Option<String>,
    references: Vec<Reference>,
    warnings: Vec<String>,
}

/// A request's body and what is known of it before it is read.
pub struct Delivered<'r> {
    /// Its head.
    pub headers: &'r HeaderMap,
    /// It; some of it may be left when it is refused.
    pub body: &'r mut Body,
    /// The upload's place in the spool, for what memory has no room for.
    pub draft: Draft,
}

/// What came of a body.
#[derive(Debug)]
pub enum Taken {
    /// A crash, or what belongs to one.
    Upload(Box<Validated>),
    /// Nothing that is kept; the id that the client gave it, if any.
    Nothing(Option<EventId>),
}

impl Intake {
    /// An intake with places for those that are read at once, and so much memory for uploads under way.
    #[must_use]
    pub fn new(
        limits: UploadLimits,
        receiving: Slots,
        memory_bytes: usize,
        metrics: &Metrics,
        uploads: Uploads,
    ) -> Self {
        Self {
            limits,
            receiving,
            budget: MemoryBudget::new(memory_bytes, metrics.upload_memory_bytes.clone()),
            counters: BodyCounters::new(metrics),
            decoders: WideDecoders::new(WIDE_DECODERS_MAX),
            unwrappers: WideDecoders::new(UNWRAPPERS_MAX),
            event_readers: EventReaders::new(EVENT_DATA_READERS_MAX),
            uploads,
            privacy: PrivacyRules::default(),
            inflations: Arc::default(),
            metrics: metrics.clone(),
        }
    }

    /// The same, with what each project keeps and its own bounds.
    #[must_use]
    pub fn with_projects(self, projects: &[ProjectConfig]) -> Self {
        let own = |project: &ProjectConfig| Some((project.id, project.limits.inflation?));
        Self {
            privacy: PrivacyRules::new(projects),
            inflations: Arc::new(projects.iter().filter_map(own).collect()),
            ..self
        }
    }

    /// The memory that uploads under way share.
    #[must_use]
    pub fn budget(&self) -> &MemoryBudget {
        &self.budget
    }

    /// What can be refused by the head alone, before the client is told to send the body. Returns the body's length, when
    /// it is stated.
    ///
    /// # Errors
    /// [`Rejection`]
    pub fn check_head(&self, headers: &HeaderMap) -> Result<Option<u64>, Rejection> {
        Encoding::of(headers)?;
        match content_length(headers) {
            Some(bytes) if bytes > self.limits.upload.get() => {
                Err(TooLarge::Encoded(self.limits.upload).into())
            }
            length => Ok(length),
        }
    }

    /// Receives an upload whole.
    ///
    /// # Errors
    /// [`Rejection`]
    pub async fn receive(
        &self,
        sender: Sender,
        format: Format<'_>,
        delivered: Delivered<'_>,
        mut told: Told,
    ) -> Result<Taken, Rejection> {
        let Delivered {
            headers,
            body,
            draft,
        } = delivered;
        let encoding = match format {
            // Its archives are compressed and do not say so.
            Format::Unreal if Encoding::of(headers)? == Encoding::Identity => Encoding::Deflate,
            Format::Crash | Format::Late(_) | Format::Envelope { .. } | Format::Unreal => {
                Encoding::of(headers)?
            }
        };
        let length = match encoding {
            Encoding::Identity => self.check_head(headers)?,
            Encoding::Gzip | Encoding::Deflate | Encoding::Brotli | Encoding::Zstd => None,
        };
        let inflation = self.inflation(sender.project_id);
        let (reader, _slot) = self.reader(body, encoding, inflation).await?;
        let mut reader = Tail::new(reader);
        let receiver = Receiver::new(draft, &self.budget, length);
        let mut upload = UploadBuilder::new(self.limits, receiver);
        let need = format.need();
        let read = self.read(&mut reader, format, headers, &mut upload).await;
        let is_too_large = reader.is_too_large();
        let (read, odd) = reader.settle(read, need, &upload)?;
        told.warnings.extend(read.warnings);
        told.warnings.extend(odd);
        told.event_id = read.event_id;
        told.attached_to = read.attached_to;
        told.sdk = told.sdk.or(read.sdk);
        let resolved = self.resolve(&sender, read.references, &mut upload);
        let (odd, credits) = resolved.await?;
        told.warnings.extend(odd);
        if is_too_large {
            refused_body::drain(body).await;
        }
        let odd = unwrap(&mut upload, need, &self.unwrappers, inflation).await?;
        told.warnings.extend(odd);
        if let Some(limit) = upload.first_shed().filter(|_| upload.is_empty()) {
            return Err(limit.into());
        }
        let event_id = told.event_id;
        let privacy = self.privacy.of(sender.project_id);
        let upload = upload.finish().await?;
        let sealed = seal(upload, told, need, sender, &privacy, &self.event_readers).await?;
        Ok(match sealed {
            Some(validated) => Taken::Upload(Box::new(Validated {
                credits,
                ..validated
            })),
            None => Taken::Nothing(event_id),
        })
    }

    /// The body in its format.
    async fn read(
        &self,
        reader: &mut impl Pieces,
        format: Format<'_>,
        headers: &HeaderMap,
        upload: &mut UploadBuilder,
    ) -> Result<Read, Rejection> {
        let content_type = content_type(headers);
        let warnings = match format {
            Format::Crash => read_upload(reader, content_type, upload).await?,
            Format::Late(event_id) => {
                let parser = Parser::new(content_type)?;
                let start = bytes::Bytes::new();
                return Ok(Read {
                    warnings: read_form(reader, parser, start, Naming::Late, upload).await?,
                    attached_to: Some(event_id),
                    ..Read::default()
                });
            }
            Format::Envelope { keep_others, admit } => {
                let items = read_items(reader, keep_others, admit, upload).await?;
                for other in &items.others {
                    self.metrics.count_envelope_item(other.as_str());
                }
                return Ok(Read {
                    warnings: items.warnings,
                    event_id: items.event_id,
                    sdk: items.sdk,
                    references: items.references,
                    attached_to: None,
                });
            }
            Format::Unreal => read_archive(reader, upload).await?.into_iter().collect(),
        };
        Ok(Read {
            warnings,
            ..Read::default()
        })
    }

    /// The body's reader, and the place among those that are read at once.
    pub(crate) async fn reader<'b>(
        &self,
        body: &'b mut Body,
        encoding: Encoding,
        inflation: Inflation,
    ) -> Result<(BodyReader<'b>, Slot), Rejection> {
        let reading = self.receiving.wait(UPLOAD_WAIT).await;
        let reading = reading.ok_or(Rejection::Overloaded)?;
        let turn = self.decoders.turn(encoding).await?;
        let frames = self.frames(body);
        let decoded = self.counters.decoded.clone();
        let reader = BodyReader::new(frames, encoding, turn, decoded, inflation).await?;
        Ok((reader, reading))
    }

    /// A body's frames, counted and under the clock.
    pub(crate) fn frames<'b>(&self, body: &'b mut Body) -> Frames<'b> {
        let encoded = self.counters.encoded.clone();
        Frames::new(body, self.limits.upload, encoded, self.receiving.clone())
    }

    /// What compressed bytes may become in the project.
    fn inflation(&self, project: ProjectId) -> Inflation {
        let own = self.inflations.get(&project).copied();
        Inflation::times(own.unwrap_or(self.limits.inflation))
    }

    /// Files that were uploaded before take their places among the upload's. In the place of one that is not here any more
    /// its reference is kept: what else the envelope says is not lost for it. What was odd is returned as sentences.
    async fn resolve(
        &self,
        sender: &Sender,
        references: Vec<Reference>,
        upload: &mut UploadBuilder,
    ) -> Result<(Vec<String>, Vec<Credit>), Rejection> {
        let (mut warnings, mut credits) = (Vec::new(), Vec::new());
        let mut known = HashSet::new();
        for Reference { head, json } in references {
            // One that came once counts once: or a few bytes would stand for gigabytes.
            let fetched = match Address::of_reference(sender.project_id, &json) {
                Ok(address) if known.insert(address.stored()) => self.uploads.fetch(&address).await,
                Ok(_) => Err(UploadRefusal::Again.into()),
                Err(refusal) => Err(refusal.into()),
            };
            match fetched {
                Ok((mut pieces, credit)) => {
                    credits.extend(credit);
                    upload.begin_file(head);
                    while let Some(piece) = pieces.next().await? {
                        upload.append(&piece).await?;
                    }
                }
                Err(Rejection::Upload(refusal)) => {
                    warnings.push(format!(
                        "a file that was to come first is missing: {refusal}"
                    ));
                    upload.begin_file(FileHead {
                        role: Role::Attachment(AttachmentKind::Plain),
                        ..head
                    });
                    upload.append(&json).await?;
                }
                Err(rejection) => return Err(rejection),
            }
            upload.end_part();
        }
        Ok((warnings, credits))
    }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

fn content_type(headers: &HeaderMap) -> &str {
    let value = headers.get(header::CONTENT_TYPE);
    value
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod framing;
#[cfg(test)]
mod tests;
