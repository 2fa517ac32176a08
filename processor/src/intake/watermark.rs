//! The low watermark of one partition: where to begin again after a restart, and what above it is done with. Pure.
//!
//! What is done above the watermark travels as text beside the committed offset: a version, then the offsets of the event
//! messages as LEB128 distances, each from the one before and the first from the watermark, in base64.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use shared::kafka::COMMIT_METADATA_BYTES_MAX;

/// What the text begins with.
const VERSION: &str = "1:";
/// How many finished events above the watermark are safely remembered: three bytes each, four characters in base64.
pub(super) const FINISHED_ABOVE_MAX: usize = (COMMIT_METADATA_BYTES_MAX - VERSION.len()) / 4;

/// The offsets of a partition that are not done with.
#[derive(Debug)]
pub(super) struct Watermark {
    /// The next offset to be read.
    position: i64,
    /// Offsets that something unfinished begins at, and how many do.
    held: BTreeMap<i64, u32>,
    /// Offsets of event messages that are done with, above the watermark.
    finished: BTreeSet<i64>,
}

impl Watermark {
    /// A partition that is read from `offset` on, with the text that was committed beside it. A text that is not ours
    /// counts as none.
    pub(super) fn resumed(offset: i64, metadata: &str) -> Self {
        Self {
            position: offset,
            held: BTreeMap::new(),
            finished: decode(offset, metadata).unwrap_or_default(),
        }
    }

    /// Notes that `offset` was read. Whether it is the first time.
    pub(super) fn read(&mut self, offset: i64) -> bool {
        let first_time = offset >= self.position;
        self.position = self.position.max(offset + 1);
        first_time
    }

    /// Something that begins at `offset` is not finished.
    pub(super) fn hold(&mut self, offset: i64) {
        *self.held.entry(offset).or_default() += 1;
    }

    /// What began at `offset` is finished.
    pub(super) fn release(&mut self, offset: i64) {
        if let Some(holders) = self.held.get_mut(&offset) {
            *holders -= 1;
            if *holders == 0 {
                self.held.remove(&offset);
            }
        }
        let lowest = self.lowest_unfinished();
        self.finished = self.finished.split_off(&lowest);
    }

    /// The event whose message stands at `offset` is finished.
    pub(super) fn finish_event(&mut self, offset: i64) {
        if offset >= self.lowest_unfinished() {
            self.finished.insert(offset);
        }
    }

    /// Whether the event whose message stands at `offset` was finished before.
    pub(super) fn was_finished(&self, offset: i64) -> bool {
        self.finished.contains(&offset)
    }

    /// How many finished events stand above the watermark.
    pub(super) fn finished_above(&self) -> usize {
        self.finished.len()
    }

    /// The lowest offset of anything unfinished, or the next to be read.
    pub(super) fn lowest_unfinished(&self) -> i64 {
        self.held
            .first_key_value()
            .map_or(self.position, |(offset, _)| *offset)
    }

    /// The next offset to be read.
    pub(super) fn position(&self) -> i64 {
        self.position
    }

    /// The text to be committed beside the watermark. The highest offsets are left out when it would be too long.
    pub(super) fn metadata(&self) -> String {
        let watermark = self.lowest_unfinished();
        let mut bytes = Vec::new();
        let mut previous = watermark;
        for offset in self.finished.range(watermark..) {
            let before = bytes.len();
            write_distance(&mut bytes, (offset - previous) as u64);
            previous = *offset;
            if VERSION.len() + bytes.len().div_ceil(3) * 4 > COMMIT_METADATA_BYTES_MAX {
                bytes.truncate(before);
                break;
            }
        }
        if bytes.is_empty() {
            String::new()
        } else {
            format!("{VERSION}{}", STANDARD_NO_PAD.encode(bytes))
        }
    }
}

fn decode(watermark: i64, metadata: &str) -> Option<BTreeSet<i64>> {
    let bytes = STANDARD_NO_PAD
        .decode(metadata.strip_prefix(VERSION)?)
        .ok()?;
    let mut rest = &bytes[..];
    let mut offset = watermark;
    let mut finished = BTreeSet::new();
    while !rest.is_empty() {
        offset = offset.checked_add_unsigned(read_distance(&mut rest)?)?;
        finished.insert(offset);
    }
    Some(finished)
}

fn write_distance(bytes: &mut Vec<u8>, mut distance: u64) {
    while distance >= 0x80 {
        bytes.push(distance as u8 | 0x80);
        distance >>= 7;
    }
    bytes.push(distance as u8);
}

fn read_distance(bytes: &mut &[u8]) -> Option<u64> {
    let mut distance = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        distance |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(distance);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against the plain definition: the lowest offset in the set of unfinished ones, else the next to be read.
        #[test]
        fn the_watermark_is_the_lowest_unfinished_offset(steps in proptest::collection::vec((any::<bool>(), 0usize..50), 1..200)) {
            let mut watermark = Watermark::resumed(100, "");
            let mut unfinished: Vec<i64> = Vec::new();
            let mut next = 100;
            let mut committed = 100;
            for (read, pick) in steps {
                if read {
                    prop_assert!(watermark.read(next));
                    watermark.hold(next);
                    unfinished.push(next);
                    next += 1;
                } else if !unfinished.is_empty() {
                    watermark.release(unfinished.swap_remove(pick % unfinished.len()));
                }
                let expected = unfinished.iter().copied().min().unwrap_or(next);
                prop_assert_eq!(watermark.lowest_unfinished(), expected);
                prop_assert!(expected >= committed, "it never moves back");
                committed = expected;
            }
        }

        #[test]
        fn an_offset_is_first_read_once(offsets in proptest::collection::vec(0i64..50, 1..100)) {
            let mut watermark = Watermark::resumed(0, "");
            let mut highest = HashSet::new();
            for offset in offsets {
                let above_all = highest.iter().all(|seen| *seen < offset);
                prop_assert_eq!(watermark.read(offset), above_all);
                highest.insert(offset);
            }
        }
    }

    #[test]
    fn two_holders_of_one_offset_both_count() {
        let mut watermark = Watermark::resumed(5, "");
        watermark.read(5);
        watermark.hold(5);
        watermark.hold(5);
        watermark.release(5);
        assert_eq!(watermark.lowest_unfinished(), 5);
        watermark.release(5);
        watermark.release(5);
        assert_eq!(watermark.lowest_unfinished(), 6);
    }

    proptest! {
        #[test]
        fn what_is_finished_above_the_watermark_survives_a_restart(
            first in 0i64..1_000_000_000,
            distances in proptest::collection::vec(0i64..100_000, 0..FINISHED_ABOVE_MAX),
        ) {
            let mut watermark = Watermark::resumed(first, "");
            watermark.read(first);
            watermark.hold(first);
            let mut offset = first;
            for distance in distances {
                offset += distance;
                watermark.read(offset);
                watermark.finish_event(offset);
            }
            let metadata = watermark.metadata();
            prop_assert!(metadata.len() <= COMMIT_METADATA_BYTES_MAX);
            let resumed = Watermark::resumed(watermark.lowest_unfinished(), &metadata);
            prop_assert_eq!(&resumed.finished, &watermark.finished);
            watermark.release(first);
            prop_assert_eq!(watermark.finished_above(), 0, "below the watermark nothing needs to be remembered");
        }

        #[test]
        fn a_text_that_is_not_ours_counts_as_none(text: String) {
            let resumed = Watermark::resumed(5, &text);
            prop_assert_eq!(resumed.position(), 5);
        }
    }
}
