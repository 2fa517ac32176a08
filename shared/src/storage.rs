//! Raw dumps, attachments and reports, for as long as they are kept: a local directory. Writes are idempotent by event.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use object_store::local::LocalFileSystem;
use object_store::{ObjectStore, ObjectStoreExt};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::config::Config;
use crate::content::Content;
use crate::id::{EventId, ProjectId};
use crate::limits;
use crate::readiness::{Part, PartState, Readiness};

/// Where large files wait for their crash.
const UPLOADS: &str = "uploads";
/// Where an event's folder lists the files that came after it.
const LATE: &str = "late";

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

    /// A report that a later one has taken the place of.
    #[must_use]
    pub fn earlier_report(&self, revision: u32) -> StoragePath {
        self.file(&format!("report-{revision}.json"))
    }

    /// Of a crash that failed: what the client said, as a report without what the dump would tell.
    #[must_use]
    pub fn event(&self) -> StoragePath {
        self.file("event.json")
    }

    /// The raw dump.
    #[must_use]
    pub fn minidump(&self) -> StoragePath {
        self.file("minidump.dmp")
    }

    /// Another file: `n` tells files of one name apart. What a name's letters could mean to a storage is replaced.
    #[must_use]
    pub fn attachment(&self, n: usize, name: &str) -> StoragePath {
        self.file(&format!("attachments/{n}-{}", harmless(name)))
    }

    /// A file that came after the crash, in the upload `late`.
    #[must_use]
    pub fn late_attachment(&self, late: EventId, n: usize, name: &str) -> StoragePath {
        self.file(&format!("attachments/{late}-{n}-{}", harmless(name)))
    }

    /// The list of the files that came in the upload `late`, as reports list them.
    #[must_use]
    pub fn late_list(&self, late: EventId) -> StoragePath {
        self.file(&format!("{LATE}/{late}.json"))
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

/// The end of a name, which holds the extension, without letters that could mean something to a storage.
fn harmless(name: &str) -> String {
    let harmless = |c: char| match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' => c,
        _ => '_',
    };
    let name: String = name.chars().map(harmless).collect();
    let cut = name.len().saturating_sub(limits::STORAGE_NAME_BYTES_MAX);
    name[cut..].to_owned()
}

/// A file's place in the storage, as reports write it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StoragePath(String);

impl StoragePath {
    /// A large file that was uploaded before its crash, until it belongs to one.
    #[must_use]
    pub fn upload(project: ProjectId, id: Uuid) -> Self {
        Self(format!("{UPLOADS}/{project}/{id}"))
    }

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
        let pieces = pieces.map_err(|error| StorageError::Away(error.to_string()));
        Ok(Some(StoredFile {
            bytes,
            pieces: pieces.boxed(),
        }))
    }

    /// The files that came late to an event, in the order they came.
    ///
    /// # Errors
    /// [`StorageError::Away`]
    pub async fn late_files(&self, folder: EventFolder) -> Result<Vec<Bytes>, StorageError> {
        let prefix = object_store::path::Path::from(folder.file(LATE).as_str());
        let listed: Result<Vec<_>, _> = self.store.list(Some(&prefix)).try_collect().await;
        let mut lists = self.judge(listed)?;
        lists.sort_by_key(|list| list.last_modified);
        let mut files = Vec::new();
        for list in lists {
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
        let listed: Result<Vec<_>, _> = self.store.list(Some(&prefix)).try_collect().await;
        let oldest = Timestamp::now() - kept;
        let mut forgotten = 0;
        for upload in self.judge(listed)? {
            if upload.last_modified.timestamp() < oldest.as_second() {
                self.judge(self.store.delete(&upload.location).await)?;
                forgotten += 1;
            }
        }
        Ok(forgotten)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::readiness::Need;

    fn folder() -> EventFolder {
        EventFolder {
            project_id: ProjectId::new(7).expect("not zero"),
            received_at: "2026-01-02T23:59:59Z".parse().expect("a time"),
            event_id: "0f1e2d3c4b5a69788796a5b4c3d2e1f0".parse().expect("an id"),
        }
    }

    fn at(url: Option<String>) -> Config {
        let mut config = Config::default();
        config.storage.url = url;
        config
    }

    fn open(dir: &Path) -> Storage {
        let config = at(Some(dir.display().to_string()));
        Storage::open(&config, Readiness::default()).expect("a storage")
    }

    #[test]
    fn paths_are_those_of_the_documentation() {
        let event = "7/2026-01-02/0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0";
        assert_eq!(folder().report().as_str(), format!("{event}/report.json"));
        assert_eq!(
            folder().minidump().as_str(),
            format!("{event}/minidump.dmp")
        );
        let path = folder().attachment(2, "log.txt");
        assert_eq!(path.as_str(), format!("{event}/attachments/2-log.txt"));
    }

    #[tokio::test]
    async fn no_name_leaves_its_folder() {
        let dir = tempfile::tempdir().expect("a directory");
        let storage = open(dir.path());
        for (n, name) in ["../../x", "a/b", "", "..", "ж %2e#?", &"é".repeat(255)]
            .iter()
            .enumerate()
        {
            let path = folder().attachment(n, name);
            assert_eq!(path.as_str().split('/').count(), 5, "{path}");
            let stored = storage
                .store(path, &Content::from(vec![1]))
                .await
                .expect("stores");
            assert!(
                dir.path().join(stored.path.as_str()).is_file(),
                "{}",
                stored.path
            );
        }
    }

    #[tokio::test]
    async fn what_is_stored_is_whole_hashed_and_replaced() {
        let dir = tempfile::tempdir().expect("a directory");
        let storage = open(dir.path());
        let piece = limits::STORAGE_PIECE_BYTES;
        for bytes in [0, 1, piece, piece + 1, 2 * piece] {
            let content: Vec<u8> = (0..bytes).map(|n| (n % 251) as u8).collect();
            let stored = storage
                .store(folder().minidump(), &content.clone().into())
                .await
                .expect("stores");
            assert_eq!(stored.bytes, bytes as u64);
            let expected: String = Sha256::digest(&content)
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            assert_eq!(stored.sha256, expected);
            let found = std::fs::read(dir.path().join(stored.path.as_str())).expect("a file");
            assert!(found == content, "{bytes} bytes differ");
        }
        let files = std::fs::read_dir(
            dir.path()
                .join(folder().minidump().as_str())
                .parent()
                .expect("a folder"),
        );
        assert_eq!(
            files.expect("a folder").count(),
            1,
            "nothing is left beside it"
        );
    }

    #[tokio::test]
    async fn a_report_is_found_or_said_to_be_absent() {
        let dir = tempfile::tempdir().expect("a directory");
        let storage = open(dir.path());
        assert_eq!(storage.report(folder()).await.expect("answers"), None);
        storage
            .store(folder().report(), &Content::from(b"{}".to_vec()))
            .await
            .expect("stores");
        let report = storage.report(folder()).await.expect("answers");
        assert_eq!(report.as_deref(), Some(&b"{}"[..]));
    }

    #[tokio::test]
    async fn a_storage_that_fails_says_so_until_it_works() {
        let dir = tempfile::tempdir().expect("a directory");
        let readiness = Readiness::default();
        readiness.register(Part::Storage, Need::Required);
        let config = at(Some(dir.path().display().to_string()));
        let storage = Storage::open(&config, readiness.clone()).expect("a storage");
        assert!(readiness.is_ready());
        let in_the_way = dir.path().join("7");
        std::fs::write(&in_the_way, "").expect("a file");
        let content = Content::from(vec![1]);
        let failed = storage.store(folder().report(), &content).await;
        assert!(matches!(failed, Err(StorageError::Away(_))));
        assert!(!readiness.is_ready());
        std::fs::remove_file(&in_the_way).expect("removes");
        storage
            .store(folder().report(), &content)
            .await
            .expect("stores");
        assert!(readiness.is_ready());
    }

    #[test]
    fn urls_name_a_directory_or_are_refused_without_their_secrets() {
        let dir = tempfile::tempdir().expect("a directory");
        let url = format!("file://{}/new", dir.path().display());
        assert!(Storage::open(&at(Some(url)), Readiness::default()).is_ok());
        assert!(dir.path().join("new").is_dir());
        let bucket = at(Some("s3://key:secret@bucket/".into()));
        let error = Storage::open(&bucket, Readiness::default()).expect_err("not yet");
        let text = error.to_string();
        assert!(
            text.starts_with("storage.url: expected a directory"),
            "{text}"
        );
        assert!(
            text.contains("s3://…") && !text.contains("secret"),
            "{text}"
        );
    }
}
