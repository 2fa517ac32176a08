//! The ledger in the metrics: one snapshot for all its gauges, so that no scrape sees it out of balance.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::ledger::Ledger;

/// The newest ledger that was read, shared with the registry.
#[derive(Clone, Debug, Default)]
pub struct LedgerGauges(Arc<Mutex<Option<(Ledger, Instant)>>>);

impl LedgerGauges {
    /// Shows `ledger` from now on.
    pub fn set(&self, ledger: Ledger) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((ledger, Instant::now()));
    }

    /// The newest ledger; `None` before one was read.
    #[must_use]
    pub fn get(&self) -> Option<Ledger> {
        self.snapshot().map(|(ledger, _)| ledger)
    }

    fn snapshot(&self) -> Option<(Ledger, Instant)> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for LedgerGauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some((ledger, read_at)) = self.snapshot() else {
            return Ok(());
        };
        let states = [
            ("accepted", ledger.accepted),
            ("processed", ledger.processed),
            ("failed", ledger.failed()),
            ("in_flight", ledger.in_flight()),
        ];
        let help = "Events by what became of them, over the life of the state store; accepted is the sum of the others or something is lost";
        let mut family =
            encoder.encode_descriptor("ledger_events", help, None, MetricType::Gauge)?;
        for (state, count) in states {
            let labels = [("state", state)];
            ConstGauge::new(count.cast_signed()).encode(family.encode_family(&labels)?)?;
        }
        let help = "Failed events by reason, over the life of the state store";
        let mut family =
            encoder.encode_descriptor("ledger_failed_events", help, None, MetricType::Gauge)?;
        for (reason, count) in ledger.failed_by_reason.iter() {
            let labels = [("reason", reason.as_str())];
            ConstGauge::new(count.cast_signed()).encode(family.encode_family(&labels)?)?;
        }
        let help =
            "Age of the event in flight that was accepted first; 0 when nothing is in flight";
        let oldest = ledger.open.and_then(|open| open.oldest);
        let age = oldest.map_or(0.0, |at| Timestamp::now().duration_since(at).as_secs_f64());
        let family =
            encoder.encode_descriptor("oldest_in_flight_seconds", help, None, MetricType::Gauge)?;
        ConstGauge::new(age.max(0.0)).encode(family)?;
        let help = "Time since the ledger was read from the state store";
        let age = ConstGauge::new(read_at.elapsed().as_secs_f64());
        let family =
            encoder.encode_descriptor("ledger_age_seconds", help, None, MetricType::Gauge)?;
        age.encode(family)
    }
}
