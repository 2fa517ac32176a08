//! Administrative questions: does a topic exist, what is its effective limit, make it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::RDKafkaErrorCode;

use super::error::KafkaError;
use super::settings;
use crate::config::KafkaConfig;
use crate::limits::ADMIN_REQUEST_TIMEOUT;

/// How long a topic that was made a moment ago may be unknown to the broker that is asked.
const NEW_TOPIC_WAIT: Duration = Duration::from_secs(2);

/// The one administrative client of the process.
pub struct Admin(Arc<AdminClient<DefaultClientContext>>, Arc<str>);

/// What the cluster says of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicDescription {
    /// Number of partitions.
    pub partitions: usize,
    /// What a batch may have: the effective `max.message.bytes`, or `segment.bytes` where that is less.
    pub max_message_bytes: u32,
    /// The effective `max.message.bytes`.
    pub own_limit_bytes: u32,
    /// The effective `cleanup.policy`.
    pub cleanup_policy: String,
    /// The effective `retention.ms`; `None` when it is unlimited.
    pub retention: Option<Duration>,
    /// The effective `retention.bytes` of each partition; `None` when it is unlimited.
    pub retention_bytes: Option<u64>,
    /// The effective `segment.bytes`; `None` when the cluster does not say.
    pub segment_bytes: Option<u64>,
    /// The effective `compression.type`.
    pub compression: String,
    /// The effective `unclean.leader.election.enable`.
    pub elects_unclean_leaders: bool,
    /// The effective `min.insync.replicas`; `None` when the cluster does not say.
    pub insync_replicas_min: Option<u32>,
    /// Copies of the partition that has the fewest.
    pub copies: usize,
    /// Brokers of the cluster.
    pub brokers: usize,
}

/// A topic to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicPlan {
    /// Its name.
    pub name: String,
    /// Number of partitions.
    pub partitions: i32,
    /// Copies of each partition.
    pub replication: i32,
    /// How long records are kept.
    pub retention: Duration,
    /// `max.message.bytes`; `None` leaves the broker's default.
    pub max_message_bytes: Option<u32>,
}

/// Where a topic's records are.
struct Layout {
    partitions: usize,
    copies: usize,
    brokers: usize,
}

/// Copies from which on a record is confirmed by two, so that no single disk holds it alone.
const COPIES_FOR_TWO_CONFIRMATIONS: i32 = 3;

impl Admin {
    /// Makes the client; it connects by itself.
    ///
    /// # Errors
    /// [`KafkaError::Misconfigured`] when librdkafka does not take the settings.
    pub fn new(config: &KafkaConfig) -> Result<Self, KafkaError> {
        let client = settings::admin(config).create();
        let brokers = config.brokers.as_deref().unwrap_or_default();
        client
            .map(|client| Self(Arc::new(client), brokers.into()))
            .map_err(|error| {
                KafkaError::from_settings("making an admin client", &error, &config.options)
            })
    }

    /// What the cluster says of a topic. The settings are those of the broker that answers: where brokers differ, the
    /// topic should have the setting itself.
    ///
    /// # Errors
    /// [`KafkaError::NoTopic`], or why the question could not be answered.
    pub async fn describe(&self, topic: &str) -> Result<TopicDescription, KafkaError> {
        let until = Instant::now() + NEW_TOPIC_WAIT;
        loop {
            match self.describe_as_known(topic).await {
                // It may have been made a moment ago, and the broker that was asked has not heard of it.
                Err(KafkaError::NoTopic { .. }) if Instant::now() < until => {
                    tokio::time::sleep(NEW_TOPIC_WAIT / 10).await;
                }
                described => return described.map_err(|error| error.at(&self.1)),
            }
        }
    }

    async fn describe_as_known(&self, topic: &str) -> Result<TopicDescription, KafkaError> {
        let resources = [ResourceSpecifier::Topic(topic)];
        let described = self.0.describe_configs(&resources, &options()).await;
        let described =
            described.map_err(|error| KafkaError::from_client("describing a topic", &error))?;
        let resource = match described.into_iter().next() {
            Some(Ok(resource)) => resource,
            Some(Err(RDKafkaErrorCode::UnknownTopicOrPartition)) => {
                return Err(KafkaError::NoTopic {
                    topic: topic.to_owned(),
                });
            }
            Some(Err(code)) => {
                return Err(KafkaError::from_client(
                    "describing a topic",
                    &rdkafka::error::KafkaError::AdminOp(code),
                ));
            }
            None => {
                let error = "an answer without the topic".into();
                return Err(KafkaError::Unavailable {
                    doing: "describing a topic",
                    error,
                });
            }
        };
        let text = |name: &str| {
            resource
                .get(name)
                .and_then(|entry| entry.value.clone())
                .unwrap_or_default()
        };
        let Layout {
            partitions,
            copies,
            brokers,
        } = self.layout(topic).await?;
        if partitions == 0 {
            return Err(KafkaError::NoTopic {
                topic: topic.to_owned(),
            });
        }
        let limit = text("max.message.bytes");
        // Brokers learn of a topic's partitions and of its settings one after the other.
        let own_limit_bytes: u32 = limit.parse().map_err(|_| KafkaError::Unavailable {
            doing: "describing a topic",
            error: format!(
                "expected a number for max.message.bytes of topic {topic}, found {limit:?}"
            ),
        })?;
        let segment_bytes = text("segment.bytes").parse().ok();
        let segment_bytes_max = segment_bytes.and_then(|bytes: u64| u32::try_from(bytes).ok());
        Ok(TopicDescription {
            partitions,
            // The broker refuses a batch that is larger than a segment, too.
            max_message_bytes: segment_bytes_max
                .map_or(own_limit_bytes, |bytes| bytes.min(own_limit_bytes)),
            own_limit_bytes,
            cleanup_policy: text("cleanup.policy"),
            retention: text("retention.ms").parse().ok().map(Duration::from_millis),
            retention_bytes: text("retention.bytes").parse().ok(),
            segment_bytes,
            compression: text("compression.type"),
            elects_unclean_leaders: text("unclean.leader.election.enable") == "true",
            insync_replicas_min: text("min.insync.replicas").parse().ok(),
            copies,
            brokers,
        })
    }

    async fn layout(&self, topic: &str) -> Result<Layout, KafkaError> {
        let (client, topic) = (Arc::clone(&self.0), topic.to_owned());
        let asked = tokio::task::spawn_blocking(move || {
            let metadata = client
                .inner()
                .fetch_metadata(Some(&topic), ADMIN_REQUEST_TIMEOUT)?;
            let found = metadata.topics().iter().find(|found| found.name() == topic);
            let partitions = found.map_or(&[][..], |found| found.partitions());
            let copies = partitions
                .iter()
                .map(|partition| partition.replicas().len());
            Ok(Layout {
                partitions: partitions.len(),
                copies: copies.min().unwrap_or_default(),
                brokers: metadata.brokers().len(),
            })
        });
        let layout = asked.await.map_err(|error| KafkaError::Unavailable {
            doing: "reading metadata",
            error: error.to_string(),
        })?;
        layout.map_err(|error| KafkaError::from_client("reading metadata", &error))
    }

    /// Makes a topic. `Ok(false)` when it exists.
    ///
    /// # Errors
    /// [`KafkaError`] says what the cluster has against it.
    pub async fn create(&self, plan: &TopicPlan) -> Result<bool, KafkaError> {
        let retention = plan.retention.as_millis().to_string();
        let max_message_bytes = plan.max_message_bytes.map(|bytes| bytes.to_string());
        let mut topic = NewTopic::new(
            &plan.name,
            plan.partitions,
            TopicReplication::Fixed(plan.replication),
        )
        .set("cleanup.policy", "delete")
        .set("compression.type", "producer")
        .set("retention.ms", &retention)
        .set("unclean.leader.election.enable", "false");
        if plan.replication >= COPIES_FOR_TWO_CONFIRMATIONS {
            topic = topic.set("min.insync.replicas", "2");
        }
        if let Some(bytes) = &max_message_bytes {
            topic = topic.set("max.message.bytes", bytes);
        }
        let created = self.0.create_topics([&topic], &options()).await;
        let failed = |error| KafkaError::from_client("creating a topic", &error).at(&self.1);
        let created = created.map_err(failed)?;
        match created.into_iter().next() {
            None | Some(Ok(_)) => Ok(true),
            Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(false),
            Some(Err((topic, code))) => {
                let error = format!("topic {topic}: {code}");
                Err(KafkaError::Misconfigured {
                    doing: "creating a topic",
                    error,
                })
            }
        }
    }
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(ADMIN_REQUEST_TIMEOUT))
        .operation_timeout(Some(ADMIN_REQUEST_TIMEOUT))
}
