//! One upload from its request to an envelope: read under limits, in the format its client writes, and sealed. No
//! delivery here.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::BytesMut;
use memchr::memchr;
use shared::config::{ProjectConfig, UploadLimits};
use shared::envelope::AttachmentKind;
use shared::id::{EventId, ProjectId};
use shared::metrics::Metrics;
use shared::privacy::PrivacyRules;
use shared::spool::Draft;
use tokio::time::timeout;

use crate::admission::{Admission, Places, Reading};
use crate::auth::KeyRefusal;
use crate::body::Receiver;
use crate::budget::MemoryBudget;
use crate::decode::{BodyError, BodyReader, Encoding};
use crate::error::{Rejection, TooLarge};
use crate::frames::{BodyCounters, Frames};
use crate::inflation::Inflation;
use crate::items::{self, EnvelopeHeader};
use crate::key_ring::KeyGrant;
use crate::limits::{ENVELOPE_LINE_BYTES_MAX, EVENT_DATA_READERS_MAX, KEYLESS_LINE_TIME};
use crate::multipart::Parser;
use crate::places::{Party, Permit};
use crate::read::{
    Admit, Naming, Pieces, Reference, Tail, Unwrappers, read_archive, read_form, read_items,
    read_upload, unwrap,
};
use crate::resumable::{Address, Credit, UploadRefusal, Uploads};
use crate::seal::{Need, Sender, Told, Validated, seal};
use crate::sources::EventReaders;
use crate::upload::{FileHead, Role, UploadBuilder};

/// Receives uploads. Cloning shares limits and memory.
#[derive(Clone, Debug)]
pub struct Intake {
    limits: UploadLimits,
    budget: MemoryBudget,
    admission: Admission,
    unwrappers: Unwrappers,
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
    /// It, with what it may hold while it is read; some of it may be left when it is refused.
    pub body: OpenBody<'r>,
    /// Who sends it.
    pub party: Party,
    /// Is set when some of it is left though it was accepted.
    pub is_left: &'r mut bool,
    /// The upload's place in the spool, for what memory has no room for.
    pub draft: Draft,
}

/// A body that may be read, and what is held for it.
pub struct OpenBody<'b> {
    pub(crate) reader: BodyReader<'b>,
    _reading: Reading,
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
    /// An intake within these bounds.
    #[must_use]
    pub fn new(
        limits: UploadLimits,
        admission: Admission,
        metrics: &Metrics,
        uploads: Uploads,
    ) -> Self {
        let memory = admission.memory.clone();
        Self {
            limits,
            budget: MemoryBudget::new(memory, metrics.upload_memory_bytes.clone()),
            counters: BodyCounters::new(metrics),
            unwrappers: Unwrappers::new(admission.unwrapping.clone()),
            event_readers: EventReaders::new(EVENT_DATA_READERS_MAX),
            admission,
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

    /// How a body is compressed.
    ///
    /// # Errors
    /// [`Rejection::Body`]
    pub fn encoding(
        &self,
        headers: &HeaderMap,
        format: &Format<'_>,
    ) -> Result<Encoding, Rejection> {
        let encoding = Encoding::of(headers)?;
        Ok(match (format, encoding) {
            // Its archives are compressed and do not say so.
            (Format::Unreal, Encoding::Identity) => Encoding::Deflate,
            (
                Format::Crash | Format::Late(_) | Format::Envelope { .. } | Format::Unreal,
                encoding,
            ) => encoding,
        })
    }

    /// Waits for all that reading a body takes, and opens it. The upload's place is for until its answer.
    ///
    /// # Errors
    /// [`Rejection`]
    pub async fn open<'b>(
        &self,
        body: &'b mut Body,
        project: ProjectId,
        encoding: Encoding,
        party: &Party,
    ) -> Result<(Permit, OpenBody<'b>), Rejection> {
        let mut frames = self.frames(body, party);
        // What decoders need is in the first bytes: nothing is held until they come.
        let window = frames.window(encoding).await?;
        let decoder_bytes = window.map_or(0, |window| window.memory_bytes);
        let Places { upload, reading } = self.admission.body(party, decoder_bytes).await?;
        let decoded = self.counters.decoded.clone();
        let inflation = self.inflation(project);
        let reader = BodyReader::new(frames, encoding, window, decoded, inflation).await?;
        let _reading = reading;
        Ok((upload, OpenBody { reader, _reading }))
    }

    /// Opens an envelope whose key is in its first line: among few, for seconds, and then like any other.
    ///
    /// # Errors
    /// [`Rejection`]
    pub(crate) async fn open_keyless<'b>(
        &self,
        body: &'b mut Body,
        project: ProjectId,
        encoding: Encoding,
        party: &Party,
        admit: impl FnOnce(&EnvelopeHeader) -> Result<KeyGrant, Rejection>,
    ) -> Result<(Permit, OpenBody<'b>, Party), Rejection> {
        let place = self.admission.keyless(party).await?;
        let keyless = self.admission.without_key(party);
        let opened = async {
            let mut frames = self.frames(body, party);
            let window = frames.window(encoding).await?;
            let room = window.map(|window| {
                let bytes = window.memory_bytes;
                self.admission.keyless_decoder(&keyless, bytes)
            });
            let room = room.transpose()?;
            let decoded = self.counters.decoded.clone();
            let inflation = self.inflation(project);
            let reader = BodyReader::new(frames, encoding, window, decoded, inflation);
            let mut reader = reader.await?;
            let header = first_line(&mut reader).await?;
            Ok::<_, Rejection>((reader, window, room, header))
        };
        let opened = timeout(KEYLESS_LINE_TIME, opened).await;
        let (reader, window, room, header) = opened.map_err(|_| BodyError::KeyTooLate)??;
        drop(place);
        let party = self.admission.with_key(party, &admit(&header)?);
        let decoder_bytes = window.map_or(0, |window| window.memory_bytes);
        let Places { upload, reading } = self.admission.body(&party, decoder_bytes).await?;
        drop(room);
        let _reading = reading;
        Ok((upload, OpenBody { reader, _reading }, party))
    }

    /// A body's frames, counted and under the clock.
    pub(crate) fn frames<'b>(&self, body: &'b mut Body, party: &Party) -> Frames<'b> {
        let encoded = self.counters.encoded.clone();
        let (limit, admission) = (self.limits.upload, self.admission.clone());
        Frames::new(body, limit, encoded, admission, party.clone())
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
            party,
            is_left,
            draft,
        } = delivered;
        let length = match self.encoding(headers, &format)? {
            Encoding::Identity => self.check_head(headers)?,
            Encoding::Gzip | Encoding::Deflate | Encoding::Brotli | Encoding::Zstd => None,
        };
        let inflation = self.inflation(sender.project_id);
        let OpenBody { reader, _reading } = body;
        let mut reader = Tail::new(reader);
        let receiver = Receiver::new(draft, &self.budget, &party, length);
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
        *is_left = is_too_large;
        // What comes now needs neither the client nor its decoder.
        drop(_reading);
        let odd = unwrap(&mut upload, need, &self.unwrappers, &party, inflation).await?;
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

/// An envelope's header. What was read for it is given back.
async fn first_line(reader: &mut BodyReader<'_>) -> Result<EnvelopeHeader, Rejection> {
    let mut start = BytesMut::new();
    let mut seen = 0;
    let end = loop {
        if let Some(at) = memchr(b'\n', &start[seen..]) {
            break seen + at + 1;
        }
        seen = start.len();
        if seen > ENVELOPE_LINE_BYTES_MAX {
            break seen;
        }
        match reader.next().await? {
            Some(piece) => start.extend_from_slice(&piece),
            None => break seen,
        }
    };
    let start = start.freeze();
    let mut parser = items::Parser::default();
    parser.push(start.slice(..end));
    let mut step = parser.step();
    if step == items::Step::More {
        parser.finish();
        step = parser.step();
    }
    reader.give_back(start);
    match step {
        items::Step::Header(header) => Ok(header),
        items::Step::Item(_)
        | items::Step::Content(_)
        | items::Step::ItemEnd
        | items::Step::Misframed(_)
        | items::Step::More => Err(KeyRefusal::Missing.into()),
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
