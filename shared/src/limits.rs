//! Every bound that is not configuration, in one place. Units last.

use std::time::Duration;

/// A body part stays in memory up to here, then goes to a spool file.
pub const UPLOAD_MEMORY_BYTES_MAX: usize = 1 << 20;
/// Space in the spool that an upload is promised before its bytes come.
pub const SPOOL_PROMISE_BYTES_MAX: u64 = 256 << 10;
/// What is gathered before a spilled upload is written to its file.
pub const SPILL_BUFFER_BYTES: usize = 128 << 10;
/// The topic limit below which the relay will not send through Kafka.
pub const TOPIC_LIMIT_BYTES_MIN: u32 = 64 << 10;
/// How often the topic's effective `max.message.bytes` is read again.
/// A broker that does not answer is noticed by it, too.
pub const TOPIC_LIMIT_REFRESH: Duration = Duration::from_secs(10);
/// One answer of the broker to an administrative question.
pub const ADMIN_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// A topic that is being read gives something, or its end, within this time.
pub const TOPIC_READ_STALL_MAX: Duration = Duration::from_secs(30);
/// A chunk that is absent when its event arrives may still be late by this much.
pub const LATE_CHUNK_WAIT: Duration = Duration::from_secs(5);
/// Chunks of one attachment that a message may announce: 8 GiB at the smallest topic limit that the relay sends through.
pub const ATTACHMENT_CHUNKS_MAX: u64 = 1 << 17;
/// Attachments that an event message may list.
pub const EVENT_ATTACHMENTS_MAX: u64 = 10_000;
/// Finished events remembered per partition, so that late copies of their messages are known as such.
pub const FINISHED_EVENTS_REMEMBERED: usize = 8192;
/// Records waiting between the polling thread and assembly.
pub const INTAKE_QUEUE_RECORDS_MAX: usize = 256;
/// Bytes of records between the polling thread and assembly.
pub const INTAKE_QUEUE_BYTES_MAX: usize = 16 << 20;
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
/// Notes and outcomes in one request to the state store.
pub const STATE_BATCH_RECORDS_MAX: usize = 512;
/// One answer of the state store.
pub const STATE_REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// One answer of it that an upload waits for; without it the relay decides alone.
pub const STATE_SOON_TIMEOUT: Duration = Duration::from_millis(250);
/// How long a claim on an upload waits for others to go with.
pub const STATE_CLAIM_GATHER: Duration = Duration::from_millis(1);
/// Claims waiting for Redis; of more, each relay decides alone.
pub const STATE_QUEUE_CLAIMS_MAX: usize = 8192;
/// Keys that operators may add or change.
pub const STATE_KEYS_MAX: usize = 10_000;
/// The longest wait between two tries at a state store that is away.
pub const STATE_RETRY_WAIT_MAX: Duration = Duration::from_secs(1);
/// Notes that are not written when a stop has taken this long are dropped; their outcomes heal the ledger.
pub const STATE_STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// A Redis that is killed may lose what it confirmed in its last two seconds: so much is written again afterwards.
pub const STATE_REPLAY_WINDOW: Duration = Duration::from_secs(5);
/// Records written again at most.
pub const STATE_REPLAY_RECORDS_MAX: usize = 32_768;
/// How often the ledger is read for the metrics; also how soon a state store that is away is noticed.
pub const STATE_LEDGER_REFRESH: Duration = Duration::from_secs(1);
/// How often the embedded store looks for statuses that outlived [`STATUS_KEPT`].
pub const STATE_PRUNE_INTERVAL: Duration = Duration::from_secs(3600);
/// Statuses removed in one transaction.
pub const STATE_PRUNE_ROWS_MAX: u32 = 1000;
/// Requests waiting for the embedded store's thread, and those it may put into one transaction.
pub const STATE_QUEUE_REQUESTS_MAX: usize = 256;
/// Bytes of a file on its way to the storage that are in memory at a time; also the size of a part of a multipart upload,
/// of which S3 takes none below 5 MiB but the last.
pub const STORAGE_PIECE_BYTES: usize = 8 << 20;
/// The storage takes a connection within this.
pub const STORAGE_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The storage begins to answer a request within this, its body sent, and goes on with an answer within it.
pub const STORAGE_ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// One request to the storage ends within this, however large its body is.
pub const STORAGE_TRANSFER_TIMEOUT: Duration = Duration::from_secs(3600);
/// How often object_store tries a request again by itself. Whoever asked goes on trying; this is for the odd broken
/// connection.
pub const STORAGE_RETRIES_MAX: usize = 2;
/// It begins no such try later than this.
pub const STORAGE_RETRY_FOR: Duration = Duration::from_secs(10);
/// Its first and longest wait before one.
pub const STORAGE_RETRY_WAIT: (Duration, Duration) =
    (Duration::from_millis(100), Duration::from_secs(1));
/// A start waits this long for the storage to say whether it can be used.
pub const STORAGE_PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// A bucket that nobody has asked anything for this long is looked at.
pub const STORAGE_PROBE_INTERVAL: Duration = Duration::from_secs(30);
/// How often the free space of a directory's volume is looked at.
pub const STORAGE_ROOM_INTERVAL: Duration = Duration::from_secs(5);
/// First and longest wait before a bucket that is away is looked at again.
pub const STORAGE_AWAY_WAIT: (Duration, Duration) =
    (Duration::from_millis(500), Duration::from_secs(5));
/// Events that are removed from the storage with one request where it takes so many.
pub const STORAGE_REMOVE_EVENTS: usize = 256;
/// Days that are searched for one event at a time.
pub const STORAGE_LISTINGS_MAX: usize = 16;
/// How often processors look for events that are kept no longer.
pub const RETENTION_INTERVAL: Duration = Duration::from_secs(3600);
/// A processor's first look comes within this after its start.
pub const RETENTION_FIRST_WITHIN: Duration = Duration::from_secs(10);
/// Between two steps of a sweep it must be certain that no other processor sweeps; one that is killed leaves the work to
/// the others after this.
pub const RETENTION_LEASE: Duration = Duration::from_secs(300);
/// Most bytes of a file name in the storage; longer ones lose their beginning.
pub const STORAGE_NAME_BYTES_MAX: usize = 128;
/// Lists of late files that are read to show an event, one for each upload that brought some.
pub const LATE_LISTS_MAX: usize = 256;
/// Bytes of those lists.
pub const LATE_LISTS_BYTES_MAX: u64 = 64 << 10;
/// Breadcrumbs kept of one event; SDKs keep 100 unless told otherwise.
pub const BREADCRUMBS_MAX: usize = 1000;
/// Levels of nesting in an event's data. JSON readers commonly stop at 128.
pub const EVENT_DEPTH_MAX: usize = 64;
/// Names and texts that are kept of one document of event data. A longer document is read in a stream, and the largest of it left out.
pub const EVENT_DATA_BYTES_MAX: usize = 1 << 20;
/// Values in all event data of one upload. Reading them is not interrupted, so there are only as many uploads with so
/// many values in memory as there are threads; the worst are 40 MB each.
pub const EVENT_VALUES_MAX: usize = 100_000;
/// What stays of a text that makes event data too large.
pub const EVENT_TEXT_BYTES_KEPT: usize = 4 << 10;
/// Bytes that are shown of a binary value in event data.
pub const BINARY_SHOWN_BYTES_MAX: usize = 256;
/// Characters of an error that a dead letter keeps.
pub const DEAD_LETTER_ERROR_CHARS_MAX: usize = 400;
/// Dead letters that a command may choose among at once.
pub const DEAD_LETTERS_CHOSEN_MAX: usize = 100_000;
/// Dead letters sent again in one transaction.
pub const REPLAY_LETTERS_MAX: usize = 100;
/// Their bytes; a single one, with its chunks, may have more.
pub const REPLAY_BYTES_MAX: usize = 8 << 20;
/// Outcomes in one answer of the state store when all of them are looked through.
pub const STATE_PAGE_OUTCOMES: u32 = 500;
/// Crashes that one command processes again.
pub const REPROCESSED_EVENTS_MAX: usize = 1_000_000;
/// Uploads whose user reports are listed at one crash.
pub const USER_REPORT_LISTS_MAX: usize = 50;
/// User reports of one upload that are listed.
pub const USER_REPORTS_LISTED_MAX: usize = 16;
/// JSON bytes of a user report that is listed whole.
pub const USER_REPORT_BYTES_MAX: usize = 64 << 10;
/// Characters of each of its texts that are listed of a larger one.
pub const USER_REPORT_TEXT_CHARS_MAX: usize = 4096;
