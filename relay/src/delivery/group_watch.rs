//! Shows how far the processors' group is behind, and how near retention is to what it has not read: also while no processor
//! runs that could say so.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use shared::kafka::{GroupLog, GroupPartition, Headroom, OpenTransaction, Standing};
use shared::limits::TOPIC_LIMIT_REFRESH;
use shared::metrics::Metrics;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// The watching task.
pub(super) struct GroupWatch {
    log: GroupLog,
    /// How long the ingest topic keeps records.
    retention: watch::Receiver<Option<Duration>>,
    metrics: Metrics,
    started: Instant,
    partitions: BTreeMap<i32, Seen>,
}

/// What was seen of a partition before.
#[derive(Default)]
struct Seen {
    headroom: Headroom,
    open_transaction: OpenTransaction,
}

impl GroupWatch {
    pub(super) fn new(
        log: GroupLog,
        retention: watch::Receiver<Option<Duration>>,
        metrics: Metrics,
    ) -> Self {
        Self {
            log,
            retention,
            metrics,
            started: Instant::now(),
            partitions: BTreeMap::new(),
        }
    }

    /// Looks as often as the topic's limit is read, until `stop`, which waits for no broker.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        loop {
            let looking = tokio::task::spawn_blocking(move || {
                let found = self.log.look();
                (self, found)
            });
            let Some(looked) = stop.run_until_cancelled(looking).await else {
                return;
            };
            let Ok((watch, found)) = looked else {
                tracing::error!("looking at the group's positions panicked; this is a bug");
                return;
            };
            self = watch;
            match found {
                Ok(found) => found.iter().for_each(|partition| self.show(partition)),
                Err(error) => tracing::debug!(%error, "how far the processors are is not known"),
            }
            let rest = stop.run_until_cancelled(sleep(TOPIC_LIMIT_REFRESH));
            if rest.await.is_none() {
                // librdkafka takes its time to let go.
                drop(tokio::task::spawn_blocking(move || drop(self.log)));
                return;
            }
        }
    }

    fn show(&mut self, found: &GroupPartition) {
        let gauges = self.metrics.log_of(found.partition);
        gauges.lag_records.set(found.lag());
        gauges.stable_gap_records.set(found.span.unstable());
        let at = self.started.elapsed();
        let seen = self.partitions.entry(found.partition).or_default();
        let open_for = seen.open_transaction.take(at, &found.span);
        let unread_for = found.unread_since.map(|written| {
            let age = Timestamp::now().duration_since(written);
            Duration::try_from(age).unwrap_or_default()
        });
        let standing = Standing {
            at,
            // What is unread is not younger than a moment.
            age: match unread_for.max(open_for) {
                Some(age) => age.max(Duration::from_millis(1)),
                None => Duration::ZERO,
            },
            above_start: found.position - found.span.start,
        };
        let headroom = seen.headroom.take(standing, *self.retention.borrow());
        let seconds = headroom.map_or(f64::INFINITY, |headroom| headroom.as_secs_f64());
        gauges.headroom_seconds.set(seconds);
    }
}
