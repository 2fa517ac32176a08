//! `crashferry topics create`.

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use shared::backoff::Backoff;
use shared::config::{ByteSize, Config, Span};
use shared::kafka::{
    Admin, Expectations, KafkaError, TopicDescription, TopicPlan, TopicUse, Weight,
};

use crate::output::counted;
use crate::{CommandError, role};

/// What a dead letter's headers add to the record that it keeps.
const DEAD_LETTER_ROOM_BYTES: u32 = 64 << 10;
/// Every broker has heard of a new topic within this time.
const VISIBLE_WITHIN: Duration = Duration::from_secs(10);
/// First and longest wait before a new topic is looked at again.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// The brokers' default `max.message.bytes`.
const DEFAULT_MAX_MESSAGE_BYTES: u32 = 1_048_588;

/// What new topics are to be like.
#[derive(Debug, clap::Args)]
pub(crate) struct CreateArguments {
    /// Partitions of each topic: the most processors that can share the work
    #[arg(long, default_value_t = 12)]
    partitions: i32,
    /// Copies of each partition; 3 where there are as many brokers
    #[arg(long, default_value_t = 1)]
    replication: i32,
    /// How long records are kept
    #[arg(long, default_value = "7d")]
    retention: Span,
    /// The largest record batch of the ingest and report topics; uploads are cut to fit it [default: the broker's]
    #[arg(long)]
    max_message_bytes: Option<ByteSize>,
}

/// Makes the topics that do not exist, and says what each is like.
pub(crate) fn create(config: &Config, arguments: &CreateArguments) -> Result<(), CommandError> {
    if config.kafka.brokers.is_none() {
        return Err(CommandError::usage(
            "kafka.brokers: expected an address, found none: there is no cluster to make topics in",
        ));
    }
    let max_message_bytes = match arguments.max_message_bytes {
        Some(size) => Some(u32::try_from(size.get()).map_err(|_| {
            CommandError::usage(format!(
                "--max-message-bytes: expected less than 4GiB, found {size}"
            ))
        })?),
        None => None,
    };
    let runtime = role::command_runtime()?;
    runtime.block_on(create_all(config, arguments, max_message_bytes))
}

async fn create_all(
    config: &Config,
    arguments: &CreateArguments,
    max_message_bytes: Option<u32>,
) -> Result<(), CommandError> {
    let admin = Admin::new(&config.kafka).map_err(CommandError::usage)?;
    let names = &config.kafka.topics;
    let dead_letter_bytes = max_message_bytes
        .unwrap_or(DEFAULT_MAX_MESSAGE_BYTES)
        .saturating_add(DEAD_LETTER_ROOM_BYTES);
    let topics = [
        (TopicUse::Ingest, &names.attachments, max_message_bytes),
        (TopicUse::Reports, &names.reports, max_message_bytes),
        (TopicUse::Outcomes, &names.outcomes, None),
        (
            TopicUse::DeadLetters,
            &names.dead_letters,
            Some(dead_letter_bytes),
        ),
    ];
    let expected = Expectations::of(config);
    let mut refused = Vec::new();
    for (topic_use, name, max_message_bytes) in topics {
        let plan = TopicPlan {
            name: name.clone(),
            partitions: arguments.partitions,
            replication: arguments.replication,
            retention: arguments.retention.get(),
            max_message_bytes,
        };
        let made = admin
            .create(&plan)
            .await
            .with_context(|| format!("making topic {name}"))?;
        let described = describe(&admin, name).await?;
        let what = if made { "made" } else { "exists" };
        let line = format!("{name}: {what}: {}\n", summary(&described));
        // Whoever reads may have read enough: the topics are made all the same.
        if let Err(error) = std::io::stdout().write_all(line.as_bytes()) {
            tracing::debug!(%error, "standard output");
        }
        for finding in expected.judge(topic_use, name, &described) {
            match finding.weight {
                Weight::Warn => eprintln!("warning: {finding}"),
                Weight::Refuse => refused.push(finding.to_string()),
            }
        }
    }
    if refused.is_empty() {
        return Ok(());
    }
    Err(CommandError::usage(format!(
        "kafka.topics: {}",
        refused.join("\n")
    )))
}

/// Describes a topic, which may have been made a moment ago.
async fn describe(admin: &Admin, name: &str) -> anyhow::Result<TopicDescription> {
    let (first, longest) = LOOK_AGAIN;
    let mut backoff = Backoff::until(first, longest, Instant::now() + VISIBLE_WITHIN);
    loop {
        let error = match admin.describe(name).await {
            Ok(described) => return Ok(described),
            Err(error @ (KafkaError::Misconfigured { .. } | KafkaError::Unsuitable(_))) => {
                return Err(error.into());
            }
            Err(error @ (KafkaError::Unavailable { .. } | KafkaError::NoTopic { .. })) => error,
        };
        match backoff.next_wait(Instant::now()) {
            Some(wait) => tokio::time::sleep(wait).await,
            None => return Err(error).with_context(|| format!("looking at topic {name}")),
        }
    }
}

fn summary(topic: &TopicDescription) -> String {
    let retention = topic.retention.map_or_else(|| "unlimited".to_owned(), days);
    format!(
        "{}, max.message.bytes {}, retention {retention}, cleanup.policy {}, compression.type {}",
        counted(topic.partitions, "partition", "partitions"),
        topic.max_message_bytes,
        topic.cleanup_policy,
        topic.compression
    )
}

fn days(retention: Duration) -> String {
    format!("{:.1} days", retention.as_secs_f64() / 86_400.0)
}
