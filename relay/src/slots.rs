//! Places for work that nobody's key is charged with: so many at once, first come, first served.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Duration, timeout};

/// Places for so many at once. Cloning shares them.
#[derive(Debug, Clone)]
pub(crate) struct Slots(Arc<Semaphore>);

/// A place, free again when this is dropped.
#[derive(Debug)]
#[must_use = "the place is free again when this is dropped"]
pub(crate) struct Slot {
    _permit: OwnedSemaphorePermit,
}

impl Slots {
    /// Places for `total` at once.
    pub(crate) fn new(total: usize) -> Self {
        Self(Arc::new(Semaphore::new(total)))
    }

    /// A place, when one comes free in time.
    pub(crate) async fn wait(&self, at_most: Duration) -> Option<Slot> {
        let permit = timeout(at_most, Arc::clone(&self.0).acquire_owned()).await;
        // INVARIANT: nobody closes the semaphore.
        let permit = permit.ok()?.expect("an open semaphore");
        Some(Slot { _permit: permit })
    }
}
