//! One upload from its request to an envelope: read under limits, told apart, validated. No delivery here.

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use shared::config::UploadLimits;
use shared::envelope::{Attachment, AttachmentKind, Envelope};
use shared::id::{AttachmentId, EventId, ProjectId};
use shared::metrics::Metrics;
use shared::spool::Draft;

use crate::admission::Slots;
use crate::body::Receiver;
use crate::budget::{MemoryBudget, MemoryPermit};
use crate::decode::{BodyReader, Encoding, WideDecoders};
use crate::error::{Rejection, TooLarge};
use crate::file_name::sanitize;
use crate::form::event_payload;
use crate::frames::{BodyCounters, Frames};
use crate::limits::{UPLOAD_WAIT, WIDE_DECODERS_MAX};
use crate::multipart::{Parser, Step};
use crate::part_head::PartHead;
use crate::upload::{File, Upload, UploadBuilder};
use crate::validate::{check_minidump, starts_as_minidump};

/// The part that holds the dump, by the protocol of Breakpad and Crashpad.
const MINIDUMP_PART: &str = "upload_file_minidump";
/// Sentry's files of event data, as its SDKs send them beside the dump.
const EVENT_PART: &str = "__sentry-event";
const BREADCRUMB_PARTS: [&str; 2] = ["__sentry-breadcrumb1", "__sentry-breadcrumb2"];
/// The dump's name when the client gave none.
const MINIDUMP_NAME: &str = "minidump.dmp";
const ATTACHMENT_NAME: &str = "attachment";

/// Receives uploads. Cloning shares limits and memory.
#[derive(Clone, Debug)]
pub struct Intake {
    limits: UploadLimits,
    budget: MemoryBudget,
    receiving: Slots,
    decoders: WideDecoders,
    counters: BodyCounters,
}

/// Who sends, and where.
#[derive(Clone, Debug)]
pub struct Sender {
    /// The id that the crash gets.
    pub event_id: EventId,
    /// The project that the key was checked for.
    pub project_id: ProjectId,
    /// The client's address, without port.
    pub remote_addr: Option<String>,
}

/// A validated upload and what keeps it until it is durable.
#[derive(Debug)]
pub struct Validated {
    /// The upload.
    pub envelope: Envelope,
    /// Its place in the spool, with the file it is in when it went to one.
    pub draft: Draft,
    /// The memory it holds.
    pub permit: MemoryPermit,
}

impl Intake {
    /// An intake with places for those that are read at once, and so much memory for uploads under way.
    #[must_use]
    pub fn new(
        limits: UploadLimits,
        receiving: Slots,
        memory_bytes: usize,
        metrics: &Metrics,
    ) -> Self {
        Self {
            limits,
            receiving,
            budget: MemoryBudget::new(memory_bytes, metrics.upload_memory_bytes.clone()),
            counters: BodyCounters::new(metrics),
            decoders: WideDecoders::new(WIDE_DECODERS_MAX),
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

    /// Receives a minidump upload whole: multipart, or the dump itself. What memory has no room for goes to `draft`.
    ///
    /// # Errors
    /// [`Rejection`]; `body` may then have bytes left.
    pub async fn receive_minidump(
        &self,
        sender: Sender,
        headers: &HeaderMap,
        body: &mut Body,
        draft: Draft,
    ) -> Result<Validated, Rejection> {
        let length = self.check_head(headers)?;
        let encoding = Encoding::of(headers)?;
        let reading = self.receiving.wait(UPLOAD_WAIT).await;
        let _reading = reading.ok_or(Rejection::Overloaded)?;
        let turn = self.decoders.turn(encoding).await?;
        let frames = Frames::new(
            body,
            self.limits.upload,
            self.counters.encoded.clone(),
            self.receiving.clone(),
        );
        let mut reader =
            BodyReader::new(frames, encoding, turn, self.counters.decoded.clone()).await?;
        let expected_bytes = match encoding {
            Encoding::Identity => length,
            Encoding::Gzip | Encoding::Deflate | Encoding::Brotli | Encoding::Zstd => None,
        };
        let receiver = Receiver::new(draft, &self.budget, expected_bytes);
        let upload = UploadBuilder::new(self.limits, receiver);
        let (upload, warnings) = read_upload(&mut reader, content_type(headers), upload).await?;
        validate(upload, warnings, sender)
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

/// A body that starts as a dump does is one, whatever its content type; so is one that does not claim to be multipart.
async fn read_upload(
    reader: &mut BodyReader<'_>,
    content_type: &str,
    upload: UploadBuilder,
) -> Result<(Upload, Vec<String>), Rejection> {
    let start = first_piece(reader).await?;
    let multipart = content_type
        .trim_start()
        .get(..10)
        .is_some_and(|start| start.eq_ignore_ascii_case("multipart/"));
    if multipart && !starts_as_minidump(&start) {
        read_parts(reader, Parser::new(content_type)?, start, upload).await
    } else {
        read_dump(reader, start, upload).await
    }
}

/// The first bytes, enough of them to know a dump by.
async fn first_piece(reader: &mut BodyReader<'_>) -> Result<Bytes, Rejection> {
    let mut start = reader.next().await?.unwrap_or_default();
    while start.len() < 4 {
        let Some(piece) = reader.next().await? else {
            break;
        };
        let mut joined = BytesMut::from(&start[..]);
        joined.extend_from_slice(&piece);
        start = joined.freeze();
    }
    Ok(start)
}

async fn read_dump(
    reader: &mut BodyReader<'_>,
    start: Bytes,
    mut upload: UploadBuilder,
) -> Result<(Upload, Vec<String>), Rejection> {
    upload.begin_part(PartHead {
        name: Some(MINIDUMP_PART.into()),
        file_name: Some(MINIDUMP_NAME.into()),
        content_type: None,
    })?;
    let mut piece = Some(start);
    while let Some(bytes) = piece {
        upload.append(&bytes).await?;
        // However short, it holds the buffer that it was read into.
        drop(bytes);
        piece = reader.next().await?;
    }
    upload.end_part();
    Ok((upload.finish().await?, Vec::new()))
}

async fn read_parts(
    reader: &mut BodyReader<'_>,
    mut parser: Parser,
    start: Bytes,
    mut upload: UploadBuilder,
) -> Result<(Upload, Vec<String>), Rejection> {
    let mut piece = Some(start);
    while let Some(bytes) = piece {
        parser.push(bytes);
        loop {
            match parser.step()? {
                Step::Part(head) => upload.begin_part(head)?,
                Step::Content(bytes) => upload.append(&bytes).await?,
                Step::PartEnd => upload.end_part(),
                Step::More => break,
            }
        }
        piece = reader.next().await?;
    }
    parser.finish()?;
    let repaired = parser
        .repaired()
        .then(|| "a part's end had no line break before its boundary".to_owned());
    Ok((upload.finish().await?, repaired.into_iter().collect()))
}

/// The bounded upload becomes a validated envelope.
fn validate(
    upload: Upload,
    mut warnings: Vec<String>,
    sender: Sender,
) -> Result<Validated, Rejection> {
    let dump = upload
        .files
        .iter()
        .position(|file| file.head.name.as_deref() == Some(MINIDUMP_PART));
    let dump = dump.ok_or_else(|| missing_minidump(&upload))?;
    let file = &upload.files[dump];
    warnings.extend(check_minidump(&file.start, file.run.bytes)?);
    let attachments = upload
        .files
        .into_iter()
        .enumerate()
        .map(|(at, file)| attachment(file, at == dump, &upload.received));
    let envelope = Envelope {
        event_id: sender.event_id,
        project_id: sender.project_id,
        received_at: Timestamp::now(),
        remote_addr: sender.remote_addr,
        attachments: attachments.collect(),
        event: event_json(upload.fields, warnings),
    };
    let (draft, permit) = upload.received.into_keep();
    Ok(Validated {
        envelope,
        draft,
        permit,
    })
}

fn event_json(fields: Vec<crate::form::Field>, warnings: Vec<String>) -> Bytes {
    let payload = event_payload(fields, warnings);
    // INVARIANT: a payload is texts under text keys, which always make JSON.
    serde_json::to_vec(&payload)
        .expect("payloads encode")
        .into()
}

fn missing_minidump(upload: &Upload) -> Rejection {
    let field = upload.fields.iter().any(|(name, _)| name == MINIDUMP_PART);
    let found = if field {
        "it without a file name, which makes it a form field".to_owned()
    } else {
        let (files, fields) = (upload.files.len(), upload.fields.len());
        format!("{files} other files and {fields} form fields")
    };
    Rejection::MissingMinidump { found }
}

fn attachment(file: File, is_dump: bool, received: &crate::body::Received) -> Attachment {
    let part = file.head.name.as_deref().unwrap_or_default();
    let (kind, fallback) = if is_dump {
        (AttachmentKind::Minidump, MINIDUMP_NAME)
    } else if part == EVENT_PART {
        (AttachmentKind::EventPayload, EVENT_PART)
    } else if BREADCRUMB_PARTS.contains(&part) {
        (AttachmentKind::Breadcrumbs, part)
    } else {
        (AttachmentKind::Plain, ATTACHMENT_NAME)
    };
    Attachment {
        id: AttachmentId::random(),
        name: sanitize(file.head.file_name.as_deref().unwrap_or_default(), fallback),
        content_type: file.head.content_type,
        kind,
        content: received.content(file.run),
        blake3: Some(file.blake3),
    }
}

#[cfg(test)]
mod tests;
