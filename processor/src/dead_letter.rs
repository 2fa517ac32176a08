//! Records that could not be taken are kept, with where they came from and why, and with all that it takes to send them
//! again.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use shared::dead_letter::{
    ATTEMPTS_HEADER, ERROR_HEADER, ORIGIN_OFFSET_HEADER, ORIGIN_PARTITION_HEADER,
    ORIGIN_TIMESTAMP_HEADER, ORIGIN_TOPIC_HEADER, ORIGINAL_BYTES_HEADER, ORIGINAL_HEADER_PREFIX,
    ORIGINAL_HEADERS_LEFT_OUT_HEADER, ORIGINAL_KEY_BYTES_HEADER, REASON_HEADER,
};
use shared::kafka::{InboundRecord, OutputRecord};
use shared::limits::{
    DEAD_LETTER_ERROR_CHARS_MAX, DEAD_LETTER_HEADERS_BYTES_MAX, DEAD_LETTER_KEY_BYTES_MAX,
};
use shared::message::MessageError;
use shared::metrics::Metrics;
use shared::size_limit::{RECORD_HEADER_OVERHEAD_BYTES_MAX, TopicLimit};

type Headers = Vec<(Cow<'static, str>, Bytes)>;

/// How dead letters are written.
#[derive(Clone)]
pub(crate) struct DeadLetters {
    pub(crate) origin_topic: Arc<str>,
    pub(crate) topic: Arc<str>,
    pub(crate) limit: TopicLimit,
    pub(crate) metrics: Metrics,
}

impl DeadLetters {
    /// The record that keeps `inbound`: its key, its bytes and its headers, and in headers of our own where it stood and
    /// why it was not taken. Where the dead letters' topic has no room for all of it, original headers are left out from
    /// the last on, then the end of the value is cut off, and headers tell.
    pub(crate) fn letter(&self, inbound: &InboundRecord, error: &MessageError) -> OutputRecord {
        let InboundRecord {
            partition, offset, ..
        } = *inbound;
        let (reason, error) = (error.reason(), error.to_string());
        tracing::warn!(
            partition,
            offset,
            reason,
            error,
            "a record goes to the dead letters"
        );
        self.metrics.count_dead_letter(reason);
        let mut headers = self.about(inbound, reason, &error);
        let key_bytes = inbound.key.len().min(DEAD_LETTER_KEY_BYTES_MAX);
        if key_bytes < inbound.key.len() {
            let whole = inbound.key.len().to_string();
            headers.push((ORIGINAL_KEY_BYTES_HEADER.into(), whole.into()));
        }
        let value_room = |headers: &Headers| {
            let sizes = headers.iter().map(|(name, value)| name.len() + value.len());
            self.limit.value_bytes_max_beside(key_bytes, sizes)
        };
        // Room for what says that something was cut.
        let reserved = 2 * (RECORD_HEADER_OVERHEAD_BYTES_MAX + 64);
        let originals_room = value_room(&headers)
            .saturating_sub(inbound.value.len() + reserved)
            .min(DEAD_LETTER_HEADERS_BYTES_MAX);
        let left_out = keep_originals(inbound, originals_room, &mut headers);
        if left_out > 0 {
            let left_out = left_out.to_string();
            headers.push((ORIGINAL_HEADERS_LEFT_OUT_HEADER.into(), left_out.into()));
        }
        let whole = inbound.value.len();
        let kept = match value_room(&headers) {
            room if room >= whole => whole,
            _ => {
                headers.push((ORIGINAL_BYTES_HEADER.into(), whole.to_string().into()));
                value_room(&headers).min(whole)
            }
        };
        OutputRecord {
            topic: Arc::clone(&self.topic),
            partition: None,
            key: inbound.key.slice(..key_bytes),
            headers,
            value: inbound.value.slice(..kept),
        }
    }

    fn about(&self, inbound: &InboundRecord, reason: &'static str, error: &str) -> Headers {
        let error: String = error.chars().take(DEAD_LETTER_ERROR_CHARS_MAX).collect();
        let mut headers: Headers = vec![
            (
                ORIGIN_TOPIC_HEADER.into(),
                self.origin_topic.to_string().into(),
            ),
            (
                ORIGIN_PARTITION_HEADER.into(),
                inbound.partition.to_string().into(),
            ),
            (
                ORIGIN_OFFSET_HEADER.into(),
                inbound.offset.to_string().into(),
            ),
            (REASON_HEADER.into(), Bytes::from_static(reason.as_bytes())),
            (ERROR_HEADER.into(), error.into()),
            (ATTEMPTS_HEADER.into(), Bytes::from_static(b"1")),
        ];
        if let Some(written) = inbound.timestamp {
            headers.push((ORIGIN_TIMESTAMP_HEADER.into(), written.to_string().into()));
        }
        headers
    }
}

/// Adds the original record's headers as far as they fit into `room` bytes; returns how many did not.
fn keep_originals(inbound: &InboundRecord, room: usize, headers: &mut Headers) -> usize {
    let mut room = room;
    for (kept, (name, value)) in inbound.raw_headers.iter().enumerate() {
        let name = format!("{ORIGINAL_HEADER_PREFIX}{name}");
        let bytes = name.len() + value.len() + RECORD_HEADER_OVERHEAD_BYTES_MAX;
        if bytes > room {
            return inbound.raw_headers.len() - kept;
        }
        room -= bytes;
        headers.push((name.into(), value.clone()));
    }
    0
}

#[cfg(test)]
mod tests {
    use shared::message::{Headers as ReadHeaders, Message};

    use shared::kafka::QueueRoom;

    use super::*;

    fn letters(limit: u32) -> DeadLetters {
        DeadLetters {
            origin_topic: "ingest".into(),
            topic: "letters".into(),
            limit: TopicLimit::new(limit).expect("large enough"),
            metrics: Metrics::default(),
        }
    }

    fn record(key: Vec<u8>, headers: Vec<(String, Bytes)>, value: Vec<u8>) -> InboundRecord {
        InboundRecord {
            partition: 3,
            offset: 17,
            timestamp: "2026-01-02T03:04:05Z".parse().ok(),
            key: key.into(),
            headers: ReadHeaders::default(),
            raw_headers: headers,
            value: value.into(),
            assignment: 1,
            room: QueueRoom::default(),
        }
    }

    fn letter(letters: &DeadLetters, record: &InboundRecord) -> OutputRecord {
        let error = Message::decode(b"\xc1").expect_err("no message");
        let letter = letters.letter(record, &error);
        let sizes = letter.headers.iter();
        let sizes = sizes.map(|(name, value)| name.len() + value.len());
        let room = letters
            .limit
            .value_bytes_max_beside(letter.key.len(), sizes);
        assert!(letter.value.len() <= room, "the letter fits its topic");
        letter
    }

    fn header<'l>(letter: &'l OutputRecord, name: &str) -> Option<&'l [u8]> {
        let mut named = letter.headers.iter().filter(|(known, _)| known == name);
        named.next().map(|(_, value)| &value[..])
    }

    #[test]
    fn a_letter_has_key_headers_and_bytes_as_they_were() {
        let originals = vec![
            ("blake3".to_owned(), Bytes::from_static(b"a=b")),
            ("binary".to_owned(), Bytes::from_static(b"\xff\x00")),
        ];
        let record = record(vec![1, 2, 3], originals, b"\xc1 no".to_vec());
        let letter = letter(&letters(65_536), &record);
        assert_eq!(&letter.key[..], [1, 2, 3]);
        assert_eq!(&letter.value[..], b"\xc1 no");
        assert_eq!(header(&letter, "original_header.blake3"), Some(&b"a=b"[..]));
        let binary = header(&letter, "original_header.binary");
        assert_eq!(binary, Some(&b"\xff\x00"[..]));
        assert_eq!(header(&letter, ORIGIN_OFFSET_HEADER), Some(&b"17"[..]));
        let written = header(&letter, ORIGIN_TIMESTAMP_HEADER);
        assert_eq!(written, Some(&b"2026-01-02T03:04:05Z"[..]));
        for absent in [
            ORIGINAL_BYTES_HEADER,
            ORIGINAL_KEY_BYTES_HEADER,
            ORIGINAL_HEADERS_LEFT_OUT_HEADER,
        ] {
            assert_eq!(header(&letter, absent), None);
        }
    }

    #[test]
    fn what_does_not_fit_is_cut_and_told_headers_first() {
        let originals = vec![("a".to_owned(), Bytes::from(vec![7; 20_000]))];
        let tight = record(vec![1; 16], originals.clone(), vec![8; 50_000]);
        let letter_of_tight = letter(&letters(65_536), &tight);
        assert_eq!(letter_of_tight.value.len(), 50_000, "the value is whole");
        let left_out = header(&letter_of_tight, ORIGINAL_HEADERS_LEFT_OUT_HEADER);
        assert_eq!(left_out, Some(&b"1"[..]));

        let huge = record(vec![1; 2000], originals, vec![8; 100_000]);
        let letter = letter(&letters(65_536), &huge);
        assert!(letter.value.len() > 60_000, "{}", letter.value.len());
        assert_eq!(header(&letter, ORIGINAL_BYTES_HEADER), Some(&b"100000"[..]));
        assert_eq!(letter.key.len(), DEAD_LETTER_KEY_BYTES_MAX);
        let key_bytes = header(&letter, ORIGINAL_KEY_BYTES_HEADER);
        assert_eq!(key_bytes, Some(&b"2000"[..]));
    }
}
