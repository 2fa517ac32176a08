//! Bounds of the HTTP side that are not configuration. Units last.

use std::time::Duration;

use shared::limits::LATE_LISTS_BYTES_MAX;

/// Connections at once, where the limit of open files allows as many. One without a request takes 4 to 22 kB.
pub(crate) const CONNECTIONS_MAX: usize = 8192;
/// Connections and uploads at once, whatever that limit is.
pub(crate) const CONNECTIONS_MIN: usize = 64;
/// Connections that wait for a place or are just being refused; more stay with the kernel.
pub(crate) const CONNECTIONS_WAITING_MAX: usize = 512;
/// How long a connection waits for a place before its requests are refused.
pub(crate) const CONNECTION_WAIT: Duration = Duration::from_secs(10);
/// How long an upload waits for its turn. Crashpad gives up after 60 s, and the queue may need its 20 s after that.
pub(crate) const UPLOAD_WAIT: Duration = Duration::from_secs(10);
/// Uploads at once, where the limit of open files allows as many.
pub(crate) const UPLOADS_MAX: usize = 8192;
/// Who may wait for something of one pool; more are refused at once.
pub(crate) const WAITERS_MAX: usize = 1024;
/// Envelopes whose key is still to come, at once.
pub(crate) const KEYLESS_ENVELOPES_MAX: usize = 64;
/// How long such an envelope waits for its place.
pub(crate) const KEYLESS_WAIT: Duration = Duration::from_secs(2);
/// How long its first line, which holds the key, may take.
pub(crate) const KEYLESS_LINE_TIME: Duration = Duration::from_secs(5);
/// What a request holds beside its head: the task that answers it, and its stream.
pub(crate) const REQUEST_OWN_BYTES: u64 = 2 << 10;
/// What an HTTP/2 connection with requests under way may hold: what its window lets it send, and buffers.
pub(crate) const HTTP2_CONNECTION_BYTES: u64 = 80 << 10;
/// A connection that has been without a request for so long makes room for one that comes, when there is no other place.
pub(crate) const EVICTION_REST: Duration = Duration::from_millis(250);
/// How often it is looked for such connections.
pub(crate) const EVICTION_INTERVAL: Duration = Duration::from_millis(50);
/// What an upload may hold beside the shared memory while it is being read: connection buffer, decoder, form fields.
pub(crate) const UPLOAD_OWN_BYTES: u64 = 128 << 10;
/// Open files that are of use to us.
pub(crate) const DESCRIPTORS_WANTED: u64 = 65_536;
/// Open files for everything but connections and uploads: brokers, state, storage, parsers, logs.
pub(crate) const DESCRIPTORS_RESERVED: usize = 256;
/// Connections that may wait to be accepted; the system's `somaxconn` may allow fewer. Past it, the kernel resets some.
pub(crate) const LISTEN_BACKLOG: u32 = 4096;
/// Time from accepting a connection, or from the previous answer, to the end of a request head.
pub(crate) const REQUEST_HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// The same while connections are scarce, and for one that had to wait for its place in vain.
pub(crate) const REQUEST_HEAD_TIMEOUT_SCARCE: Duration = Duration::from_secs(5);
/// How often it is seen to that a connection or a body makes use of its place.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// What a connection without a request has to end in good order. Longer than a refused body is read.
pub(crate) const CONNECTION_CLOSE_TIMEOUT: Duration = Duration::from_secs(3);
/// What hyper reads ahead of one HTTP/1 connection.
pub(crate) const CONNECTION_READ_BYTES_MAX: usize = 64 << 10;
/// What is read of a connection at once while a request head comes in. Most are shorter.
pub(crate) const FIRST_READ_BYTES: usize = 1024;
/// A request head of HTTP/1.
pub(crate) const HEAD_BYTES_MAX: usize = 64 << 10;
/// Unread bytes of one HTTP/2 request.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 32 << 10;
/// Unread bytes of one HTTP/2 connection: what RFC 9113 gives each from the start, so it cannot be less.
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 65_535;
/// Bytes of answers that wait to be sent on one HTTP/2 stream.
pub(crate) const STREAM_SEND_BYTES_MAX: usize = 16 << 10;
/// Bytes of the head of one HTTP/2 request.
pub(crate) const STREAM_HEAD_BYTES_MAX: u32 = 16 << 10;
/// Requests at once on one HTTP/2 connection.
pub(crate) const CONNECTION_STREAMS_MAX: u32 = 64;
/// The slowest that a body may come. Links this bad are rare, and still carry a small dump.
pub(crate) const BODY_BYTES_PER_SECOND_MIN: u32 = 256;
/// How long a body is waited for beyond what its bytes earn at that rate.
pub(crate) const BODY_PATIENCE: Duration = Duration::from_secs(30);
/// The same while uploads are scarce.
pub(crate) const BODY_PATIENCE_SCARCE: Duration = Duration::from_secs(5);
/// The longest pause of a body that came fast before.
pub(crate) const BODY_PATIENCE_MAX: Duration = Duration::from_secs(60);
/// A body may take this long altogether.
pub(crate) const BODY_TIME_MAX: Duration = Duration::from_secs(3600);
/// What is read of a refused body, so that its sender reads the answer instead of a reset.
pub(crate) const REFUSED_BODY_BYTES_MAX: u64 = 16 << 20;
/// How long a refused body is read.
pub(crate) const REFUSED_BODY_TIME_MAX: Duration = Duration::from_secs(2);
/// The same while places are scarce.
pub(crate) const REFUSED_BODY_TIME_SCARCE: Duration = Duration::from_millis(10);
/// How often it is seen which pools are used up.
pub(crate) const POOLS_LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long it is shown that somebody has found a pool used up.
pub(crate) const POOLS_SHORT_FOR: Duration = Duration::from_secs(15);
/// What is decompressed at once.
pub(crate) const DECODED_PIECE_BYTES: usize = 64 << 10;
/// Decompressed bytes after which other tasks get their turn.
pub(crate) const DECODED_TURN_BYTES: u64 = 1 << 20;
/// The widest window a zstd frame may ask for, as a power of two: 8 MiB, the bound of RFC 9659.
pub(crate) const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// The narrowest window that a zstd body is charged for and may widen to, as a power of two: 2 MiB, that of the usual
/// level. Bodies of several frames state the window anew in each.
pub(crate) const ZSTD_WINDOW_LOG_MIN: u32 = 21;
/// What zstd needs beside its window: a block on either side, and tables.
pub(crate) const ZSTD_TABLES_BYTES: u64 = 512 << 10;
/// What Brotli needs beside its window.
pub(crate) const BROTLI_TABLES_BYTES: u64 = 1 << 20;
/// Headers of one part.
pub(crate) const PART_HEAD_BYTES_MAX: usize = 16 << 10;
/// What may stand before the first boundary.
pub(crate) const PREAMBLE_BYTES_MAX: usize = 64 << 10;
/// A boundary. RFC 2046 says 70; clients are not all of that mind.
pub(crate) const BOUNDARY_BYTES_MAX: usize = 200;
/// A line of an envelope: its header, or the head of an item.
pub(crate) const ENVELOPE_LINE_BYTES_MAX: usize = 16 << 10;
/// Items of one envelope.
pub(crate) const ENVELOPE_ITEMS_MAX: u32 = 1000;
/// Items of one envelope whose frames are found once more by looking for heads; past them, stated lengths count for nothing.
pub(crate) const ENVELOPE_RESCANS_MAX: u32 = 8;
/// Warnings about the frames of one envelope that are told; more are counted.
pub(crate) const ENVELOPE_WARNINGS_MAX: usize = 30;
/// What is read at once of bytes among which a dump is looked for.
pub(crate) const SEARCHED_PIECE_BYTES: usize = 256 << 10;
/// Streams and memory ranges that are read of a dump to tell how long it is at least.
pub(crate) const DUMP_RANGES_MAX: usize = 16 << 10;
/// Files of an older Unreal archive. Fewer than the bytes of a name in its headers, or it could not be read.
pub(crate) const UNREAL_FILES_MAX: u32 = 100;
/// A name in an Unreal archive or crash context. The engine's names have 260 bytes.
pub(crate) const UNREAL_NAME_BYTES_MAX: usize = 1024;
/// What is kept of all fields of an Unreal crash context.
pub(crate) const UNREAL_CONTEXT_BYTES_MAX: usize = 1 << 20;
/// Fields of one section of an Unreal crash context.
pub(crate) const UNREAL_FIELDS_MAX: usize = 1000;
/// One of them.
pub(crate) const UNREAL_FIELD_BYTES_MAX: usize = 64 << 10;
/// What is read of an Unreal log, from its end.
pub(crate) const UNREAL_LOG_TAIL_BYTES: usize = 64 << 10;
/// Breadcrumbs that a log makes.
pub(crate) const BREADCRUMBS_MAX: usize = 100;
/// The message of one.
pub(crate) const BREADCRUMB_BYTES_MAX: usize = 2 << 10;
/// A tag's value, and each half of a release.
pub(crate) const TAG_BYTES_MAX: usize = 200;
/// What is read at once of a dump that was compressed before it became a part.
pub(crate) const CONTAINER_READ_BYTES: usize = 64 << 10;
/// What inflating gzip and zip takes: a window of 32 KiB, tables, and a gzip header's texts.
pub(crate) const DEFLATE_MEMORY_BYTES: usize = 256 << 10;
/// What decompressing xz may take: enough for what `xz -9` writes, which is 64 MiB and a little.
pub(crate) const XZ_MEMORY_BYTES_MAX: usize = 66 << 20;
/// Where the end of a zip archive's directory is looked for: it, and the longest comment.
pub(crate) const ZIP_TAIL_BYTES_MAX: usize = 22 + u16::MAX as usize;
/// Form fields of one upload.
pub(crate) const FORM_FIELDS_MAX: usize = 2000;
/// What is kept of a form field that is larger than all fields together may be.
pub(crate) const FIELD_CUT_BYTES: usize = 16 << 10;
/// Form bytes that an upload may hold even when the shared memory is used up.
pub(crate) const FORM_BYTES_GRANTED: usize = 32 << 10;
/// What an upload gathers before it writes when the shared memory is used up.
pub(crate) const SPILL_BUFFER_BYTES_MIN: usize = 16 << 10;
/// First block of an upload of unknown length.
pub(crate) const FIRST_BLOCK_BYTES: usize = 16 << 10;
/// The most that is set aside for a length that is only claimed, so that a crowd that claims much and sends nothing
/// does not use up the shared memory.
pub(crate) const FIRST_BLOCK_BYTES_MAX: usize = 32 << 10;
/// What is read at once of a file with event data that is too large to be held.
pub(crate) const EVENT_DATA_PIECE_BYTES: usize = 64 << 10;
/// Such files that are read at once: each holds up to 3 MiB of texts and its values.
pub(crate) const EVENT_DATA_READERS_MAX: usize = 4;
/// How long such a file waits for its turn; then it is kept as a file and not read.
pub(crate) const EVENT_DATA_WAIT: Duration = Duration::from_secs(10);
/// Events and user reports in one envelope.
pub(crate) const EVENT_ITEMS_MAX: usize = 16;
/// An envelope's reference to a file that was uploaded before.
pub(crate) const REFERENCE_BYTES_MAX: usize = 8 << 10;
/// How deep a dump may be wrapped: a form in a form, compressed.
pub(crate) const WRAPPINGS_MAX: usize = 3;
/// Compressed files of one upload in which a dump is looked for when no other is the dump.
pub(crate) const COMPRESSED_FILES_MAX: usize = 4;
/// Memory for decoders of dumps that were compressed within their part: two of xz, and many of anything else.
pub(crate) const UNWRAPPING_BYTES_MAX: u64 = 160 << 20;
/// How long an upload waits for some of it.
pub(crate) const UNWRAPPING_WAIT: Duration = Duration::from_secs(30);
/// What is read at once of what was wrapped.
pub(crate) const UNWRAPPED_PIECE_BYTES: usize = 256 << 10;
/// Pieces of one upload that do not wait for the later ones of others: 4 MiB, most dumps.
pub(crate) const UNWRAPPED_FIRST_PIECES: u32 = 16;
/// Large files that come in before their crash, at once.
pub(crate) const UPLOADS_PARTIAL_MAX: usize = 256;
/// Those of one key.
pub(crate) const UPLOADS_PER_KEY_MAX: usize = 8;
/// How long such a file is kept when nobody goes on with it.
pub(crate) const UPLOADS_IDLE: Duration = Duration::from_secs(600);
/// How long it is kept, once it is whole, when nobody refers to it.
pub(crate) const UPLOADS_KEPT: Duration = Duration::from_secs(3600);
/// How often it is looked for such files.
pub(crate) const UPLOADS_SWEEP_INTERVAL: Duration = Duration::from_secs(60);
/// Questions at once about whole ones, which the storage answers.
pub(crate) const UPLOADS_LOOKUPS_MAX: usize = 16;
/// Whole ones on their way to the storage at once: each holds `STORAGE_PIECE_BYTES` of memory.
pub(crate) const UPLOADS_STORING_MAX: usize = 4;
/// Bytes of such a file that its key's quotas are charged for at once, as they come.
pub(crate) const RESUMABLE_CHARGE_BYTES: u64 = 1 << 20;
/// Whole files that are remembered as charged for, so that the envelope that refers to one is not charged for it again.
pub(crate) const CREDITS_MAX: u64 = 4096;
/// Reports that are read back at once, where there is memory for as many.
pub(crate) const READERS_MAX: usize = 32;
/// The same, however little there is.
pub(crate) const READERS_MIN: usize = 4;
/// Readers get at most this part of the memory for uploads that come in.
pub(crate) const READERS_SHARE_DIVISOR: usize = 8;
/// Bytes of a report that are handed over at once.
pub(crate) const READER_PIECE_BYTES: usize = 16 << 10;
/// Pieces of a report that wait for its reader.
pub(crate) const READER_PIECES_MAX: usize = 2;
/// Memory of one reader: the pieces that wait, the one being read and the one being sent; and lists of late files as they
/// are stored, read and written.
pub(crate) const READER_BYTES: usize =
    (READER_PIECES_MAX + 2) * READER_PIECE_BYTES + 4 * LATE_LISTS_BYTES_MAX as usize;
/// How long a reader is waited for that takes nothing.
pub(crate) const READER_PATIENCE: Duration = Duration::from_secs(10);
/// How long a report is read altogether. A slow link takes a large one in this time.
pub(crate) const READER_TIME_MAX: Duration = Duration::from_secs(120);
/// What validation sees of a minidump.
pub(crate) const DUMP_HEAD_BYTES: usize = 512;
/// A media type that is kept of a part.
pub(crate) const CONTENT_TYPE_BYTES_MAX: usize = 255;
/// Places where repeats are looked for, each with a lock of its own.
pub(crate) const DEDUPE_SHARDS: usize = 16;
/// Marks of uploads that each remembers, of about 120 bytes and one or two an upload: 32 MiB at most altogether.
pub(crate) const DEDUPE_SHARD_MARKS_MAX: usize = 16 << 10;
/// First and longest wait before it is asked again whether an upload that another relay has under way is durable.
pub(crate) const CLAIM_POLL: (Duration, Duration) =
    (Duration::from_millis(25), Duration::from_millis(500));
/// A claim on an upload outlives `relay.ack_deadline` by this: for the spool to take what Kafka did not.
pub(crate) const CLAIM_MARGIN: Duration = Duration::from_secs(5);
/// How often keys are read from the state store; a disabled one is refused after this at the latest.
pub(crate) const KEYS_REFRESH: Duration = Duration::from_secs(2);
/// What belongs to a crash and came this long before it is found with it, be it on the day before.
pub(crate) const LATE_AHEAD_MAX: Duration = Duration::from_secs(3600);
/// Refusals of one reason that are logged within a period; the others are counted.
pub(crate) const REFUSALS_LOGGED_MAX: u32 = 10;
/// That period.
pub(crate) const REFUSALS_LOGGED_PERIOD: Duration = Duration::from_secs(60);
/// Projects, and keys, that refusals are counted for by name; those of all others are counted together.
pub(crate) const REFUSAL_LABELS_MAX: usize = 32;
/// What a client is told to wait when the fault is ours.
pub(crate) const RETRY_AFTER_SECONDS: u64 = 30;
/// Names in a form field `sentry[a][b]…`, as Sentry's Relay has it.
pub(crate) const SENTRY_FIELD_LEVELS_MAX: usize = 7;
