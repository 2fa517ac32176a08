//! Raw dumps, attachments and reports, for as long as they are kept: a local directory. Writes are idempotent by event.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use object_store::local::LocalFileSystem;
use object_store::{ObjectStore, ObjectStoreExt};
use sha2::{Digest, Sha256};

use crate::config::Config;
use crate::content::Content;
use crate::id::{EventId, ProjectId};
use crate::limits;
use crate::readiness::{Part, PartState, Readiness};

/// Why the storage did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// It cannot be used as it is configured.
    #[error("storage.url: {0}")]
    Unusable(String),
    /// It does not take or give files now: try again.
    #[error("the storage is away: {0}")]
    Away(String),
    /// The content to store cannot be read.
    #[error("expected readable content, found: {0}")]
    Content(std::io::Error),
}

/// Where an event's files are: `{project}/{yyyy-mm-dd}/{event_id}/…`, by the day (UTC) the relay had it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EventFolder {
    /// The crash's project.
    pub project_id: ProjectId,
    /// When the relay had it.
    pub received_at: Timestamp,
    /// The crash.
    pub event_id: EventId,
}

impl EventFolder {
    /// The report.
    #[must_use]
    pub fn report(&self) -> StoragePath {
        self.file("report.json")
    }

    /// The raw dump.
    #[must_use]
    pub fn minidump(&self) -> StoragePath {
        self.file("minidump.dmp")
    }

    /// Another file: `n` tells files of one name apart. What a name's letters could mean to a storage is replaced.
    #[must_use]
    pub fn attachment(&self, n: usize, name: &str) -> StoragePath {
        let harmless = |c: char| match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' => c,
            _ => '_',
        };
        let name: String = name.chars().map(harmless).collect();
        // The end holds the extension.
        let cut = name.len().saturating_sub(limits::STORAGE_NAME_BYTES_MAX);
        self.file(&format!("attachments/{n}-{}", &name[cut..]))
    }

    fn file(&self, name: &str) -> StoragePath {
        let day = self.received_at.to_zoned(TimeZone::UTC).date();
        let Self {
            project_id,
            event_id,
            ..
        } = self;
        StoragePath(format!("{project_id}/{day}/{event_id}/{name}"))
    }
}

/// A file's place in the storage, as reports write it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StoragePath(String);

impl StoragePath {
    /// The path, `/` between its parts.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StoragePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A file that is in the storage, durably.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stored {
    /// Where.
    pub path: StoragePath,
    /// SHA-256 of its bytes, hexadecimal.
    pub sha256: String,
    /// How many.
    pub bytes: u64,
}

/// A handle on the storage; clones share it.
#[derive(Clone, Debug)]
pub struct Storage {
    store: Arc<dyn ObjectStore>,
    readiness: Readiness,
}

impl Storage {
    /// Opens the directory that `config` names, making it when it is absent.
    ///
    /// # Errors
    /// [`StorageError::Unusable`]
    pub fn open(config: &Config, readiness: Readiness) -> Result<Self, StorageError> {
        let dir = directory(config)?;
        let unusable = |error: &dyn fmt::Display| {
            let expected = format!(
                "expected a directory that can be written at {}",
                dir.display()
            );
            StorageError::Unusable(format!("{expected}: {error}"))
        };
        std::fs::create_dir_all(&dir).map_err(|error| unusable(&error))?;
        let local = LocalFileSystem::new_with_prefix(&dir).map_err(|error| unusable(&error))?;
        tempfile::tempfile_in(&dir).map_err(|error| unusable(&error))?;
        readiness.set(Part::Storage, PartState::Ready);
        Ok(Self {
            // Syncs files and the directories they are in before it says that they are stored.
            store: Arc::new(local.with_fsync(true)),
            readiness,
        })
    }

    /// Stores `content` at `path`, replacing what is there. It appears whole and durable, or not at all.
    ///
    /// # Errors
    /// [`StorageError::Away`]: try again. [`StorageError::Content`]: what was to be stored cannot be read.
    pub async fn store(
        &self,
        path: StoragePath,
        content: &Content,
    ) -> Result<Stored, StorageError> {
        let location = object_store::path::Path::from(path.as_str());
        let (first, mut sha256) = read(content, 0, Sha256::new()).await?;
        if content.len() <= limits::STORAGE_PIECE_BYTES as u64 {
            self.judge(self.store.put(&location, first.into()).await)?;
        } else {
            let mut upload = self.judge(self.store.put_multipart(&location).await)?;
            let mut piece = first;
            let mut written = 0;
            while !piece.is_empty() {
                written += piece.len() as u64;
                self.judge(upload.put_part(piece.into()).await)?;
                (piece, sha256) = read(content, written, sha256).await?;
            }
            self.judge(upload.complete().await)?;
        }
        let digest = sha256.finalize();
        Ok(Stored {
            path,
            sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
            bytes: content.len(),
        })
    }

    /// An event's report; `None` when there is none.
    ///
    /// # Errors
    /// [`StorageError::Away`]
    pub async fn report(&self, folder: EventFolder) -> Result<Option<Bytes>, StorageError> {
        let location = object_store::path::Path::from(folder.report().as_str());
        let bytes = match self.store.get(&location).await {
            Ok(found) => found.bytes().await,
            Err(error) => Err(error),
        };
        if let Err(object_store::Error::NotFound { .. }) = bytes {
            return Ok(None);
        }
        self.judge(bytes).map(Some)
    }

    /// Turns object_store's errors into ours, and tells readiness.
    fn judge<T>(&self, result: object_store::Result<T>) -> Result<T, StorageError> {
        let result = result.map_err(|error| StorageError::Away(error.to_string()));
        let state = match &result {
            Ok(_) => PartState::Ready,
            Err(error) => PartState::not_ready(error.to_string()),
        };
        self.readiness.set(Part::Storage, state);
        result
    }
}

/// The piece of `content` from `start` on, hashed, off the runtime's threads.
async fn read(
    content: &Content,
    start: u64,
    mut sha256: Sha256,
) -> Result<(Bytes, Sha256), StorageError> {
    let content = content.clone();
    let read = move || {
        let left = content.len() - start;
        let bytes = left.min(limits::STORAGE_PIECE_BYTES as u64) as usize;
        let piece = content.read(start, bytes)?;
        sha256.update(&piece);
        Ok((piece, sha256))
    };
    match tokio::task::spawn_blocking(read).await {
        Ok(read) => read.map_err(StorageError::Content),
        Err(error) => Err(StorageError::Content(std::io::Error::other(error))),
    }
}

fn directory(config: &Config) -> Result<PathBuf, StorageError> {
    let Some(url) = &config.storage.url else {
        return Ok(config.data.dir.join("storage"));
    };
    let expected = |found: &dyn fmt::Display| {
        StorageError::Unusable(format!(
            "expected a directory or a file:// URL (this version keeps files nowhere else), found {found}"
        ))
    };
    match url.split_once("://") {
        None if url.is_empty() => Err(expected(&"nothing")),
        None => Ok(Path::new(url).to_owned()),
        Some(("file", _)) => url::Url::parse(url)
            .ok()
            .and_then(|url| url.to_file_path().ok())
            .ok_or_else(|| expected(url)),
        // The rest of the URL may hold a password.
        Some((scheme, _)) => Err(expected(&format_args!("{scheme}://…"))),
    }
}
