//! The memory that all uploads under way share. Who finds no room goes to the disk instead of waiting.

use prometheus_client::metrics::gauge::Gauge;

use crate::places::{Party, Pool};

/// Bytes that may be held at once. Cloning shares them.
#[derive(Clone, Debug)]
pub struct MemoryBudget {
    pool: Pool,
    /// Shows what is held.
    held: Gauge,
}

/// Bytes held; given back when dropped.
#[derive(Debug)]
pub struct MemoryPermit {
    budget: MemoryBudget,
    party: Party,
    bytes: usize,
}

impl MemoryBudget {
    /// A budget of as many bytes as the pool has.
    #[must_use]
    pub fn new(pool: Pool, held: Gauge) -> Self {
        Self { pool, held }
    }

    /// A permit for nothing yet.
    #[must_use]
    pub fn permit(&self, party: &Party) -> MemoryPermit {
        MemoryPermit {
            budget: self.clone(),
            party: party.clone(),
            bytes: 0,
        }
    }

    /// Bytes nobody holds.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        self.pool.free()
    }
}

impl MemoryPermit {
    /// Takes more; false, and nothing taken, when there is not as much, or not for this party.
    pub fn grow(&mut self, bytes: usize) -> bool {
        let taken = self.budget.pool.grab(&self.party, bytes as u64).is_ok();
        if taken {
            self.bytes += bytes;
            self.budget.held.inc_by(bytes as i64);
        }
        taken
    }

    /// Both permits as one. They must be of one budget and one party.
    #[must_use]
    pub fn join(mut self, mut other: Self) -> Self {
        self.bytes += std::mem::take(&mut other.bytes);
        self
    }

    /// Gives back everything.
    pub fn clear(&mut self) {
        if self.bytes == 0 {
            return;
        }
        self.budget.pool.give(&self.party, self.bytes as u64);
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
    use crate::places::PoolName;

    use super::*;

    #[test]
    fn what_is_taken_comes_back() {
        let budget = MemoryBudget::new(Pool::new(PoolName::Memory, 100), Gauge::default());
        let mut first = budget.permit(&Party::default());
        let mut second = budget.permit(&Party::default());
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
