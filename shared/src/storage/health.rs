//! Whether the storage answers: told by every request, and asked for where there are none.

use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use futures_util::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use tokio_util::sync::CancellationToken;

use super::{Storage, StorageError};
use crate::backoff::Backoff;
use crate::limits;
use crate::readiness::{Part, PartState, Readiness};

/// An empty file that shows that the bucket takes files. Begins with a dot, as no project does.
const PROBE: &str = ".probe";

/// What the last request told.
#[derive(Debug)]
pub(super) struct Health {
    readiness: Readiness,
    last: Mutex<Last>,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    answers: bool,
    at: Instant,
}

impl Health {
    pub(super) fn new(readiness: Readiness) -> Self {
        let last = Last {
            answers: false,
            at: Instant::now(),
        };
        Self {
            readiness,
            last: Mutex::new(last),
        }
    }

    /// Notes how a request ended.
    pub(super) fn note<T, E: Display>(&self, result: &Result<T, E>) {
        let state = match result {
            Ok(_) => PartState::Ready,
            Err(error) => PartState::not_ready(error.to_string()),
        };
        *self.last() = Last {
            answers: result.is_ok(),
            at: Instant::now(),
        };
        self.readiness.set(Part::Storage, state);
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Storage {
    /// The look before anything is stored. A directory that could be opened will do.
    pub(super) async fn look_first(&self) -> Result<(), StorageError> {
        let Some(url) = &self.bucket else {
            self.health.note::<_, StorageError>(&Ok(()));
            return Ok(());
        };
        let looked = tokio::time::timeout(limits::STORAGE_PROBE_TIMEOUT, self.probe()).await;
        match looked {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) if !is_final(&error) => Ok(()),
            Err(_) => {
                let wait = limits::STORAGE_PROBE_TIMEOUT.as_secs();
                let silent = self.away(&format!("no answer within {wait} s"));
                self.health.note::<(), _>(&Err(silent));
                Ok(())
            }
            Ok(Err(error)) => Err(StorageError::Unusable(format!(
                "storage.url: expected a bucket at {url} that exists and lets us list, read, write and delete, found: {error}; \
                 check the name, and the credentials and region in storage.options or the environment"
            ))),
        }
    }

    /// Looks at a bucket that nobody has asked anything for a while, or at the free space of a directory's volume, until
    /// `stop`.
    pub async fn watch(&self, stop: CancellationToken) {
        if let Some(room) = &self.room {
            let looking = async {
                let mut full = false;
                loop {
                    let checked = room.check(0);
                    // What else failed stays shown until a file is stored.
                    if checked.is_err() || full {
                        self.health.note(&checked);
                    }
                    full = checked.is_err();
                    tokio::time::sleep(limits::STORAGE_ROOM_INTERVAL).await;
                }
            };
            stop.run_until_cancelled(looking).await;
            return;
        }
        let looking = async {
            loop {
                let last = *self.health.last();
                if last.answers {
                    let rest = limits::STORAGE_PROBE_INTERVAL.saturating_sub(last.at.elapsed());
                    if !rest.is_zero() {
                        tokio::time::sleep(rest).await;
                        continue;
                    }
                }
                self.look_until_it_answers().await;
            }
        };
        stop.run_until_cancelled(looking).await;
    }

    async fn look_until_it_answers(&self) {
        let (first, longest) = limits::STORAGE_AWAY_WAIT;
        let mut backoff = Backoff::forever(first, longest);
        while self.probe().await.is_err() {
            let wait = backoff.next_wait(Instant::now()).unwrap_or(longest);
            tokio::time::sleep(wait).await;
        }
    }

    /// Lists and, when the last request failed, writes: what lists need not take files.
    async fn probe(&self) -> object_store::Result<()> {
        let probe = Path::from(PROBE);
        let must_write = !self.health.last().answers;
        let looked = async {
            self.store.list(Some(&probe)).try_next().await?;
            if must_write {
                self.store.put(&probe, PutPayload::new()).await?;
            }
            Ok(())
        };
        let looked: object_store::Result<()> = looked.await;
        let noted = looked.as_ref().map(drop).map_err(|error| self.away(error));
        self.health.note(&noted);
        looked
    }
}

/// What object_store (0.14) says of a list that is refused, for which it has no kind of error; for files it has. Should it
/// come to say it in other words, a start will wait for the bucket instead of ending.
const REFUSALS: [&str; 4] = [
    "status code: 401 ",
    "status code: 403 ",
    "status code: 404 ",
    "an incorrectly configured region",
];

/// Whether asking again will not help: somebody has to change the configuration or the bucket.
fn is_final(error: &object_store::Error) -> bool {
    let is_refusal = matches!(
        error,
        object_store::Error::NotFound { .. }
            | object_store::Error::PermissionDenied { .. }
            | object_store::Error::Unauthenticated { .. }
    );
    let told = error.to_string();
    is_refusal || REFUSALS.iter().any(|refusal| told.contains(refusal))
}
