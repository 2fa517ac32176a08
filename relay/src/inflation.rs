//! How much compressed bytes may become. Pure.

use shared::config::INFLATION_FREE_BYTES;

use crate::error::TooLarge;

/// `limits.inflation`: beyond the first [`INFLATION_FREE_BYTES`], so many times the compressed bytes. Dumps of an exhausted
/// stack shrink to a three-hundredth; they have eight megabytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inflation(u32);

impl Inflation {
    /// Up to so many times.
    #[must_use]
    pub fn times(limit: u32) -> Self {
        Self(limit)
    }

    /// Whether `decoded` bytes may have come of `encoded`.
    ///
    /// # Errors
    /// [`TooLarge::Inflation`]
    pub fn check(self, encoded: u64, decoded: u64) -> Result<(), TooLarge> {
        let limit = self.0;
        let earned = encoded.saturating_mul(u64::from(limit));
        if decoded > INFLATION_FREE_BYTES.get().saturating_add(earned) {
            return Err(TooLarge::Inflation { limit });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_first_bytes_compressed_ones_are_worth_so_many() {
        let free = INFLATION_FREE_BYTES.get();
        let inflation = Inflation::times(200);
        for (encoded, decoded, allowed) in [
            (0, free, true),
            (0, free + 1, false),
            (24_310, 8_405_456, true),
            (1000, free + 200_000, true),
            (1000, free + 200_001, false),
            (u64::MAX, u64::MAX, true),
        ] {
            let checked = inflation.check(encoded, decoded);
            assert_eq!(checked.is_ok(), allowed, "{encoded} to {decoded}");
        }
        let told = inflation.check(1, u64::MAX).expect_err("refused");
        assert!(told.to_string().contains("200 times"), "{told}");
    }
}
