//! How many connections and uploads there may be at once, and who gets in. Nobody waits here for ever, and nobody who
//! waits holds up another.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::error::Rejection;
use crate::limits::{
    CONNECTIONS_MAX, CONNECTIONS_MIN, CONNECTIONS_WAITING_MAX, DESCRIPTORS_RESERVED,
    UPLOAD_OWN_BYTES, UPLOAD_WAIT, UPLOADS_MAX,
};

/// What the machine has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Connections that are served at once.
    pub connections: usize,
    /// Further connections, which wait for a place or are just being refused.
    pub waiting: usize,
    /// Uploads under way at once, to their answers; with HTTP/2 one connection may have many.
    pub uploads: usize,
    /// Those of them whose bodies are being read.
    pub receiving: usize,
}

impl Bounds {
    /// What so many file descriptors and so much memory have room for. Every connection is a descriptor, every upload
    /// may need another for its spool file, and while it is being read it holds memory beside what all of them share.
    #[must_use]
    pub fn of(descriptors: u64, max_inflight_bytes: u64) -> Self {
        let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
        let free = descriptors
            .saturating_sub(DESCRIPTORS_RESERVED)
            .max(CONNECTIONS_MIN);
        let waiting = (free / 16).clamp(1, CONNECTIONS_WAITING_MAX);
        let uploads = (free / 2).min(UPLOADS_MAX);
        let connections = (free - waiting - uploads).min(CONNECTIONS_MAX);
        let by_memory = max_inflight_bytes / UPLOAD_OWN_BYTES;
        let by_memory = usize::try_from(by_memory).unwrap_or(usize::MAX);
        Self {
            connections,
            waiting,
            uploads,
            receiving: by_memory.clamp(1, uploads),
        }
    }
}

/// The bounds in force. Cloning shares them.
#[derive(Debug, Clone)]
pub(crate) struct Admission {
    pub(crate) connections: Slots,
    pub(crate) waiting: Slots,
    pub(crate) receiving: Slots,
    uploads: Slots,
}

impl Admission {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            connections: Slots::new(bounds.connections),
            waiting: Slots::new(bounds.waiting),
            receiving: Slots::new(bounds.receiving),
            uploads: Slots::new(bounds.uploads),
        }
    }

    /// Waits for an upload's turn, which lasts until its answer.
    ///
    /// # Errors
    /// [`Rejection::Overloaded`] when none came.
    pub(crate) async fn upload(&self) -> Result<Slot, Rejection> {
        let turn = self.uploads.wait(UPLOAD_WAIT).await;
        turn.ok_or(Rejection::Overloaded)
    }

    /// What there is for the next connection. When there is nothing at all, connections stay with the kernel: there
    /// they cost no descriptor, and this is soon over, because whoever has no request under way loses its place in
    /// seconds and whoever waits in vain is refused.
    pub(crate) async fn enter(&self) -> Entry {
        tokio::select! {
            biased;
            place = self.connections.next() => Entry::Place(place),
            waiting = self.waiting.next() => Entry::Waiting(waiting),
        }
    }
}

/// What a connection gets when it comes.
#[derive(Debug)]
pub(crate) enum Entry {
    /// A place.
    Place(Slot),
    /// Somewhere to wait for one.
    Waiting(Slot),
}

/// Places for so many at once. Cloning shares them.
#[derive(Debug, Clone)]
pub struct Slots {
    free: Arc<Semaphore>,
    total: usize,
}

/// A place, free again when this is dropped.
#[derive(Debug)]
#[must_use = "the place is free again when this is dropped"]
pub struct Slot {
    _permit: OwnedSemaphorePermit,
}

impl Slots {
    /// Places for `total` at once.
    #[must_use]
    pub fn new(total: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(total)),
            total,
        }
    }

    /// A place, when one comes free in time.
    pub async fn wait(&self, at_most: Duration) -> Option<Slot> {
        timeout(at_most, self.next()).await.ok()
    }

    /// The next place that comes free; first come, first served.
    pub async fn next(&self) -> Slot {
        // INVARIANT: nobody closes the semaphore.
        let permit = Arc::clone(&self.free).acquire_owned().await;
        Slot {
            _permit: permit.expect("an open semaphore"),
        }
    }

    /// Whether less than an eighth is free: then whoever makes no use of its place has to give it up sooner.
    #[must_use]
    pub fn scarce(&self) -> bool {
        self.free.available_permits() < self.total.div_ceil(8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_fit_the_descriptors_and_the_memory() {
        let bounds = |descriptors: u64, mebibytes: u64| {
            let bounds = Bounds::of(descriptors, mebibytes.saturating_mul(1 << 20));
            let all = bounds.connections + bounds.waiting + bounds.uploads;
            assert!(all + DESCRIPTORS_RESERVED <= (descriptors as usize).max(320));
            (
                bounds.connections,
                bounds.waiting,
                bounds.uploads,
                bounds.receiving,
            )
        };
        assert_eq!(bounds(20_000, 256), (8192, 512, 8192, 2048));
        assert_eq!(bounds(20_000, 16), (8192, 512, 8192, 128));
        assert_eq!(bounds(4096, 256), (1680, 240, 1920, 1920));
        assert_eq!(bounds(1024, 256), (336, 48, 384, 384));
        assert_eq!(bounds(10, 256), (28, 4, 32, 32));
        assert_eq!(bounds(u64::MAX, u64::MAX), (8192, 512, 8192, 8192));
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_goes_to_who_waited_and_waiting_ends() {
        let slots = Slots::new(1);
        assert!(!slots.scarce());
        let waited = Duration::from_secs(3);
        let first = slots.wait(waited).await.expect("a free place");
        assert!(slots.scarce());
        assert!(slots.wait(waited).await.is_none());
        let (second, ()) = tokio::join!(slots.wait(waited), async { drop(first) });
        assert!(second.is_some() && slots.wait(waited).await.is_none());
        drop(second);
        assert!(slots.wait(waited).await.is_some());
    }
}
