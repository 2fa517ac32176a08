//! The spool's bounds, and what of them is taken or promised. Taking and giving back are counts, never locks.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::SpoolError;
use crate::config::SpoolConfig;

/// How long a reading of the volume's free space is good for.
const FREE_SPACE_FRESH: Duration = Duration::from_millis(250);
/// The unfinished uploads of one sender may have so many times what they leave.
const SHARE_TIMES: u64 = 3;
/// No reading yet.
const NEVER: u64 = u64::MAX;

/// The spool's bounds and what of them is taken.
#[derive(Debug)]
pub(super) struct Space {
    dir: PathBuf,
    bytes_max: u64,
    free_bytes_min: u64,
    /// Of files that are there or promised.
    used: AtomicU64,
    /// Of those, the bytes that are not written yet: the volume does not know of them.
    promised: AtomicU64,
    start: Instant,
    /// When the volume was asked last, in milliseconds since `start`, and what it said.
    asked_millis: AtomicU64,
    free_bytes: AtomicU64,
    /// Written since then: the reading does not know of it.
    written: AtomicU64,
    /// What made the volume untrusted, once something has.
    distrust: OnceLock<String>,
}

impl Space {
    /// The space of `dir`, whose files have `used` bytes.
    pub(super) fn new(config: &SpoolConfig, dir: PathBuf, used: u64) -> Self {
        Self {
            dir,
            bytes_max: config.max_bytes.get(),
            free_bytes_min: config.min_free_bytes.get(),
            used: AtomicU64::new(used),
            promised: AtomicU64::new(0),
            start: Instant::now(),
            asked_millis: AtomicU64::new(NEVER),
            free_bytes: AtomicU64::new(0),
            written: AtomicU64::new(0),
            distrust: OnceLock::new(),
        }
    }

    /// A reservation of nothing yet.
    pub(super) fn reservation(self: &Arc<Self>, share: Option<&SpaceShare>) -> SpaceReservation {
        SpaceReservation {
            space: Arc::clone(self),
            share: share.cloned(),
            promised: 0,
            written: 0,
        }
    }

    /// Bytes of files that are there or promised.
    pub(super) fn used_bytes(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether so many more bytes could be promised.
    pub(super) fn check(&self, bytes: u64) -> Result<(), SpoolError> {
        self.left_after(bytes).map(drop)
    }

    /// What would be left after promising so many more bytes.
    fn left_after(&self, bytes: u64) -> Result<u64, SpoolError> {
        if let Some(why) = self.distrust.get() {
            return Err(SpoolError::Untrusted { why: why.clone() });
        }
        let used = self.used_bytes();
        if used.saturating_add(bytes) > self.bytes_max {
            let max = self.bytes_max;
            return Err(SpoolError::Full { used, max });
        }
        let promised = self.promised.load(Ordering::Relaxed);
        let free = self.free_bytes()?.saturating_sub(promised);
        if free < self.free_bytes_min.saturating_add(bytes) {
            let min = self.free_bytes_min;
            return Err(SpoolError::NoSpace { free, min });
        }
        let by_volume = free - self.free_bytes_min - bytes;
        Ok(by_volume.min(self.bytes_max - used - bytes))
    }

    /// Bytes that could still be promised.
    pub(super) fn room_bytes(&self) -> u64 {
        if self.distrust.get().is_some() {
            return 0;
        }
        let by_bound = self.bytes_max.saturating_sub(self.used_bytes());
        let promised = self.promised.load(Ordering::Relaxed);
        let free = self.free_bytes().unwrap_or_default();
        by_bound.min(free.saturating_sub(promised.saturating_add(self.free_bytes_min)))
    }

    /// What was promised to be on the disk may not be: nothing is promised any more until a restart. Linux forgets which
    /// pages it could not write, so that a later sync that succeeds means nothing.
    pub(super) fn distrust(&self, why: &SpoolError) {
        if self.distrust.set(why.to_string()).is_ok() {
            tracing::error!(%why, "the spool's volume is not trusted any more; check the disk, then restart");
        }
    }

    /// Bytes of files that are no longer there.
    pub(super) fn release(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn free_bytes(&self) -> Result<u64, SpoolError> {
        let now = self.start.elapsed().as_millis() as u64;
        let asked = self.asked_millis.load(Ordering::Acquire);
        if asked != NEVER && now.saturating_sub(asked) < FREE_SPACE_FRESH.as_millis() as u64 {
            let written = self.written.load(Ordering::Relaxed);
            let free = self.free_bytes.load(Ordering::Relaxed);
            return Ok(free.saturating_sub(written));
        }
        // What is written while the volume is being asked may count twice for a moment: rather that than not at all.
        self.written.store(0, Ordering::Relaxed);
        let volume = rustix::fs::statvfs(&self.dir).map_err(|error| {
            SpoolError::io("asking for the free space of", &self.dir)(error.into())
        })?;
        let free = volume.f_bavail * volume.f_frsize;
        self.free_bytes.store(free, Ordering::Relaxed);
        self.asked_millis.store(now, Ordering::Release);
        Ok(free)
    }
}

/// What the unfinished uploads of one sender have of the spool, promised or written. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct SpaceShare(Arc<AtomicU64>);

impl SpaceShare {
    /// Bytes that it has.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    fn remove(&self, bytes: u64) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// A part of the spool's space; given back when dropped, unless kept.
#[derive(Debug)]
pub(super) struct SpaceReservation {
    space: Arc<Space>,
    /// Whose it is, when that is known.
    share: Option<SpaceShare>,
    promised: u64,
    written: u64,
}

impl SpaceReservation {
    /// Has so many more bytes promised.
    pub(super) fn promise(&mut self, bytes: u64) -> Result<(), SpoolError> {
        let left = self.space.left_after(bytes)?;
        self.check_share(bytes, left)?;
        self.space.used.fetch_add(bytes, Ordering::Relaxed);
        self.space.promised.fetch_add(bytes, Ordering::Relaxed);
        self.promised += bytes;
        if let Some(share) = &self.share {
            share.add(bytes);
        }
        Ok(())
    }

    /// One unfinished upload may have what there is; several of one sender never the last quarter.
    fn check_share(&self, bytes: u64, left: u64) -> Result<(), SpoolError> {
        let Some(share) = &self.share else {
            return Ok(());
        };
        let held = share.held_bytes();
        let has_others = held > self.promised + self.written;
        if has_others && held.saturating_add(bytes) > left.saturating_mul(SHARE_TIMES) {
            return Err(SpoolError::Share { held, left });
        }
        Ok(())
    }

    /// So many bytes are about to be written: those promised first, more when there is room.
    pub(super) fn write(&mut self, bytes: u64) -> Result<(), SpoolError> {
        let missing = bytes.saturating_sub(self.promised);
        if missing > 0 {
            self.promise(missing)?;
        }
        self.space.written.fetch_add(bytes, Ordering::Relaxed);
        self.space.promised.fetch_sub(bytes, Ordering::Relaxed);
        self.promised -= bytes;
        self.written += bytes;
        Ok(())
    }

    /// What is written stays: its space belongs to the file from now on.
    pub(super) fn keep_written(&mut self) {
        if let Some(share) = &self.share {
            share.remove(self.written);
        }
        self.written = 0;
    }

    /// The space this is a part of.
    pub(super) fn space(&self) -> &Space {
        &self.space
    }
}

impl Drop for SpaceReservation {
    fn drop(&mut self) {
        self.space
            .promised
            .fetch_sub(self.promised, Ordering::Relaxed);
        self.space.release(self.promised + self.written);
        if let Some(share) = &self.share {
            share.remove(self.promised + self.written);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ByteSize;

    fn space(max: u64) -> Arc<Space> {
        let config = SpoolConfig {
            max_bytes: ByteSize::bytes(max),
            min_free_bytes: ByteSize::bytes(0),
            resumable_max_bytes: None,
        };
        Arc::new(Space::new(&config, std::env::temp_dir(), 0))
    }

    #[test]
    fn what_is_promised_is_taken_until_it_is_dropped() {
        let space = space(100);
        let mut first = space.reservation(None);
        first.promise(60).expect("room");
        let mut second = space.reservation(None);
        assert!(matches!(
            second.promise(50),
            Err(SpoolError::Full { used: 60, max: 100 })
        ));
        first.write(70).expect("ten more");
        assert_eq!(space.used_bytes(), 70);
        first.keep_written();
        drop(first);
        assert_eq!(space.used_bytes(), 70);
        second.promise(30).expect("the rest");
        drop(second);
        assert_eq!(space.used_bytes(), 70);
        assert_eq!(space.promised.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn half_sent_uploads_of_one_sender_leave_a_quarter_to_others() {
        let space = space(400);
        let (greedy, other) = (SpaceShare::default(), SpaceShare::default());
        let mut held = Vec::new();
        for _ in 0..40 {
            let mut reservation = space.reservation(Some(&greedy));
            match reservation.promise(10) {
                Ok(()) => held.push(reservation),
                Err(error) => assert!(matches!(
                    error,
                    SpoolError::Share {
                        held: 300,
                        left: 90
                    }
                )),
            }
        }
        assert_eq!((held.len(), greedy.held_bytes()), (30, 300));
        let mut modest = space.reservation(Some(&other));
        modest
            .promise(100)
            .expect("one upload may have what there is");
        drop(modest);
        // What is finished is the spool's, and its sender's no more.
        let mut finished = held.pop().expect("one of them");
        finished.write(10).expect("promised");
        finished.keep_written();
        drop(finished);
        assert_eq!((greedy.held_bytes(), space.used_bytes()), (290, 300));
        drop(held);
        assert_eq!((greedy.held_bytes(), other.held_bytes()), (0, 0));
    }

    #[test]
    fn a_volume_that_would_be_too_full_promises_nothing() {
        let config = SpoolConfig {
            max_bytes: ByteSize::bytes(u64::MAX),
            min_free_bytes: ByteSize::bytes(0),
            resumable_max_bytes: None,
        };
        let space = Space::new(&config, std::env::temp_dir(), 0);
        space.check(1).expect("there is a free byte");
        let more_than_any_disk = 1 << 60;
        assert!(matches!(
            space.check(more_than_any_disk),
            Err(SpoolError::NoSpace { .. })
        ));
    }

    #[test]
    fn an_untrusted_volume_promises_nothing() {
        let space = space(100);
        space.distrust(&SpoolError::io("syncing", "a-file")(std::io::Error::other(
            "EIO",
        )));
        assert!(matches!(space.check(1), Err(SpoolError::Untrusted { .. })));
    }
}
