//! What becomes of the body of a refused request. Closing a connection on unread bytes resets it, and a reset can
//! overtake the answer: then the client learns nothing.

use std::future::poll_fn;
use std::pin::Pin;

use axum::body::{Body, HttpBody};
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::limits::{REFUSED_BODY_BYTES_MAX, REFUSED_BODY_TIME_MAX, REFUSED_BODY_TIME_SCARCE};

/// Whether the client waits for a word before it sends the body: then there is nothing to read.
pub(crate) fn is_held_back(headers: &HeaderMap) -> bool {
    let expect = headers.get(header::EXPECT);
    expect.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Reads and forgets some of the body, so that its sender comes to reading the answer. Runs beside the answer.
pub(crate) async fn drain(body: &mut Body, places_are_scarce: bool) {
    let at_most = if places_are_scarce {
        REFUSED_BODY_TIME_SCARCE
    } else {
        REFUSED_BODY_TIME_MAX
    };
    let deadline = Instant::now() + at_most;
    let mut bytes = 0;
    while bytes < REFUSED_BODY_BYTES_MAX {
        let frame = poll_fn(|context| Pin::new(&mut *body).poll_frame(context));
        match timeout_at(deadline, frame).await {
            Ok(Some(Ok(frame))) => bytes += frame.data_ref().map_or(0, Bytes::len) as u64,
            Ok(Some(Err(_)) | None) | Err(_) => return,
        }
    }
    // No more is read, but the connection stays until the answer had its time.
    sleep_until(deadline).await;
}
