//! An upload while it comes in: which runs of it are files, which values are form fields, all of it under the limits.

use shared::config::UploadLimits;
use shared::content::Content;
use shared::envelope::AttachmentKind;

use crate::body::{Received, Receiver, Run};
use crate::error::{Rejection, TooLarge};
use crate::event_data::Field;
use crate::limits::{DUMP_HEAD_BYTES, EVENT_ITEMS_MAX, FORM_BYTES_GRANTED, FORM_FIELDS_MAX};
use crate::validate::check_minidump;

const UNREAL_CONTEXT: &str = "unreal.context";
const UNREAL_LOG: &str = "unreal.logs";

/// Everything a client sent, bounded and not yet trusted.
#[derive(Debug)]
pub struct Upload {
    /// The bytes of all files.
    pub received: Received,
    /// The files, in the order they came.
    pub files: Vec<File>,
    /// The form fields, in the order they came.
    pub fields: Vec<Field>,
}

/// What a client says about a file, and what it is to the upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileHead {
    /// What it is.
    pub role: Role,
    /// The file name as the client wrote it.
    pub name: Option<String>,
    /// The media type.
    pub content_type: Option<String>,
}

/// What a file is to the upload, as far as the client says; decided where its format is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// The minidump; of several, the first.
    Minidump,
    /// Said about the crash rather than belonging to it: read into the event.
    EventData(EventData),
    /// Kept as it is.
    Attachment(AttachmentKind),
}

/// The ways clients write what they say about a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventData {
    /// An envelope's event item: JSON.
    Item,
    /// An envelope's user report, about an event with the envelope's id: JSON.
    UserReport,
    /// An envelope's feedback, an event of its own: JSON.
    Feedback,
    /// The file `__sentry-event`: msgpack.
    Event,
    /// The files `__sentry-breadcrumb1` and `2`: msgpack.
    Breadcrumbs,
    /// Mozilla's part `extra`: JSON.
    Extra,
    /// Unreal Engine's `CrashContext.runtime-xml`.
    UnrealContext,
    /// Unreal Engine's log.
    UnrealLog,
}

impl EventData {
    /// Whether it stays a file when it was read: not all of it is in the event then.
    #[must_use]
    pub fn is_kept(self) -> bool {
        match self {
            Self::Item
            | Self::UserReport
            | Self::Feedback
            | Self::Event
            | Self::Breadcrumbs
            | Self::Extra => false,
            Self::UnrealContext | Self::UnrealLog => true,
        }
    }

    /// Sentry's name for such a file.
    #[must_use]
    pub fn kind(self) -> AttachmentKind {
        match self {
            Self::Item | Self::Event => AttachmentKind::EventPayload,
            Self::Breadcrumbs => AttachmentKind::Breadcrumbs,
            Self::UserReport | Self::Feedback | Self::Extra => AttachmentKind::Plain,
            Self::UnrealContext => AttachmentKind::from(UNREAL_CONTEXT),
            Self::UnrealLog => AttachmentKind::from(UNREAL_LOG),
        }
    }
}

/// A file of an upload.
#[derive(Debug)]
pub struct File {
    /// What the client said about it.
    pub head: FileHead,
    /// Its first bytes, enough to validate a minidump.
    pub start: Vec<u8>,
    /// Where it is among the received bytes.
    pub run: Run,
    /// Of all its bytes.
    pub blake3: blake3::Hash,
}

/// An upload being received: parts one after the other, each in pieces.
#[derive(Debug)]
pub struct UploadBuilder {
    limits: UploadLimits,
    receiver: Receiver,
    files: Vec<File>,
    fields: Vec<Field>,
    form_bytes: usize,
    part: Option<Part>,
}

#[derive(Debug)]
enum Part {
    File(Box<OpenFile>),
    Field { name: String, value: Vec<u8> },
}

#[derive(Debug)]
struct OpenFile {
    head: FileHead,
    start: Vec<u8>,
    begins: u64,
    hasher: blake3::Hasher,
}

impl UploadBuilder {
    /// An upload into `receiver`.
    #[must_use]
    pub fn new(limits: UploadLimits, receiver: Receiver) -> Self {
        Self {
            limits,
            receiver,
            files: Vec::new(),
            fields: Vec::new(),
            form_bytes: 0,
            part: None,
        }
    }

    /// A file begins.
    ///
    /// # Errors
    /// [`Rejection::TooLarge`] when there are too many.
    pub fn begin_file(&mut self, head: FileHead) -> Result<(), Rejection> {
        let is_kept = |role: &Role| match role {
            Role::EventData(data) => data.is_kept(),
            Role::Minidump | Role::Attachment(_) => true,
        };
        let kept = is_kept(&head.role);
        let alike = self.files.iter().map(|file| is_kept(&file.head.role));
        let alike = alike.filter(|other| *other == kept).count();
        if kept && alike >= self.limits.attachments as usize {
            return Err(TooLarge::Attachments(self.limits.attachments).into());
        }
        if !kept && alike >= EVENT_ITEMS_MAX {
            return Err(TooLarge::EventItems(EVENT_ITEMS_MAX).into());
        }
        self.part = Some(Part::File(Box::new(OpenFile {
            head,
            start: Vec::new(),
            begins: self.receiver.bytes(),
            hasher: blake3::Hasher::new(),
        })));
        Ok(())
    }

    /// A form field begins.
    ///
    /// # Errors
    /// [`Rejection::TooLarge`] when there are too many.
    pub fn begin_field(&mut self, name: String) -> Result<(), Rejection> {
        if self.fields.len() >= FORM_FIELDS_MAX {
            return Err(TooLarge::FormFields(FORM_FIELDS_MAX).into());
        }
        self.count_form_bytes(name.len())?;
        let value = Vec::new();
        self.part = Some(Part::Field { name, value });
        Ok(())
    }

    /// Bytes of the part that began last.
    ///
    /// # Errors
    /// [`Rejection`] when they are too many or cannot be kept.
    pub async fn append(&mut self, piece: &[u8]) -> Result<(), Rejection> {
        match &mut self.part {
            Some(Part::File(file)) => {
                let bytes = self.receiver.bytes() - file.begins + piece.len() as u64;
                if bytes > self.limits.attachment.get() {
                    return Err(TooLarge::Attachment(self.limits.attachment).into());
                }
                file.read(piece);
                self.receiver.append(piece).await
            }
            Some(Part::Field { .. }) => {
                self.count_form_bytes(piece.len())?;
                if let Some(Part::Field { value, .. }) = &mut self.part {
                    value.extend_from_slice(piece);
                }
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// The part has ended.
    pub fn end_part(&mut self) {
        match self.part.take() {
            Some(Part::File(file)) => self.files.push(file.close(self.receiver.bytes())),
            Some(Part::Field { name, value }) => self.fields.push((name, value)),
            None => {}
        }
    }

    /// Decides what the file that ended last is, now that its first bytes are known.
    pub fn name_role(&mut self, role: impl FnOnce(&File) -> Role) {
        if let Some(file) = self.files.last_mut() {
            file.head.role = role(file);
        }
    }

    /// When the body turns out to be broken and the crash itself is whole, what is broken does not cost it: it becomes a
    /// sentence, and the part it is in is left out.
    ///
    /// # Errors
    /// What `read` ended with, when that cannot be.
    pub fn forgive(&mut self, read: Result<(), Rejection>) -> Result<Option<String>, Rejection> {
        match read {
            Ok(()) => Ok(None),
            Err(error @ (Rejection::Multipart(_) | Rejection::Items(_))) if self.has_crash() => {
                self.part = None;
                Ok(Some(format!("what follows the crash is not used: {error}")))
            }
            Err(error) => Err(error),
        }
    }

    fn has_crash(&self) -> bool {
        self.files.iter().any(|file| match file.head.role {
            Role::Minidump => check_minidump(&file.start, file.run.bytes).is_ok(),
            Role::EventData(data) => data == EventData::Item,
            Role::Attachment(_) => false,
        })
    }

    /// The files so far.
    #[must_use]
    pub fn files(&self) -> &[File] {
        &self.files
    }

    /// Takes a file out, with its bytes: others that were wrapped in it come in its place.
    ///
    /// # Errors
    /// [`Rejection::Spool`]
    pub async fn take_file(&mut self, at: usize) -> Result<(File, Content), Rejection> {
        let file = self.files.remove(at);
        let content = self.receiver.content(file.run).await?;
        Ok((file, content))
    }

    /// Everything has come.
    ///
    /// # Errors
    /// [`Rejection::Spool`].
    pub async fn finish(self) -> Result<Upload, Rejection> {
        Ok(Upload {
            received: self.receiver.finish().await?,
            files: self.files,
            fields: self.fields,
        })
    }

    /// Form bytes stay in memory: under their limit, and past a small grant only while the shared memory has room.
    fn count_form_bytes(&mut self, bytes: usize) -> Result<(), Rejection> {
        let granted = self.form_bytes <= FORM_BYTES_GRANTED;
        self.form_bytes += bytes;
        if self.form_bytes as u64 > self.limits.form.get() {
            return Err(TooLarge::Form(self.limits.form).into());
        }
        if granted || self.receiver.reserve(bytes) {
            Ok(())
        } else {
            Err(Rejection::Overloaded)
        }
    }
}

impl OpenFile {
    fn read(&mut self, piece: &[u8]) {
        self.hasher.update(piece);
        let room = DUMP_HEAD_BYTES - self.start.len();
        self.start
            .extend_from_slice(&piece[..piece.len().min(room)]);
    }

    fn close(self, end: u64) -> File {
        File {
            head: self.head,
            start: self.start,
            run: Run {
                start: self.begins,
                bytes: end - self.begins,
            },
            blake3: self.hasher.finalize(),
        }
    }
}
