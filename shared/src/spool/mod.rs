//! The spool: one file per upload in a directory that one process owns.
//!
//! The same files are scratch space while a large upload comes in, the local queue when there is no Kafka, and the
//! refuge when Kafka is away. `incoming/` holds drafts, `ready/` durable uploads, `quarantine/` damaged files.

mod directory;
mod draft;
mod format;

pub use directory::{SpoolDirectory, SpoolEntry, SpoolUsage, Stored};
pub use draft::Draft;
pub use format::SpoolDamage;

use std::io;
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
}

#[cfg(test)]
mod tests;
