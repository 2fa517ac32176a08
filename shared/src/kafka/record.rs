//! Records to the byte: as they stand in a log, and as they are to go into one.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};

/// A record as it stands in a topic. A key or a value that is absent counts as empty.
#[derive(Debug, Clone)]
pub struct TopicRecord {
    /// Where it stands.
    pub partition: i32,
    /// Where it stands.
    pub offset: i64,
    /// When it was written, by the clock of its producer or broker.
    pub timestamp: Option<Timestamp>,
    /// Its key.
    pub key: Bytes,
    /// Its headers, in order.
    pub headers: Vec<(String, Bytes)>,
    /// Its value.
    pub value: Bytes,
}

impl TopicRecord {
    /// A copy of what librdkafka holds.
    pub(super) fn copied(message: &BorrowedMessage<'_>) -> Self {
        let headers = message.headers().map_or_else(Vec::new, |headers| {
            let copied = headers.iter().map(|header| {
                let value = header.value.unwrap_or_default();
                (header.key.to_owned(), Bytes::copy_from_slice(value))
            });
            copied.collect()
        });
        let millis = message.timestamp().to_millis();
        Self {
            partition: message.partition(),
            offset: message.offset(),
            timestamp: millis.and_then(|millis| Timestamp::from_millisecond(millis).ok()),
            key: Bytes::copy_from_slice(message.key().unwrap_or_default()),
            headers,
            value: Bytes::copy_from_slice(message.payload().unwrap_or_default()),
        }
    }

    /// The first header of that name, when it is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(known, _)| known == name)?;
        std::str::from_utf8(value).ok()
    }
}

/// A record of a transaction.
#[derive(Debug, Clone)]
pub struct OutputRecord {
    /// Topic name.
    pub topic: Arc<str>,
    /// Its partition; `None`: the one that its key belongs to.
    pub partition: Option<i32>,
    /// Its key; empty: none.
    pub key: Bytes,
    /// Names and values, in order.
    pub headers: Vec<(Cow<'static, str>, Bytes)>,
    /// Its value.
    pub value: Bytes,
}

impl OutputRecord {
    /// Bytes of key, headers and value.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let headers = self.headers.iter();
        let headers: usize = headers.map(|(name, value)| name.len() + value.len()).sum();
        self.key.len() + headers + self.value.len()
    }
}
