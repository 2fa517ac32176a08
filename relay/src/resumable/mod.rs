//! Large files that come before their crash, in one or several requests (the TUS protocol 1.0.0, as sentry-native speaks
//! it). While one comes in it is a draft in this relay's spool, within a budget of such files that leaves the rest of the
//! spool alone; whole, it lies in the storage, where every relay finds it when an envelope refers to it.

mod address;
mod credit;
mod partial;
mod refusal;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use shared::config::{ByteSize, Config};
use shared::content::Content;
use shared::id::{ProjectId, PublicKey};
use shared::metrics::Metrics;
use shared::spool::Draft;
use shared::storage::{Storage, StorageError};
use tokio::time::{Duration, MissedTickBehavior, interval};
use uuid::Uuid;

pub(crate) use self::address::Address;
pub(crate) use self::credit::Credit;
pub(crate) use self::partial::{AtWork, Partial};
pub use self::refusal::UploadRefusal;

use self::credit::Credits;
use crate::error::{Rejection, TooLarge};
use crate::limits::{
    UPLOAD_WAIT, UPLOADS_IDLE, UPLOADS_KEPT, UPLOADS_LOOKUPS_MAX, UPLOADS_PARTIAL_MAX,
    UPLOADS_PER_KEY_MAX, UPLOADS_STORING_MAX, UPLOADS_SWEEP_INTERVAL,
};
use crate::read::Pieces;
use crate::shares::Shares;
use crate::slots::{Slot, Slots};

/// Bounds of the large files that are on their way.
#[derive(Clone, Copy, Debug)]
pub struct ResumableBounds {
    /// `spool.resumable_max_bytes`
    pub bytes: ByteSize,
    /// Unfinished ones, of all keys.
    pub files: usize,
}

impl ResumableBounds {
    /// As configured, with an eighth of the descriptors that there are for `uploads`: each file has one.
    #[must_use]
    pub fn of(config: &Config, uploads: usize) -> Self {
        Self {
            bytes: config.spool.resumable_max(),
            files: (uploads / 8).clamp(1, UPLOADS_PARTIAL_MAX),
        }
    }
}

/// The large files that are on their way. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Uploads(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    storage: Storage,
    bounds: ResumableBounds,
    /// Places for unfinished files.
    files: Shares,
    /// Bytes of their drafts.
    bytes: Shares,
    /// Questions to the storage about whole or empty files; most of them need no key.
    lookups: Slots,
    /// Whole files on their way to the storage.
    storing: Slots,
    partial: Mutex<HashMap<Name, Arc<Partial>>>,
    credits: Credits,
}

type Name = (ProjectId, Uuid);

/// How far a file has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that are here.
    pub offset: u64,
    /// Bytes of the whole file.
    pub length: u64,
}

impl Uploads {
    /// Files that are put into `storage` once they are whole.
    #[must_use]
    pub fn new(storage: Storage, bounds: ResumableBounds, metrics: &Metrics) -> Self {
        let max = bounds.bytes.get();
        metrics.resumable_max_bytes.set(max.cast_signed());
        Self(Arc::new(Shared {
            storage,
            bounds,
            files: Shares::new(bounds.files as u64, metrics.resumable_files.clone()),
            bytes: Shares::new(max, metrics.resumable_bytes.clone()),
            lookups: Slots::new(UPLOADS_LOOKUPS_MAX),
            storing: Slots::new(UPLOADS_STORING_MAX),
            partial: Mutex::default(),
            credits: Credits::new(),
        }))
    }

    /// Begins a file of `length` bytes in `draft`, with `room` left in the spool, and gives it its address. An empty one is
    /// whole at once.
    ///
    /// # Errors
    /// [`UploadRefusal::TooMany`], [`UploadRefusal::NoRoom`]; [`TooLarge::Resumable`] for what never has room.
    pub(crate) async fn create(
        &self,
        project: ProjectId,
        key: &PublicKey,
        length: u64,
        (draft, room): (Draft, u64),
    ) -> Result<Address, Rejection> {
        let Shared { bounds, .. } = &*self.0;
        if length > bounds.bytes.get() {
            return Err(TooLarge::Resumable(bounds.bytes).into());
        }
        let address = Address::random(project);
        if length == 0 {
            let _lookup = self.lookup().await?;
            let nothing = Content::default();
            let stored = self.0.storage.store(address.stored(), &nothing);
            stored.await.map_err(unavailable)?;
            return Ok(address);
        }
        let no_room = || UploadRefusal::NoRoom { max: bounds.bytes };
        let mut partial = self.partial();
        let own = partial.values().filter(|other| other.key() == key).count();
        if own >= UPLOADS_PER_KEY_MAX {
            let max = UPLOADS_PER_KEY_MAX;
            return Err(UploadRefusal::TooMany { max }.into());
        }
        let place = self.0.files.take(key, 1).ok_or_else(no_room)?;
        // Announced is not sent: it must fit now, and is taken as it comes.
        if !self.0.bytes.share(key).grow(length, self.budget(room)) {
            return Err(no_room().into());
        }
        let shares = (place, self.0.bytes.share(key));
        let begun = Partial::new(address.clone(), key.clone(), length, draft, shares);
        partial.insert((project, address.id), Arc::new(begun));
        Ok(address)
    }

    /// The unfinished file at an address.
    ///
    /// # Errors
    /// [`UploadRefusal::Unknown`], also when the token is another.
    pub(crate) fn find(&self, address: &Address) -> Result<Arc<Partial>, UploadRefusal> {
        let found = self.partial().get(&(address.project, address.id)).cloned();
        found
            .filter(|partial| partial.address.allows(address))
            .ok_or(UploadRefusal::Unknown)
    }

    /// How far a file has come.
    ///
    /// # Errors
    /// [`UploadRefusal::Unknown`]; 503 when the storage is away, or many ask.
    pub(crate) async fn progress(&self, address: &Address) -> Result<Progress, Rejection> {
        if let Ok(partial) = self.find(address) {
            return Ok(partial.progress());
        }
        let _lookup = self.lookup().await?;
        let bytes = self.0.storage.bytes_of(address.stored()).await;
        let bytes = bytes.map_err(unavailable)?.ok_or(UploadRefusal::Unknown)?;
        Ok(Progress {
            offset: bytes,
            length: bytes,
        })
    }

    /// Adds a piece to a file, with `room` left in the spool besides.
    ///
    /// # Errors
    /// [`Rejection`]: what came before is kept.
    pub(crate) async fn write(
        &self,
        mut at_work: AtWork,
        piece: Bytes,
        room: u64,
    ) -> Result<AtWork, Rejection> {
        let budget = self.budget(room);
        if !at_work.grow(piece.len() as u64, budget) {
            let max = self.0.bounds.bytes;
            return Err(UploadRefusal::NoRoom { max }.into());
        }
        at_work.write(piece).await
    }

    /// Stores the file if it is whole now.
    ///
    /// # Errors
    /// [`Rejection::StorageUnavailable`]: a request without bytes tries again.
    pub(crate) async fn finish(&self, at_work: AtWork) -> Result<Progress, Rejection> {
        let progress = at_work.partial().progress();
        if let Some(content) = at_work.whole() {
            // Only the file itself is held meanwhile.
            let storing = self.0.storing.wait(UPLOAD_WAIT).await;
            let _storing = storing.ok_or(Rejection::Overloaded)?;
            let Address { project, id, .. } = at_work.partial().address;
            let path = at_work.partial().address.stored();
            let stored = self.0.storage.store(path.clone(), &content).await;
            stored.map_err(unavailable)?;
            if at_work.is_charged() {
                let key = at_work.partial().key();
                self.0.credits.note(key, path, progress.length);
            }
            self.partial().remove(&(project, id));
        }
        Ok(progress)
    }

    /// Forgets a file, whole or not.
    ///
    /// # Errors
    /// [`UploadRefusal::Busy`], [`UploadRefusal::Unknown`]; 503 when the storage is away, or many ask.
    pub(crate) async fn remove(&self, address: &Address) -> Result<(), Rejection> {
        if let Ok(partial) = self.find(address) {
            let at_work = AtWork::to_remove(partial)?;
            self.partial().remove(&(address.project, address.id));
            drop(at_work);
            return Ok(());
        }
        let _lookup = self.lookup().await?;
        let removed = self.0.storage.remove_upload(address.stored()).await;
        if removed.map_err(unavailable)? {
            Ok(())
        } else {
            Err(UploadRefusal::Unknown.into())
        }
    }

    /// The file that an address stands for, and what was paid for it.
    ///
    /// # Errors
    /// [`UploadRefusal::Unknown`]; 503 when the storage is away.
    pub(crate) async fn fetch(
        &self,
        address: &Address,
    ) -> Result<(Fetched, Option<Credit>), Rejection> {
        let path = address.stored();
        let found = self.0.storage.read(path.clone()).await;
        let file = found.map_err(unavailable)?.ok_or(UploadRefusal::Unknown)?;
        Ok((Fetched(file.pieces), self.0.credits.take(&path)))
    }

    /// Forgets, now and then, what nobody went on with or referred to.
    pub(crate) async fn sweep(self) {
        let mut turns = interval(UPLOADS_SWEEP_INTERVAL);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            turns.tick().await;
            self.partial()
                .retain(|_, partial| !partial.rests(UPLOADS_IDLE));
            match self.0.storage.forget_uploads(UPLOADS_KEPT).await {
                Ok(0) => {}
                Ok(files) => {
                    tracing::info!(files, "large files that no crash referred to are gone")
                }
                Err(error) => tracing::warn!(%error, "old large files stay for now"),
            }
        }
    }

    /// What such files may take together now. However small the disk has become, half of the room stays for uploads.
    fn budget(&self, room: u64) -> u64 {
        let bytes = &self.0.bytes;
        bytes.total().min((room + bytes.held()) / 2)
    }

    async fn lookup(&self) -> Result<Slot, Rejection> {
        let lookup = self.0.lookups.wait(Duration::ZERO).await;
        lookup.ok_or(Rejection::Overloaded)
    }

    fn partial(&self) -> MutexGuard<'_, HashMap<Name, Arc<Partial>>> {
        self.0
            .partial
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A large file's bytes, from the storage.
pub(crate) struct Fetched(BoxStream<'static, Result<Bytes, StorageError>>);

impl Pieces for Fetched {
    async fn next(&mut self) -> Result<Option<Bytes>, Rejection> {
        self.0.next().await.transpose().map_err(unavailable)
    }
}

fn unavailable(error: StorageError) -> Rejection {
    Rejection::StorageUnavailable(error)
}
