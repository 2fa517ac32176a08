//! How many bytes fit into one Kafka record under a topic's `max.message.bytes`.
//!
//! The broker compares whole record *batches* with the limit. A batch is 61 bytes of header and its records; librdkafka
//! counts 36 bytes for a record besides key, value and headers, the most its varints can take, and refuses a record
//! whose sum passes its own `message.max.bytes`. With that setting at limit - 61, whatever librdkafka takes the broker
//! takes too, alone or in a batch.

use crate::limits::TOPIC_LIMIT_BYTES_MIN;

/// Bytes of a record batch besides its records (Kafka message format v2).
const BATCH_HEADER_BYTES: usize = 61;
/// The most bytes of a record besides key, value and headers (librdkafka's `RD_KAFKAP_MESSAGE_V2_MAX_OVERHEAD`).
const RECORD_OVERHEAD_BYTES_MAX: usize = 36;
/// The most bytes of one record header besides its name and value: two varint lengths.
pub const RECORD_HEADER_OVERHEAD_BYTES_MAX: usize = 10;

/// A topic's effective `max.message.bytes`, large enough to work with.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct TopicLimit(u32);

/// The topic's limit is below what the relay works with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a topic limit (max.message.bytes) of at least {TOPIC_LIMIT_BYTES_MIN} bytes, found {found}"
)]
pub struct TopicLimitTooSmall {
    found: u32,
}

impl TopicLimit {
    /// The limit from the topic's effective `max.message.bytes`.
    ///
    /// # Errors
    /// [`TopicLimitTooSmall`] below 64 KiB.
    pub fn new(max_message_bytes: u32) -> Result<Self, TopicLimitTooSmall> {
        if max_message_bytes < TOPIC_LIMIT_BYTES_MIN {
            return Err(TopicLimitTooSmall {
                found: max_message_bytes,
            });
        }
        Ok(Self(max_message_bytes))
    }

    /// The limit itself, in bytes.
    #[must_use]
    pub fn bytes(self) -> u32 {
        self.0
    }

    /// What librdkafka's `message.max.bytes` and `batch.size` must be so that no batch of it passes the limit.
    #[must_use]
    pub fn client_bytes_max(self) -> usize {
        self.0 as usize - BATCH_HEADER_BYTES
    }

    /// The largest value of a record with this key and these headers; 0 when they leave no room.
    pub fn value_bytes_max<'a>(
        self,
        key_bytes: usize,
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> usize {
        let header_bytes = headers.into_iter();
        let header_bytes = header_bytes.map(|(name, value)| name.len() + value.len());
        self.value_bytes_max_beside(key_bytes, header_bytes)
    }

    /// The same by the length of each header's name and value together.
    pub fn value_bytes_max_beside(
        self,
        key_bytes: usize,
        header_bytes: impl IntoIterator<Item = usize>,
    ) -> usize {
        let header_bytes: usize = header_bytes
            .into_iter()
            .map(|bytes| bytes + RECORD_HEADER_OVERHEAD_BYTES_MAX)
            .sum();
        self.client_bytes_max()
            .saturating_sub(RECORD_OVERHEAD_BYTES_MAX + key_bytes + header_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_below_the_floor_is_refused() {
        assert!(TopicLimit::new(65_535).is_err());
        assert!(TopicLimit::new(65_536).is_ok());
    }

    #[test]
    fn the_default_topic_limit_leaves_what_the_format_leaves() {
        let limit = TopicLimit::new(1_048_588).expect("large enough");
        assert_eq!(limit.client_bytes_max(), 1_048_527);
        assert_eq!(limit.value_bytes_max(16, []), 1_048_527 - 36 - 16);
        assert_eq!(
            limit.value_bytes_max(16, [("ab", "cde")]),
            1_048_527 - 36 - 16 - 15
        );
    }
}
