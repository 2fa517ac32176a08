//! What the world is told: report and outcome as records. In embedded mode the storage and the state are the world.

use std::sync::Arc;

use bytes::Bytes;
use shared::kafka::OutputRecord;
use shared::outcome::{Failure, Outcome, Verdict};
use shared::report::Report;
use tokio::sync::watch;

use crate::cluster::Limits;
use crate::report;

/// Missing chunks that an outcome names when naming all would not fit its topic.
const MISSING_NAMED_MIN: usize = 1000;

/// Where reports and outcomes go.
pub(crate) enum Publisher {
    /// To their topics.
    Kafka(Topics),
    /// Nowhere else than to storage and state.
    Embedded,
}

/// The topics of a scaled-out processor.
pub(crate) struct Topics {
    pub(crate) reports: Arc<str>,
    pub(crate) outcomes: Arc<str>,
    /// What they take, as far as is known.
    pub(crate) limits: watch::Receiver<Limits>,
}

impl Publisher {
    /// The records that tell of an event: its report, if there is one, cut to fit its topic, and its outcome. `encoded` is
    /// the whole report's JSON, which is in the storage.
    pub(crate) fn records(
        &self,
        report: Option<(Report, Bytes)>,
        outcome: &Outcome,
    ) -> Vec<Arc<OutputRecord>> {
        let Self::Kafka(topics) = self else {
            return Vec::new();
        };
        let limits = *topics.limits.borrow();
        let key = Bytes::copy_from_slice(outcome.event_id.as_bytes());
        let mut records = Vec::with_capacity(2);
        if let Some((whole, encoded)) = report {
            let bytes_max = limits.reports.value_bytes_max(key.len(), []);
            records.push(OutputRecord {
                topic: Arc::clone(&topics.reports),
                partition: None,
                key: key.clone(),
                headers: Vec::new(),
                value: report::fit(whole, &encoded, bytes_max),
            });
        }
        let bytes_max = limits.outcomes.value_bytes_max(key.len(), []);
        let value = encode(outcome, bytes_max).into();
        records.push(OutputRecord {
            topic: Arc::clone(&topics.outcomes),
            partition: None,
            key,
            headers: Vec::new(),
            value,
        });
        records.into_iter().map(Arc::new).collect()
    }
}

fn encode(outcome: &Outcome, bytes_max: usize) -> Vec<u8> {
    // INVARIANT: an outcome is plain values under text keys.
    let value = serde_json::to_vec(outcome).expect("outcomes encode");
    if value.len() <= bytes_max {
        return value;
    }
    let mut shorter = outcome.clone();
    if let Verdict::Failed(Failure::MissingChunks(attachments)) = &mut shorter.verdict {
        for attachment in attachments {
            attachment.missing.truncate(MISSING_NAMED_MIN);
        }
    }
    // INVARIANT: as above.
    serde_json::to_vec(&shorter).expect("outcomes encode")
}
