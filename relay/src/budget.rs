//! The memory that all uploads under way share. Who finds no room goes to the disk instead of waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus_client::metrics::gauge::Gauge;

/// Bytes that may be held at once. Cloning shares them.
#[derive(Clone, Debug)]
pub struct MemoryBudget {
    free: Arc<AtomicUsize>,
    /// Shows what is held.
    held: Gauge,
}

/// Bytes held; given back when dropped.
#[derive(Debug)]
pub struct MemoryPermit {
    budget: MemoryBudget,
    bytes: usize,
}

impl MemoryBudget {
    /// A budget of so many bytes.
    #[must_use]
    pub fn new(bytes: usize, held: Gauge) -> Self {
        Self {
            free: Arc::new(AtomicUsize::new(bytes)),
            held,
        }
    }

    /// A permit for nothing yet.
    #[must_use]
    pub fn permit(&self) -> MemoryPermit {
        MemoryPermit {
            budget: self.clone(),
            bytes: 0,
        }
    }

    /// Bytes nobody holds.
    #[must_use]
    pub fn free_bytes(&self) -> usize {
        self.free.load(Ordering::Relaxed)
    }
}

impl MemoryPermit {
    /// Takes more; false, and nothing taken, when there is not as much.
    pub fn grow(&mut self, bytes: usize) -> bool {
        // Only a count: nothing else is published through it.
        let taken = self
            .budget
            .free
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| {
                free.checked_sub(bytes)
            })
            .is_ok();
        if taken {
            self.bytes += bytes;
            self.budget.held.inc_by(bytes as i64);
        }
        taken
    }

    /// Both permits as one. They must be of one budget.
    #[must_use]
    pub fn join(mut self, mut other: Self) -> Self {
        self.bytes += std::mem::take(&mut other.bytes);
        self
    }

    /// Gives back everything.
    pub fn clear(&mut self) {
        self.budget.free.fetch_add(self.bytes, Ordering::Relaxed);
        self.budget.held.dec_by(self.bytes as i64);
        self.bytes = 0;
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for MemoryPermit {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_comes_back() {
        let budget = MemoryBudget::new(100, Gauge::default());
        let mut first = budget.permit();
        let mut second = budget.permit();
        assert!(first.grow(60) && !second.grow(41) && second.grow(40));
        assert_eq!(
            (first.bytes(), second.bytes(), budget.free_bytes()),
            (60, 40, 0)
        );
        drop(first);
        assert!(second.grow(60));
        second.clear();
        assert_eq!(budget.free_bytes(), 100);
    }
}
