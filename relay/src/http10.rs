//! HTTP/1.0 with a chunked body, as Crashpad's socket transport sends it (Android, sentry-native before 0.6 on Linux).
//!
//! HTTP/1.0 knows no chunks, so hyper refuses such a request. This stands between the socket and hyper, looks at the
//! first request head of a connection and nothing else, and presents that one shape as HTTP/1.1 with
//! `Connection: close`. Everything else passes untouched.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use memchr::memchr;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::io::poll_read_buf;

use crate::limits::{FIRST_HEAD_BYTES_MAX, FIRST_READ_BYTES};

const OLD_VERSION: &[u8] = b" HTTP/1.0";
const NEW_VERSION: &[u8] = b" HTTP/1.1";
const CLOSE: &[u8] = b"Connection: close\r\n";

/// A connection whose first request may be of that shape.
#[derive(Debug)]
pub(crate) struct Http10<S> {
    stream: S,
    state: State,
}

#[derive(Debug)]
enum State {
    /// What came so far does not tell.
    Looking(BytesMut),
    /// It told; this much of it is still to be read.
    Decided(BytesMut),
    /// Nothing is held any more.
    Passing,
}

/// What the start of a connection is.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// More of it must come.
    Undecided,
    /// Nothing that concerns us.
    Other,
    /// A head to be rewritten; its first line, without its end, stands here.
    Chunked { line: std::ops::Range<usize> },
}

impl<S> Http10<S> {
    /// Looks at what `stream` says first.
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            state: State::Looking(BytesMut::new()),
        }
    }
}

impl<S: AsyncRead + Unpin> Http10<S> {
    /// Reads until it is clear what the connection says. At its end everything is.
    fn poll_decide(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let State::Looking(held) = &mut self.state {
            held.reserve(FIRST_READ_BYTES);
            let read = ready!(poll_read_buf(Pin::new(&mut self.stream), context, held))?;
            let verdict = if read == 0 {
                Verdict::Other
            } else {
                judge(held)
            };
            let held = match verdict {
                Verdict::Undecided if held.len() < FIRST_HEAD_BYTES_MAX => continue,
                Verdict::Undecided | Verdict::Other => std::mem::take(held),
                Verdict::Chunked { line } => rewrite(held, &line),
            };
            self.state = State::Decided(held);
        }
        Poll::Ready(Ok(()))
    }
}

/// As early as the bytes allow: for anything but HTTP/1.0, at the end of the request line.
fn judge(start: &[u8]) -> Verdict {
    // Empty lines may precede a request.
    let Some(begin) = start.iter().position(|byte| !matches!(byte, b'\r' | b'\n')) else {
        return Verdict::Undecided;
    };
    let Some(end) = memchr(b'\n', &start[begin..]) else {
        return Verdict::Undecided;
    };
    let line = trim_line(&start[begin..begin + end]);
    if !line.ends_with(OLD_VERSION) {
        return Verdict::Other;
    }
    let headers = &start[begin + end + 1..];
    match is_chunked(headers) {
        None => Verdict::Undecided,
        Some(false) => Verdict::Other,
        Some(true) => Verdict::Chunked {
            line: begin..begin + line.len(),
        },
    }
}

/// Whether headers say `Transfer-Encoding: chunked`, once, and no length beside it; `None` when they are not complete.
/// A head that says more than that, or says it across lines, is left to hyper, which refuses it: two answers to the
/// question where the body ends are how requests are smuggled.
fn is_chunked(headers: &[u8]) -> Option<bool> {
    let mut encodings = 0;
    let mut sound = true;
    for line in headers.split_inclusive(|byte| *byte == b'\n') {
        let line = trim_line(line.strip_suffix(b"\n")?);
        if line.is_empty() {
            return Some(sound && encodings == 1);
        }
        let colon = memchr(b':', line).unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            encodings += 1;
            let value = value.get(1..).unwrap_or_default().trim_ascii();
            sound &= value.eq_ignore_ascii_case(b"chunked");
        }
        let folded = line.starts_with(b" ") || line.starts_with(b"\t");
        sound &= !folded && !name.eq_ignore_ascii_case(b"content-length");
    }
    None
}

fn trim_line(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// The same bytes with the newer version, and a header that ends the connection after the answer: this client knows of
/// no second request on it.
fn rewrite(held: &[u8], line: &std::ops::Range<usize>) -> BytesMut {
    let version = line.end - OLD_VERSION.len();
    let headers = line.end + memchr(b'\n', &held[line.end..]).map_or(0, |end| end + 1);
    let mut head = BytesMut::with_capacity(held.len() + CLOSE.len());
    head.extend_from_slice(&held[..version]);
    head.extend_from_slice(NEW_VERSION);
    head.extend_from_slice(&held[line.end..headers]);
    head.extend_from_slice(CLOSE);
    head.extend_from_slice(&held[headers..]);
    head
}

impl<S: AsyncRead + Unpin> AsyncRead for Http10<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_decide(context))?;
        if let State::Decided(held) = &mut self.state {
            let bytes = held.len().min(buffer.remaining());
            buffer.put_slice(&held[..bytes]);
            held.advance(bytes);
            if held.is_empty() {
                self.state = State::Passing;
            }
            if bytes > 0 {
                return Poll::Ready(Ok(()));
            }
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Http10<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const CHUNKED: &str = "POST /api/1/minidump/ HTTP/1.0\r\nHost: h\r\ntransfer-ENCODING:  Chunked \r\n\
        Connection: keep-alive\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    const REWRITTEN: &str = "POST /api/1/minidump/ HTTP/1.1\r\nConnection: close\r\nHost: h\r\n\
        transfer-ENCODING:  Chunked \r\nConnection: keep-alive\r\n\r\n3\r\nabc\r\n0\r\n\r\n";

    /// What hyper reads, by so many bytes, of a connection that says `pieces` one after the other.
    async fn read(pieces: &[&[u8]], buffer_bytes: usize) -> Vec<u8> {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        let mut server = Http10::new(server);
        let mut found = Vec::new();
        let mut buffer = vec![0; buffer_bytes];
        for piece in pieces {
            client.write_all(piece).await.expect("sent");
            // As far as it goes without the rest.
            while let Ok(read) = tokio::time::timeout(
                std::time::Duration::from_millis(1),
                server.read(&mut buffer),
            )
            .await
            {
                let read = read.expect("read");
                assert!(read > 0, "an end where there is none");
                found.extend_from_slice(&buffer[..read]);
            }
        }
        drop(client);
        server.read_to_end(&mut found).await.expect("read");
        found
    }

    #[tokio::test(start_paused = true)]
    async fn a_chunked_request_of_http_1_0_becomes_one_of_http_1_1_wherever_it_is_cut() {
        for at in 0..CHUNKED.len() {
            let (start, end) = CHUNKED.as_bytes().split_at(at);
            for buffer_bytes in [1, 24, 4096] {
                let found = read(&[start, end], buffer_bytes).await;
                assert_eq!(String::from_utf8_lossy(&found), REWRITTEN, "cut at {at}");
            }
        }
        let bytes: Vec<&[u8]> = CHUNKED.as_bytes().chunks(1).collect();
        assert_eq!(read(&bytes, 24).await, REWRITTEN.as_bytes());
    }

    #[tokio::test(start_paused = true)]
    async fn bare_line_feeds_and_empty_lines_are_borne_as_hyper_bears_them() {
        let request = CHUNKED.replace("\r\n", "\n");
        let found = read(&[b"\r\n\n", request.as_bytes()], 24).await;
        let found = String::from_utf8_lossy(&found).into_owned();
        assert!(
            found.starts_with(
                "\r\n\nPOST /api/1/minidump/ HTTP/1.1\nConnection: close\r\nHost: h\n"
            ),
            "{found}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn everything_else_passes_untouched() {
        let long_line = format!("GET /{} HTTP/1.0\r\n", "x".repeat(FIRST_HEAD_BYTES_MAX));
        let long_head = format!(
            "POST / HTTP/1.0\r\nX: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
            "x".repeat(FIRST_HEAD_BYTES_MAX)
        );
        let twice = format!("{REWRITTEN}{CHUNKED}");
        for other in [
            "",
            "\r\n",
            "GET / HT",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc",
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n",
            "POST / HTTP/1.0\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc",
            "POST / HTTP/1.0\r\nX: y\r\n\tz\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.0\r\nTransfer-Encoding : chunked\r\n\r\n",
            "GET /?HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
            &long_line,
            &long_head,
            &twice,
        ] {
            for pieces in [other.len().max(1), 7] {
                let pieces: Vec<&[u8]> = other.as_bytes().chunks(pieces).collect();
                let found = read(&pieces, 24).await;
                assert_eq!(String::from_utf8_lossy(&found), other);
            }
        }
    }

    #[test]
    fn a_request_line_is_enough_for_every_other_dialect() {
        for (start, verdict) in [
            ("POST / HTTP/1.1\r", Verdict::Undecided),
            ("POST / HTTP/1.1\r\n", Verdict::Other),
            ("PRI * HTTP/2.0\r\n", Verdict::Other),
            ("POST / HTTP/1.0\r\n", Verdict::Undecided),
        ] {
            assert_eq!(judge(start.as_bytes()), verdict, "{start:?}");
        }
    }

    #[tokio::test]
    async fn nothing_is_held_once_what_came_first_was_read() {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        let mut server = Http10::new(server);
        client.write_all(REWRITTEN.as_bytes()).await.expect("sent");
        let mut buffer = vec![0; 4096];
        server
            .read_exact(&mut buffer[..REWRITTEN.len()])
            .await
            .expect("read");
        assert!(matches!(server.state, State::Passing));
        server.write_all(b"answer").await.expect("sent");
        client.read_exact(&mut buffer[..6]).await.expect("read");
        assert_eq!(&buffer[..6], b"answer");
    }
}
