//! How long the oldest unconfirmed record has been waiting, kept without a lock.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Seconds of history. A record that waits longer counts as this old at least.
const SLOTS: usize = 4096;

/// Unconfirmed records counted by the second they were enqueued in.
#[derive(Debug)]
pub(super) struct OldestUnconfirmed {
    start: Instant,
    slots: Box<[AtomicU32]>,
    waiting: AtomicU64,
}

/// The second a record was enqueued in; needed to take it off again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot(u64);

impl OldestUnconfirmed {
    pub(super) fn new(start: Instant) -> Self {
        let slots = (0..SLOTS).map(|_| AtomicU32::new(0)).collect();
        Self {
            start,
            slots,
            waiting: AtomicU64::new(0),
        }
    }

    pub(super) fn add(&self, now: Instant) -> Slot {
        let second = self.second(now);
        self.slot(second).fetch_add(1, Ordering::Relaxed);
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Slot(second)
    }

    pub(super) fn remove(&self, slot: Slot) {
        self.slot(slot.0).fetch_sub(1, Ordering::Relaxed);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many records are unconfirmed.
    pub(super) fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// The age of the oldest one, to the second below; zero when there is none.
    pub(super) fn age(&self, now: Instant) -> Duration {
        if self.waiting() == 0 {
            return Duration::ZERO;
        }
        let current = self.second(now);
        let earliest = current.saturating_sub(SLOTS as u64 - 1);
        let oldest =
            (earliest..=current).find(|second| self.slot(*second).load(Ordering::Relaxed) > 0);
        Duration::from_secs(oldest.map_or(0, |second| current - second))
    }

    fn second(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_secs()
    }

    fn slot(&self, second: u64) -> &AtomicU32 {
        &self.slots[(second % SLOTS as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_is_that_of_the_oldest_record_still_waiting() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let oldest = OldestUnconfirmed::new(start);
        assert_eq!(oldest.age(at(5)), Duration::ZERO);
        let first = oldest.add(at(10));
        let second = oldest.add(at(30));
        assert_eq!(oldest.age(at(40)), Duration::from_secs(30));
        oldest.remove(first);
        assert_eq!(oldest.age(at(40)), Duration::from_secs(10));
        oldest.remove(second);
        assert_eq!(oldest.age(at(40)), Duration::ZERO);
        assert_eq!(oldest.waiting(), 0);
    }
}
