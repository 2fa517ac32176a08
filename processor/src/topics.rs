//! What the cluster says of the four topics: their limits, and whether their settings keep what is written to them.

use shared::config::TopicNames;
use shared::kafka::{
    Admin, Expectations, KafkaError, TopicDescription, TopicFinding, TopicUse, complaint, refuse,
};
use shared::readiness::{Part, PartState, Readiness};
use shared::size_limit::TopicLimit;

use crate::cluster::Limits;
use crate::run::ProcessorError;

/// One look at the topics.
pub(crate) struct DescribedTopics {
    pub(crate) ingest: TopicDescription,
    reports: TopicDescription,
    outcomes: TopicDescription,
    dead_letters: TopicDescription,
}

impl DescribedTopics {
    pub(crate) async fn ask(admin: &Admin, names: &TopicNames) -> Result<Self, KafkaError> {
        Ok(Self {
            ingest: admin.describe(&names.attachments).await?,
            reports: admin.describe(&names.reports).await?,
            outcomes: admin.describe(&names.outcomes).await?,
            dead_letters: admin.describe(&names.dead_letters).await?,
        })
    }

    /// The output topics' limits.
    pub(crate) fn limits(&self, names: &TopicNames) -> Result<Limits, ProcessorError> {
        Ok(Limits {
            reports: limit(&names.reports, &self.reports)?,
            outcomes: limit(&names.outcomes, &self.outcomes)?,
            dead_letters: limit(&names.dead_letters, &self.dead_letters)?,
        })
    }

    /// Shows what is wrong with their settings; an error when it is not to be started with.
    pub(crate) fn judge(
        &self,
        expected: &Expectations,
        names: &TopicNames,
        readiness: &Readiness,
    ) -> Result<(), KafkaError> {
        let ingest = expected.judge(TopicUse::Ingest, &names.attachments, &self.ingest);
        let outputs: Vec<TopicFinding> = [
            (TopicUse::Reports, &names.reports, &self.reports),
            (TopicUse::Outcomes, &names.outcomes, &self.outcomes),
            (
                TopicUse::DeadLetters,
                &names.dead_letters,
                &self.dead_letters,
            ),
        ]
        .into_iter()
        .flat_map(|(topic_use, name, described)| expected.judge(topic_use, name, described))
        .collect();
        readiness.set(Part::TopicSettings, state(&ingest));
        readiness.set(Part::OutputTopicSettings, state(&outputs));
        refuse(&ingest).and_then(|()| refuse(&outputs))
    }
}

fn state(findings: &[TopicFinding]) -> PartState {
    complaint(findings).map_or(PartState::Ready, PartState::not_ready)
}

/// The limit of a topic that was described.
pub(crate) fn limit(
    name: &str,
    described: &TopicDescription,
) -> Result<TopicLimit, ProcessorError> {
    let limit = TopicLimit::new(described.max_message_bytes);
    limit.map_err(|error| ProcessorError::Topic {
        topic: name.to_owned(),
        error,
    })
}
