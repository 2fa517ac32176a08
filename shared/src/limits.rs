//! Every bound that is not configuration, in one place. Units last.

use std::time::Duration;

/// A body part stays in memory up to here, then goes to a spool file.
pub const UPLOAD_MEMORY_BYTES_MAX: usize = 1 << 20;
/// What is gathered before a spilled upload is written to its file.
pub const SPILL_BUFFER_BYTES: usize = 128 << 10;
/// The topic limit below which the relay will not send through Kafka.
pub const TOPIC_LIMIT_BYTES_MIN: u32 = 64 << 10;
/// How often the topic's effective `max.message.bytes` is read again.
pub const TOPIC_LIMIT_REFRESH: Duration = Duration::from_secs(30);
/// One answer of the broker to an administrative question.
pub const ADMIN_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// A chunk that is absent when its event arrives may still be late by this much.
pub const LATE_CHUNK_WAIT: Duration = Duration::from_secs(5);
/// Finished events remembered per partition, so that late copies of their messages are known as such.
pub const FINISHED_EVENTS_REMEMBERED: usize = 8192;
/// Records waiting between the polling thread and assembly.
pub const INTAKE_QUEUE_RECORDS_MAX: usize = 256;
/// Time the intake queue may be full before partitions are paused (a pause throws prefetched records away).
pub const INTAKE_PAUSE_AFTER: Duration = Duration::from_secs(5);
/// Most bytes of a file name that are kept.
pub const FILE_NAME_BYTES_MAX: usize = 255;
/// Status notes waiting for the state store.
pub const STATE_QUEUE_NOTES_MAX: usize = 65_536;
/// How long a status note may wait for company before it is written.
pub const STATE_FLUSH_INTERVAL: Duration = Duration::from_millis(50);
/// A status outlives its event by this much.
pub const STATUS_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
