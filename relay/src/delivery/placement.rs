//! Uploads that are sent at the same moment go to one partition, so that they share its produce batches.
//!
//! librdkafka sends a request for each partition, and a broker answers a connection's requests one after another: small
//! uploads scattered over all partitions would each wait for all others. The partition follows from the key, and the key is
//! the event id; so the relay draws ids that belong to the partition whose turn it is. Every record of an event, also of
//! one that is sent again later, still goes where its key says.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use shared::id::EventId;
use shared::kafka::partition_of;

/// How long a partition's turn is.
const TURN: Duration = Duration::from_millis(50);

/// Whose turn it is.
#[derive(Debug)]
pub(super) struct Placement {
    start: Instant,
    seed: u64,
    partitions: AtomicU32,
}

impl Placement {
    /// No partitions are known yet: ids fall where they may.
    pub(super) fn new() -> Self {
        let seed = u64::from(std::process::id());
        Self {
            start: Instant::now(),
            seed,
            partitions: AtomicU32::new(1),
        }
    }

    /// The topic has so many partitions.
    pub(super) fn set_partitions(&self, partitions: usize) {
        self.partitions.store(
            u32::try_from(partitions).unwrap_or(1).max(1),
            Ordering::Relaxed,
        );
    }

    /// A fresh id that belongs to the partition whose turn it is.
    pub(super) fn fresh_event_id(&self) -> EventId {
        let partitions = self.partitions.load(Ordering::Relaxed);
        let turn = (self.start.elapsed().as_millis() / TURN.as_millis()) as u64;
        let partition = partition_at(turn, self.seed, partitions);
        EventId::random_where(|key| partition_of(key, partitions) == partition)
    }
}

/// Turns go through the partitions in an order that differs between processes, evenly in the long run.
fn partition_at(turn: u64, seed: u64, partitions: u32) -> u32 {
    let mut mixed = (turn ^ (seed << 32)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ (mixed >> 31)) % u64::from(partitions)) as u32
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_of_one_turn_belong_to_one_partition_and_differ() {
        let placement = Placement::new();
        placement.set_partitions(12);
        let begun = Instant::now();
        let ids: Vec<EventId> = (0..100).map(|_| placement.fresh_event_id()).collect();
        let turns_begun = 2 + begun.elapsed().as_millis() / TURN.as_millis();
        let partitions: HashSet<u32> = ids
            .iter()
            .map(|id| partition_of(id.as_bytes(), 12))
            .collect();
        assert!(partitions.len() as u128 <= turns_begun, "{partitions:?}");
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 100);
    }

    #[test]
    fn turns_are_spread_evenly() {
        let mut turns = [0u32; 12];
        for turn in 0..12_000 {
            turns[partition_at(turn, 77, 12) as usize] += 1;
        }
        assert!(
            turns.iter().all(|count| (850..1150).contains(count)),
            "{turns:?}"
        );
    }
}
