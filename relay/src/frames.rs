//! A request body's data frames: counted, limited and under the clock before anybody sees them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use prometheus_client::metrics::counter::Counter;
use shared::config::ByteSize;
use shared::metrics::Metrics;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::admission::Admission;
use crate::decode::{BodyError, Encoding, rejection};
use crate::error::{Rejection, TooLarge};
use crate::limits::{BODY_TIME_MAX, LOOK_INTERVAL};
use crate::pace::{Pace, Shortfall};
use crate::places::Party;
use crate::window::{TELLING_BYTES, Window};
use crate::wire::ChunkError;

/// What all bodies count into.
#[derive(Clone, Debug)]
pub struct BodyCounters {
    /// Bytes as they came.
    pub encoded: Counter,
    /// Bytes after decompression.
    pub decoded: Counter,
}

impl BodyCounters {
    /// The counters among all metrics.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            encoded: metrics.upload_encoded_bytes.clone(),
            decoded: metrics.upload_decoded_bytes.clone(),
        }
    }
}

/// The body's data frames as they come, counted and under the clock.
pub struct Frames<'b> {
    body: &'b mut Body,
    encoded: Arc<AtomicU64>,
    counter: Counter,
    limit: ByteSize,
    pace: Pace,
    give_up_at: Instant,
    /// Says whether places are scarce for the party.
    admission: Admission,
    party: Party,
    /// What was looked at already, and is still to be given.
    start: Bytes,
    /// Made when the client is waited for first; wakes to look whether it still is worth it.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl<'b> Frames<'b> {
    /// The frames of `body`, at most `limit` bytes of them. While places are scarce, it is waited for less.
    #[must_use]
    pub fn new(
        body: &'b mut Body,
        limit: ByteSize,
        counter: Counter,
        admission: Admission,
        party: Party,
    ) -> Self {
        Self {
            body,
            encoded: Arc::default(),
            counter,
            limit,
            pace: Pace::default(),
            give_up_at: Instant::now() + BODY_TIME_MAX,
            admission,
            party,
            start: Bytes::new(),
            alarm: None,
        }
    }

    /// The bytes that have come so far, for who reads what becomes of them.
    #[must_use]
    pub fn encoded(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.encoded)
    }

    /// The most bytes there may be.
    #[must_use]
    pub fn limit(&self) -> ByteSize {
        self.limit
    }

    /// Waits for the first `bytes` bytes, or as many as there are; they are given all the same.
    ///
    /// # Errors
    /// [`Rejection::Body`], [`Rejection::TooLarge`]
    pub async fn look(&mut self, bytes: usize) -> Result<&[u8], Rejection> {
        while self.start.len() < bytes {
            let start = std::mem::take(&mut self.start);
            let frame = self.next().await.transpose();
            let Some(frame) = frame.map_err(|error| rejection(error, Encoding::Identity))? else {
                self.start = start;
                break;
            };
            self.start = if start.is_empty() {
                frame
            } else {
                [start, frame].concat().into()
            };
        }
        Ok(&self.start)
    }

    /// The window of the decoder that the body needs, when that is not small.
    ///
    /// # Errors
    /// As [`Frames::look`].
    pub async fn window(&mut self, encoding: Encoding) -> Result<Option<Window>, Rejection> {
        match encoding {
            Encoding::Identity | Encoding::Gzip | Encoding::Deflate => Ok(None),
            Encoding::Brotli | Encoding::Zstd => {
                let start = self.look(TELLING_BYTES).await?;
                Ok(Window::of(encoding, start))
            }
        }
    }

    /// Ready when the client has been waited for long enough.
    fn poll_alarm(&mut self, context: &mut Context<'_>) -> Poll<BodyError> {
        loop {
            let now = Instant::now();
            self.pace.wait(now);
            match self
                .pace
                .shortfall(self.admission.is_scarce_for(&self.party), now)
            {
                Some(Shortfall::Silence) => return Poll::Ready(BodyError::Stalled),
                Some(Shortfall::Drip) => return Poll::Ready(BodyError::TooSlow),
                None if now >= self.give_up_at => return Poll::Ready(BodyError::TooSlow),
                None => {}
            }
            let look_at = (now + LOOK_INTERVAL)
                .min(self.pace.deadline(now))
                .min(self.give_up_at);
            let alarm = self
                .alarm
                .get_or_insert_with(|| Box::pin(sleep_until(look_at)));
            // One that is set for earlier stays: to set it at every byte of a slow body costs more than to wake.
            if alarm.is_elapsed() || look_at < alarm.deadline() {
                alarm.as_mut().reset(look_at);
            }
            ready!(alarm.as_mut().poll(context));
        }
    }
}

impl Stream for Frames<'_> {
    type Item = io::Result<Bytes>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Bytes>>> {
        let this = &mut *self;
        if !this.start.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut this.start))));
        }
        loop {
            let frame = match Pin::new(&mut *this.body).poll_frame(context) {
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Ready(Some(Ok(frame))) => frame,
                Poll::Ready(Some(Err(error))) => {
                    let error = match ChunkError::behind(&error) {
                        Some(chunks) => BodyError::Chunks(chunks),
                        None => BodyError::Cut { error },
                    };
                    return Poll::Ready(Some(Err(refused(error))));
                }
                Poll::Pending => {
                    let error = ready!(this.poll_alarm(context));
                    return Poll::Ready(Some(Err(refused(error))));
                }
            };
            // A trailer is no data and nothing to us.
            let Ok(data) = frame.into_data() else {
                continue;
            };
            if data.is_empty() {
                continue;
            }
            this.pace.bring(data.len() as u64, Instant::now());
            let bytes = data.len() as u64;
            let encoded = this.encoded.fetch_add(bytes, Ordering::Relaxed) + bytes;
            this.counter.inc_by(data.len() as u64);
            if encoded > this.limit.get() {
                return Poll::Ready(Some(Err(refused(TooLarge::Encoded(this.limit)))));
            }
            return Poll::Ready(Some(Ok(data)));
        }
    }
}

fn refused(rejection: impl Into<Rejection>) -> io::Error {
    io::Error::other(rejection.into())
}
