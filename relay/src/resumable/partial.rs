//! One large file while it is not whole: a draft in the spool, written to by one request at a time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use shared::content::Content;
use shared::id::PublicKey;
use shared::spool::{Draft, SpoolError};
use tokio::sync::OwnedMutexGuard;
use tokio::time::{Duration, Instant};

use super::{Address, Progress, UploadRefusal};
use crate::error::Rejection;
use crate::shares::Share;

/// A file that is not whole yet.
#[derive(Debug)]
pub(crate) struct Partial {
    pub(super) address: Address,
    /// Whose share of the budget it takes, and whose quotas.
    key: PublicKey,
    length: u64,
    received: Arc<AtomicU64>,
    touched: Mutex<Instant>,
    file: Arc<tokio::sync::Mutex<PartialFile>>,
    /// One of the places for unfinished files.
    _place: Share,
}

#[derive(Debug)]
struct PartialFile {
    draft: Draft,
    /// Where it begins in the draft, once anything of it is there.
    start: u64,
    received: Arc<AtomicU64>,
    /// Its bytes, of the budget of all such files.
    share: Share,
    /// Bytes that the key was charged for.
    charged: u64,
}

/// The one request that is at a file. A write that it has begun ends before another request gets in.
#[derive(Debug)]
pub(crate) struct AtWork {
    partial: Arc<Partial>,
    file: OwnedMutexGuard<PartialFile>,
}

impl Partial {
    /// A file of `length` bytes with a place in the spool.
    pub(super) fn new(
        address: Address,
        key: PublicKey,
        length: u64,
        draft: Draft,
        (place, share): (Share, Share),
    ) -> Self {
        let received = Arc::new(AtomicU64::new(0));
        Self {
            address,
            key,
            length,
            received: Arc::clone(&received),
            touched: Mutex::new(Instant::now()),
            file: Arc::new(tokio::sync::Mutex::new(PartialFile {
                draft,
                start: 0,
                received,
                share,
                charged: 0,
            })),
            _place: place,
        }
    }

    /// The key that it was begun with.
    pub(crate) fn key(&self) -> &PublicKey {
        &self.key
    }

    pub(crate) fn progress(&self) -> Progress {
        Progress {
            offset: self.received.load(Ordering::Acquire),
            length: self.length,
        }
    }

    /// Whether nobody is at it, nor has been for so long.
    pub(super) fn rests(&self, at_least: Duration) -> bool {
        let touched = self.touched.lock().unwrap_or_else(PoisonError::into_inner);
        self.file.try_lock().is_ok() && touched.elapsed() >= at_least
    }

    fn touch(&self) {
        *self.touched.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

impl AtWork {
    /// The right to write behind what is there, when nobody else is at it: nobody waits for another's bytes.
    ///
    /// # Errors
    /// [`UploadRefusal::Busy`], [`UploadRefusal::Offset`]
    pub(crate) fn begin(partial: Arc<Partial>, offset: &str) -> Result<Self, UploadRefusal> {
        let file = Self::alone(&partial)?;
        let expected = partial.progress().offset;
        if offset.parse() != Ok(expected) {
            return Err(UploadRefusal::Offset {
                expected,
                found: offset.chars().take(40).collect(),
            });
        }
        partial.touch();
        Ok(Self { partial, file })
    }

    /// The right to remove it.
    ///
    /// # Errors
    /// [`UploadRefusal::Busy`]
    pub(super) fn to_remove(partial: Arc<Partial>) -> Result<Self, UploadRefusal> {
        let file = Self::alone(&partial)?;
        Ok(Self { partial, file })
    }

    fn alone(partial: &Partial) -> Result<OwnedMutexGuard<PartialFile>, UploadRefusal> {
        let file = Arc::clone(&partial.file).try_lock_owned();
        file.map_err(|_| UploadRefusal::Busy)
    }

    pub(crate) fn partial(&self) -> &Partial {
        &self.partial
    }

    /// Bytes that are not charged for yet once `more` have come, at most what the file lacks.
    ///
    /// # Errors
    /// [`UploadRefusal::Surplus`]
    pub(crate) fn uncharged(&self, more: u64) -> Result<u64, UploadRefusal> {
        let Progress { offset, length } = self.partial.progress();
        if offset + more > length {
            return Err(UploadRefusal::Surplus { length });
        }
        Ok((offset + more).saturating_sub(self.file.charged))
    }

    /// What the file lacks, charged bytes included.
    pub(crate) fn chargeable(&self) -> u64 {
        self.partial.length - self.file.charged
    }

    /// The key was charged for so many more.
    pub(crate) fn note_charged(&mut self, bytes: u64) {
        self.file.charged += bytes;
    }

    /// Takes `bytes` more of the budget, which is `total` now.
    pub(super) fn grow(&mut self, bytes: u64, total: u64) -> bool {
        self.file.share.grow(bytes, total)
    }

    /// Adds a piece, for which there is room.
    ///
    /// # Errors
    /// [`Rejection::Spool`]: what came before is kept.
    pub(super) async fn write(self, piece: Bytes) -> Result<Self, Rejection> {
        let Self { partial, mut file } = self;
        partial.touch();
        let write = move || {
            let written = file.append(&piece);
            (file, written)
        };
        let written = tokio::task::spawn_blocking(write).await;
        let (file, written) = written.map_err(|_| Rejection::Stopping)?;
        written.map_err(Rejection::Spool)?;
        Ok(Self { partial, file })
    }

    /// All of it, when all of it is here.
    pub(super) fn whole(&self) -> Option<Content> {
        let Progress { offset, length } = self.partial.progress();
        (offset == length).then(|| {
            let mut content = Content::default();
            content.push(self.file.draft.segment(self.file.start, length));
            content
        })
    }

    /// Whether the key was charged for all of it.
    pub(super) fn is_charged(&self) -> bool {
        self.file.charged == self.partial.length
    }
}

impl PartialFile {
    fn append(&mut self, piece: &[u8]) -> Result<(), SpoolError> {
        let at = self.draft.append(piece)?;
        let received = self.received.load(Ordering::Relaxed);
        if received == 0 {
            self.start = at;
        }
        self.received
            .store(received + piece.len() as u64, Ordering::Release);
        Ok(())
    }
}
