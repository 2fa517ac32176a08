//! Which partition a key belongs to: the murmur2 partitioner of Kafka's own clients, and of ours. Pure.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::id::EventId;

/// How many partitions a topic has, as far as is known; clones share it.
#[derive(Clone, Debug, Default)]
pub struct PartitionCount(Arc<AtomicU32>);

impl PartitionCount {
    /// The topic has so many partitions. Whether it had another number before.
    pub fn set(&self, partitions: usize) -> bool {
        let partitions = u32::try_from(partitions).unwrap_or(u32::MAX);
        let before = self.0.swap(partitions, Ordering::Relaxed);
        before != 0 && before != partitions
    }

    /// The partition of all records of an event.
    #[must_use]
    pub fn of(&self, event: EventId) -> i32 {
        partition_of(event.as_bytes(), self.0.load(Ordering::Relaxed)).cast_signed()
    }
}

/// The partition of `key` in a topic of `partitions` partitions.
#[must_use]
pub fn partition_of(key: &[u8], partitions: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff) % partitions.max(1)
}

/// Austin Appleby's MurmurHash2 with the seed that Kafka's Java client uses.
fn murmur2(bytes: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const MULTIPLIER: u32 = 0x5bd1_e995;
    const ROTATION: u32 = 24;
    let mut hash = SEED ^ bytes.len() as u32;
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        let mut mixed = u32::from_le_bytes(*word).wrapping_mul(MULTIPLIER);
        mixed ^= mixed >> ROTATION;
        hash = hash.wrapping_mul(MULTIPLIER) ^ mixed.wrapping_mul(MULTIPLIER);
    }
    if !rest.is_empty() {
        for (byte, shift) in rest.iter().zip([0, 8, 16]) {
            hash ^= u32::from(*byte) << shift;
        }
        hash = hash.wrapping_mul(MULTIPLIER);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MULTIPLIER);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_and_the_first_number_is_none() {
        let count = PartitionCount::default();
        let event = EventId::random();
        assert_eq!(count.of(event), 0);
        assert!(!count.set(12) && !count.set(12) && count.set(24));
        assert_eq!(
            count.of(event).cast_unsigned(),
            partition_of(event.as_bytes(), 24)
        );
    }

    /// The vectors of Kafka's own test of its hash.
    #[test]
    fn the_hash_is_that_of_kafkas_clients() {
        let vectors: [(&[u8], i32); 7] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (
                b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            (b"abc", 479_470_107),
            (b"", 275_646_681),
        ];
        for (key, hash) in vectors {
            assert_eq!(murmur2(key) as i32, hash, "{key:?}");
        }
    }
}
