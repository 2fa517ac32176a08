//! Raw dumps, attachments and reports, for as long as they are kept: in a directory, or in a bucket of S3, Google or Azure.
//! Writes are idempotent by event.

mod events;
mod health;
mod options;
mod path;
mod place;
mod room;
mod user_reports;

#[cfg(test)]
mod tests;

use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt};
use sha2::{Digest, Sha256};
use url::Url;

pub use self::events::{StoredEvent, StoredObject};
pub use self::path::{EventFolder, StoragePath, day_of};
pub(crate) use self::place::Place;

use self::health::Health;
use self::path::{LATE, UPLOADS};
use self::room::Room;
use crate::config::{ByteSize, Config};
use crate::content::Content;
use crate::limits;
use crate::readiness::{Part, Readiness};

/// Why the storage did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// It cannot be used as it is configured.
    #[error("{0}")]
    Unusable(String),
    /// It does not take or give files now: try again.
    #[error("the storage is away: {0}")]
    Away(String),
    /// It takes nothing that would leave less than `storage.min_free_bytes`: try again when there is more room.
    #[error(
        "expected storage.min_free_bytes {min} to stay free on the storage's volume, found {free} bytes free"
    )]
    Full {
        /// Bytes free.
        free: u64,
        /// The bound.
        min: ByteSize,
    },
    /// The content to store cannot be read.
    #[error("expected readable content, found: {0}")]
    Content(std::io::Error),
}

/// A file being read from the storage.
pub struct StoredFile {
    /// How long it is.
    pub bytes: u64,
    /// What is in it, in order.
    pub pieces: BoxStream<'static, Result<Bytes, StorageError>>,
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
    /// `None`: a directory.
    bucket: Option<Url>,
    /// `None`: a bucket.
    directory: Option<Arc<Path>>,
    /// `None`: a bucket, which says itself when it takes no more.
    room: Option<Arc<Room>>,
    /// Product and address, for messages.
    address: Arc<str>,
    health: Arc<Health>,
}

impl Storage {
    /// Opens what `config` names: makes a directory when it is absent; asks a bucket whether it lets us in, and goes on
    /// without an answer when it is away.
    ///
    /// # Errors
    /// [`StorageError::Unusable`]: the configuration, or the bucket and its rights, have to change first.
    pub async fn open(config: &Config, readiness: Readiness) -> Result<Self, StorageError> {
        let place = Place::of(config).map_err(StorageError::Unusable)?;
        let store = place.open().map_err(StorageError::Unusable)?;
        let room = match &place {
            Place::Directory(directory) => {
                let dir = Arc::from(directory.as_path());
                Some(Arc::new(Room::new(dir, config.storage.min_free_bytes)))
            }
            Place::Bucket(_) => None,
        };
        readiness.wait_for(Part::Storage, &place.address());
        let storage = Self {
            store,
            room,
            bucket: match &place {
                Place::Directory(_) => None,
                Place::Bucket(bucket) => Some(bucket.url().clone()),
            },
            directory: match &place {
                Place::Directory(directory) => Some(Arc::from(directory.as_path())),
                Place::Bucket(_) => None,
            },
            address: place.address().into(),
            health: Arc::new(Health::new(readiness)),
        };
        storage.look_first().await?;
        Ok(storage)
    }

    /// The directory it is in, when it is in none of the clouds.
    #[must_use]
    pub fn directory(&self) -> Option<&Path> {
        self.directory.as_deref()
    }

    /// Stores `content` at `path`, replacing what is there. It appears whole and durable, or not at all.
    ///
    /// # Errors
    /// [`StorageError::Away`], [`StorageError::Full`]: try again. [`StorageError::Content`]: what was to be stored cannot be read.
    pub async fn store(
        &self,
        path: StoragePath,
        content: &Content,
    ) -> Result<Stored, StorageError> {
        self.check_room(content.len())?;
        let location = object_store::path::Path::from(path.as_str());
        let (first, mut sha256) = read(content, 0, Sha256::new()).await?;
        if content.len() <= limits::STORAGE_PIECE_BYTES as u64 {
            self.judge(self.store.put(&location, first.into()).await)?;
        } else {
            let mut upload = self.judge(self.store.put_multipart(&location).await)?;
            let written = self.write_parts(&mut *upload, content, first, sha256).await;
            if written.is_err() {
                // Parts that stay when this does not get through either are for the bucket's own rules to remove.
                let aborted = tokio::time::timeout(limits::STORAGE_CONNECT_TIMEOUT, upload.abort());
                if !matches!(aborted.await, Ok(Ok(()))) {
                    tracing::debug!(%path, "an upload in parts could not be called off");
                }
            }
            sha256 = written?;
        }
        let digest = sha256.finalize();
        Ok(Stored {
            path,
            sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
            bytes: content.len(),
        })
    }

    /// Stores a document of ours, whose hash nobody asks for; otherwise as [`Storage::store`].
    ///
    /// # Errors
    /// [`StorageError::Away`]: try again.
    pub async fn store_document(
        &self,
        path: StoragePath,
        document: Bytes,
    ) -> Result<(), StorageError> {
        if document.len() > limits::STORAGE_PIECE_BYTES {
            return self.store(path, &document.into()).await.map(drop);
        }
        self.check_room(document.len() as u64)?;
        let location = object_store::path::Path::from(path.as_str());
        self.judge(self.store.put(&location, document.into()).await)
            .map(drop)
    }

    /// All parts, one after the other, so that one piece at a time is in memory.
    async fn write_parts(
        &self,
        upload: &mut dyn MultipartUpload,
        content: &Content,
        first: Bytes,
        mut sha256: Sha256,
    ) -> Result<Sha256, StorageError> {
        let mut piece = first;
        let mut written = 0;
        while !piece.is_empty() {
            written += piece.len() as u64;
            self.judge(upload.put_part(piece.into()).await)?;
            (piece, sha256) = read(content, written, sha256).await?;
        }
        self.judge(upload.complete().await)?;
        Ok(sha256)
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

    /// A file; `None` when there is none.
    ///
    /// # Errors
    /// [`StorageError::Away`]
    pub async fn read(&self, path: StoragePath) -> Result<Option<StoredFile>, StorageError> {
        let location = object_store::path::Path::from(path.as_str());
        let found = self.store.get(&location).await;
        if let Err(object_store::Error::NotFound { .. }) = found {
            return Ok(None);
        }
        let found = self.judge(found)?;
        let bytes = found.meta.size;
        let pieces = found.into_stream();
        let storage = self.clone();
        let pieces = pieces.map_err(move |error| storage.away(&error));
        Ok(Some(StoredFile {
            bytes,
            pieces: pieces.boxed(),
        }))
    }

    /// How long a file is; `None` when there is none.
    ///
    /// # Errors
    /// [`StorageError::Away`]
    pub async fn bytes_of(&self, path: StoragePath) -> Result<Option<u64>, StorageError> {
        let location = object_store::path::Path::from(path.as_str());
        let found = self.store.head(&location).await;
        if let Err(object_store::Error::NotFound { .. }) = found {
            return Ok(None);
        }
        self.judge(found).map(|found| Some(found.size))
    }

    /// Removes a large file that waits for its crash; false when there is none.
    ///
    /// # Errors
    /// [`StorageError::Away`]
    pub async fn remove_upload(&self, path: StoragePath) -> Result<bool, StorageError> {
        if self.bytes_of(path.clone()).await?.is_none() {
            return Ok(false);
        }
        let location = object_store::path::Path::from(path.as_str());
        let removed = self.store.delete(&location).await;
        if let Err(object_store::Error::NotFound { .. }) = removed {
            return Ok(false);
        }
        self.judge(removed).map(|()| true)
    }

    /// The lists of files that came late to an event, in the order they came: of very many, some.
    ///
    /// # Errors
    /// [`StorageError::Away`]
    pub async fn late_files(&self, folder: EventFolder) -> Result<Vec<Bytes>, StorageError> {
        let prefix = object_store::path::Path::from(folder.file(LATE).as_str());
        let listed = self.store.list(Some(&prefix));
        let listed = listed.take(limits::LATE_LISTS_MAX).try_collect().await;
        let mut lists: Vec<_> = self.judge(listed)?;
        lists.sort_by_key(|list| list.last_modified);
        let mut files = Vec::new();
        let mut bytes = 0;
        for list in lists {
            bytes += list.size;
            if bytes > limits::LATE_LISTS_BYTES_MAX {
                break;
            }
            let found = match self.store.get(&list.location).await {
                Ok(found) => found.bytes().await,
                Err(error) => Err(error),
            };
            files.push(self.judge(found)?);
        }
        Ok(files)
    }

    /// Removes large files that were uploaded so long ago that no crash will refer to them. Returns how many.
    ///
    /// # Errors
    /// [`StorageError::Away`]
    pub async fn forget_uploads(&self, kept: Duration) -> Result<usize, StorageError> {
        let prefix = object_store::path::Path::from(UPLOADS);
        let mut listed = self.store.list(Some(&prefix));
        let oldest = Timestamp::now() - kept;
        let mut forgotten = 0;
        while let Some(upload) = self.judge(listed.try_next().await)? {
            if upload.last_modified.timestamp() < oldest.as_second() {
                self.judge(self.store.delete(&upload.location).await)?;
                forgotten += 1;
            }
        }
        Ok(forgotten)
    }

    /// Whether the volume of a directory has room for `bytes` more; readiness hears of it when not.
    fn check_room(&self, bytes: u64) -> Result<(), StorageError> {
        let Some(room) = &self.room else {
            return Ok(());
        };
        let checked = room.check(bytes);
        if checked.is_err() {
            self.health.note(&checked);
        }
        checked
    }

    /// Turns object_store's errors into ours, and tells readiness.
    fn judge<T>(&self, result: object_store::Result<T>) -> Result<T, StorageError> {
        let result = result.map_err(|error| self.away(&error));
        self.health.note(&result);
        result
    }

    fn away(&self, why: &dyn Display) -> StorageError {
        StorageError::Away(format!("{}: {why}", self.address))
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
