//! The librdkafka settings of each kind of client: the operator's first, then those the promise rests on.

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

use super::producer::ProducerBounds;
use crate::config::KafkaConfig;

/// How long a record may wait for others to share its batch. At 0 librdkafka's broker thread spins while requests are
/// under way; at a millisecond an upload's two round trips are felt.
const LINGER_MS: &str = "0.5";

const IN_FLIGHT_REQUESTS: &str = "max.in.flight.requests.per.connection";
/// A broker works on one request of a connection at a time: records that wait here instead of there go out in larger
/// batches, and librdkafka's broker thread does not spin at the limit. Raise it (to 5 at most) where brokers are far away.
const IN_FLIGHT_REQUESTS_MAX: &str = "1";

/// What a broker answers a consumer at once, unless one record is larger.
const FETCH_BYTES_MAX: &str = "4194304";

/// What every client of ours has in common.
fn client(config: &KafkaConfig, role: &str) -> ClientConfig {
    let mut settings = ClientConfig::new();
    settings
        .set("socket.keepalive.enable", "true")
        .set("socket.nagle.disable", "true")
        .set("reconnect.backoff.ms", "100")
        .set("reconnect.backoff.max.ms", "2000")
        .set("broker.address.ttl", "5000")
        // A connection on which nothing is answered is given up, and another one is tried.
        .set("socket.timeout.ms", "20000");
    for (name, value) in config.options.exposed() {
        settings.set(name, value);
    }
    settings
        .set(
            "bootstrap.servers",
            config.brokers.as_deref().unwrap_or_default(),
        )
        .set("client.id", format!("crashferry-{role}"))
        .set("allow.auto.create.topics", "false")
        .set_log_level(RDKafkaLogLevel::Warning);
    settings
}

/// A producer whose delivery reports mean what they say.
///
/// `delivery.timeout.ms` is a day: an expiry bumps the producer's epoch and may double records on other partitions
/// (librdkafka#4953), and whoever waits has a deadline of its own. Compression is off: batches must be as large as
/// they were computed to be.
pub(super) fn producer(config: &KafkaConfig, bounds: ProducerBounds, role: &str) -> ClientConfig {
    let mut settings = client(config, role);
    let queue_kbytes = (2 * bounds.inflight_bytes / 1024).clamp(1, 2_147_483_647);
    settings
        .set("enable.idempotence", "true")
        .set("enable.gapless.guarantee", "false")
        .set("acks", "all")
        .set("compression.type", "none")
        .set("delivery.timeout.ms", "86400000")
        .set("message.max.bytes", bounds.record_bytes_max.to_string())
        .set("batch.size", bounds.batch_bytes_max.to_string())
        .set("queue.buffering.max.kbytes", queue_kbytes.to_string())
        .set("queue.buffering.max.messages", "1000000")
        .set("partitioner", "murmur2_random");
    for (name, value) in [
        ("linger.ms", LINGER_MS),
        (IN_FLIGHT_REQUESTS, IN_FLIGHT_REQUESTS_MAX),
    ] {
        if !config.options.contains(name) {
            settings.set(name, value);
        }
    }
    settings
}

/// A producer whose records become visible with the offsets that they answer.
pub(super) fn transactional_producer(
    config: &KafkaConfig,
    bounds: ProducerBounds,
    id: &str,
) -> ClientConfig {
    let mut settings = producer(config, bounds, "processor");
    settings
        .set("transactional.id", id)
        .set("transaction.timeout.ms", "30000")
        .set("delivery.timeout.ms", "20000");
    settings
}

/// A consumer that commits what it is told and skips nothing by itself.
pub(super) fn consumer(config: &KafkaConfig, instance: Option<&str>) -> ClientConfig {
    let mut settings = client(config, "processor");
    if !config.options.contains("session.timeout.ms") {
        settings.set("session.timeout.ms", "15000");
    }
    settings
        .set("group.id", &config.group)
        .set("group.protocol", "classic")
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "true")
        // Not for the records but for the offsets: those of a transaction under way are waited for, not passed over.
        .set("isolation.level", "read_committed")
        .set("check.crcs", "true")
        .set("max.poll.interval.ms", "300000")
        .set("queued.min.messages", "100")
        .set("queued.max.messages.kbytes", "65536")
        // What one answer brings is in memory whole, several times as large where it was compressed, whatever the bounds
        // above say. Small parts also keep partitions in step.
        .set("fetch.max.bytes", FETCH_BYTES_MAX)
        .set("fetch.message.max.bytes", "1048576")
        .set("fetch.queue.backoff.ms", "50")
        .set("fetch.wait.max.ms", "50")
        .set("statistics.interval.ms", "1000")
        .set_log_level(RDKafkaLogLevel::Warning);
    if let Some(instance) = instance {
        settings.set("group.instance.id", instance);
    }
    settings
}

/// A consumer without a place in any group, which reads what it is told up to where it is told. It names the group all
/// the same, because librdkafka assigns nothing without one.
pub(super) fn reader(config: &KafkaConfig) -> ClientConfig {
    let mut settings = client(config, "reader");
    settings
        .set("group.id", &config.group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "true")
        // What retention removes while we read is gone either way.
        .set("auto.offset.reset", "earliest")
        .set("isolation.level", "read_committed")
        .set("check.crcs", "true")
        .set("queued.min.messages", "100")
        .set("queued.max.messages.kbytes", "16384")
        .set("fetch.message.max.bytes", "4194304")
        .set("fetch.queue.backoff.ms", "10")
        .set("fetch.wait.max.ms", "50");
    settings
}

/// A consumer without a place in any group, which looks at the log's ends, the group's positions and single records.
pub(super) fn observer(config: &KafkaConfig, isolation: &str) -> ClientConfig {
    let mut settings = client(config, "observer");
    settings
        .set("group.id", &config.group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "earliest")
        .set("isolation.level", isolation)
        .set("queued.min.messages", "1")
        // One record of each partition is wanted, however large it is.
        .set("fetch.message.max.bytes", "65536")
        .set("fetch.wait.max.ms", "50");
    settings
}

/// A client for administrative questions.
pub(super) fn admin(config: &KafkaConfig) -> ClientConfig {
    client(config, "admin")
}
