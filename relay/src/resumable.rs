//! Large files that come before their crash, in one or several requests (the TUS protocol 1.0.0, as sentry-native speaks
//! it). While one comes in it is a draft in this relay's spool; whole, it lies in the storage, where every relay finds it
//! when an envelope refers to it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::StatusCode;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use serde::Deserialize;
use shared::content::Content;
use shared::id::ProjectId;
use shared::spool::{Draft, SpoolError};
use shared::storage::{Storage, StorageError, StoragePath};
use tokio::time::{Duration, Instant, MissedTickBehavior, interval};
use uuid::Uuid;

use crate::error::Rejection;
use crate::limits::{UPLOADS_KEPT, UPLOADS_PARTIAL_MAX, UPLOADS_SWEEP_INTERVAL};
use crate::read::Pieces;

/// The large files that are on their way. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Uploads(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    storage: Storage,
    /// How long what nobody goes on with, or refers to, is kept.
    kept: Duration,
    partial: Mutex<HashMap<Name, Arc<tokio::sync::Mutex<Partial>>>>,
}

/// Whose it is, and its random id: who does not know it cannot add to it.
type Name = (ProjectId, Uuid);

/// A file that is not whole yet.
#[derive(Debug)]
struct Partial {
    /// `None` while a write is under way, and when one has failed.
    draft: Option<Draft>,
    /// Where it begins in the draft, once anything of it is there.
    start: u64,
    received: u64,
    length: u64,
    touched: Instant,
}

/// How far a file has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that are here.
    pub offset: u64,
    /// Bytes of the whole file.
    pub length: u64,
}

/// Why a request about a large file is refused.
#[derive(Debug, thiserror::Error)]
pub enum UploadRefusal {
    /// The file is not here.
    #[error(
        "expected an upload that was begun at this relay within the last hour, found none with this id"
    )]
    Unknown,
    /// What is sent does not follow what is here.
    #[error("expected Upload-Offset {expected}, found {found:?}")]
    Offset {
        /// Bytes that are here.
        expected: u64,
        /// What the client wrote.
        found: String,
    },
    /// More was sent than announced.
    #[error("expected {length} bytes altogether, as Upload-Length said, found more")]
    Surplus {
        /// What was announced.
        length: u64,
    },
    /// The announced length is none.
    #[error("expected Upload-Length: <bytes>, found {found:?}")]
    Length {
        /// What the client wrote.
        found: String,
    },
    /// Another version of the protocol.
    #[error("expected Tus-Resumable: 1.0.0, found {found:?}")]
    Version {
        /// What the client wrote.
        found: String,
    },
    /// An envelope's item that stands for a file does not say which one.
    #[error("expected an attachment reference, JSON with a location, found {found}")]
    Reference {
        /// What is wrong with it.
        found: String,
    },
}

impl UploadRefusal {
    /// The status of the answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Unknown => StatusCode::NOT_FOUND,
            Self::Offset { .. } => StatusCode::CONFLICT,
            Self::Surplus { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Version { .. } => StatusCode::PRECONDITION_FAILED,
            Self::Length { .. } | Self::Reference { .. } => StatusCode::BAD_REQUEST,
        }
    }

    /// The reason's name, part of the interface.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unknown => "unknown_upload",
            Self::Offset { .. } => "wrong_upload_offset",
            Self::Surplus { .. } => "upload_too_long",
            Self::Length { .. } => "missing_upload_length",
            Self::Version { .. } => "unsupported_tus_version",
            Self::Reference { .. } => "broken_attachment_reference",
        }
    }
}

/// What an envelope's item says about a file that was uploaded before.
#[derive(Deserialize)]
struct ReferenceBody {
    location: String,
}

impl Uploads {
    /// Files that are put into `storage` once they are whole.
    #[must_use]
    pub fn new(storage: Storage) -> Self {
        Self(Arc::new(Shared {
            storage,
            kept: UPLOADS_KEPT,
            partial: Mutex::default(),
        }))
    }

    /// Begins a file of `length` bytes with a place in the spool, and names it.
    ///
    /// # Errors
    /// [`Rejection::Overloaded`] when too many are under way.
    pub fn create(&self, project: ProjectId, length: u64, draft: Draft) -> Result<Uuid, Rejection> {
        let mut partial = self.partial();
        if partial.len() >= UPLOADS_PARTIAL_MAX {
            return Err(Rejection::Overloaded);
        }
        let id = Uuid::new_v4();
        let begun = Partial {
            draft: Some(draft),
            start: 0,
            received: 0,
            length,
            touched: Instant::now(),
        };
        partial.insert((project, id), Arc::new(tokio::sync::Mutex::new(begun)));
        Ok(id)
    }

    /// How far a file has come.
    ///
    /// # Errors
    /// [`UploadRefusal::Unknown`]
    pub async fn progress(&self, project: ProjectId, id: Uuid) -> Result<Progress, Rejection> {
        if let Some(partial) = self.find((project, id)) {
            return Ok(partial.lock().await.progress());
        }
        let whole = self.0.storage.read(StoragePath::upload(project, id)).await;
        let whole = whole.map_err(unavailable)?.ok_or(UploadRefusal::Unknown)?;
        Ok(Progress {
            offset: whole.bytes,
            length: whole.bytes,
        })
    }

    /// Adds to a file what `pieces` bring, behind its first `offset` bytes; stores it when it is whole then.
    ///
    /// # Errors
    /// [`Rejection`]: what came before the error is kept.
    pub(crate) async fn append(
        &self,
        (project, id): (ProjectId, Uuid),
        offset: &str,
        pieces: &mut impl Pieces,
    ) -> Result<Progress, Rejection> {
        let partial = self.find((project, id)).ok_or(UploadRefusal::Unknown)?;
        let mut partial = partial.lock().await;
        if offset.parse() != Ok(partial.received) {
            return Err(UploadRefusal::Offset {
                expected: partial.received,
                found: offset.chars().take(40).collect(),
            }
            .into());
        }
        while let Some(piece) = pieces.next().await? {
            partial.write(piece).await?;
        }
        if partial.received == partial.length {
            let content = partial.content()?;
            let path = StoragePath::upload(project, id);
            let stored = self.0.storage.store(path, &content).await;
            stored.map_err(unavailable)?;
            self.partial().remove(&(project, id));
        }
        Ok(partial.progress())
    }

    /// The file that a reference of the project stands for.
    ///
    /// # Errors
    /// [`UploadRefusal::Reference`] and [`UploadRefusal::Unknown`]; 503 when the storage is away.
    pub(crate) async fn fetch(
        &self,
        project: ProjectId,
        reference: &[u8],
    ) -> Result<Fetched, Rejection> {
        let id = id_of(reference)?;
        let found = self.0.storage.read(StoragePath::upload(project, id)).await;
        let found = found.map_err(unavailable)?;
        let file = found.ok_or(UploadRefusal::Unknown)?;
        Ok(Fetched(file.pieces))
    }

    /// Forgets, now and then, what nobody went on with or referred to.
    pub(crate) async fn sweep(self) {
        let mut turns = interval(UPLOADS_SWEEP_INTERVAL);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            turns.tick().await;
            let kept = self.0.kept;
            // One that is locked is being written to.
            self.partial().retain(|_, partial| {
                let free = partial.try_lock();
                free.map_or(true, |partial| partial.touched.elapsed() < kept)
            });
            match self.0.storage.forget_uploads(kept).await {
                Ok(0) => {}
                Ok(files) => {
                    tracing::info!(files, "large files that no crash referred to are gone")
                }
                Err(error) => tracing::warn!(%error, "old large files stay for now"),
            }
        }
    }

    fn find(&self, name: Name) -> Option<Arc<tokio::sync::Mutex<Partial>>> {
        self.partial().get(&name).cloned()
    }

    fn partial(&self) -> MutexGuard<'_, HashMap<Name, Arc<tokio::sync::Mutex<Partial>>>> {
        self.0
            .partial
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Partial {
    fn progress(&self) -> Progress {
        Progress {
            offset: self.received,
            length: self.length,
        }
    }

    async fn write(&mut self, piece: Bytes) -> Result<(), Rejection> {
        self.touched = Instant::now();
        let bytes = piece.len() as u64;
        if self.received + bytes > self.length {
            let length = self.length;
            return Err(UploadRefusal::Surplus { length }.into());
        }
        let mut draft = self.draft.take().ok_or(UploadRefusal::Unknown)?;
        let write = move || draft.append(&piece).map(|at| (draft, at));
        let written: Result<(Draft, u64), SpoolError> = tokio::task::spawn_blocking(write)
            .await
            .map_err(|_| Rejection::Stopping)?;
        let (draft, at) = written.map_err(Rejection::Spool)?;
        self.draft = Some(draft);
        if self.received == 0 {
            self.start = at;
        }
        self.received += bytes;
        Ok(())
    }

    fn content(&self) -> Result<Content, Rejection> {
        let draft = self.draft.as_ref().ok_or(UploadRefusal::Unknown)?;
        let mut content = Content::default();
        content.push(draft.segment(self.start, self.received));
        Ok(content)
    }
}

/// A large file's bytes, from the storage.
pub(crate) struct Fetched(BoxStream<'static, Result<Bytes, StorageError>>);

impl Pieces for Fetched {
    async fn next(&mut self) -> Result<Option<Bytes>, Rejection> {
        self.0.next().await.transpose().map_err(unavailable)
    }
}

/// The id at the end of the location that the file was given.
fn id_of(reference: &[u8]) -> Result<Uuid, UploadRefusal> {
    let broken = |found: String| UploadRefusal::Reference { found };
    let body: ReferenceBody =
        serde_json::from_slice(reference).map_err(|error| broken(error.to_string()))?;
    let path = body.location.split(['?', '#']).next().unwrap_or_default();
    let id = path.trim_end_matches('/').rsplit('/').next();
    id.and_then(|id| Uuid::try_parse(id).ok()).ok_or_else(|| {
        broken(format!(
            "the location {:?}",
            path.chars().take(80).collect::<String>()
        ))
    })
}

fn unavailable(error: StorageError) -> Rejection {
    Rejection::StorageUnavailable(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_names_its_file_by_the_location_it_was_given() {
        let id = Uuid::new_v4();
        for location in [
            format!("/api/1/upload/{id}/"),
            format!(
                "https://crashes.example.org/api/1/upload/{}?sentry_key=k",
                id.simple()
            ),
        ] {
            let json = serde_json::json!({ "location": location, "path": "x" });
            assert_eq!(id_of(json.to_string().as_bytes()).expect("an id"), id);
        }
        for broken in [
            "",
            "{}",
            r#"{"location":"/api/1/upload/"}"#,
            r#"{"location":7}"#,
        ] {
            let error = id_of(broken.as_bytes()).expect_err("refused");
            assert_eq!(error.reason(), "broken_attachment_reference");
        }
    }
}
