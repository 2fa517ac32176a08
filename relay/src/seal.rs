//! A bounded upload becomes a validated envelope: the dump checked, what was said about the crash put together.

use bytes::Bytes;
use jiff::Timestamp;
use shared::config::{Keep, PrivacyConfig};
use shared::envelope::{Attachment, AttachmentKind, Envelope, OVERFLOWED_EVENT};
use shared::event::resolve_auto_addresses;
use shared::id::{AttachmentId, EventId, ProjectId};
use shared::privacy::scrub_payload;
use shared::report::{EventPayload, USER_REPORT_NAME};
use shared::spool::Draft;

use crate::body::Received;
use crate::budget::MemoryPermit;
use crate::error::Rejection;
use crate::event_data::{Field, Merged, Source, merge};
use crate::file_name::sanitize;
use crate::resumable::Credit;
use crate::sources::{EventReaders, read_sources};
use crate::upload::{EventData, File, Role, Upload, is_dump};
use crate::validate::check_minidump;

/// The dump's name when the client gave none.
const MINIDUMP_NAME: &str = "minidump.dmp";
const ATTACHMENT_NAME: &str = "attachment";
/// The name of an event item that had to be kept as a file.
const EVENT_NAME: &str = "event.json";

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

/// What a request says besides the files and fields of its body.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Sentry's name of the sending program, `name/version`.
    pub sdk: Option<String>,
    /// The client's own id of the event.
    pub event_id: Option<EventId>,
    /// The event that came before, whose files these are.
    pub attached_to: Option<EventId>,
    /// The parameters of the request's address. A dump that is the body has them for its form; beside a form, those that
    /// name the sender say what the form does not.
    pub query: Vec<Field>,
    /// Who was at the machine: the user id of Unreal Engine's uploader.
    pub unreal_user: Option<String>,
    /// What was odd.
    pub warnings: Vec<String>,
}

/// Whether there can be an upload without a minidump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// There cannot, and it has to be sound.
    Minidump,
    /// What was said about a crash is enough.
    Anything,
}

/// A validated upload and what keeps it until it is durable.
#[derive(Debug)]
pub struct Validated {
    /// The upload. Its event is empty: `payload` becomes it.
    pub envelope: Envelope,
    /// What was said about the crash.
    pub payload: EventPayload,
    /// The client's own id of it.
    pub client_event_id: Option<EventId>,
    /// By what the same upload is known again: the hash of its minidump, or of all that it says.
    pub fingerprint: Option<blake3::Hash>,
    /// Its place in the spool, with the file it is in when it went to one.
    pub draft: Draft,
    /// The memory it holds.
    pub permit: MemoryPermit,
    /// For those of its files that came before it and were charged then.
    pub(crate) credits: Vec<Credit>,
}

/// Checks an upload and makes it an envelope; `None` when there is nothing in it to keep.
///
/// # Errors
/// [`Rejection`] for a dump that is missing or none.
pub(crate) async fn seal(
    mut upload: Upload,
    mut told: Told,
    need: Need,
    sender: Sender,
    privacy: &PrivacyConfig,
    readers: &EventReaders,
) -> Result<Option<Validated>, Rejection> {
    told.warnings.append(&mut upload.warnings);
    recognise_dump(&mut upload, &mut told);
    let is_about_another = is_about_another(&upload);
    let is_raw = is_raw(&upload);
    let dump = find_dump(&mut upload, need, &mut told.warnings)?;
    if upload.files.is_empty() && upload.fields.is_empty() {
        return Ok(None);
    }
    let fingerprint = fingerprint(&upload, dump, &told);
    let sources = read_sources(&upload, &mut told, readers).await?;
    let (indices, sources): (Vec<usize>, Vec<Source>) = sources.into_iter().unzip();
    let mut fields = std::mem::take(&mut upload.fields);
    let query = std::mem::take(&mut told.query);
    fields.extend(if is_raw {
        query
    } else {
        identity(&fields, query)
    });
    let Merged {
        mut payload,
        event_id,
        damaged,
    } = merge(sources, fields, told.sdk, told.warnings);
    payload.attached_to = told
        .attached_to
        .or_else(|| told.event_id.filter(|_| is_about_another));
    let remote_addr = match privacy.client_address {
        Keep::Keep => sender.remote_addr,
        Keep::Drop => None,
    };
    let reports_changed = protect(&mut payload, remote_addr.as_deref(), privacy);
    let in_event = |file: usize, data: EventData| {
        let source = indices.iter().position(|source| *source == file);
        // Apart from their crash, users' reports stay files, but for those that are not kept as they came.
        let is_altered = data == EventData::UserReport && reports_changed;
        (payload.attached_to.is_none() || is_altered)
            && source.is_some_and(|source| !damaged.contains(&source))
    };
    let files = upload.files.into_iter().enumerate();
    let kept = files.filter(|(at, file)| match file.head.role {
        Role::EventData(data) => data.is_kept() || !in_event(*at, data),
        Role::Minidump | Role::Attachment(_) => true,
    });
    let attachments = kept.map(|(at, file)| attachment(file, Some(at) == dump, &upload.received));
    let envelope = Envelope {
        event_id: sender.event_id,
        project_id: sender.project_id,
        received_at: Timestamp::now(),
        remote_addr,
        attachments: attachments.collect(),
        event: Bytes::new(),
    };
    let is_named = dump.is_some()
        || payload.attached_to.is_some()
        || event_id.is_some()
        || told.event_id.is_some();
    let client_event_id = match payload.attached_to {
        Some(_) => None,
        None => told.event_id.or(event_id),
    };
    let (draft, permit) = upload.received.into_keep();
    Ok(Some(Validated {
        envelope,
        payload,
        client_event_id,
        // Two events that say the same are two events, but for one that was sent again under its id.
        fingerprint: is_named.then_some(fingerprint),
        draft,
        permit,
        credits: Vec::new(),
    }))
}

/// Whether there are only files and user reports: with the id of an event, they belong to one that comes, or came, on its
/// own.
fn is_about_another(upload: &Upload) -> bool {
    let is_beside = |file: &File| match file.head.role {
        Role::EventData(data) => data == EventData::UserReport,
        Role::Attachment(_) => true,
        Role::Minidump => false,
    };
    upload.fields.is_empty() && upload.files.iter().all(is_beside)
}

/// A dump that came as any other file is one by its first bytes, when no other is. With the files of a crash that came
/// before, it stays a file of it.
fn recognise_dump(upload: &mut Upload, told: &mut Told) {
    let is_named = |file: &File| file.head.role == Role::Minidump && is_dump(file);
    if upload.files.iter().any(is_named) {
        return;
    }
    let Some(file) = upload.files.iter_mut().find(|file| is_dump(file)) else {
        return;
    };
    let name = file.head.name.as_deref().unwrap_or_default();
    let name = sanitize(name, ATTACHMENT_NAME);
    told.warnings.push(format!(
        "the file {name:?} is a minidump by its first bytes"
    ));
    file.head.role = match told.attached_to {
        None => Role::Minidump,
        Some(_) => Role::Attachment(AttachmentKind::Minidump),
    };
}

/// Where the dump is among the files, when there is a sound one.
fn find_dump(
    upload: &mut Upload,
    need: Need,
    warnings: &mut Vec<String>,
) -> Result<Option<usize>, Rejection> {
    let dumps = || {
        let files = upload.files.iter().enumerate();
        files.filter(|(_, file)| file.head.role == Role::Minidump)
    };
    let sound = dumps().find(|(_, file)| check_minidump(&file.start, file.run.bytes).is_ok());
    let dump = sound.or_else(|| dumps().next()).map(|(at, _)| at);
    let Some(at) = dump else {
        return match need {
            Need::Minidump => Err(missing_minidump(upload)),
            Need::Anything => Ok(None),
        };
    };
    let file = &mut upload.files[at];
    match (check_minidump(&file.start, file.run.bytes), need) {
        (Ok(odd), _) => {
            warnings.extend(odd);
            Ok(Some(at))
        }
        (Err(error), Need::Minidump) => Err(error.into()),
        (Err(error), Need::Anything) => {
            // What was said about the crash is not lost for it.
            warnings.push(format!(
                "the attachment that should be the minidump is kept as a file: {error}"
            ));
            file.head.role = Role::Attachment(AttachmentKind::Plain);
            Ok(None)
        }
    }
}

/// Puts the client's address where the event asks for it, and takes out what the project does not keep. Returns whether
/// that altered what users wrote.
fn protect(payload: &mut EventPayload, client: Option<&str>, privacy: &PrivacyConfig) -> bool {
    let sent = payload.user_reports.clone();
    resolve_auto_addresses(payload, client);
    scrub_payload(payload, privacy);
    payload.user_reports != sent
}

/// Whether the body is the dump itself: files of forms and envelopes have names of their own, or fields beside them.
fn is_raw(upload: &Upload) -> bool {
    let [file] = &upload.files[..] else {
        return false;
    };
    upload.fields.is_empty() && file.head.role == Role::Minidump && file.head.name.is_none()
}

/// What the request's address says about its sender and the form does not.
fn identity(fields: &[Field], query: Vec<Field>) -> Vec<Field> {
    let has = |name: &str| fields.iter().any(|(field, _)| field == name);
    let says_more = |(name, _): &Field| match name.as_str() {
        "product" => !has("prod") && !has("product"),
        "version" => !has("ver") && !has("version"),
        "guid" => !has("guid"),
        _ => false,
    };
    query.into_iter().filter(says_more).collect()
}

fn missing_minidump(upload: &Upload) -> Rejection {
    let (files, fields) = (upload.files.len(), upload.fields.len());
    let found = format!("{files} other files and {fields} form fields");
    Rejection::MissingMinidump { found }
}

/// Of the dump; without one, of everything there is, and of the event that it is said to be about.
fn fingerprint(upload: &Upload, dump: Option<usize>, told: &Told) -> blake3::Hash {
    if let Some(at) = dump {
        return upload.files[at].blake3;
    }
    let mut all = blake3::Hasher::new();
    for event in [told.event_id, told.attached_to] {
        all.update(event.map_or([0; 16], |event| *event.as_bytes()).as_slice());
    }
    for file in &upload.files {
        // The same bytes may be a report of a user and a log.
        let head = format!("{:?}", file.head);
        all.update(blake3::hash(head.as_bytes()).as_bytes());
        all.update(file.blake3.as_bytes());
    }
    for (name, value) in &upload.fields {
        all.update(blake3::hash(name.as_bytes()).as_bytes());
        all.update(blake3::hash(value).as_bytes());
    }
    all.finalize()
}

pub(crate) fn fallback_name(file: &File) -> &'static str {
    match file.head.role {
        Role::Minidump => MINIDUMP_NAME,
        Role::EventData(EventData::Item) => EVENT_NAME,
        Role::EventData(EventData::UserReport) => USER_REPORT_NAME,
        Role::EventData(EventData::Event) => "__sentry-event",
        Role::EventData(EventData::Breadcrumbs) => "__sentry-breadcrumb",
        Role::EventData(
            EventData::Feedback
            | EventData::Extra
            | EventData::UnrealContext
            | EventData::UnrealLog,
        )
        | Role::Attachment(_) => ATTACHMENT_NAME,
    }
}

fn attachment(file: File, is_dump: bool, received: &Received) -> Attachment {
    let fallback = fallback_name(&file);
    let mut name = sanitize(file.head.name.as_deref().unwrap_or_default(), fallback);
    if name == OVERFLOWED_EVENT {
        // Ours alone: the processor takes such a file for the event.
        name = EVENT_NAME.to_owned();
    }
    let kind = match file.head.role {
        Role::Minidump if is_dump => AttachmentKind::Minidump,
        // There is one dump in a crash; a second is a file of it.
        Role::Minidump => AttachmentKind::Plain,
        Role::EventData(data) => data.kind(),
        Role::Attachment(kind) => kind,
    };
    Attachment {
        id: AttachmentId::random(),
        name,
        content_type: file.head.content_type,
        kind,
        content: received.content(file.run),
        blake3: Some(file.blake3),
    }
}
