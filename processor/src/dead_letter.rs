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
use shared::limits::DEAD_LETTER_ERROR_CHARS_MAX;
use shared::message::MessageError;
use shared::metrics::Metrics;
use shared::size_limit::{RECORD_HEADER_OVERHEAD_BYTES_MAX, TopicLimit};

type Header = (Cow<'static, str>, Bytes);

/// The most that the three headers take which tell what was left out: names, lengths, and what Kafka adds.
const LEFT_OUT_BYTES_MAX: usize = 3 * (32 + 20 + RECORD_HEADER_OVERHEAD_BYTES_MAX);

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
    /// why it was not taken. Only where the dead letters' topic has no room for all of it something is left out, and headers
    /// tell what: original headers from the last on, then the end of the key, then the end of the value.
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
        let sizes = headers.iter().map(|(name, value)| name.len() + value.len());
        let kept = Kept::of(inbound, self.limit.value_bytes_max_beside(0, sizes));
        headers.extend(kept.originals(inbound));
        headers.extend(kept.left_out(inbound));
        OutputRecord {
            topic: Arc::clone(&self.topic),
            partition: None,
            key: inbound.key.slice(..kept.key_bytes),
            headers,
            value: inbound.value.slice(..kept.value_bytes),
        }
    }

    fn about(&self, inbound: &InboundRecord, reason: &'static str, error: &str) -> Vec<Header> {
        let error: String = error.chars().take(DEAD_LETTER_ERROR_CHARS_MAX).collect();
        let mut headers: Vec<Header> = vec![
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

/// What of a record its letter has.
#[derive(Clone, Copy)]
struct Kept {
    value_bytes: usize,
    key_bytes: usize,
    /// How many of its headers, from the first on.
    headers: usize,
}

impl Kept {
    /// All of it where `room` bytes are enough, else what is worth most: value, key, headers in their order.
    fn of(inbound: &InboundRecord, room: usize) -> Self {
        let sizes = || inbound.raw_headers.iter().map(original_bytes);
        let (value, key) = (inbound.value.len(), inbound.key.len());
        let is_whole = value + key + sizes().sum::<usize>() <= room;
        let mut room = match is_whole {
            true => room,
            false => room.saturating_sub(LEFT_OUT_BYTES_MAX),
        };
        let mut take = |bytes: usize| {
            let taken = bytes.min(room);
            room -= taken;
            taken
        };
        let (value_bytes, key_bytes) = (take(value), take(key));
        Self {
            value_bytes,
            key_bytes,
            headers: sizes().take_while(|bytes| take(*bytes) == *bytes).count(),
        }
    }

    fn originals(self, inbound: &InboundRecord) -> impl Iterator<Item = Header> {
        let kept = inbound.raw_headers.iter().take(self.headers);
        kept.map(|(name, value)| (original_name(name).into(), value.clone()))
    }

    /// The headers that tell what the letter does not have.
    fn left_out(self, inbound: &InboundRecord) -> impl Iterator<Item = Header> {
        let (value, key) = (inbound.value.len(), inbound.key.len());
        let headers = inbound.raw_headers.len() - self.headers;
        let told = [
            (
                ORIGINAL_BYTES_HEADER,
                (self.value_bytes < value).then_some(value),
            ),
            (
                ORIGINAL_KEY_BYTES_HEADER,
                (self.key_bytes < key).then_some(key),
            ),
            (
                ORIGINAL_HEADERS_LEFT_OUT_HEADER,
                (headers > 0).then_some(headers),
            ),
        ];
        let told = told.into_iter();
        told.filter_map(|(name, count)| Some((name.into(), count?.to_string().into())))
    }
}

fn original_name(name: &str) -> String {
    format!("{ORIGINAL_HEADER_PREFIX}{name}")
}

/// What a header of the record takes in its letter.
fn original_bytes((name, value): &(String, Bytes)) -> usize {
    ORIGINAL_HEADER_PREFIX.len() + name.len() + value.len() + RECORD_HEADER_OVERHEAD_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use shared::kafka::QueueRoom;
    use shared::message::{Headers, Message};

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
            headers: Headers::default(),
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
        assert_eq!(told(&letter), [None, None, None]);
    }

    const CUT_HEADERS: [&str; 3] = [
        ORIGINAL_BYTES_HEADER,
        ORIGINAL_KEY_BYTES_HEADER,
        ORIGINAL_HEADERS_LEFT_OUT_HEADER,
    ];

    /// What a letter says of what it does not have: bytes of value and key, headers.
    fn told(letter: &OutputRecord) -> [Option<usize>; 3] {
        CUT_HEADERS.map(|name| {
            let told = std::str::from_utf8(header(letter, name)?).expect("text");
            Some(told.parse().expect("a number"))
        })
    }

    fn originals(letter: &OutputRecord) -> usize {
        let names = letter.headers.iter();
        let is_original = |name: &&Header| name.0.starts_with(ORIGINAL_HEADER_PREFIX);
        names.filter(is_original).count()
    }

    #[test]
    fn a_long_key_and_many_headers_are_whole_where_the_topic_has_room() {
        let header = |number: usize| (format!("h{number}"), Bytes::from(vec![7; 1000]));
        let record = record(
            vec![1; 5000],
            (0..100).map(header).collect(),
            vec![8; 70_000],
        );
        let letter = letter(&letters(200_000), &record);
        assert_eq!(letter.key, record.key);
        assert_eq!(letter.value, record.value);
        assert_eq!(originals(&letter), 100);
        assert_eq!(told(&letter), [None, None, None]);
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_told_headers_first_then_key_then_value() {
        let headers = vec![
            ("a".to_owned(), Bytes::from(vec![7; 10])),
            ("b".to_owned(), Bytes::from(vec![7; 20_000])),
            ("c".to_owned(), Bytes::from(vec![7; 10])),
        ];
        let kept = |key: usize, value: usize| {
            let record = record(vec![1; key], headers.clone(), vec![8; value]);
            let letter = letter(&letters(65_536), &record);
            let kept = (letter.value.len(), letter.key.len(), originals(&letter));
            (kept, told(&letter))
        };
        let (of_headers, said) = kept(16, 50_000);
        assert_eq!(of_headers, (50_000, 16, 1));
        assert_eq!(said, [None, None, Some(2)]);

        let ((value, key, headers), said) = kept(100_000, 50_000);
        assert_eq!((value, headers), (50_000, 0));
        assert!((14_000..15_536).contains(&key), "{key}");
        assert_eq!(said, [None, Some(100_000), Some(3)]);

        let ((value, key, headers), said) = kept(16, 100_000);
        assert_eq!((key, headers), (0, 0));
        assert!((64_000..65_536).contains(&value), "{value}");
        assert_eq!(said, [Some(100_000), Some(16), Some(3)]);
    }

    proptest! {
        /// Around the limit: a letter fits, is whole when it can be, and says of what it lacks.
        #[test]
        fn a_letter_is_whole_or_says_what_it_lacks(
            key in 0_usize..3000,
            sizes in proptest::collection::vec(0_usize..3000, 0..4),
            spare in -200_i64..200,
        ) {
            let limit = 65_536;
            let letters = letters(limit);
            let headers: Vec<_> = sizes.iter().map(|bytes| ("h".to_owned(), Bytes::from(vec![7; *bytes]))).collect();
            let empty = letter(&letters, &record(vec![1; key], headers.clone(), Vec::new()));
            let beside = empty.headers.iter().map(|(name, value)| name.len() + value.len());
            let room = letters.limit.value_bytes_max_beside(key, beside) as i64;
            let value = usize::try_from(room - spare).expect("positive");
            let record = record(vec![1; key], headers, vec![8; value]);
            let letter = letter(&letters, &record);
            let whole = [value, key, sizes.len()];
            let kept = [letter.value.len(), letter.key.len(), originals(&letter)];
            prop_assert_eq!(kept == whole, spare >= 0);
            let [value, key, left_out] = told(&letter);
            prop_assert_eq!([value.is_some(), key.is_some()], [kept[0] < whole[0], kept[1] < whole[1]]);
            prop_assert_eq!(left_out.unwrap_or_default(), whole[2] - kept[2]);
        }
    }
}
