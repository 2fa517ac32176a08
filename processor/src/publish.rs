//! Telling the world: report and outcome on their topics. In embedded mode the storage and the state are the world.

use std::sync::Arc;

use bytes::Bytes;
use shared::kafka::{Record, RecordProducer, RefusedRecord};
use shared::outcome::Outcome;
use shared::report::Report;
use shared::size_limit::TopicLimit;

use crate::report;

/// Where reports and outcomes go.
pub(crate) enum Publisher {
    /// To their topics.
    Kafka(Topics),
    /// Nowhere else than to storage and state.
    Embedded,
}

/// The topics of a scaled-out processor.
pub(crate) struct Topics {
    pub(crate) producer: RecordProducer,
    pub(crate) reports: Arc<str>,
    pub(crate) report_limit: TopicLimit,
    pub(crate) outcomes: Arc<str>,
}

impl Publisher {
    /// Publishes the report, if there is one, and the outcome; returns when the broker has confirmed both. `encoded` is
    /// the whole report's JSON, which is in the storage.
    ///
    /// # Errors
    /// [`RefusedRecord`]: either may be in its topic; publish again.
    pub(crate) async fn publish(
        &self,
        report: Option<(&Report, &Bytes)>,
        outcome: &Outcome,
    ) -> Result<(), RefusedRecord> {
        let Self::Kafka(topics) = self else {
            return Ok(());
        };
        let key = *outcome.event_id.as_bytes();
        if let Some((whole, encoded)) = report {
            let bytes_max = topics.report_limit.value_bytes_max(key.len(), []);
            let value = report::fit(whole.clone(), encoded, bytes_max).to_vec();
            let record = Record {
                topic: Arc::clone(&topics.reports),
                key,
                headers: Vec::new(),
                value,
            };
            topics.producer.deliver(&record).await?;
        }
        // INVARIANT: an outcome is plain values under text keys.
        let value = serde_json::to_vec(outcome).expect("outcomes encode");
        let record = Record {
            topic: Arc::clone(&topics.outcomes),
            key,
            headers: Vec::new(),
            value,
        };
        topics.producer.deliver(&record).await?;
        Ok(())
    }
}
