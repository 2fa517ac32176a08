//! How an attachment is cut into chunks. Pure arithmetic.

use std::num::NonZeroU32;
use std::ops::Range;

/// The cut of one attachment: every chunk has `chunk_bytes` bytes, the last one what is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    bytes: u64,
    chunk_bytes: NonZeroU32,
}

impl Cut {
    /// The cut of `bytes` bytes into chunks of at most `chunk_bytes`.
    #[must_use]
    pub fn new(bytes: u64, chunk_bytes: NonZeroU32) -> Self {
        Self { bytes, chunk_bytes }
    }

    /// How many chunks there are; none for an empty attachment.
    #[must_use]
    pub fn chunks(self) -> u32 {
        let chunks = self.bytes.div_ceil(u64::from(self.chunk_bytes.get()));
        u32::try_from(chunks).unwrap_or(u32::MAX)
    }

    /// The bytes of each chunk in order.
    pub fn ranges(self) -> impl Iterator<Item = Range<u64>> {
        let step = u64::from(self.chunk_bytes.get());
        (0..self.chunks()).map(move |index| {
            let start = u64::from(index) * step;
            start..(start + step).min(self.bytes)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn chunks_cover_every_byte_once_and_none_is_empty(bytes in 0u64..100_000, chunk_bytes in 1u32..5_000) {
            let cut = Cut::new(bytes, NonZeroU32::new(chunk_bytes).expect("not zero"));
            let mut covered = 0;
            let mut chunks = 0;
            for range in cut.ranges() {
                prop_assert_eq!(range.start, covered);
                prop_assert!(range.end > range.start && range.end - range.start <= u64::from(chunk_bytes));
                covered = range.end;
                chunks += 1;
            }
            prop_assert_eq!(covered, bytes);
            prop_assert_eq!(chunks, cut.chunks());
        }
    }
}
