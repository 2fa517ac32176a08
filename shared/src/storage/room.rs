//! The free space that a directory's volume keeps. A full volume would stop more than the storage: state, spool and whoever
//! else writes there.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::StorageError;
use crate::config::ByteSize;

/// How long a reading of the volume's free space is good for.
const FREE_SPACE_FRESH: Duration = Duration::from_millis(250);
/// No reading yet.
const NEVER: u64 = u64::MAX;

/// `storage.min_free_bytes` of a directory.
#[derive(Debug)]
pub(super) struct Room {
    dir: Arc<Path>,
    free_bytes_min: ByteSize,
    start: Instant,
    /// When the volume was asked last, in milliseconds since `start`, and what it said.
    asked_millis: AtomicU64,
    free_bytes: AtomicU64,
    /// Bytes that were let in since then: the reading does not know of them.
    since: AtomicU64,
}

impl Room {
    pub(super) fn new(dir: Arc<Path>, free_bytes_min: ByteSize) -> Self {
        Self {
            dir,
            free_bytes_min,
            start: Instant::now(),
            asked_millis: AtomicU64::new(NEVER),
            free_bytes: AtomicU64::new(0),
            since: AtomicU64::new(0),
        }
    }

    /// Whether `bytes` more leave enough free.
    ///
    /// # Errors
    /// [`StorageError::Full`]; [`StorageError::Away`] when the volume does not say.
    pub(super) fn check(&self, bytes: u64) -> Result<(), StorageError> {
        let min = self.free_bytes_min;
        let free = self.free_bytes()?;
        if min.get() > 0 && free < min.get().saturating_add(bytes) {
            return Err(StorageError::Full { free, min });
        }
        self.since.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    fn free_bytes(&self) -> Result<u64, StorageError> {
        let now = self.start.elapsed().as_millis() as u64;
        let asked = self.asked_millis.load(Ordering::Acquire);
        if asked != NEVER && now.saturating_sub(asked) < FREE_SPACE_FRESH.as_millis() as u64 {
            let free = self.free_bytes.load(Ordering::Relaxed);
            return Ok(free.saturating_sub(self.since.load(Ordering::Relaxed)));
        }
        // What is written while the volume is being asked may count twice for a moment: rather that than not at all.
        self.since.store(0, Ordering::Relaxed);
        let volume = rustix::fs::statvfs(&*self.dir).map_err(|error| {
            StorageError::Away(format!("its volume does not say what is free: {error}"))
        })?;
        let free = volume.f_bavail * volume.f_frsize;
        self.free_bytes.store(free, Ordering::Relaxed);
        self.asked_millis.store(now, Ordering::Release);
        Ok(free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_go_below_the_floor_is_refused_and_no_floor_refuses_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let room = |min| Room::new(dir.path().into(), min);
        room(ByteSize::bytes(0)).check(u64::MAX).expect("no floor");
        room(ByteSize::bytes(1)).check(1).expect("two free bytes");
        let full = room(ByteSize::bytes(1 << 60))
            .check(1)
            .expect_err("no such volume");
        assert!(
            full.to_string().contains("expected storage.min_free_bytes"),
            "{full}"
        );
    }
}
