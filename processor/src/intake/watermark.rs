//! The low watermark of one partition: where to begin again after a restart. Pure.

use std::collections::BTreeMap;

/// The offsets of a partition that are not done with.
#[derive(Debug)]
pub(super) struct Watermark {
    /// The next offset to be read.
    position: i64,
    /// Offsets that something unfinished begins at, and how many do.
    held: BTreeMap<i64, u32>,
}

impl Watermark {
    /// A partition that is read from `offset` on.
    pub(super) fn starting_at(offset: i64) -> Self {
        Self {
            position: offset,
            held: BTreeMap::new(),
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
            let mut watermark = Watermark::starting_at(100);
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
            let mut watermark = Watermark::starting_at(0);
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
        let mut watermark = Watermark::starting_at(5);
        watermark.read(5);
        watermark.hold(5);
        watermark.hold(5);
        watermark.release(5);
        assert_eq!(watermark.lowest_unfinished(), 5);
        watermark.release(5);
        watermark.release(5);
        assert_eq!(watermark.lowest_unfinished(), 6);
    }
}
