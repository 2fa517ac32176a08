//! An upload's place in the spool while it comes in: space, and a file once something has to be written. Dropped
//! unfinished, it is gone.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::SpoolError;
use super::format::{AttachmentManifest, MAGIC, Manifest, Run};
use super::space::SpaceReservation;
use crate::content::{Content, Segment};
use crate::envelope::Envelope;

/// What is copied at once when contents from elsewhere are written into a draft.
const COPY_BYTES: usize = 1 << 20;

/// An upload's place in the spool. Most uploads never make it a file.
#[derive(Debug)]
pub struct Draft {
    incoming: Arc<Path>,
    file: Option<DraftFile>,
    space: SpaceReservation,
}

#[derive(Debug)]
struct DraftFile {
    path: PathBuf,
    file: Arc<File>,
    bytes: u64,
    /// Renamed: it is nobody's draft any more.
    kept: bool,
}

impl Draft {
    /// A draft whose file, if there comes to be one, is made in `incoming`.
    pub(super) fn new(incoming: Arc<Path>, space: SpaceReservation) -> Self {
        Self {
            incoming,
            file: None,
            space,
        }
    }

    /// Appends bytes and returns the offset they start at. Blocks on the disk.
    ///
    /// # Errors
    /// [`SpoolError::Full`], [`SpoolError::NoSpace`] and [`SpoolError::Untrusted`] before anything is written,
    /// [`SpoolError::Io`] otherwise.
    pub fn append(&mut self, bytes: &[u8]) -> Result<u64, SpoolError> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(DraftFile::create(&self.incoming, &mut self.space)?),
        };
        self.space.write(bytes.len() as u64)?;
        file.append(bytes)
    }

    /// A run of what was appended, as a segment that keeps the bytes readable whatever becomes of the draft.
    #[must_use]
    pub fn segment(&self, offset: u64, bytes: u64) -> Segment {
        match &self.file {
            Some(file) => Segment::File {
                file: Arc::clone(&file.file),
                offset,
                bytes,
            },
            None => Segment::Memory(Bytes::new()),
        }
    }

    /// Whether there is a file yet.
    #[must_use]
    pub fn has_file(&self) -> bool {
        self.file.is_some()
    }

    /// Writes everything of the envelope that is not in this file yet, and the manifest; then syncs the file.
    pub(super) fn finish(&mut self, envelope: &Envelope) -> Result<(), SpoolError> {
        let mut attachments = Vec::with_capacity(envelope.attachments.len());
        for attachment in &envelope.attachments {
            attachments.push(AttachmentManifest {
                id: attachment.id.clone(),
                name: attachment.name.clone(),
                content_type: attachment.content_type.clone(),
                kind: attachment.kind.clone(),
                runs: self.place(&attachment.content)?,
                blake3: attachment.blake3.map(|hash| hash.to_hex().to_string()),
            });
        }
        let event = self.place(&Content::from(Bytes::clone(&envelope.event)))?;
        let manifest = Manifest {
            event_id: envelope.event_id,
            project_id: envelope.project_id,
            received_at: envelope.received_at,
            remote_addr: envelope.remote_addr.clone(),
            event,
            event_blake3: Some(blake3::hash(&envelope.event).to_hex().to_string()),
            attachments,
        };
        self.append(&manifest.encode())?;
        self.sync()
    }

    fn sync(&self) -> Result<(), SpoolError> {
        let Some(DraftFile { path, file, .. }) = &self.file else {
            return Ok(());
        };
        file.sync_data().map_err(|error| {
            // Full is known to be full; anything else may have lost what other files were promised.
            let full = matches!(
                error.kind(),
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded
            );
            let error = SpoolError::io("syncing", path)(error);
            if !full {
                self.space.space().distrust(&error);
            }
            error
        })
    }

    /// Where each segment of the content stands in this file, after copying those that did not yet.
    fn place(&mut self, content: &Content) -> Result<Vec<Run>, SpoolError> {
        let mut runs = Vec::new();
        for segment in content.segments() {
            let run = match (segment, &self.file) {
                (
                    Segment::File {
                        file,
                        offset,
                        bytes,
                    },
                    Some(own),
                ) if Arc::ptr_eq(file, &own.file) => Run {
                    offset: *offset,
                    bytes: *bytes,
                },
                (Segment::File { .. } | Segment::Memory(_), _) => Run {
                    offset: self.copy(segment)?,
                    bytes: segment.len(),
                },
            };
            runs.push(run);
        }
        Ok(runs)
    }

    fn copy(&mut self, segment: &Segment) -> Result<u64, SpoolError> {
        let offset = self.append(&[])?;
        let mut content = Content::default();
        content.push(segment.clone());
        for piece in content.pieces(COPY_BYTES) {
            let piece = piece.map_err(SpoolError::io("reading for", &*self.incoming))?;
            self.append(&piece)?;
        }
        Ok(offset)
    }

    /// Moves the finished file to where it stays, and returns its size; from then on its space belongs to the directory.
    pub(super) fn rename(mut self, target: &Path) -> Result<u64, SpoolError> {
        let Some(file) = &mut self.file else {
            // INVARIANT: finishing a draft has written its manifest.
            unreachable!("a finished draft has a file");
        };
        std::fs::rename(&file.path, target).map_err(SpoolError::io("renaming", &file.path))?;
        file.kept = true;
        self.space.keep_written();
        Ok(file.bytes)
    }
}

impl DraftFile {
    /// Makes the file, with its magic.
    fn create(incoming: &Path, space: &mut SpaceReservation) -> Result<Self, SpoolError> {
        space.write(MAGIC.len() as u64)?;
        let path = incoming.join(format!("{}.part", Uuid::new_v4().simple()));
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(SpoolError::io("creating", &path))?;
        let written = file.write_all(MAGIC);
        let created = Self {
            path,
            file: Arc::new(file),
            bytes: MAGIC.len() as u64,
            kept: false,
        };
        written.map_err(SpoolError::io("writing", &created.path))?;
        Ok(created)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<u64, SpoolError> {
        let offset = self.bytes;
        self.file
            .write_all_at(bytes, offset)
            .map_err(SpoolError::io("writing", &self.path))?;
        self.bytes += bytes.len() as u64;
        Ok(offset)
    }
}

impl Drop for DraftFile {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "an unfinished spool file stays behind until the next start");
        }
    }
}
