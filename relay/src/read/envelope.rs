//! Sentry's envelopes: the items that belong to a crash become its files, the others are counted.

use shared::content::Content;
use shared::envelope::AttachmentKind;
use shared::id::EventId;

use super::Pieces;
use super::backlog::Backlog;
use super::buried::{Suspect, unearth};
use super::extent::extent;
use crate::error::{Rejection, TooLarge};
use crate::items::{
    EnvelopeHeader, Extent, ItemHead, ItemKind, ItemsError, OtherItem, Parser, Step,
};
use crate::limits::{ENVELOPE_RESCANS_MAX, ENVELOPE_WARNINGS_MAX, REFERENCE_BYTES_MAX};
use crate::upload::{EventData, FileHead, Role, UploadBuilder};
use crate::validate::check_minidump;

/// The media type of an item that stands for a file uploaded before.
const REFERENCE_TYPE: &str = "application/vnd.sentry.attachment-ref+json";

/// What an envelope says besides its files.
#[derive(Debug, Default)]
pub(crate) struct Items {
    /// The event that it is about.
    pub(crate) event_id: Option<EventId>,
    /// The program that wrote it, `name/version`.
    pub(crate) sdk: Option<String>,
    /// Items that are not kept.
    pub(crate) others: Vec<OtherItem>,
    /// Files that were uploaded before.
    pub(crate) references: Vec<Reference>,
    /// What was odd.
    pub(crate) warnings: Vec<String>,
}

/// A file that was uploaded before, and belongs to this crash.
#[derive(Debug)]
pub(crate) struct Reference {
    pub(crate) head: FileHead,
    /// JSON that says where it is.
    pub(crate) json: Vec<u8>,
}

/// What becomes of the item that is being read.
enum Fate {
    /// A file, or bytes that are none unless they are the dump.
    File,
    Reference(Reference),
}

/// Decides by an envelope's header whether anything is read at all.
pub(crate) type Admit<'a> = &'a mut (dyn FnMut(&EnvelopeHeader) -> Result<(), Rejection> + Send);

/// An envelope's items.
pub(crate) async fn read_items(
    reader: &mut impl Pieces,
    keep_others: bool,
    admit: Admit<'_>,
    upload: &mut UploadBuilder,
) -> Result<Items, Rejection> {
    upload.receive_all();
    let mut reading = Reading {
        keep_others,
        admit,
        upload,
        items: Items::default(),
        fate: Fate::File,
        backlog: Backlog::default(),
        rescans: Rescans::default(),
        suspects: Vec::new(),
        fault: None,
    };
    let read = reading.read(reader).await;
    if read.is_err() {
        // What follows is only waited for: the client wants to send all of it.
        while reader.next().await?.is_some() {}
    }
    read?;
    reading.end().await
}

/// An envelope being read.
struct Reading<'r> {
    keep_others: bool,
    admit: Admit<'r>,
    upload: &'r mut UploadBuilder,
    items: Items,
    fate: Fate,
    backlog: Backlog,
    rescans: Rescans,
    /// Items that are not the dump.
    suspects: Vec<Suspect>,
    /// The first fault of a frame.
    fault: Option<ItemsError>,
}

/// Items that were read once more, because their frames were wrong.
#[derive(Default)]
struct Rescans {
    count: u32,
    bytes: u64,
    /// Whether the item that is read is one.
    is_one: bool,
    /// Whether it is a dump, of which it was asked how long it is at least.
    is_least_known: bool,
    /// Whether nothing sound says where it begins and ends.
    is_loose: bool,
    /// Warnings that are not told.
    silent: usize,
}

impl Reading<'_> {
    async fn read(&mut self, reader: &mut impl Pieces) -> Result<(), Rejection> {
        let mut parser = Parser::default();
        loop {
            let mut ended = false;
            match self.backlog.next(reader).await? {
                Some(piece) => parser.push(piece),
                None => {
                    parser.finish();
                    ended = true;
                }
            }
            loop {
                match parser.step() {
                    Step::More if ended => return Ok(()),
                    Step::More => break,
                    Step::Misframed(error) => {
                        self.rescan(error, &mut parser).await?;
                        break;
                    }
                    step @ (Step::Header(_) | Step::Item(_) | Step::Content(_) | Step::ItemEnd) => {
                        self.take(step).await?;
                    }
                }
            }
        }
    }

    /// The item's frame is wrong: it is read once more and ends where the next head stands.
    async fn rescan(&mut self, error: ItemsError, parser: &mut Parser) -> Result<(), Rejection> {
        let again = std::mem::replace(&mut self.rescans.is_one, true);
        if !again {
            self.rescans.count += 1;
            self.warn(format!("{error}; the item ends where the next one begins"));
        }
        if self.rescans.count >= ENVELOPE_RESCANS_MAX {
            parser.distrust_lengths();
        }
        let (start, content) = match &mut self.fate {
            Fate::Reference(reference) => {
                let json = std::mem::take(&mut reference.json);
                (Vec::new(), Content::from(json))
            }
            // What comes once more is received once more: no more of it than the upload's own length may be.
            Fate::File if self.rescans.bytes > self.upload.bytes_max() => {
                let unread = parser.rescan(0);
                self.backlog.put_bytes(unread);
                return Ok(());
            }
            Fate::File => self.upload.reopen().await?,
        };
        self.rescans.bytes += content.len();
        let is_dump = check_minidump(&start, content.len()).is_ok();
        let least = match is_dump && !self.rescans.is_least_known {
            true => least_bytes(content.clone()).await?,
            false => None,
        };
        self.rescans.is_least_known |= least.is_some();
        let least = least.unwrap_or_default();
        // Its own directory says the same as its head: the end of it did not come.
        let is_cut = match error {
            ItemsError::Cut { missing, .. } => {
                (content.len() + 1..=content.len().saturating_add(missing)).contains(&least)
            }
            ItemsError::BrokenLine { .. }
            | ItemsError::LineTooLong { .. }
            | ItemsError::MissingType { .. }
            | ItemsError::BrokenLength { .. }
            | ItemsError::WrongLength { .. }
            | ItemsError::TooManyItems => false,
        };
        let unread = match is_cut {
            true => parser.keep_rest(),
            false => parser.rescan(least),
        };
        self.fault.get_or_insert(error);
        self.backlog.put_bytes(unread);
        self.backlog.put_content(content);
        Ok(())
    }

    /// Everything has come.
    async fn end(mut self) -> Result<Items, Rejection> {
        if !self.upload.has_plain_dump() {
            let found = unearth(self.upload, &self.suspects).await?;
            self.items.warnings.extend(found);
        }
        let silent = self.rescans.silent;
        if silent > 0 {
            let more = format!("{silent} more warnings about the envelope's frames");
            self.items.warnings.push(more);
        }
        match self.fault {
            Some(fault) if self.upload.is_empty() && self.items.references.is_empty() => {
                Err(fault.into())
            }
            Some(_) | None => Ok(self.items),
        }
    }

    fn warn(&mut self, warning: String) {
        if self.items.warnings.len() < ENVELOPE_WARNINGS_MAX {
            self.items.warnings.push(warning);
        } else {
            self.rescans.silent += 1;
        }
    }

    async fn take(&mut self, step: Step) -> Result<(), Rejection> {
        match step {
            Step::Header(header) => {
                (self.admit)(&header)?;
                self.items.event_id = header.event_id;
                self.items.sdk = header.sdk;
                self.note(header.warnings, header.fault);
                Ok(())
            }
            Step::Item(head) => {
                self.begin(head);
                Ok(())
            }
            Step::Content(bytes) => match &mut self.fate {
                Fate::File => self.upload.append(&bytes).await,
                Fate::Reference(reference) => {
                    reference.json.extend_from_slice(&bytes);
                    self.check_reference().await
                }
            },
            Step::ItemEnd => {
                match std::mem::replace(&mut self.fate, Fate::File) {
                    Fate::File => self.end_file(),
                    Fate::Reference(reference) => self.items.references.push(reference),
                }
                Ok(())
            }
            Step::Misframed(_) | Step::More => Ok(()),
        }
    }

    fn note(&mut self, warnings: Vec<String>, fault: Option<ItemsError>) {
        for warning in warnings {
            self.warn(warning);
        }
        if let Some(fault) = fault {
            self.warn(fault.to_string());
            self.fault.get_or_insert(fault);
        }
    }

    fn end_file(&mut self) {
        let is_framed = !self.rescans.is_one && !self.rescans.is_loose;
        if let Some((run, _)) = self.upload.end_part() {
            self.suspects.push(Suspect { run, is_framed });
        }
    }

    /// A reference that is too long for one is a file like any other.
    async fn check_reference(&mut self) -> Result<(), Rejection> {
        let Fate::Reference(reference) = &mut self.fate else {
            return Ok(());
        };
        if reference.json.len() <= REFERENCE_BYTES_MAX {
            return Ok(());
        }
        let json = std::mem::take(&mut reference.json);
        let head = reference.head.clone();
        let limit = TooLarge::Reference(REFERENCE_BYTES_MAX);
        self.warn(format!(
            "an attachment reference is kept as a file: {limit}"
        ));
        self.fate = Fate::File;
        self.upload.begin_file(head);
        self.upload.append(&json).await
    }

    fn begin(&mut self, head: ItemHead) {
        let is_loose = match head.extent {
            Extent::Bytes(_) => !head.warnings.is_empty(),
            Extent::Line | Extent::Unknown => true,
        };
        let (role, is_kept) = match head.kind {
            ItemKind::Event => (Role::EventData(EventData::Item), true),
            ItemKind::UserReport => (Role::EventData(EventData::UserReport), true),
            ItemKind::Feedback => (Role::EventData(EventData::Feedback), true),
            ItemKind::Attachment => (attachment_role(head.attachment_type.as_deref()), true),
            ItemKind::Other(kind) => {
                self.items.others.push(kind);
                let kind = AttachmentKind::from(kind.as_str());
                (Role::Attachment(kind), self.keep_others)
            }
            ItemKind::Stray => (Role::Attachment(AttachmentKind::Plain), false),
        };
        self.note(head.warnings, head.fault);
        self.rescans.is_one = false;
        self.rescans.is_least_known = false;
        self.rescans.is_loose = is_loose;
        let file = FileHead {
            role,
            name: head.file_name,
            content_type: head.content_type,
        };
        self.fate = Fate::File;
        if !is_kept {
            self.upload.begin_scrap(file);
        } else if is_reference(&file) {
            self.fate = Fate::Reference(Reference {
                head: FileHead {
                    content_type: None,
                    ..file
                },
                json: Vec::new(),
            });
        } else {
            self.upload.begin_file(file);
        }
    }
}

/// How long a dump is at least, when that can be told.
async fn least_bytes(dump: Content) -> Result<Option<u64>, Rejection> {
    let least = tokio::task::spawn_blocking(move || extent(&dump));
    least.await.map_err(|_| Rejection::Stopping)
}

fn is_reference(file: &FileHead) -> bool {
    file.content_type.as_deref().is_some_and(|media_type| {
        let media_type = media_type.split(';').next().unwrap_or_default();
        media_type.trim().eq_ignore_ascii_case(REFERENCE_TYPE)
    })
}

fn attachment_role(kind: Option<&str>) -> Role {
    match AttachmentKind::from(kind.unwrap_or(AttachmentKind::Plain.as_str())) {
        AttachmentKind::Minidump => Role::Minidump,
        AttachmentKind::EventPayload => Role::EventData(EventData::Event),
        AttachmentKind::Breadcrumbs => Role::EventData(EventData::Breadcrumbs),
        kind @ (AttachmentKind::Plain | AttachmentKind::Other(_)) => Role::Attachment(kind),
    }
}
