//! A spool file while it is being written. Dropped unfinished, it is gone.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::SpoolError;
use super::directory::SpaceReservation;
use super::format::{AttachmentManifest, MAGIC, Manifest, Run};
use crate::content::{Content, Segment};
use crate::envelope::Envelope;

/// What is copied at once when contents from elsewhere are written into a draft.
const COPY_BYTES: usize = 1 << 20;

/// A spool file while it is being written.
#[derive(Debug)]
pub struct Draft {
    path: Option<PathBuf>,
    file: Arc<File>,
    bytes: u64,
    space: SpaceReservation,
}

impl Draft {
    /// Creates the file, with its magic.
    pub(super) fn create(path: PathBuf, mut space: SpaceReservation) -> Result<Self, SpoolError> {
        space.grow(MAGIC.len() as u64)?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(SpoolError::io("creating", &path))?;
        let written = file.write_all(MAGIC);
        let draft = Self {
            path: Some(path),
            file: Arc::new(file),
            bytes: MAGIC.len() as u64,
            space,
        };
        written.map_err(SpoolError::io("writing", draft.path()))?;
        Ok(draft)
    }

    fn path(&self) -> &Path {
        self.path.as_deref().unwrap_or(Path::new(""))
    }

    /// Appends bytes and returns the offset they start at. Blocks on the disk.
    ///
    /// # Errors
    /// [`SpoolError::Full`] and [`SpoolError::NoSpace`] before anything is written, [`SpoolError::Io`] otherwise.
    pub fn append(&mut self, bytes: &[u8]) -> Result<u64, SpoolError> {
        self.space.grow(bytes.len() as u64)?;
        let offset = self.bytes;
        self.file
            .write_all_at(bytes, offset)
            .map_err(SpoolError::io("writing", self.path()))?;
        self.bytes += bytes.len() as u64;
        Ok(offset)
    }

    /// A run of what was appended, as a segment that keeps the bytes readable whatever becomes of the draft.
    #[must_use]
    pub fn segment(&self, offset: u64, bytes: u64) -> Segment {
        Segment::File {
            file: Arc::clone(&self.file),
            offset,
            bytes,
        }
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
            attachments,
        };
        self.append(&manifest.encode())?;
        self.file
            .sync_data()
            .map_err(SpoolError::io("syncing", self.path()))
    }

    /// Where each segment of the content stands in this file, after copying those that did not yet.
    fn place(&mut self, content: &Content) -> Result<Vec<Run>, SpoolError> {
        let mut runs = Vec::new();
        for segment in content.segments() {
            let (offset, bytes) = match segment {
                Segment::File {
                    file,
                    offset,
                    bytes,
                } if Arc::ptr_eq(file, &self.file) => (*offset, *bytes),
                Segment::File { .. } | Segment::Memory(_) => (self.copy(segment)?, segment.len()),
            };
            runs.push(Run { offset, bytes });
        }
        Ok(runs)
    }

    fn copy(&mut self, segment: &Segment) -> Result<u64, SpoolError> {
        let offset = self.bytes;
        let mut content = Content::default();
        content.push(segment.clone());
        for piece in content.pieces(COPY_BYTES) {
            let piece = piece.map_err(SpoolError::io("reading for", self.path()))?;
            self.append(&piece)?;
        }
        Ok(offset)
    }

    /// Moves the finished file to where it stays; from then on its space belongs to the directory.
    pub(super) fn rename(mut self, target: &Path) -> Result<u64, SpoolError> {
        std::fs::rename(self.path(), target).map_err(SpoolError::io("renaming", self.path()))?;
        self.path = None;
        self.space.keep();
        Ok(self.bytes)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(path) = &self.path
            && let Err(error) = std::fs::remove_file(path)
        {
            tracing::warn!(path = %path.display(), %error, "an unfinished spool file stays behind until the next start");
        }
    }
}
