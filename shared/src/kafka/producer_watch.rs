//! How the producer is doing, gathered from its delivery reports and from what librdkafka says by itself. It outlives the
//! clients, which may be replaced.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};

use super::error::{KafkaError, RefusedRecord};
use super::error_log::ErrorLog;
use super::oldest::{OldestUnconfirmed, Slot};
use super::producer::Delivered;
use crate::metrics::Metrics;

/// How the producer is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerHealth {
    /// Records without a report.
    pub unconfirmed: u64,
    /// Their bytes.
    pub unconfirmed_bytes: usize,
    /// Age of the oldest of them.
    pub oldest: Duration,
    /// Since when the polling thread has not looked at reports.
    pub silent: Duration,
    /// Records confirmed so far.
    pub confirmed: u64,
    /// Why this client will never send anything again, when that is so.
    pub lost: Option<String>,
    /// What the cluster has against us, as the last connection was told: rights, credentials, certificates.
    pub refusal: Option<String>,
    /// What librdkafka last complained of.
    pub complaint: Option<String>,
    /// Why the broker has refused the last record, when it has: rights, not room.
    pub refused_record: Option<String>,
}

/// What is known of the producer.
pub(super) struct ProducerWatch {
    start: Instant,
    oldest: OldestUnconfirmed,
    heartbeat_millis: AtomicU64,
    confirmed: AtomicU64,
    complaint: Mutex<Option<Complaint>>,
    /// Whether the last record was refused, and why.
    has_refused: AtomicBool,
    refused_record: Mutex<Option<String>>,
    errors: ErrorLog,
    metrics: Metrics,
}

/// What librdkafka said by itself.
#[derive(Debug, Clone)]
struct Complaint {
    text: String,
    /// Time will not heal it.
    refused: bool,
}

impl ProducerWatch {
    pub(super) fn new(metrics: Metrics) -> Self {
        let start = Instant::now();
        Self {
            start,
            oldest: OldestUnconfirmed::new(start),
            heartbeat_millis: AtomicU64::new(0),
            confirmed: AtomicU64::new(0),
            complaint: Mutex::new(None),
            has_refused: AtomicBool::new(false),
            refused_record: Mutex::new(None),
            errors: ErrorLog::new("producer"),
            metrics,
        }
    }

    /// A record is handed over.
    pub(super) fn enqueued(&self, now: Instant) -> Slot {
        self.oldest.add(now)
    }

    /// It was not taken.
    pub(super) fn not_enqueued(&self, slot: Slot) {
        self.oldest.remove(slot);
    }

    /// Its delivery report has come.
    pub(super) fn reported(
        &self,
        slot: Slot,
        enqueued: Instant,
        report: &Result<Delivered, RefusedRecord>,
    ) {
        self.oldest.remove(slot);
        self.metrics
            .delivery_latency_seconds
            .observe(enqueued.elapsed().as_secs_f64());
        match report {
            Ok(_) => {
                self.confirmed.fetch_add(1, Ordering::Relaxed);
                // The lock is for the rare case: this is asked for every record.
                if self.has_refused.load(Ordering::Relaxed) {
                    self.has_refused.store(false, Ordering::Relaxed);
                    *self.refused_record() = None;
                }
            }
            Err(RefusedRecord::Refused(why)) => {
                *self.refused_record() = Some(why.clone());
                self.has_refused.store(true, Ordering::Relaxed);
            }
            Err(
                RefusedRecord::TooLarge(_)
                | RefusedRecord::Unconfirmed(_)
                | RefusedRecord::ProducerLost(_),
            ) => {}
        }
    }

    /// librdkafka says something by itself.
    pub(super) fn complain(&self, error: &ClientError, reason: &str) {
        self.errors.tell(error, reason);
        // That all brokers are down only follows what was said about each.
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            return;
        }
        let refused = matches!(
            KafkaError::from_client("connecting", error),
            KafkaError::Misconfigured { .. }
        );
        *self.complaint() = Some(Complaint {
            text: reason.to_owned(),
            refused,
        });
    }

    /// A new client begins without the old one's complaints.
    pub(super) fn forgive(&self) {
        *self.complaint() = None;
    }

    /// Delivery reports were looked at.
    pub(super) fn beat(&self) {
        let millis = self.start.elapsed().as_millis() as u64;
        self.heartbeat_millis.store(millis, Ordering::Relaxed);
    }

    /// All of it, with what only the producer knows.
    pub(super) fn health(&self, unconfirmed_bytes: usize, lost: Option<String>) -> ProducerHealth {
        let now = Instant::now();
        let heartbeat = Duration::from_millis(self.heartbeat_millis.load(Ordering::Relaxed));
        let complaint = self.complaint().clone();
        ProducerHealth {
            unconfirmed: self.oldest.waiting(),
            unconfirmed_bytes,
            oldest: self.oldest.age(now),
            silent: (now - self.start).saturating_sub(heartbeat),
            confirmed: self.confirmed.load(Ordering::Relaxed),
            lost,
            refusal: complaint
                .as_ref()
                .filter(|complaint| complaint.refused)
                .map(|complaint| complaint.text.clone()),
            complaint: complaint.map(|complaint| complaint.text),
            refused_record: self.refused_record().clone(),
        }
    }

    fn complaint(&self) -> MutexGuard<'_, Option<Complaint>> {
        self.complaint
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn refused_record(&self) -> MutexGuard<'_, Option<String>> {
        self.refused_record
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
