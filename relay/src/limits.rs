//! Bounds of the HTTP side that are not configuration. Units last.

use std::time::Duration;

/// Connections at once; more wait to be accepted.
pub(crate) const CONNECTIONS_MAX: usize = 2048;
/// Connections that may wait to be accepted; the system's `somaxconn` may allow fewer. Past it, the kernel resets some.
pub(crate) const LISTEN_BACKLOG: u32 = 4096;
/// Time from accepting a connection, or from the previous answer, to the end of a request head.
pub(crate) const REQUEST_HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// What hyper reads ahead of one HTTP/1 connection.
pub(crate) const CONNECTION_READ_BYTES_MAX: usize = 64 << 10;
/// Unread bytes of one HTTP/2 request.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 128 << 10;
/// Unread bytes of one HTTP/2 connection.
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 512 << 10;
/// Requests at once on one HTTP/2 connection.
pub(crate) const CONNECTION_STREAMS_MAX: u32 = 64;
/// A body that brings nothing for this long is given up.
pub(crate) const BODY_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// A body may take this long altogether.
pub(crate) const BODY_TIME_MAX: Duration = Duration::from_secs(3600);
/// What is read of a refused body, so that its sender reads the answer instead of a reset.
pub(crate) const REFUSED_BODY_BYTES_MAX: u64 = 16 << 20;
/// How long a refused body is read.
pub(crate) const REFUSED_BODY_TIME_MAX: Duration = Duration::from_secs(2);
/// What is decompressed at once.
pub(crate) const DECODED_PIECE_BYTES: usize = 64 << 10;
/// Decompressed bytes after which other tasks get their turn.
pub(crate) const DECODED_TURN_BYTES: u64 = 1 << 20;
/// The widest window a zstd frame may ask for, as a power of two: 8 MiB, the bound of RFC 9659.
pub(crate) const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// Uploads at once in an encoding whose decoder needs megabytes (`br`, `zstd`).
pub(crate) const WIDE_DECODERS_MAX: usize = 8;
/// How long such an upload waits for its turn.
pub(crate) const WIDE_DECODER_WAIT: Duration = Duration::from_secs(30);
/// Headers of one part.
pub(crate) const PART_HEAD_BYTES_MAX: usize = 16 << 10;
/// What may stand before the first boundary.
pub(crate) const PREAMBLE_BYTES_MAX: usize = 64 << 10;
/// A boundary. RFC 2046 says 70; clients are not all of that mind.
pub(crate) const BOUNDARY_BYTES_MAX: usize = 200;
/// Form fields of one upload.
pub(crate) const FORM_FIELDS_MAX: usize = 2000;
/// Form bytes that an upload may hold even when the shared memory is used up.
pub(crate) const FORM_BYTES_GRANTED: usize = 32 << 10;
/// What an upload gathers before it writes when the shared memory is used up.
pub(crate) const SPILL_BUFFER_BYTES_MIN: usize = 16 << 10;
/// First block of an upload of unknown length.
pub(crate) const FIRST_BLOCK_BYTES: usize = 16 << 10;
/// What validation sees of a minidump.
pub(crate) const DUMP_HEAD_BYTES: usize = 512;
/// A media type that is kept of a part.
pub(crate) const CONTENT_TYPE_BYTES_MAX: usize = 255;
/// What a client is told to wait when the fault is ours.
pub(crate) const RETRY_AFTER_SECONDS: u64 = 30;
