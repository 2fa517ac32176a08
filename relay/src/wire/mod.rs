//! Between the socket and hyper: every head of HTTP/1 is read for where its body ends before hyper sees it, because hyper
//! settles silently what says it twice. HTTP/1.0 with chunks, as Crashpad's socket transport sends it (Android,
//! sentry-native before 0.6 on Linux), is presented as HTTP/1.1. HTTP/2 passes untouched.

mod chunks;
mod head;
#[cfg(test)]
mod tests;

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::io::poll_read_buf;

pub use self::chunks::ChunkError;
use self::chunks::Chunks;
use self::head::Framing;
pub use self::head::{Found, HeadError};
use crate::limits::{FIRST_READ_BYTES, HEAD_BYTES_MAX};

/// How an HTTP/2 connection begins, RFC 9113, 3.4; its first line is enough.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";
/// What hyper is shown in the place of a head that is refused. The header says that it is ours.
const STAND_IN: &[u8] =
    b"POST / HTTP/1.1\r\nConnection: close\r\nX-Crashferry-Refused-Head: 1\r\n\r\n";
/// The header's name.
pub(crate) const REFUSED_HEAD: &str = "x-crashferry-refused-head";

/// Why a connection's head was refused, for who answers. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub(crate) struct RefusedHead(Arc<Mutex<Option<HeadError>>>);

/// A connection whose heads are read.
#[derive(Debug)]
pub(crate) struct Wire<S> {
    stream: S,
    /// Received, and not yet given.
    held: BytesMut,
    state: State,
    is_first: bool,
    refused: RefusedHead,
}

#[derive(Debug)]
enum State {
    /// A head comes in; so many bytes of it were looked at.
    Head { seen: usize },
    /// A head is given, then its body comes.
    Give { head: BytesMut, then: Framing },
    /// So many bytes of a body are to come.
    Sized { left: u64 },
    /// A body in chunks.
    Chunked(Chunks),
    /// Whatever comes is given as it is.
    Passing,
    /// A stand-in for a refused head is given, then the end.
    Refusing { stand_in: &'static [u8] },
}

impl RefusedHead {
    /// Why; once.
    pub(crate) fn take(&self) -> Option<HeadError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put(&self, error: HeadError) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }
}

impl<S> Wire<S> {
    /// Reads the heads on `stream`; why one is refused is told there.
    pub(crate) fn new(stream: S, refused: RefusedHead) -> Self {
        Self {
            stream,
            held: BytesMut::new(),
            state: State::Head { seen: 0 },
            is_first: true,
            refused,
        }
    }

    /// What follows, when what is held tells; `None` when more must come.
    fn judge(&mut self, seen: usize) -> Option<State> {
        if self.is_first && self.held.starts_with(HTTP2_PREFACE) {
            return Some(State::Passing);
        }
        let judged = match head::end(&self.held, seen) {
            Some(end) => self.read_head(end),
            None if !head::may_begin(&self.held) => {
                let found = Found::new(&self.held[..self.held.len().min(8)]);
                Err(HeadError::RequestLine(found))
            }
            None if self.held.len() >= HEAD_BYTES_MAX => Err(HeadError::TooLong),
            None => return None,
        };
        Some(judged.unwrap_or_else(|error| {
            self.held.clear();
            self.refused.put(error);
            State::Refusing { stand_in: STAND_IN }
        }))
    }

    fn read_head(&mut self, end: usize) -> Result<State, HeadError> {
        if end > HEAD_BYTES_MAX {
            return Err(HeadError::TooLong);
        }
        let head = head::read(&self.held[..end])?;
        self.is_first = false;
        let mut bytes = self.held.split_to(end);
        if let Some(version) = head.old_chunked {
            let mut renewed = bytes.to_vec();
            head::renew(&mut renewed, version);
            bytes = renewed[..].into();
        }
        let then = head.framing;
        Ok(State::Give { head: bytes, then })
    }
}

impl<S: AsyncRead + Unpin> Wire<S> {
    /// Receives until a head is whole, or the connection ends.
    fn poll_head(&mut self, seen: usize, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut seen = seen;
        loop {
            if !self.held.is_empty()
                && let Some(state) = self.judge(seen)
            {
                self.state = state;
                return Poll::Ready(Ok(()));
            }
            seen = self.held.len();
            self.state = State::Head { seen };
            self.held.reserve(FIRST_READ_BYTES);
            let read = ready!(poll_read_buf(
                Pin::new(&mut self.stream),
                context,
                &mut self.held
            ))?;
            if read == 0 {
                // Hyper knows what an end in the middle of a head means.
                self.state = State::Passing;
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Gives bytes of a body that has so many left.
    fn poll_sized(
        &mut self,
        left: u64,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        let given = if self.held.is_empty() {
            ready!(self.poll_stream(most, context, buffer))?
        } else {
            give(&mut self.held, most, buffer)
        };
        let left = left - given as u64;
        self.state = State::Sized { left };
        Poll::Ready(Ok(()))
    }

    /// Receives at most so many bytes: those behind belong to the next head, which is read first.
    fn poll_stream(
        &mut self,
        most: usize,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<usize>> {
        let stream = Pin::new(&mut self.stream);
        if most >= buffer.remaining() {
            let before = buffer.filled().len();
            ready!(stream.poll_read(context, buffer))?;
            return Poll::Ready(Ok(buffer.filled().len() - before));
        }
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(most));
        ready!(stream.poll_read(context, &mut part))?;
        let read = part.filled().len();
        buffer.advance(read);
        Poll::Ready(Ok(read))
    }

    /// Gives bytes of a body in chunks, and keeps what follows it.
    fn poll_chunked(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if self.held.is_empty() {
            ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        } else {
            give(&mut self.held, usize::MAX, buffer);
        }
        let State::Chunked(chunks) = &mut self.state else {
            return Poll::Ready(Ok(()));
        };
        let given = &buffer.filled()[before..];
        let of_body = chunks.read(given).map_err(io::Error::other)?;
        if of_body < given.len() {
            let mut next = BytesMut::from(&given[of_body..]);
            next.extend_from_slice(&self.held);
            self.held = next;
            buffer.set_filled(before + of_body);
        }
        Poll::Ready(Ok(()))
    }
}

/// Moves as many bytes as there is room for, at most `most`.
fn give(from: &mut impl Buf, most: usize, buffer: &mut ReadBuf<'_>) -> usize {
    let bytes = from.chunk().len().min(most).min(buffer.remaining());
    buffer.put_slice(&from.chunk()[..bytes]);
    from.advance(bytes);
    bytes
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            match &mut this.state {
                State::Head { seen } => {
                    let seen = *seen;
                    ready!(this.poll_head(seen, context))?;
                }
                State::Give { head, then } => {
                    give(head, usize::MAX, buffer);
                    if head.is_empty() {
                        this.state = match *then {
                            Framing::Length(left) => State::Sized { left },
                            Framing::Chunked => State::Chunked(Chunks::new()),
                        };
                    }
                    return Poll::Ready(Ok(()));
                }
                State::Sized { left: 0 } => this.state = State::Head { seen: 0 },
                State::Sized { left } => {
                    let left = *left;
                    return this.poll_sized(left, context, buffer);
                }
                State::Chunked(chunks) if chunks.is_done() => this.state = State::Head { seen: 0 },
                State::Chunked(_) => return this.poll_chunked(context, buffer),
                State::Passing if this.held.is_empty() => {
                    return Pin::new(&mut this.stream).poll_read(context, buffer);
                }
                State::Passing => {
                    give(&mut this.held, usize::MAX, buffer);
                    return Poll::Ready(Ok(()));
                }
                State::Refusing { stand_in } => {
                    give(stand_in, usize::MAX, buffer);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
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
