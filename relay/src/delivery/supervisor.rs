//! Looks after the producer: opens and closes the breaker, replaces a client that is lost or stuck, shows its state.

use std::time::Duration;

use shared::kafka::{ProducerHealth, RecordProducer};
use shared::metrics::Metrics;
use shared::readiness::{Part, PartState, Readiness};
use shared::spool::SpoolDirectory;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::breaker::{Breaker, Signs};
use super::limit::LimitWatch;

/// How often it looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// Records that are unconfirmed for so long, though the broker answers other questions, are stuck.
const STUCK_AFTER: Duration = Duration::from_secs(20);
/// The broker answers when it has answered within this time.
const ANSWERED_WITHIN: Duration = Duration::from_secs(15);
/// A client is not replaced again before the one that it replaced has given up.
const REBUILD_INTERVAL: Duration = Duration::from_secs(60);

pub(super) struct Supervisor {
    pub(super) producer: RecordProducer,
    pub(super) limit: LimitWatch,
    pub(super) spool: SpoolDirectory,
    pub(super) breaker: Breaker,
    /// Whom the producer talks to, for operators.
    pub(super) address: String,
    pub(super) readiness: Readiness,
    pub(super) metrics: Metrics,
}

impl Supervisor {
    /// Looks until `stop`. Whoever waits for Kafka is then told to stop waiting.
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut rebuilt_at: Option<Instant> = None;
        loop {
            let health = self.producer.health();
            self.show(&health);
            let recently = rebuilt_at.is_some_and(|at| at.elapsed() < REBUILD_INTERVAL);
            if let Some(why) = self.needs_rebuild(&health)
                && !recently
            {
                self.rebuild(&why);
                rebuilt_at = Some(Instant::now());
            }
            self.decide(health);
            if stop
                .run_until_cancelled(sleep(LOOK_INTERVAL))
                .await
                .is_none()
            {
                return;
            }
        }
    }

    fn decide(&self, health: ProducerHealth) {
        let signs = Signs {
            limit_known: self.limit.current().is_some(),
            lost: health.lost,
            refused: health.refused_record,
            oldest: health.oldest,
            silent: health.silent,
            unconfirmed: health.unconfirmed,
            confirmed: health.confirmed,
            spooled: self.spool.usage().files,
        };
        let open = self.breaker.look(&signs);
        self.metrics.breaker_open.set(i64::from(open.is_some()));
        let state = match open {
            None => PartState::Ready,
            Some(why) => {
                let complaint = health.complaint.map(|said| format!("; {said}"));
                let complaint = complaint.unwrap_or_default();
                PartState::not_ready(format!("{}: {why}{complaint}", self.address))
            }
        };
        self.readiness.set(Part::Producer, state);
    }

    fn needs_rebuild(&self, health: &ProducerHealth) -> Option<String> {
        if let Some(lost) = &health.lost {
            return Some(lost.clone());
        }
        if health.silent > STUCK_AFTER {
            return Some("nobody reads its delivery reports".to_owned());
        }
        // While the broker is away a new client would wait just as well.
        let stuck = health.oldest > STUCK_AFTER && self.limit.answered_within(ANSWERED_WITHIN);
        stuck.then(|| "it confirms nothing though the broker answers".to_owned())
    }

    fn rebuild(&self, why: &str) {
        tracing::error!(why, "the producer is replaced; what it held is sent again");
        self.metrics.producer_rebuilds.inc();
        if let Err(error) = self.producer.rebuild() {
            tracing::error!(%error, "the producer could not be replaced");
        }
    }

    fn show(&self, health: &ProducerHealth) {
        self.metrics
            .producer_queue_messages
            .set(health.unconfirmed as i64);
        self.metrics
            .producer_queue_bytes
            .set(health.unconfirmed_bytes as i64);
        self.metrics
            .oldest_unconfirmed_seconds
            .set(health.oldest.as_secs_f64());
    }
}
