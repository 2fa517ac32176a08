//! What a Kafka error means for us: a decision, not a code.

use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};

use super::topic_settings::TopicFinding;
use crate::config::KafkaOptions;

/// What went wrong when talking to Kafka, by what is to be done about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KafkaError {
    /// The cluster does not answer, or not yet: try again later.
    #[error("kafka is unavailable while {doing}: {error}")]
    Unavailable {
        /// What was tried.
        doing: &'static str,
        /// What librdkafka said.
        error: String,
    },
    /// The configuration or the cluster's rights have to change first.
    #[error("kafka refuses {doing}: {error}")]
    Misconfigured {
        /// What was tried.
        doing: &'static str,
        /// What librdkafka said.
        error: String,
    },
    /// The topic does not exist.
    #[error(
        "expected topic {topic:?} in kafka, found none; make it with `crashferry topics create`"
    )]
    NoTopic {
        /// Its name.
        topic: String,
    },
    /// A topic's settings destroy what is written to it.
    #[error("{0}")]
    Unsuitable(Box<TopicFinding>),
}

/// Why a record did not get into the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefusedRecord {
    /// The topic's limit is lower than we thought.
    #[error("the broker's limit is lower than the record: {0}")]
    TooLarge(String),
    /// It may be there or not: send it again, under another attachment id.
    #[error("the broker did not confirm the record: {0}")]
    Unconfirmed(String),
    /// Sending it again will not help before somebody changes something.
    #[error("the broker refuses the record: {0}")]
    Refused(String),
    /// This producer is done for: a new one is needed.
    #[error("the producer failed: {0}")]
    ProducerLost(String),
}

impl KafkaError {
    /// As [`KafkaError::from_client`], for a client that could not be made: librdkafka quotes the setting it refuses.
    pub(super) fn from_settings(
        doing: &'static str,
        error: &ClientError,
        options: &KafkaOptions,
    ) -> Self {
        match Self::from_client(doing, error) {
            Self::Misconfigured { doing, error } => Self::Misconfigured {
                doing,
                error: options.redact(&error),
            },
            Self::Unavailable { doing, error } => Self::Unavailable {
                doing,
                error: options.redact(&error),
            },
            told @ (Self::NoTopic { .. } | Self::Unsuitable(_)) => told,
        }
    }

    /// The same with the brokers' addresses in front of what was said.
    #[must_use]
    pub fn at(self, brokers: &str) -> Self {
        match self {
            Self::Unavailable { doing, error } => Self::Unavailable {
                doing,
                error: format!("{brokers}: {error}"),
            },
            Self::Misconfigured { doing, error } => Self::Misconfigured {
                doing,
                error: format!("{brokers}: {error}"),
            },
            told @ (Self::NoTopic { .. } | Self::Unsuitable(_)) => told,
        }
    }

    /// Sorts what a client call returned.
    pub(super) fn from_client(doing: &'static str, error: &ClientError) -> Self {
        let text = error.to_string();
        match code(error).map(class) {
            Some(Class::Refused | Class::TooLarge | Class::ProducerLost) => {
                Self::Misconfigured { doing, error: text }
            }
            Some(Class::Passing) => Self::Unavailable { doing, error: text },
            None => Self::Misconfigured { doing, error: text },
        }
    }
}

impl RefusedRecord {
    /// Sorts what a delivery report or the enqueueing said.
    pub(super) fn from_client(error: &ClientError) -> Self {
        let text = error.to_string();
        match error.rdkafka_error_code().map(class) {
            Some(Class::TooLarge) => Self::TooLarge(text),
            Some(Class::Passing) => Self::Unconfirmed(text),
            Some(Class::ProducerLost) => Self::ProducerLost(text),
            Some(Class::Refused) | None => Self::Refused(text),
        }
    }
}

/// Whether a record was refused because it is larger than its topic takes.
pub(super) fn is_too_large(error: &ClientError) -> bool {
    code(error).is_some_and(|code| matches!(class(code), Class::TooLarge))
}

/// The code of an error, administrative ones included.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "all other errors say it themselves"
)]
fn code(error: &ClientError) -> Option<RDKafkaErrorCode> {
    match error {
        ClientError::AdminOp(code) => Some(*code),
        other => other.rdkafka_error_code(),
    }
}

enum Class {
    TooLarge,
    Passing,
    Refused,
    ProducerLost,
}

/// Every code that a produce, admin or metadata call can end with; the rest belongs to calls we do not make.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the client's enum is open to codes of the future"
)]
fn class(code: RDKafkaErrorCode) -> Class {
    use RDKafkaErrorCode as Code;
    match code {
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize => {
            Class::TooLarge
        }

        Code::BrokerTransportFailure
        | Code::Resolve
        | Code::MessageTimedOut
        | Code::AllBrokersDown
        | Code::OperationTimedOut
        | Code::QueueFull
        | Code::ISRInsufficient
        | Code::WaitingForCoordinator
        | Code::InProgress
        | Code::TimedOutQueue
        | Code::WaitCache
        | Code::Interrupted
        | Code::Retry
        | Code::PurgeQueue
        | Code::PurgeInflight
        | Code::BrokerDestroy
        | Code::DestroyBroker
        | Code::Outdated
        | Code::InvalidMessage
        | Code::UnknownTopicOrPartition
        | Code::UnknownTopic
        | Code::UnknownPartition
        | Code::UnknownTopicId
        | Code::LeaderNotAvailable
        | Code::NotLeaderForPartition
        | Code::RequestTimedOut
        | Code::BrokerNotAvailable
        | Code::ReplicaNotAvailable
        | Code::NetworkException
        | Code::CoordinatorLoadInProgress
        | Code::CoordinatorNotAvailable
        | Code::NotCoordinator
        | Code::NotController
        | Code::NotEnoughReplicas
        | Code::NotEnoughReplicasAfterAppend
        | Code::KafkaStorageError
        | Code::OutOfOrderSequenceNumber
        | Code::DuplicateSequenceNumber
        | Code::UnknownProducerId
        | Code::ListenerNotFound
        | Code::ThrottlingQuotaExceeded
        | Code::EligibleLeadersNotAvailable
        | Code::PreferredLeaderNotAvailable
        | Code::FencedLeaderEpoch
        | Code::UnknownLeaderEpoch
        | Code::OffsetNotAvailable
        | Code::ConcurrentTransactions
        | Code::ReassignmentInProgress
        | Code::RebootstrapRequired => Class::Passing,

        Code::Fatal
        | Code::Fenced
        | Code::ProducerFenced
        | Code::InvalidProducerEpoch
        | Code::InvalidProducerIdMapping
        | Code::GaplessGuarantee
        | Code::TransactionCoordinatorFenced => Class::ProducerLost,

        Code::TopicAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed
        | Code::SaslAuthenticationFailed
        | Code::Authentication
        | Code::SSL
        | Code::UnsupportedSASLMechanism
        | Code::IllegalSASLState
        | Code::SecurityDisabled
        | Code::InvalidTopic
        | Code::InvalidRequiredAcks
        | Code::InvalidTimestamp
        | Code::InvalidRecord
        | Code::InvalidConfig
        | Code::InvalidRequest
        | Code::InvalidPartitions
        | Code::InvalidReplicationFactor
        | Code::InvalidReplicaAssignment
        | Code::PolicyViolation
        | Code::TopicAlreadyExists
        | Code::UnsupportedVersion
        | Code::UnsupportedForMessageFormat
        | Code::UnsupportedCompressionType
        | Code::UnsupportedFeature
        | Code::InvalidArgument
        | Code::State
        | Code::NotImplemented
        | Code::CriticalSystemResource
        | Code::Fail => Class::Refused,

        // The client's enum grows with librdkafka: a code from the future must not stop a record for good.
        _ => Class::Passing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_without_an_answer_is_no_refusal() {
        let late = ClientError::AdminOp(RDKafkaErrorCode::OperationTimedOut);
        let error = KafkaError::from_client("describing a topic", &late);
        assert!(matches!(error, KafkaError::Unavailable { .. }), "{error}");
        let denied = ClientError::AdminOp(RDKafkaErrorCode::TopicAuthorizationFailed);
        let error = KafkaError::from_client("describing a topic", &denied);
        assert!(matches!(error, KafkaError::Misconfigured { .. }), "{error}");
    }
}
