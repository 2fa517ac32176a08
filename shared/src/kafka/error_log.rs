//! librdkafka repeats itself: while a broker is away it says so several times a second. The log tells it now and then.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::error::KafkaError as ClientError;

/// How often the same error is logged.
const TOLD_EVERY: Duration = Duration::from_secs(30);

/// One client's errors.
#[derive(Debug)]
pub(super) struct ErrorLog {
    client: &'static str,
    /// Each error there was, when it was logged last, and how often it was held back since.
    told: Mutex<Vec<(ClientError, Instant, u32)>>,
}

impl ErrorLog {
    pub(super) fn new(client: &'static str) -> Self {
        Self {
            client,
            told: Mutex::new(Vec::new()),
        }
    }

    /// Logs the error, unless it was logged a moment ago.
    pub(super) fn tell(&self, error: &ClientError, reason: &str) {
        if let Some(repeats) = self.is_due(error, Instant::now()) {
            tracing::warn!(client = self.client, %error, reason, repeats, "kafka");
        }
    }

    /// How often the error was held back, when it is time to log it.
    fn is_due(&self, error: &ClientError, now: Instant) -> Option<u32> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match told.iter_mut().find(|(known, ..)| known == error) {
            None => {
                // One entry for each error code there is, at most.
                told.push((error.clone(), now, 0));
                Some(0)
            }
            Some((_, at, held_back)) if now - *at < TOLD_EVERY => {
                *held_back += 1;
                None
            }
            Some((_, at, held_back)) => {
                *at = now;
                Some(std::mem::take(held_back))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::error::RDKafkaErrorCode;

    use super::*;

    #[test]
    fn an_error_is_told_at_first_and_then_now_and_then() {
        let log = ErrorLog::new("test");
        let down = ClientError::Global(RDKafkaErrorCode::AllBrokersDown);
        let start = Instant::now();
        assert_eq!(log.is_due(&down, start), Some(0));
        assert_eq!(log.is_due(&down, start + TOLD_EVERY / 2), None);
        let other = ClientError::Global(RDKafkaErrorCode::Resolve);
        assert_eq!(log.is_due(&other, start + TOLD_EVERY / 2), Some(0));
        assert_eq!(log.is_due(&down, start + TOLD_EVERY), Some(1));
    }
}
