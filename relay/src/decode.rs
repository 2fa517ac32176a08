//! A request body as a stream of decoded pieces: every byte counted, encoded and decoded, before anybody keeps it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_compression::tokio::bufread::{
    BrotliDecoder, DeflateDecoder, GzipDecoder, ZlibDecoder, ZstdDecoder,
};
use async_compression::zstd::DParameter;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use prometheus_client::metrics::counter::Counter;
use shared::config::ByteSize;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt};
use tokio_util::io::StreamReader;

use crate::error::{Rejection, TooLarge};
use crate::frames::Frames;
use crate::inflation::Inflation;
use crate::limits::{
    BODY_BYTES_PER_SECOND_MIN, BODY_PATIENCE, BODY_PATIENCE_MAX, BODY_TIME_MAX,
    DECODED_PIECE_BYTES, DECODED_TURN_BYTES, KEYLESS_LINE_TIME, ZSTD_WINDOW_LOG_MAX,
};
use crate::window::Window;
use crate::wire::ChunkError;

/// Why a body cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// An encoding that we do not know, or several.
    #[error("expected one Content-Encoding out of gzip, deflate, br and zstd, found {found:?}")]
    UnsupportedEncoding {
        /// The header.
        found: String,
    },
    /// The bytes are not what the encoding says.
    #[error("expected a whole {encoding} stream, found a broken or cut one")]
    BrokenEncoding {
        /// The encoding.
        encoding: &'static str,
        /// What the decoder said.
        #[source]
        error: io::Error,
    },
    /// The connection ended first.
    #[error("the connection ended before the body did")]
    Cut {
        /// What the connection said.
        #[source]
        error: axum::Error,
    },
    /// Its chunks are none.
    #[error(transparent)]
    Chunks(#[from] ChunkError),
    /// The client sends nothing any more.
    #[error(
        "expected more of the body within {BODY_PATIENCE:?}, or {BODY_PATIENCE_MAX:?} when it came fast before"
    )]
    Stalled,
    /// An envelope does not show its key.
    #[error(
        "expected the key in the query, a header, or within {KEYLESS_LINE_TIME:?} in the envelope's first line"
    )]
    KeyTooLate,
    /// The client sends too little.
    #[error(
        "expected at least {BODY_BYTES_PER_SECOND_MIN} bytes of the body a second, and all of it within {BODY_TIME_MAX:?}"
    )]
    TooSlow,
}

impl BodyError {
    /// The reason's name, part of the interface.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::UnsupportedEncoding { .. } => "unsupported_encoding",
            Self::BrokenEncoding { .. } => "broken_encoding",
            Self::Cut { .. } => "cut_body",
            Self::Chunks(_) => "broken_chunks",
            Self::Stalled => "stalled_body",
            Self::KeyTooLate => "key_too_late",
            Self::TooSlow => "body_too_slow",
        }
    }

    /// The status of the answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::UnsupportedEncoding { .. }
            | Self::BrokenEncoding { .. }
            | Self::Cut { .. }
            | Self::Chunks(_) => StatusCode::BAD_REQUEST,
            Self::Stalled | Self::KeyTooLate | Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
        }
    }
}

/// What a body is compressed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// With nothing.
    Identity,
    /// RFC 1952
    Gzip,
    /// RFC 1950 as the standard says, or RFC 1951 as some do.
    Deflate,
    /// RFC 7932
    Brotli,
    /// RFC 8878
    Zstd,
}

impl Encoding {
    /// What the request says. `UTF-8` and an empty value are mistakes that clients make, and mean nothing.
    ///
    /// # Errors
    /// [`BodyError::UnsupportedEncoding`].
    pub fn of(headers: &HeaderMap) -> Result<Self, BodyError> {
        let mut values = headers.get_all(header::CONTENT_ENCODING).into_iter();
        let Some(value) = values.next() else {
            return Ok(Self::Identity);
        };
        let found = || BodyError::UnsupportedEncoding {
            found: String::from_utf8_lossy(value.as_bytes())
                .chars()
                .take(80)
                .collect(),
        };
        if values.next().is_some() {
            return Err(found());
        }
        match value
            .as_bytes()
            .trim_ascii()
            .to_ascii_lowercase()
            .as_slice()
        {
            b"" | b"identity" | b"utf-8" => Ok(Self::Identity),
            b"gzip" | b"x-gzip" => Ok(Self::Gzip),
            b"deflate" => Ok(Self::Deflate),
            b"br" => Ok(Self::Brotli),
            b"zstd" => Ok(Self::Zstd),
            _ => Err(found()),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }
}

/// A body being read. The decoder is made when the first piece is asked for, so nothing is polled before that.
pub struct BodyReader<'b> {
    source: Source<'b>,
    encoding: Encoding,
    limit: ByteSize,
    inflation: Inflation,
    encoded: Arc<AtomicU64>,
    decoded_bytes: u64,
    decoded_counter: Counter,
    /// Read already, and to be given once more.
    given_back: Option<Bytes>,
}

enum Source<'b> {
    Plain(Frames<'b>),
    Decoded {
        decoder: Box<dyn AsyncRead + Send + Unpin + 'b>,
        piece: BytesMut,
    },
}

impl<'b> BodyReader<'b> {
    /// Begins to read; no zstd frame may have a wider window. The limit of the frames holds for the decoded bytes as well.
    ///
    /// # Errors
    /// [`Rejection`] when the body ends before its decoder could be chosen.
    pub async fn new(
        frames: Frames<'b>,
        encoding: Encoding,
        window: Option<Window>,
        decoded_counter: Counter,
        inflation: Inflation,
    ) -> Result<Self, Rejection> {
        let limit = frames.limit();
        let encoded = frames.encoded();
        let source = match encoding {
            Encoding::Identity => Source::Plain(frames),
            Encoding::Gzip | Encoding::Deflate | Encoding::Brotli | Encoding::Zstd => {
                let window_log = window.map_or(ZSTD_WINDOW_LOG_MAX, |window| window.log);
                let decoder = decoder(frames, encoding, window_log).await;
                let decoder = decoder.map_err(|error| rejection(error, encoding))?;
                let piece = BytesMut::new();
                Source::Decoded { decoder, piece }
            }
        };
        Ok(Self {
            source,
            encoding,
            limit,
            inflation,
            encoded,
            decoded_bytes: 0,
            decoded_counter,
            given_back: None,
        })
    }

    /// The next decoded bytes, never empty; `None` at the end.
    ///
    /// # Errors
    /// [`Rejection::Body`] for what cannot be read, [`Rejection::TooLarge`] for what is too much.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Rejection> {
        if let Some(piece) = self.given_back.take() {
            return Ok(Some(piece));
        }
        let piece = match &mut self.source {
            Source::Plain(frames) => frames.next().await.transpose(),
            Source::Decoded { decoder, piece } => {
                piece.reserve(DECODED_PIECE_BYTES);
                let read = decoder.read_buf(piece).await;
                read.map(|bytes| (bytes > 0).then(|| piece.split().freeze()))
            }
        };
        let Some(piece) = piece.map_err(|error| rejection(error, self.encoding))? else {
            return Ok(None);
        };
        let turns = self.decoded_bytes / DECODED_TURN_BYTES;
        self.decoded_bytes += piece.len() as u64;
        self.decoded_counter.inc_by(piece.len() as u64);
        if self.decoded_bytes > self.limit.get() {
            return Err(TooLarge::Decoded(self.limit).into());
        }
        let encoded = self.encoded.load(Ordering::Relaxed);
        self.inflation.check(encoded, self.decoded_bytes)?;
        if self.decoded_bytes / DECODED_TURN_BYTES > turns {
            // A decoder can go on for long without ever waiting.
            tokio::task::yield_now().await;
        }
        Ok(Some(piece))
    }
}

impl BodyReader<'_> {
    /// Gives back what was read, for the next who reads.
    pub(crate) fn give_back(&mut self, piece: Bytes) {
        debug_assert!(self.given_back.is_none());
        self.given_back = (!piece.is_empty()).then_some(piece);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "`BodyReader::next` caps what comes out"
)]
async fn decoder<'b>(
    frames: Frames<'b>,
    encoding: Encoding,
    window_log: u32,
) -> io::Result<Box<dyn AsyncRead + Send + Unpin + 'b>> {
    let mut reader = StreamReader::new(frames);
    Ok(match encoding {
        Encoding::Identity => Box::new(reader),
        Encoding::Gzip => {
            let mut decoder = GzipDecoder::new(reader);
            decoder.multiple_members(true);
            Box::new(decoder)
        }
        Encoding::Deflate if is_zlib(reader.fill_buf().await?) => {
            Box::new(ZlibDecoder::new(reader))
        }
        Encoding::Deflate => Box::new(DeflateDecoder::new(reader)),
        Encoding::Brotli => Box::new(BrotliDecoder::new(reader)),
        Encoding::Zstd => {
            let window = DParameter::window_log_max(window_log);
            let mut decoder = ZstdDecoder::with_params(reader, &[window]);
            decoder.multiple_members(true);
            Box::new(decoder)
        }
    })
}

/// The first byte of RFC 1950 says method 8 and a window of at most 32 KiB; no compressor begins RFC 1951 that way.
fn is_zlib(start: &[u8]) -> bool {
    start
        .first()
        .is_none_or(|byte| byte & 0x0f == 8 && byte >> 4 <= 7)
}

/// What [`Frames`] refused comes through decoders unchanged; everything else is the decoder's own complaint.
pub(crate) fn rejection(error: io::Error, encoding: Encoding) -> Rejection {
    match error.downcast::<Rejection>() {
        Ok(rejection) => rejection,
        Err(error) => Rejection::Body(BodyError::BrokenEncoding {
            encoding: encoding.name(),
            error,
        }),
    }
}
