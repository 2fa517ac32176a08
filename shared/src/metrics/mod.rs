//! Every metric of every role, each declared once with its help text. Served as OpenMetrics text by the admin listener.

mod labels;
mod ledger;

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

pub use labels::*;
pub use ledger::LedgerGauges;

use crate::message::MessageError;
use crate::outcome::{Reason, Verdict};
use crate::readiness::Snapshot;

/// The content type of [`Metrics::encode`]'s text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What every metric's name starts with.
const PREFIX: &str = "crashferry";

/// A gauge of seconds.
pub type SecondsGauge = Gauge<f64, AtomicU64>;

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// Declares the metrics: the help text is the field's documentation, the field's name is the metric's.
macro_rules! metric_set {
    ($($help:literal $field:ident: $kind:ty = $new:expr;)+) => {
        /// The metrics themselves; see [`Metrics`].
        #[derive(Debug)]
        pub struct MetricSet {
            $(#[doc = $help] pub $field: $kind,)+
            /// The ledger, shown from one snapshot.
            pub ledger: LedgerGauges,
        }

        impl MetricSet {
            fn register(registry: &mut Registry) -> Self {
                $(
                    let $field: $kind = $new;
                    registry.register(stringify!($field), $help, $field.clone());
                )+
                let ledger = LedgerGauges::default();
                registry.register_collector(Box::new(ledger.clone()));
                Self { $($field,)+ ledger }
            }
        }
    };
}

// Counters get `_total` when they are encoded.
metric_set! {
    "Uploads answered with 200, by endpoint and by what made them durable"
    uploads_accepted: Family<AcceptedLabels, Counter> = Family::default();
    "Uploads answered with the id of an earlier one that had the same minidump"
    uploads_repeated: Counter = Counter::default();
    "Uploads refused, by status, reason, project and the first four characters of the key, where those are known here"
    uploads_rejected: Family<RejectedLabels, Counter> = Family::default();
    "Items of envelopes that belong to no crash, by kind"
    envelope_items: Family<EnvelopeItemLabels, Counter> = Family::default();
    "Body bytes as they came, before decompression"
    upload_encoded_bytes: Counter = Counter::default();
    "Body bytes after decompression"
    upload_decoded_bytes: Counter = Counter::default();
    "Uploads between their first byte and their answer"
    uploads_in_flight: Gauge = Gauge::default();
    "Connections to the relay, those that wait for a place included"
    connections: Gauge = Gauge::default();
    "Connections that the relay closed on its own, by reason"
    connections_closed: Family<ClosedLabels, Counter> = Family::default();
    "What is in use of each pool of places or bytes"
    pool_used: Family<PoolLabels, Gauge> = Family::default();
    "How much there is of each pool of places or bytes"
    pool_limit: Family<PoolLabels, Gauge> = Family::default();
    "Times that somebody found a pool used up (want=\"empty\"), or had its share of it already (want=\"share\")"
    pool_shortages: Family<PoolShortageLabels, Counter> = Family::default();
    "Memory that uploads under way may fill, out of relay.max_inflight_bytes"
    upload_memory_bytes: Gauge = Gauge::default();
    "Unfinished files that come before their crash (TUS)"
    resumable_files: Gauge = Gauge::default();
    "Bytes of those files in the spool"
    resumable_bytes: Gauge = Gauge::default();
    "The bound of their bytes, spool.resumable_max_bytes"
    resumable_max_bytes: Gauge = Gauge::default();
    "Reports being read back by clients"
    report_readers: Gauge = Gauge::default();
    "The bound of reports being read back at once"
    report_readers_max: Gauge = Gauge::default();
    "From an upload's request head to its answer"
    upload_duration_seconds: Histogram = seconds();
    "From producing a record to its delivery report"
    delivery_latency_seconds: Histogram = seconds();
    "Records the producer holds unconfirmed"
    producer_queue_messages: Gauge = Gauge::default();
    "Bytes of the records the producer holds unconfirmed"
    producer_queue_bytes: Gauge = Gauge::default();
    "Age of the oldest record the producer holds unconfirmed"
    oldest_unconfirmed_seconds: SecondsGauge = Gauge::default();
    "The ingest topic's effective max.message.bytes"
    topic_limit_bytes: Gauge = Gauge::default();
    "Chunks handed to the producer"
    chunks_produced: Counter = Counter::default();
    "Uploads sent again from what the relay holds"
    upload_resends: Counter = Counter::default();

    "Whether uploads go to the spool because Kafka does not confirm: 1 or 0"
    breaker_open: Gauge = Gauge::default();
    "Kafka producers replaced because they were lost or stuck"
    producer_rebuilds: Counter = Counter::default();
    "Uploads that wait in the spool: for Kafka, or for the processor where there is no Kafka"
    spool_files: Gauge = Gauge::default();
    "Bytes of the spool's files, those being received and promised included"
    spool_bytes: Gauge = Gauge::default();
    "The bound of the spool's bytes, spool.max_bytes"
    spool_max_bytes: Gauge = Gauge::default();
    "Age of the oldest upload in the spool"
    spool_oldest_seconds: SecondsGauge = Gauge::default();
    "Uploads that went from the spool to Kafka"
    drained_uploads: Counter = Counter::default();
    "Damaged files set aside in the spool's quarantine"
    spool_quarantined_files: Gauge = Gauge::default();

    "Whether each part of /readyz is ready: 1 or 0"
    part_ready: Family<PartLabels, Gauge> = Family::default();

    "Kafka consumers replaced because they were lost"
    consumer_rebuilds: Counter = Counter::default();
    "Records received from the queue, repeats included"
    records_consumed: Counter = Counter::default();
    "Records received from the queue for the first time; consumed / first_seen is the redelivery ratio"
    records_first_seen: Counter = Counter::default();
    "Bytes that the consumer received from Kafka, protocol included"
    consumer_received_bytes: Counter = Counter::default();
    "Records between the committed offset and the log's end, its high watermark; ends of transactions behind the last record do not count"
    partition_lag_records: Family<PartitionLabels, Gauge> = Family::default();
    "The lowest offset of any event that is not finished"
    partition_watermark_offset: Family<PartitionLabels, Gauge> = Family::default();
    "The offset of the next record to read"
    partition_position_offset: Family<PartitionLabels, Gauge> = Family::default();
    "Records between the watermark and the position"
    partition_span_records: Family<PartitionLabels, Gauge> = Family::default();
    "How long until retention reaches what is not read, at the pace of the last five minutes; infinite when it will not"
    partition_headroom_seconds: Family<PartitionLabels, SecondsGauge> = Family::default();
    "Offsets behind the first record of a transaction that is open: they are not read until it ends"
    partition_stable_gap_records: Family<PartitionLabels, Gauge> = Family::default();
    "Events begun and not finished"
    open_events: Gauge = Gauge::default();
    "Bytes of chunks in memory whose events are not finished, bounded by processor.memory"
    pending_bytes: Gauge = Gauge::default();
    "Bytes of scratch files with such chunks, bounded by processor.scratch"
    scratch_bytes: Gauge = Gauge::default();
    "Partitions that are not read for want of room for chunks"
    partitions_held_back: Gauge = Gauge::default();
    "Chunks dropped because their event never came; nobody was promised them"
    abandoned_chunks: Counter = Counter::default();
    "Events begun by chunks and dropped because their event message never came"
    abandoned_events: Counter = Counter::default();
    "Records kept in the dead letters, by reason"
    dead_letters: Family<DeadLetterLabels, Counter> = Family::default();
    "One parser process at one dump"
    parse_duration_seconds: Histogram = seconds();
    "Dumps handed to a parser process, repeats included"
    parser_attempts: Counter = Counter::default();
    "Reports that tell only part of their dump, because time ran out"
    partial_reports: Counter = Counter::default();
    "Whether parser processes have each protection that the system may lack: 1 or 0"
    parser_protected: Family<ProtectionLabels, Gauge> = Family::default();
    "Outcomes told, by outcome and reason"
    outcomes: Family<OutcomeLabels, Counter> = Family::default();
    "Times that retention removed records before they were read"
    log_truncations: Counter = Counter::default();
    "Offsets that retention removed before they were read"
    log_truncated_offsets: Counter = Counter::default();
    "Events that were processed though they were finished already"
    finished_again: Counter = Counter::default();
    "Time an event spends in each step of the processor"
    processor_stage_duration_seconds: Histograms<StageLabels> = Family::new_with_constructor(seconds);
    "Events in each step of the processor now"
    processor_stage_events: Family<StageLabels, Gauge> = Family::default();

    "Failed requests to the state store"
    state_errors: Family<StateLabels, Counter> = Family::default();
    "Events removed because they are kept no longer, by reason"
    retention_removed_events: Family<SurplusLabels, Counter> = Family::default();
    "Bytes of the events removed because they are kept no longer, by reason"
    retention_removed_bytes: Family<SurplusLabels, Counter> = Family::default();
    "Events in the storage when it was last swept; 0 when nothing is configured to be removed"
    stored_events: Gauge = Gauge::default();
    "Bytes of the events in the storage when it was last swept; 0 when nothing is configured to be removed"
    stored_bytes: Gauge = Gauge::default();
    "When the last sweep that this processor made of the storage ended, in seconds since 1970; 0 before the first"
    retention_last_sweep_timestamp_seconds: SecondsGauge = Gauge::default();
    "How long that sweep took"
    retention_last_sweep_duration_seconds: SecondsGauge = Gauge::default();
    "Uploads of late files that were not kept because their event was deleted"
    late_files_of_deleted_events: Counter = Counter::default();
    "Uploads whose user reports are not listed at their crash, because as many are as may be"
    user_reports_left_out: Counter = Counter::default();
    "Accepted uploads whose note the state store never got; their outcome counts them instead"
    state_dropped_notes: Counter = Counter::default();
}

/// 1 ms to 65 s.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 17))
}

/// A handle on all metrics; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    set: MetricSet,
}

impl Deref for Metrics {
    type Target = MetricSet;

    fn deref(&self) -> &MetricSet {
        &self.0.set
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        let build = BuildLabels {
            version: Name(env!("CARGO_PKG_VERSION")),
        };
        registry.register("build", "The running program", Info::new(build));
        let set = MetricSet::register(&mut registry);
        set.show_zeros();
        Self(Arc::new(Inner { registry, set }))
    }
}

impl Metrics {
    /// All metrics as OpenMetrics text.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::with_capacity(16 << 10);
        // INVARIANT: writing to a `String` does not fail, and every label encodes.
        text::encode(&mut text, &self.0.registry).expect("metrics encode");
        text
    }
}

impl MetricSet {
    /// A rate over a counter that appears with its first event misses that event, so closed sets start at zero.
    fn show_zeros(&self) {
        for endpoint in Endpoint::ALL.iter().copied() {
            for durable in Durable::ALL.iter().copied() {
                drop(
                    self.uploads_accepted
                        .get_or_create(&AcceptedLabels { endpoint, durable }),
                );
            }
        }
        let failures = Reason::ALL.map(|reason| (OutcomeName::Failed, Some(reason)));
        for (outcome, reason) in [(OutcomeName::Processed, None)].into_iter().chain(failures) {
            drop(
                self.outcomes
                    .get_or_create(&OutcomeLabels { outcome, reason }),
            );
        }
        for reason in Closed::ALL.iter().copied() {
            drop(
                self.connections_closed
                    .get_or_create(&ClosedLabels { reason }),
            );
        }
        for reason in Surplus::ALL.iter().copied() {
            let labels = SurplusLabels { reason };
            drop(self.retention_removed_events.get_or_create(&labels));
            drop(self.retention_removed_bytes.get_or_create(&labels));
        }
        for reason in MessageError::REASONS {
            let reason = Name(reason);
            drop(
                self.dead_letters
                    .get_or_create(&DeadLetterLabels { reason }),
            );
        }
        for operation in StateOperation::ALL.iter().copied() {
            drop(self.state_errors.get_or_create(&StateLabels { operation }));
        }
    }

    /// Counts an upload that got its 200.
    pub fn count_accepted(&self, endpoint: Endpoint, durable: Durable) {
        self.uploads_accepted
            .get_or_create(&AcceptedLabels { endpoint, durable })
            .inc();
    }

    /// Counts an upload that got another answer; `reason` is a name from the relay's closed set.
    pub fn count_rejected(&self, status: u16, reason: &'static str, project: Known, key: Known) {
        let labels = RejectedLabels {
            status,
            reason: Name(reason),
            project,
            key,
        };
        self.uploads_rejected.get_or_create(&labels).inc();
    }

    /// Shows the refusals of a project and a key from now on, be there none yet.
    pub fn show_rejections(&self, refusals: &[(u16, &'static str)], project: &Known, key: &Known) {
        for &(status, reason) in refusals {
            let labels = RejectedLabels {
                status,
                reason: Name(reason),
                project: project.clone(),
                key: key.clone(),
            };
            drop(self.uploads_rejected.get_or_create(&labels));
        }
    }

    /// Counts an envelope's item that belongs to no crash; `kind` is a name from the relay's closed set.
    pub fn count_envelope_item(&self, kind: &'static str) {
        let kind = Name(kind);
        self.envelope_items
            .get_or_create(&EnvelopeItemLabels { kind })
            .inc();
    }

    /// Shows what `/readyz` says.
    pub fn show_readiness(&self, snapshot: &Snapshot) {
        for part in &snapshot.parts {
            let labels = PartLabels {
                part: Name(part.part.as_str()),
            };
            let ready = part.is_ready();
            self.part_ready.get_or_create(&labels).set(i64::from(ready));
        }
    }

    /// Shows what a pool is at; `pool` is a name from the relay's closed set.
    pub fn show_pool(&self, pool: &'static str, used: u64, limit: u64) {
        let labels = PoolLabels { pool: Name(pool) };
        let gauge = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.pool_used.get_or_create(&labels).set(gauge(used));
        self.pool_limit.get_or_create(&labels).set(gauge(limit));
    }

    /// Counts who found a pool used up, and who had its share of it.
    pub fn count_pool_shortages(&self, pool: &'static str, empty: u64, share: u64) {
        for (want, times) in [("empty", empty), ("share", share)] {
            let labels = PoolShortageLabels {
                pool: Name(pool),
                want: Name(want),
            };
            self.pool_shortages.get_or_create(&labels).inc_by(times);
        }
    }

    /// Counts a connection that the relay closed on its own.
    pub fn count_closed(&self, reason: Closed) {
        self.connections_closed
            .get_or_create(&ClosedLabels { reason })
            .inc();
    }

    /// Counts an outcome that was told for the first time.
    pub fn count_outcome(&self, verdict: &Verdict) {
        let (outcome, reason) = match verdict {
            Verdict::Processed => (OutcomeName::Processed, None),
            Verdict::Failed(failure) => (OutcomeName::Failed, Some(failure.reason())),
        };
        self.outcomes
            .get_or_create(&OutcomeLabels { outcome, reason })
            .inc();
    }

    /// Shows whether parser processes have a protection; `protection` is a name from the processor's closed set.
    pub fn show_protection(&self, protection: &'static str, on: bool) {
        let protection = Name(protection);
        self.parser_protected
            .get_or_create(&ProtectionLabels { protection })
            .set(i64::from(on));
    }

    /// Counts a dead letter; `reason` is a name from the processor's closed set.
    pub fn count_dead_letter(&self, reason: &'static str) {
        let reason = Name(reason);
        self.dead_letters
            .get_or_create(&DeadLetterLabels { reason })
            .inc();
    }

    /// Counts an event of so many bytes that was removed because it is kept no longer.
    pub fn count_surplus(&self, reason: Surplus, bytes: u64) {
        let labels = SurplusLabels { reason };
        self.retention_removed_events.get_or_create(&labels).inc();
        let removed = self.retention_removed_bytes.get_or_create(&labels);
        removed.inc_by(bytes);
    }

    /// Counts a failed request to the state store.
    pub fn count_state_error(&self, operation: StateOperation) {
        self.state_errors
            .get_or_create(&StateLabels { operation })
            .inc();
    }

    /// An event enters a step of the processor, and leaves it when this is dropped.
    pub fn enter(&self, stage: Stage) -> InStage {
        let labels = StageLabels { stage };
        let duration = &self.processor_stage_duration_seconds;
        InStage {
            _event: Raised::by(&self.processor_stage_events.get_or_create_owned(&labels), 1),
            duration: duration.get_or_create_owned(&labels),
            begun: Instant::now(),
        }
    }

    /// The gauges of a partition. Keep them while it is assigned.
    #[must_use]
    pub fn partition(&self, partition: i32) -> PartitionGauges {
        let labels = PartitionLabels { partition };
        PartitionGauges {
            lag_records: self.partition_lag_records.get_or_create_owned(&labels),
            watermark_offset: self.partition_watermark_offset.get_or_create_owned(&labels),
            position_offset: self.partition_position_offset.get_or_create_owned(&labels),
            span_records: self.partition_span_records.get_or_create_owned(&labels),
            headroom_seconds: self.partition_headroom_seconds.get_or_create_owned(&labels),
            stable_gap_records: self
                .partition_stable_gap_records
                .get_or_create_owned(&labels),
        }
    }

    /// The gauges of a partition's log, as a relay sees it.
    #[must_use]
    pub fn log_of(&self, partition: i32) -> LogGauges {
        let labels = PartitionLabels { partition };
        LogGauges {
            lag_records: self.partition_lag_records.get_or_create_owned(&labels),
            headroom_seconds: self.partition_headroom_seconds.get_or_create_owned(&labels),
            stable_gap_records: self
                .partition_stable_gap_records
                .get_or_create_owned(&labels),
        }
    }

    /// Stops showing a partition that another processor has now.
    pub fn forget_partition(&self, partition: i32) {
        let labels = PartitionLabels { partition };
        self.partition_lag_records.remove(&labels);
        self.partition_watermark_offset.remove(&labels);
        self.partition_position_offset.remove(&labels);
        self.partition_span_records.remove(&labels);
        self.partition_headroom_seconds.remove(&labels);
        self.partition_stable_gap_records.remove(&labels);
    }
}

/// The gauges of one partition's log.
#[derive(Clone, Debug)]
pub struct LogGauges {
    /// Records between the committed offset and the log's end.
    pub lag_records: Gauge,
    /// Until retention reaches what is not read.
    pub headroom_seconds: SecondsGauge,
    /// Offsets behind the first record of an open transaction.
    pub stable_gap_records: Gauge,
}

/// The gauges of one partition.
#[derive(Clone, Debug)]
pub struct PartitionGauges {
    /// Records between the committed offset and the log's end.
    pub lag_records: Gauge,
    /// The lowest offset of any event that is not finished.
    pub watermark_offset: Gauge,
    /// The offset of the next record to read.
    pub position_offset: Gauge,
    /// Records between the two.
    pub span_records: Gauge,
    /// Until retention reaches what is not read.
    pub headroom_seconds: SecondsGauge,
    /// Offsets behind the first record of an open transaction.
    pub stable_gap_records: Gauge,
}

/// Holds a gauge up by an amount for as long as it lives.
#[derive(Debug)]
#[must_use = "the gauge falls when this is dropped"]
pub struct Raised {
    gauge: Gauge,
    amount: i64,
}

impl Raised {
    /// Raises `gauge` by `amount`.
    pub fn by(gauge: &Gauge, amount: i64) -> Self {
        gauge.inc_by(amount);
        Self {
            gauge: gauge.clone(),
            amount,
        }
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        self.gauge.dec_by(self.amount);
    }
}

/// An event in a step of the processor.
#[derive(Debug)]
#[must_use = "the event leaves the step when this is dropped"]
pub struct InStage {
    _event: Raised,
    duration: Histogram,
    begun: Instant,
}

impl Drop for InStage {
    fn drop(&mut self) {
        self.duration.observe(self.begun.elapsed().as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Ledger;
    use crate::readiness::{Need, Part, Readiness};

    /// Metrics with a sample in every family.
    fn all() -> Metrics {
        let metrics = Metrics::default();
        let (project, key) = (Known::new("0"), Known::OTHER);
        metrics.show_rejections(&[(413, "too_large")], &project, &key);
        let shown = "uploads_rejected_total{status=\"413\",reason=\"too_large\",project=\"0\",key=\"other\"}";
        assert!(metrics.encode().contains(&format!("{shown} 0")));
        metrics.count_rejected(413, "too_large", project, key);
        assert!(metrics.encode().contains(&format!("{shown} 1")));
        metrics.count_dead_letter("not_msgpack");
        drop(metrics.enter(Stage::Parse));
        metrics.partition(7).lag_records.set(1);
        metrics.ledger.set(Ledger::default());
        let readiness = Readiness::default();
        readiness.register(Part::Broker, Need::Required);
        metrics.show_readiness(&readiness.snapshot());
        metrics
    }

    #[test]
    fn every_metric_has_a_name_of_the_pattern_and_a_help_text() {
        let text = all().encode();
        let names: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE "))
            .filter_map(|line| line.split(' ').next())
            .collect();
        assert!(names.len() > 30, "{names:?}");
        for name in names {
            let words: Vec<&str> = name.split('_').collect();
            assert!(words.len() >= 2 && words[0] == PREFIX, "{name}");
            let lower = |word: &&str| {
                !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase())
            };
            assert!(words.iter().all(lower), "{name}");
            let help = text
                .lines()
                .find_map(|line| line.strip_prefix(&format!("# HELP {name} ")))
                .unwrap_or_else(|| panic!("{name} has no help text"));
            assert!(help.len() > 10 && !help.ends_with(".."), "{name}: {help}");
        }
    }

    #[test]
    fn counters_end_in_total_and_every_family_shows_a_sample() {
        let text = all().encode();
        for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (name, kind) = line.split_once(' ').expect("a name and a kind");
            let sample = match kind {
                "counter" => format!("\n{name}_total"),
                "histogram" => format!("\n{name}_bucket"),
                "info" => format!("\n{name}_info{{"),
                _ => format!("\n{name}"),
            };
            assert!(text.contains(&sample), "{name} shows no {sample:?}");
        }
    }

    #[test]
    fn a_gauge_falls_when_its_guard_goes() {
        let metrics = Metrics::default();
        let guard = Raised::by(&metrics.uploads_in_flight, 1);
        assert_eq!(metrics.uploads_in_flight.get(), 1);
        drop(guard);
        assert_eq!(metrics.uploads_in_flight.get(), 0);
    }

    #[test]
    fn a_partition_that_left_is_no_longer_shown() {
        let metrics = Metrics::default();
        metrics.partition(3).span_records.set(5);
        let shown = "crashferry_partition_span_records{partition=\"3\"} 5";
        assert!(metrics.encode().contains(shown));
        metrics.forget_partition(3);
        assert!(!metrics.encode().contains("partition=\"3\""));
    }
}
