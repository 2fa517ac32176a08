//! A durable upload that was taken out of the waiting ones: read, then removed or set aside. Dropped, it waits again.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;

use super::format::{MAGIC, Manifest, Run, TRAILER_BYTES};
use super::{SpoolDamage, SpoolDirectory, SpoolError, UnreadEntry};
use crate::content::{Content, Segment};
use crate::envelope::{Attachment, Envelope};
use crate::id::{EventId, ProjectId};

/// What is hashed at once.
const HASH_PIECE_BYTES: usize = 1 << 20;

/// A durable upload that was taken out of the waiting ones. Dropped without being removed or set aside, it waits again.
#[derive(Debug)]
pub struct SpoolEntry {
    directory: SpoolDirectory,
    name: String,
    bytes: u64,
    settled: bool,
}

/// What was in a spool file.
#[derive(Debug)]
pub struct SpooledUpload {
    /// The upload. Its attachments stay in the file.
    pub envelope: Envelope,
    /// What of it is not what was written. The rest is verified.
    pub damage: Vec<SpoolDamage>,
}

impl SpooledUpload {
    /// What is wrong with it, a line each; `None` when nothing is.
    #[must_use]
    pub fn damage_report(&self) -> Option<String> {
        let lines: Vec<String> = self.damage.iter().map(ToString::to_string).collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
    }
}

/// `{received_at in milliseconds}-{project}-{event}.upload`: sorts by age, and names the crash even when the file is
/// damaged.
pub(super) fn entry_name(envelope: &Envelope) -> String {
    let millis = envelope.received_at.as_millisecond().max(0);
    format!(
        "{millis:013}-{}-{}.upload",
        envelope.project_id, envelope.event_id
    )
}

/// The time in an entry's name.
pub(super) fn received_at(name: &str) -> Option<Timestamp> {
    let millis = name.split('-').next()?.parse().ok()?;
    Timestamp::from_millisecond(millis).ok()
}

impl SpoolEntry {
    pub(super) fn new(directory: SpoolDirectory, name: String, bytes: u64) -> Self {
        Self {
            directory,
            name,
            bytes,
            settled: false,
        }
    }

    /// The file's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Project and event, as the name has them.
    #[must_use]
    pub fn ids(&self) -> Option<(ProjectId, EventId)> {
        let mut parts = self.name.strip_suffix(".upload")?.splitn(3, '-').skip(1);
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    }

    /// When the relay had it, as the name has it.
    #[must_use]
    pub fn received_at(&self) -> Option<Timestamp> {
        received_at(&self.name)
    }

    /// Reads the upload, and checks every byte of it against what was written. Blocks on the disk.
    ///
    /// # Errors
    /// [`UnreadEntry::Damaged`]: no upload can be read from the file any more, [`SpoolEntry::set_aside`] is what is left
    /// to do. [`UnreadEntry::Unreadable`]: try again later.
    pub fn read(&self) -> Result<SpooledUpload, UnreadEntry> {
        let read = || {
            let mut upload = read_upload(File::open(self.path())?)?;
            for attachment in &upload.envelope.attachments {
                let changed = verify(&attachment.name, attachment.blake3, &attachment.content)?;
                upload.damage.extend(changed);
            }
            Ok(upload)
        };
        read().map_err(|damage| {
            if let SpoolDamage::Unreadable(error) = damage {
                if is_of_the_medium(&error) {
                    UnreadEntry::Damaged(SpoolDamage::Unreadable(error))
                } else {
                    UnreadEntry::Unreadable(error)
                }
            } else {
                UnreadEntry::Damaged(damage)
            }
        })
    }

    /// Removes the upload, whose fate is sealed elsewhere. Blocks on the disk.
    ///
    /// # Errors
    /// [`SpoolError::Io`]; the upload will be seen again at the next start.
    pub fn remove(mut self) -> Result<(), SpoolError> {
        let path = self.path();
        self.settle();
        fs::remove_file(&path).map_err(SpoolError::io("removing", &path))?;
        self.directory.space().release(self.bytes);
        Ok(())
    }

    /// Moves the damaged file into the quarantine, with the reason in a file beside it, and returns where it is. It is
    /// never deleted. Blocks on the disk.
    ///
    /// # Errors
    /// [`SpoolError::Io`]; the file will be seen again at the next start.
    pub fn set_aside(mut self, reason: &str) -> Result<PathBuf, SpoolError> {
        let path = self.path();
        self.settle();
        let quarantine = self.directory.quarantine();
        let target = quarantine.join(&self.name);
        let note = quarantine.join(format!("{}.reason.txt", self.name));
        fs::write(&note, format!("{reason}\n")).map_err(SpoolError::io("writing", &note))?;
        fs::rename(path, &target).map_err(SpoolError::io("moving to", &target))?;
        self.directory.space().release(self.bytes);
        Ok(target)
    }

    fn path(&self) -> PathBuf {
        self.directory.ready().join(&self.name)
    }

    /// From here on it does not wait again.
    fn settle(&mut self) {
        self.settled = true;
        self.directory.forget(&self.name);
    }
}

impl Drop for SpoolEntry {
    fn drop(&mut self) {
        if !self.settled {
            self.directory.put_back(&self.name, self.bytes);
        }
    }
}

/// Whether an error is the file's own: it will not read better another time.
fn is_of_the_medium(error: &io::Error) -> bool {
    const EIO: i32 = rustix::io::Errno::IO.raw_os_error();
    error.raw_os_error() == Some(EIO)
        || matches!(
            error.kind(),
            ErrorKind::UnexpectedEof | ErrorKind::NotFound | ErrorKind::InvalidData
        )
}

fn read_upload(file: File) -> Result<SpooledUpload, SpoolDamage> {
    let file_bytes = file.metadata()?.len();
    if file_bytes < MAGIC.len() as u64 + TRAILER_BYTES {
        return Err(SpoolDamage::NotASpoolFile("too few bytes for one"));
    }
    let mut magic = [0; MAGIC.len()];
    file.read_exact_at(&mut magic, 0)?;
    if &magic != MAGIC {
        return Err(SpoolDamage::NotASpoolFile("other first bytes"));
    }
    let mut trailer = [0; TRAILER_BYTES as usize];
    file.read_exact_at(&mut trailer, file_bytes - TRAILER_BYTES)?;
    let (manifest_start, expected) = Manifest::locate(&trailer, file_bytes)?;
    let mut bytes = vec![0; (file_bytes - TRAILER_BYTES - manifest_start) as usize];
    file.read_exact_at(&mut bytes, manifest_start)?;
    let manifest = Manifest::decode(&bytes, expected, manifest_start)?;
    let file = Arc::new(file);
    let hash = |hex: Option<String>| hex.and_then(|hex| blake3::Hash::from_hex(hex).ok());
    let event = content(&file, &manifest.event);
    let damage = verify("the event's data", hash(manifest.event_blake3), &event)?;
    let attachments = manifest
        .attachments
        .into_iter()
        .map(|attachment| Attachment {
            content: content(&file, &attachment.runs),
            id: attachment.id,
            name: attachment.name,
            content_type: attachment.content_type,
            kind: attachment.kind,
            blake3: hash(attachment.blake3),
        });
    let envelope = Envelope {
        event_id: manifest.event_id,
        project_id: manifest.project_id,
        received_at: manifest.received_at,
        remote_addr: manifest.remote_addr,
        event: event.read(0, event.len() as usize)?,
        attachments: attachments.collect(),
    };
    Ok(SpooledUpload {
        envelope,
        damage: damage.into_iter().collect(),
    })
}

fn content(file: &Arc<File>, runs: &[Run]) -> Content {
    let mut content = Content::default();
    for run in runs {
        content.push(Segment::File {
            file: Arc::clone(file),
            offset: run.offset,
            bytes: run.bytes,
        });
    }
    content
}

/// Compares a content with the hash it was written under.
fn verify(
    name: &str,
    expected: Option<blake3::Hash>,
    content: &Content,
) -> Result<Option<SpoolDamage>, io::Error> {
    let Some(expected) = expected else {
        return Ok(None);
    };
    let mut hasher = blake3::Hasher::new();
    for piece in content.pieces(HASH_PIECE_BYTES) {
        hasher.update(&piece?);
    }
    let found = hasher.finalize();
    Ok((found != expected).then(|| SpoolDamage::ContentChanged {
        name: name.to_owned(),
        expected,
        found,
    }))
}
