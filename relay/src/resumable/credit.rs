//! What keys were charged for whole files before the envelope that refers to them: it is not charged for them again. Each
//! credit is good for one upload, or references to one file would be uploads for nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use shared::id::PublicKey;
use shared::storage::StoragePath;
use tokio::time::Instant;

use crate::limits::{CREDITS_MAX, UPLOADS_KEPT};
use crate::shares::{Share, Shares};

/// The credits of this relay. Cloning shares them.
#[derive(Clone, Debug)]
pub(crate) struct Credits(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    places: Shares,
    known: Mutex<HashMap<StoragePath, Known>>,
}

#[derive(Debug)]
struct Known {
    bytes: u64,
    since: Instant,
    _place: Share,
}

/// A credit in an upload's hands; known again when the upload does not become durable.
#[derive(Debug)]
#[must_use = "an upload that became durable spends it"]
pub(crate) struct Credit {
    credits: Credits,
    file: StoragePath,
    /// `None` once it is spent.
    known: Option<Known>,
}

impl Credits {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Inner {
            places: Shares::new(CREDITS_MAX, Gauge::default()),
            known: Mutex::default(),
        }))
    }

    /// `key` was charged for all of a file. Where there is no place to note it, it is charged again.
    pub(crate) fn note(&self, key: &PublicKey, file: StoragePath, bytes: u64) {
        self.forget_older_than(UPLOADS_KEPT);
        if let Some(place) = self.0.places.take(key, 1) {
            let known = Known {
                bytes,
                since: Instant::now(),
                _place: place,
            };
            self.lock().insert(file, known);
        }
    }

    /// The credit for a file, for the first that asks.
    pub(crate) fn take(&self, file: &StoragePath) -> Option<Credit> {
        let known = self.lock().remove(file)?;
        Some(Credit {
            credits: self.clone(),
            file: file.clone(),
            known: Some(known),
        })
    }

    fn forget_older_than(&self, age: Duration) {
        self.lock().retain(|_, known| known.since.elapsed() < age);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<StoragePath, Known>> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Credit {
    /// Bytes that were paid for.
    pub(crate) fn bytes(&self) -> u64 {
        self.known.as_ref().map_or(0, |known| known.bytes)
    }

    /// The upload is durable.
    pub(crate) fn spend(mut self) {
        self.known = None;
    }
}

impl Drop for Credit {
    fn drop(&mut self) {
        if let Some(known) = self.known.take() {
            self.credits.lock().insert(self.file.clone(), known);
        }
    }
}

#[cfg(test)]
mod tests {
    use shared::id::ProjectId;
    use uuid::Uuid;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_credit_is_good_for_one_upload_that_becomes_durable() {
        let credits = Credits::new();
        let key: PublicKey = "a".parse().expect("a key");
        let project = ProjectId::new(1);
        let file = StoragePath::upload(project, Uuid::new_v4());
        credits.note(&key, file.clone(), 70);
        let first = credits.take(&file).expect("a credit");
        assert!(credits.take(&file).is_none(), "one at a time");
        drop(first);
        let again = credits.take(&file).expect("it came to nothing");
        assert_eq!(again.bytes(), 70);
        again.spend();
        assert!(credits.take(&file).is_none());
        credits.note(&key, file.clone(), 70);
        tokio::time::advance(UPLOADS_KEPT).await;
        credits.note(&key, StoragePath::upload(project, Uuid::new_v4()), 1);
        assert!(credits.take(&file).is_none(), "the file is gone as well");
    }
}
