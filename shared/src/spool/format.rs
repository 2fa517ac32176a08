//! The format of a spool file, version 1. Pure: bytes in, bytes out.
//!
//! ```text
//! magic        8 bytes   "CRFERRY1"
//! contents               the attachments' and the event's bytes, in any order, with gaps allowed
//! manifest               JSON: the envelope, with runs (offset, length) and BLAKE3 where the bytes would be
//! trailer     48 bytes   manifest length (u64, little endian), BLAKE3 of the manifest (32), "CRFEREND"
//! ```
//! The manifest comes last because the contents are written as they are received. A file without a whole trailer was
//! never acknowledged to anyone.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::envelope::AttachmentKind;
use crate::id::{AttachmentId, EventId, ProjectId};

/// First bytes of a spool file.
pub(super) const MAGIC: &[u8; 8] = b"CRFERRY1";
const END_MAGIC: &[u8; 8] = b"CRFEREND";
/// Bytes of the trailer.
pub(super) const TRAILER_BYTES: u64 = 48;

/// What is wrong with a spool file.
#[derive(Debug, thiserror::Error)]
pub enum SpoolDamage {
    /// The file is shorter than its parts, or its ends are not ours.
    #[error("expected a spool file of version 1, found {0}")]
    NotASpoolFile(&'static str),
    /// The manifest is not the one that was written.
    #[error("expected a manifest with BLAKE3 {expected}, found {found}")]
    ManifestChanged {
        /// As the trailer says.
        expected: blake3::Hash,
        /// Of what is there.
        found: blake3::Hash,
    },
    /// The manifest cannot be read though it is unchanged.
    #[error("expected a readable manifest: {0}")]
    ManifestUnreadable(#[from] serde_json::Error),
    /// A run lies outside of the contents.
    #[error(
        "expected the bytes of {name:?} within the file, found a run up to byte {end} of {contents_end}"
    )]
    OutOfBounds {
        /// The attachment's name.
        name: String,
        /// Where the run ends.
        end: u64,
        /// Where the contents end.
        contents_end: u64,
    },
    /// A content is not the one that was written.
    #[error("expected {name:?} with BLAKE3 {expected}, found {found}")]
    ContentChanged {
        /// The attachment's name.
        name: String,
        /// As the manifest says.
        expected: blake3::Hash,
        /// Of what is there.
        found: blake3::Hash,
    },
    /// The file system failed.
    #[error("reading it: {0}")]
    Unreadable(#[from] std::io::Error),
}

/// The manifest of a spool file.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) event_id: EventId,
    pub(super) project_id: ProjectId,
    pub(super) received_at: Timestamp,
    pub(super) remote_addr: Option<String>,
    pub(super) event: Vec<Run>,
    pub(super) event_blake3: Option<String>,
    pub(super) attachments: Vec<AttachmentManifest>,
}

/// An attachment in the manifest.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct AttachmentManifest {
    pub(super) id: AttachmentId,
    pub(super) name: String,
    pub(super) content_type: Option<String>,
    pub(super) kind: AttachmentKind,
    pub(super) runs: Vec<Run>,
    pub(super) blake3: Option<String>,
}

/// A run of bytes in the file.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Run {
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

impl Manifest {
    /// The manifest and the trailer, ready to be appended to the contents.
    pub(super) fn encode(&self) -> Vec<u8> {
        // INVARIANT: a manifest is plain values under text keys.
        let mut tail = serde_json::to_vec(self).expect("manifests encode");
        let hash = blake3::hash(&tail);
        let bytes = tail.len() as u64;
        tail.extend_from_slice(&bytes.to_le_bytes());
        tail.extend_from_slice(hash.as_bytes());
        tail.extend_from_slice(END_MAGIC);
        tail
    }

    /// Where the manifest starts in a file of `file_bytes` that ends with `trailer`, and its expected hash.
    pub(super) fn locate(
        trailer: &[u8; TRAILER_BYTES as usize],
        file_bytes: u64,
    ) -> Result<(u64, blake3::Hash), SpoolDamage> {
        let (length, rest) = trailer.split_at(8);
        let (hash, end_magic) = rest.split_at(32);
        if end_magic != END_MAGIC {
            return Err(SpoolDamage::NotASpoolFile("other last bytes"));
        }
        let mut length_bytes = [0; 8];
        length_bytes.copy_from_slice(length);
        let mut hash_bytes = [0; 32];
        hash_bytes.copy_from_slice(hash);
        u64::from_le_bytes(length_bytes)
            .checked_add(TRAILER_BYTES)
            .and_then(|tail| file_bytes.checked_sub(tail))
            .filter(|start| *start >= MAGIC.len() as u64)
            .map(|start| (start, blake3::Hash::from_bytes(hash_bytes)))
            .ok_or(SpoolDamage::NotASpoolFile(
                "a manifest longer than the file",
            ))
    }

    /// Reads the manifest's bytes, and checks them and every run in them.
    pub(super) fn decode(
        bytes: &[u8],
        expected: blake3::Hash,
        contents_end: u64,
    ) -> Result<Self, SpoolDamage> {
        let found = blake3::hash(bytes);
        if found != expected {
            return Err(SpoolDamage::ManifestChanged { expected, found });
        }
        let manifest: Self = serde_json::from_slice(bytes)?;
        let attachments = manifest
            .attachments
            .iter()
            .map(|attachment| (attachment.name.as_str(), &attachment.runs));
        for (name, runs) in attachments.chain([("the event", &manifest.event)]) {
            for run in runs {
                let end = run.offset.saturating_add(run.bytes);
                if end > contents_end {
                    return Err(SpoolDamage::OutOfBounds {
                        name: name.into(),
                        end,
                        contents_end,
                    });
                }
            }
        }
        Ok(manifest)
    }
}
