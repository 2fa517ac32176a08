//! Records that could not be taken are kept, with where they came from and why.

use std::sync::Arc;

use shared::kafka::{InboundRecord, Record};
use shared::message::MessageError;
use shared::metrics::Metrics;
use shared::size_limit::TopicLimit;

/// Characters of an error that are kept.
const ERROR_CHARS_MAX: usize = 400;

/// How dead letters are written.
#[derive(Clone)]
pub(crate) struct DeadLetters {
    pub(crate) origin_topic: Arc<str>,
    pub(crate) topic: Arc<str>,
    pub(crate) limit: TopicLimit,
    pub(crate) metrics: Metrics,
}

impl DeadLetters {
    /// The record that keeps `inbound`: its bytes, and in headers where it stood and why it was not taken. Where the dead
    /// letters' topic has a lower limit than the record needs, the end is cut off and a header tells the whole length.
    pub(crate) fn letter(&self, inbound: &InboundRecord, error: &MessageError) -> Record {
        let InboundRecord {
            partition, offset, ..
        } = *inbound;
        let (reason, error) = (error.reason(), error.to_string());
        tracing::warn!(
            partition,
            offset,
            reason,
            error,
            "a record goes to the dead letters"
        );
        self.metrics.count_dead_letter(reason);
        let mut headers = vec![
            ("origin_topic", self.origin_topic.to_string()),
            ("origin_partition", partition.to_string()),
            ("origin_offset", offset.to_string()),
            ("reason", reason.to_owned()),
            ("error", error.chars().take(ERROR_CHARS_MAX).collect()),
            ("attempts", "1".to_owned()),
            ("original_bytes", inbound.value.len().to_string()),
        ];
        let mut key = [0; 16];
        let key_bytes = inbound.key.len().min(key.len());
        key[..key_bytes].copy_from_slice(&inbound.key[..key_bytes]);
        let room = self.limit.value_bytes_max(
            key.len(),
            headers.iter().map(|(name, value)| (*name, value.as_str())),
        );
        let kept = inbound.value.len().min(room);
        if kept == inbound.value.len() {
            headers.pop();
        }
        Record {
            topic: Arc::clone(&self.topic),
            key,
            headers,
            value: inbound.value[..kept].to_vec(),
        }
    }
}
