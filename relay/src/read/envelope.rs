//! Sentry's envelopes: the items that belong to a crash become its files, the others are counted.

use bytes::Bytes;
use shared::envelope::AttachmentKind;
use shared::id::EventId;

use super::Pieces;
use crate::error::{Rejection, TooLarge};
use crate::items::{EnvelopeHeader, ItemHead, ItemKind, OtherItem, Parser, Step};
use crate::limits::REFERENCE_BYTES_MAX;
use crate::upload::{EventData, FileHead, Role, UploadBuilder};

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
    File,
    Reference(Reference),
    Counted,
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
    let mut parser = Parser::default();
    let mut reading = Reading {
        keep_others,
        admit,
        upload,
        items: Items::default(),
        fate: Fate::Counted,
    };
    let mut read = Ok(());
    while let Some(piece) = reader.next().await? {
        // What follows something broken is only waited for: the client wants to send all of it.
        if read.is_ok() {
            parser.push(piece);
            read = reading.take_steps(&mut parser).await;
        }
    }
    if read.is_ok() {
        read = reading.take_end(parser).await;
    }
    let broken = reading.upload.forgive(read)?;
    reading.items.warnings.extend(broken);
    Ok(reading.items)
}

/// An envelope being read.
struct Reading<'r> {
    keep_others: bool,
    admit: Admit<'r>,
    upload: &'r mut UploadBuilder,
    items: Items,
    fate: Fate,
}

impl Reading<'_> {
    async fn take_steps(&mut self, parser: &mut Parser) -> Result<(), Rejection> {
        loop {
            let step = parser.step()?;
            if step == Step::More {
                return Ok(());
            }
            self.take(step).await?;
        }
    }

    async fn take_end(&mut self, parser: Parser) -> Result<(), Rejection> {
        for step in parser.finish()? {
            self.take(step).await?;
        }
        Ok(())
    }

    async fn take(&mut self, step: Step) -> Result<(), Rejection> {
        match step {
            Step::Header(header) => {
                (self.admit)(&header)?;
                self.items.event_id = header.event_id;
                self.items.sdk = header.sdk;
                self.items.warnings.extend(header.warnings);
                Ok(())
            }
            Step::Item(head) => self.begin(head),
            Step::Content(bytes) => match &mut self.fate {
                Fate::File => self.upload.append(&bytes).await,
                Fate::Reference(reference) => reference.read(&bytes),
                Fate::Counted => Ok(()),
            },
            Step::ItemEnd => {
                match std::mem::replace(&mut self.fate, Fate::Counted) {
                    Fate::File => self.upload.end_part(),
                    Fate::Reference(reference) => self.items.references.push(reference),
                    Fate::Counted => {}
                }
                Ok(())
            }
            Step::More => Ok(()),
        }
    }

    fn begin(&mut self, head: ItemHead) -> Result<(), Rejection> {
        let role = match head.kind {
            ItemKind::Event => Role::EventData(EventData::Item),
            ItemKind::UserReport => Role::EventData(EventData::UserReport),
            ItemKind::Feedback => Role::EventData(EventData::Feedback),
            ItemKind::Attachment => attachment_role(head.attachment_type.as_deref()),
            ItemKind::Other(kind) => {
                self.items.others.push(kind);
                if !self.keep_others {
                    return Ok(());
                }
                Role::Attachment(AttachmentKind::from(kind.as_str()))
            }
        };
        self.items.warnings.extend(head.warnings);
        let file = FileHead {
            role,
            name: head.file_name,
            content_type: head.content_type,
        };
        self.fate = if is_reference(&file) {
            Fate::Reference(Reference {
                head: FileHead {
                    content_type: None,
                    ..file
                },
                json: Vec::new(),
            })
        } else {
            self.upload.begin_file(file)?;
            Fate::File
        };
        Ok(())
    }
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

impl Reference {
    fn read(&mut self, bytes: &Bytes) -> Result<(), Rejection> {
        if self.json.len() + bytes.len() > REFERENCE_BYTES_MAX {
            return Err(TooLarge::Reference(REFERENCE_BYTES_MAX).into());
        }
        self.json.extend_from_slice(bytes);
        Ok(())
    }
}
