//! The spool: one file per upload in a directory that one process owns.
//!
//! The same files are scratch space while a large upload comes in, the local queue when there is no Kafka, and the
//! refuge when Kafka is away. `incoming/` holds drafts, `ready/` durable uploads, `quarantine/` damaged files.

mod copies;
mod directory;
mod draft;
mod entry;
mod format;
mod space;

pub use copies::{SpoolCopy, copies_of};
pub use directory::{SpoolDirectory, SpoolUsage, Stored};
pub use draft::Draft;
pub use entry::{SpoolEntry, SpooledUpload};
pub use format::SpoolDamage;
pub use space::SpaceShare;

use std::io::{self, ErrorKind};
use std::path::PathBuf;

/// Why the spool does not take or give something.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// Taking it would pass `spool.max_bytes`.
    #[error("expected room in the spool, found {used} of spool.max_bytes {max} in use")]
    Full {
        /// Bytes in use.
        used: u64,
        /// The bound.
        max: u64,
    },
    /// Taking it would leave less than `spool.min_free_bytes`.
    #[error(
        "expected spool.min_free_bytes {min} to stay free on the spool's volume, found {free} bytes"
    )]
    NoSpace {
        /// Bytes free.
        free: u64,
        /// The bound.
        min: u64,
    },
    /// Unfinished uploads of the same sender have their share of it.
    #[error(
        "expected the sender's unfinished uploads to leave a quarter of the spool's room, found {held} bytes of them and {left} left"
    )]
    Share {
        /// Bytes they have.
        held: u64,
        /// Bytes that would be left.
        left: u64,
    },
    /// A sync has failed: what was promised to be on the disk may not be.
    #[error("the spool's volume is not trusted since a sync failed: {why}")]
    Untrusted {
        /// The failure.
        why: String,
    },
    /// Another process has it.
    #[error(
        "expected to own the spool {path}, found it held by process {holder}; stop that one or set another data.dir"
    )]
    Held {
        /// The directory.
        path: PathBuf,
        /// What the lock file says.
        holder: String,
    },
    /// The file system failed.
    #[error("{action} {path}: {error}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

impl SpoolError {
    fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |error| Self::Io {
            action,
            path,
            error,
        }
    }

    /// Whether room is all it lacks.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::Full { .. } | Self::NoSpace { .. } | Self::Share { .. } => true,
            Self::Io { error, .. } => matches!(
                error.kind(),
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded
            ),
            Self::Untrusted { .. } | Self::Held { .. } => false,
        }
    }
}

/// Why a taken upload was not read.
#[derive(Debug, thiserror::Error)]
pub enum UnreadEntry {
    /// No upload can be read from its file any more.
    #[error(transparent)]
    Damaged(SpoolDamage),
    /// The system has no means to read it now.
    #[error("reading it: {0}")]
    Unreadable(io::Error),
}

#[cfg(test)]
mod tests;
