//! An upload while it comes in: which runs of it are files, which values are form fields, all of it under the limits.
//! What is over one is left out and named; only a dump that is too large is refused.

mod shed;

use shared::config::UploadLimits;
use shared::content::Content;
use shared::envelope::AttachmentKind;

use self::shed::{Loss, Shed};
use crate::body::{Received, Receiver, Run};
use crate::container::sniff;
use crate::error::{Rejection, TooLarge};
use crate::event_data::Field;
use crate::limits::{
    DUMP_HEAD_BYTES, EVENT_ITEMS_MAX, FIELD_CUT_BYTES, FORM_BYTES_GRANTED, FORM_FIELDS_MAX,
};
use crate::validate::{check_minidump, starts_as_minidump};

/// The bytes that tell a dump from anything else at first sight.
const MAGIC_BYTES: usize = 4;
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
    /// What was over a limit and is not kept.
    pub warnings: Vec<String>,
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
#[derive(Debug, Clone)]
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
    shed: Shed,
    /// Whether the bytes of files that are not kept are received as well: what they are may have to be looked at again.
    receives_all: bool,
}

#[derive(Debug)]
enum Part {
    File(Box<OpenFile>),
    Field(OpenField),
}

#[derive(Debug)]
struct OpenFile {
    head: FileHead,
    start: Vec<u8>,
    begins: u64,
    bytes: u64,
    hasher: blake3::Hasher,
    keep: Keep,
    begun_as: Keep,
}

/// Whether a file is kept when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keep {
    Whole,
    /// When it is the dump that is missing; else it is over a limit, or belongs to no crash.
    IfDump(Option<TooLarge>),
    /// It is over a limit, or belongs to no crash.
    Not(Option<TooLarge>),
}

#[derive(Debug)]
struct OpenField {
    name: String,
    /// What is kept of it; its first bytes, when it is not kept.
    value: Vec<u8>,
    /// The limit that it is over.
    over: Option<TooLarge>,
    /// Whether something of it is kept all the same.
    is_cut: bool,
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
            shed: Shed::default(),
            receives_all: false,
        }
    }

    /// From here on, the bytes of files that are not kept are received as well.
    pub fn receive_all(&mut self) {
        self.receives_all = true;
    }

    /// A file begins. One that is more than the limits allow is kept when it is the dump that is missing, and named in a
    /// warning otherwise.
    pub fn begin_file(&mut self, head: FileHead) {
        let is_kept = |role: &Role| match role {
            Role::EventData(data) => data.is_kept(),
            Role::Minidump | Role::Attachment(_) => true,
        };
        let kept = is_kept(&head.role);
        let alike = self.files.iter().map(|file| is_kept(&file.head.role));
        let alike = alike.filter(|other| *other == kept).count();
        let over = if kept && alike >= self.limits.attachments as usize {
            Some(TooLarge::Attachments(self.limits.attachments))
        } else if !kept && alike >= EVENT_ITEMS_MAX {
            Some(TooLarge::EventItems(EVENT_ITEMS_MAX))
        } else {
            None
        };
        let is_wanted = match head.role {
            Role::Minidump => !self.has_plain_dump(),
            Role::EventData(EventData::UnrealContext) => {
                !self.files.iter().any(|file| file.head.role == head.role)
            }
            Role::EventData(_) | Role::Attachment(_) => false,
        };
        self.begin(
            head,
            match over {
                Some(over) if !is_wanted => Keep::IfDump(Some(over)),
                Some(_) | None => Keep::Whole,
            },
        );
    }

    /// Bytes begin that belong to no crash, unless they are the dump.
    pub fn begin_scrap(&mut self, head: FileHead) {
        self.begin(head, Keep::IfDump(None));
    }

    fn begin(&mut self, head: FileHead, keep: Keep) {
        self.part = Some(Part::File(Box::new(OpenFile {
            head,
            start: Vec::new(),
            begins: self.receiver.bytes(),
            bytes: 0,
            hasher: blake3::Hasher::new(),
            keep,
            begun_as: keep,
        })));
    }

    /// A form field begins.
    pub fn begin_field(&mut self, name: String) {
        let over = if self.fields.len() >= FORM_FIELDS_MAX {
            Some(TooLarge::FormFields(FORM_FIELDS_MAX))
        } else if self.form_room() < name.len() {
            Some(TooLarge::Form(self.limits.form))
        } else {
            None
        };
        if over.is_none() {
            self.form_bytes += name.len();
        }
        self.part = Some(Part::Field(OpenField {
            name,
            value: Vec::new(),
            over,
            is_cut: false,
        }));
    }

    /// Bytes of the part that began last.
    ///
    /// # Errors
    /// [`Rejection`] when the dump is too large, or they cannot be kept.
    pub async fn append(&mut self, piece: &[u8]) -> Result<(), Rejection> {
        match self.part.take() {
            Some(Part::File(file)) => self.append_to_file(file, piece).await,
            Some(Part::Field(field)) => self.append_to_field(field, piece).await,
            None => Ok(()),
        }
    }

    async fn append_to_file(
        &mut self,
        mut file: Box<OpenFile>,
        piece: &[u8],
    ) -> Result<(), Rejection> {
        file.read(piece);
        let limit = TooLarge::Attachment(self.limits.attachment);
        if file.bytes > self.limits.attachment.get() && file.may_be_kept() {
            let is_dump = file.head.role == Role::Minidump || starts_as_minidump(&file.start);
            if is_dump && !self.has_dump() {
                return Err(limit.into());
            }
            file.keep = Keep::Not(file.keep.over().or(Some(limit)));
        }
        let is_received = file.may_be_kept() || self.receives_all;
        self.part = Some(Part::File(file));
        if is_received {
            self.receiver.append(piece).await?;
        }
        Ok(())
    }

    /// A field that begins as a dump does is a file whose head does not say so.
    async fn append_to_field(
        &mut self,
        mut field: OpenField,
        piece: &[u8],
    ) -> Result<(), Rejection> {
        let (start, rest) = piece.split_at(piece.len().min(field.start_missing()));
        self.keep_of_field(&mut field, start)?;
        if !start.is_empty() && starts_as_minidump(&field.value) {
            self.form_bytes -= field.counted();
            let head = FileHead {
                role: Role::Attachment(AttachmentKind::Plain),
                name: Some(field.name),
                content_type: None,
            };
            self.begin_file(head);
            for piece in [&field.value[..], rest] {
                if let Some(Part::File(file)) = self.part.take() {
                    self.append_to_file(file, piece).await?;
                }
            }
            return Ok(());
        }
        self.keep_of_field(&mut field, rest)?;
        self.part = Some(Part::Field(field));
        Ok(())
    }

    /// Form bytes stay in memory: under their limit, and past a small grant only while the shared memory has room. A field
    /// that does not fit keeps its first bytes and leaves room for those behind it.
    fn keep_of_field(&mut self, field: &mut OpenField, piece: &[u8]) -> Result<(), Rejection> {
        if field.over.is_some() {
            let shown = piece.len().min(field.start_missing());
            field.value.extend_from_slice(&piece[..shown]);
            return Ok(());
        }
        let bytes = piece.len().min(self.form_room());
        let granted = self.form_bytes <= FORM_BYTES_GRANTED;
        self.form_bytes += bytes;
        if !granted && !self.receiver.reserve(bytes) {
            return Err(Rejection::Overloaded);
        }
        field.value.extend_from_slice(&piece[..bytes]);
        if bytes < piece.len() {
            field.over = Some(TooLarge::Form(self.limits.form));
            field.is_cut = true;
            let surplus = field.value.len().saturating_sub(FIELD_CUT_BYTES);
            field.value.truncate(FIELD_CUT_BYTES);
            self.form_bytes -= surplus;
        }
        Ok(())
    }

    fn form_room(&self) -> usize {
        let room = self
            .limits
            .form
            .get()
            .saturating_sub(self.form_bytes as u64);
        usize::try_from(room).unwrap_or(usize::MAX)
    }

    /// The part has ended. Returns where its bytes are, and whether it is a file that is kept.
    pub fn end_part(&mut self) -> Option<(Run, bool)> {
        match self.part.take()? {
            Part::File(file) => {
                let (keep, file) = file.close(self.receiver.bytes());
                let run = file.run;
                let (is_kept, over) = match keep {
                    Keep::Whole => (true, None),
                    Keep::IfDump(over) => (is_dump(&file) && !self.has_plain_dump(), over),
                    Keep::Not(over) => (false, over),
                };
                if is_kept {
                    self.files.push(file);
                } else if let Some(over) = over {
                    self.shed.note(over, Loss::Whole, file.head.name.as_deref());
                }
                Some((run, is_kept))
            }
            Part::Field(field) => {
                if let Some(over) = field.over {
                    let loss = if field.is_cut {
                        Loss::Part
                    } else {
                        Loss::Whole
                    };
                    self.shed.note(over, loss, Some(&field.name));
                }
                if field.over.is_none() || field.is_cut {
                    self.fields.push((field.name, field.value));
                }
                None
            }
        }
    }

    /// Takes back what came of the file that is open, to be read once more; from here on it is as at its beginning. Returns
    /// its first bytes as well.
    ///
    /// # Errors
    /// [`Rejection::Spool`]
    pub async fn reopen(&mut self) -> Result<(Vec<u8>, Content), Rejection> {
        let Some(Part::File(file)) = &mut self.part else {
            return Ok((Vec::new(), Content::default()));
        };
        let begins = self.receiver.bytes();
        let run = Run {
            start: file.begins,
            bytes: begins - file.begins,
        };
        let start = file.restart(begins);
        Ok((start, self.receiver.content(run).await?))
    }

    /// The bytes of a run of what was received.
    ///
    /// # Errors
    /// [`Rejection::Spool`]
    pub async fn content(&mut self, run: Run) -> Result<Content, Rejection> {
        self.receiver.content(run).await
    }

    /// A file that was found among the received bytes.
    pub fn add_file(&mut self, file: File) {
        self.files.push(file);
    }

    /// Decides what the file that ended last is, now that its first bytes are known.
    pub fn name_role(&mut self, role: impl FnOnce(&File) -> Role) {
        if let Some(file) = self.files.last_mut() {
            file.head.role = role(file);
        }
    }

    /// When the body turns out to be broken and something of the crash is there, what is broken does not cost it: it becomes
    /// a sentence. Of the part it is in, a file is kept as far as it came.
    ///
    /// # Errors
    /// What `read` ended with, when that cannot be.
    pub fn forgive(&mut self, read: Result<(), Rejection>) -> Result<Option<String>, Rejection> {
        let error = match read {
            Ok(()) => return Ok(None),
            Err(error @ (Rejection::Multipart(_) | Rejection::Archive(_))) => error,
            Err(error) => return Err(error),
        };
        let what = match self.part {
            Some(Part::File(_)) => {
                self.end_part();
                "a file is kept as far as it came"
            }
            Some(Part::Field(_)) | None => {
                self.part = None;
                "what follows the crash is not used"
            }
        };
        if self.has_crash() {
            Ok(Some(format!("{what}: {error}")))
        } else {
            Err(error)
        }
    }

    /// Whether there is a dump, or something else that tells of a crash.
    #[must_use]
    pub fn has_crash(&self) -> bool {
        let tells = |file: &File| {
            matches!(
                file.head.role,
                Role::EventData(EventData::Item | EventData::UnrealContext)
            )
        };
        self.has_dump() || self.files.iter().any(tells)
    }

    /// Whether there is a dump, be it that nothing but its first bytes say so, or that it is compressed.
    #[must_use]
    pub fn has_dump(&self) -> bool {
        let is_compressed =
            |file: &File| file.head.role == Role::Minidump && sniff(&file.start).is_some();
        self.files.iter().any(is_compressed) || self.has_plain_dump()
    }

    /// Whether there is a dump that is not compressed.
    #[must_use]
    pub fn has_plain_dump(&self) -> bool {
        self.files.iter().any(is_dump)
    }

    /// Whether the dump's last byte is the last that was received: then more of it may have been to come.
    #[must_use]
    pub fn ends_with_dump(&self) -> bool {
        let end = self.receiver.bytes();
        let last = self.files.last();
        last.is_some_and(|file| is_dump(file) && file.run.start + file.run.bytes == end)
    }

    /// The most bytes of an upload.
    #[must_use]
    pub fn bytes_max(&self) -> u64 {
        self.limits.upload.get()
    }

    /// The first limit for which something is not kept.
    #[must_use]
    pub fn first_shed(&self) -> Option<TooLarge> {
        self.shed.first()
    }

    /// Whether there is nothing that is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.fields.is_empty()
    }

    /// The files so far.
    #[must_use]
    pub fn files(&self) -> &[File] {
        &self.files
    }

    /// A file turned out to be the dump.
    pub fn take_for_dump(&mut self, at: usize) {
        if let Some(file) = self.files.get_mut(at) {
            file.head.role = Role::Minidump;
        }
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
            warnings: self.shed.sentences(),
        })
    }
}

/// Whether a file's first bytes are a dump's.
pub(crate) fn is_dump(file: &File) -> bool {
    check_minidump(&file.start, file.run.bytes).is_ok()
}

impl Keep {
    fn over(self) -> Option<TooLarge> {
        match self {
            Self::Whole => None,
            Self::IfDump(over) | Self::Not(over) => over,
        }
    }
}

impl OpenFile {
    fn may_be_kept(&self) -> bool {
        match self.keep {
            Keep::Whole | Keep::IfDump(_) => true,
            Keep::Not(_) => false,
        }
    }

    fn read(&mut self, piece: &[u8]) {
        self.bytes += piece.len() as u64;
        if !self.may_be_kept() {
            return;
        }
        self.hasher.update(piece);
        let room = DUMP_HEAD_BYTES - self.start.len();
        self.start
            .extend_from_slice(&piece[..piece.len().min(room)]);
        if let Keep::IfDump(over) = self.keep
            && self.start.len() >= MAGIC_BYTES
            && !starts_as_minidump(&self.start)
        {
            self.keep = Keep::Not(over);
        }
    }

    fn restart(&mut self, begins: u64) -> Vec<u8> {
        self.begins = begins;
        self.bytes = 0;
        self.hasher.reset();
        self.keep = self.begun_as;
        std::mem::take(&mut self.start)
    }

    fn close(self, end: u64) -> (Keep, File) {
        let file = File {
            head: self.head,
            start: self.start,
            run: Run {
                start: self.begins,
                bytes: end - self.begins,
            },
            blake3: self.hasher.finalize(),
        };
        (self.keep, file)
    }
}

impl OpenField {
    /// Bytes that are missing to know whether it begins as a dump does.
    fn start_missing(&self) -> usize {
        MAGIC_BYTES.saturating_sub(self.value.len())
    }

    /// Bytes of it that count as the form's.
    fn counted(&self) -> usize {
        match self.over {
            None => self.name.len() + self.value.len(),
            Some(_) if self.is_cut => self.name.len() + self.value.len(),
            Some(_) => 0,
        }
    }
}
