//! Records that could not be taken are kept, with where they came from and why.

use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::backoff::Backoff;
use shared::kafka::{InboundRecord, Record, RecordProducer};
use shared::metrics::Metrics;
use tokio_util::sync::CancellationToken;

/// First and longest wait before a dead letter is sent again.
const RESEND_WAIT: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// The way to the dead letters' topic.
#[derive(Clone)]
pub(crate) struct DeadLetters {
    pub(crate) producer: RecordProducer,
    pub(crate) origin_topic: Arc<str>,
    pub(crate) topic: Arc<str>,
    pub(crate) metrics: Metrics,
    pub(crate) stop: CancellationToken,
}

impl DeadLetters {
    /// Sends a record until the broker has confirmed it. False when the process stops first: the record is then read
    /// again.
    pub(crate) async fn send(
        &self,
        inbound: InboundRecord,
        reason: &'static str,
        error: &str,
    ) -> bool {
        let (partition, offset) = (inbound.partition, inbound.offset);
        let mut key = [0; 16];
        let key_bytes = inbound.key.len().min(key.len());
        key[..key_bytes].copy_from_slice(&inbound.key[..key_bytes]);
        let record = Record {
            topic: Arc::clone(&self.topic),
            key,
            headers: vec![
                ("origin_topic", self.origin_topic.to_string()),
                ("origin_partition", partition.to_string()),
                ("origin_offset", offset.to_string()),
                ("reason", reason.to_owned()),
                ("error", error.to_owned()),
                ("attempts", "1".to_owned()),
            ],
            value: inbound.value.to_vec(),
        };
        let (first, longest) = RESEND_WAIT;
        let mut backoff = Backoff::forever(first, longest);
        loop {
            match self.producer.deliver(&record).await {
                Ok(_delivered) => break,
                Err(refused) => {
                    tracing::error!(partition, offset, %refused, "a dead letter is not confirmed")
                }
            }
            let wait = backoff.next_wait(Instant::now()).unwrap_or(longest);
            if self
                .stop
                .run_until_cancelled(tokio::time::sleep(wait))
                .await
                .is_none()
            {
                return false;
            }
        }
        tracing::warn!(
            partition,
            offset,
            reason,
            error,
            "a record was put with the dead letters"
        );
        self.metrics.count_dead_letter(reason);
        true
    }
}
