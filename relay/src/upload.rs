//! An upload while it comes in: which runs of it are files, which values are form fields, all of it under the limits.

use shared::config::UploadLimits;

use crate::body::{Received, Receiver, Run};
use crate::error::{Rejection, TooLarge};
use crate::form::Field;
use crate::limits::{DUMP_HEAD_BYTES, FORM_BYTES_GRANTED, FORM_FIELDS_MAX};
use crate::part_head::PartHead;

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

/// A file of an upload.
#[derive(Debug)]
pub struct File {
    /// What the client said about it.
    pub head: PartHead,
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
    head: PartHead,
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

    /// A part begins: a file when it has a file name, a form field otherwise.
    ///
    /// # Errors
    /// [`Rejection::TooLarge`] when there are too many of its kind.
    pub fn begin_part(&mut self, head: PartHead) -> Result<(), Rejection> {
        self.part = Some(if head.file_name.is_some() {
            if self.files.len() >= self.limits.attachments as usize {
                return Err(TooLarge::Attachments(self.limits.attachments).into());
            }
            Part::File(Box::new(OpenFile {
                head,
                start: Vec::new(),
                begins: self.receiver.bytes(),
                hasher: blake3::Hasher::new(),
            }))
        } else {
            if self.fields.len() >= FORM_FIELDS_MAX {
                return Err(TooLarge::FormFields(FORM_FIELDS_MAX).into());
            }
            let name = head.name.unwrap_or_default();
            self.count_form_bytes(name.len())?;
            let value = Vec::new();
            Part::Field { name, value }
        });
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
