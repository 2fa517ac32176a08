//! The dead letters' wire: what the headers of a letter say, and of the marker that says that one was sent again. Pure.

use bytes::Bytes;
use jiff::Timestamp;

use crate::kafka::TopicRecord;

/// The topic that a letter's record stood in.
pub const ORIGIN_TOPIC_HEADER: &str = "origin_topic";
/// Its partition there.
pub const ORIGIN_PARTITION_HEADER: &str = "origin_partition";
/// Its offset there.
pub const ORIGIN_OFFSET_HEADER: &str = "origin_offset";
/// When it was written there, as RFC 3339 has it.
pub const ORIGIN_TIMESTAMP_HEADER: &str = "origin_timestamp";
/// Why it was not taken, a word.
pub const REASON_HEADER: &str = "reason";
/// Why it was not taken, a sentence.
pub const ERROR_HEADER: &str = "error";
/// How often it was tried.
pub const ATTEMPTS_HEADER: &str = "attempts";
/// The length of its value, when that was cut.
pub const ORIGINAL_BYTES_HEADER: &str = "original_bytes";
/// The length of its key, when that was cut.
pub const ORIGINAL_KEY_BYTES_HEADER: &str = "original_key_bytes";
/// How many of its headers were left out.
pub const ORIGINAL_HEADERS_LEFT_OUT_HEADER: &str = "original_headers_left_out";
/// What the names of its own headers begin with.
pub const ORIGINAL_HEADER_PREFIX: &str = "original_header.";
/// On a marker: the partition of the letter that was sent again.
pub const REPLAYED_PARTITION_HEADER: &str = "replayed_partition";
/// On a marker: its offset.
pub const REPLAYED_OFFSET_HEADER: &str = "replayed_offset";

/// Where a letter stands among the dead letters. `P:O`
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.partition, self.offset)
    }
}

impl std::str::FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once(':');
        let numbers = parts.and_then(|(partition, offset)| {
            let (partition, offset) = (partition.parse().ok()?, offset.parse().ok()?);
            (partition >= 0 && offset >= 0).then_some(Self { partition, offset })
        });
        numbers.ok_or_else(|| format!("expected PARTITION:OFFSET such as 3:1047, found {text:?}"))
    }
}

/// What stands in the dead letters' topic.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// A record that was not taken.
    Letter(Letter),
    /// The letter there was sent again, when this was written.
    Replayed(Place),
    /// Something that we did not write.
    Foreign,
}

/// What the headers of a letter say.
#[derive(Debug, Clone, PartialEq)]
pub struct Letter {
    /// Where its record stood.
    pub origin_topic: String,
    /// Where its record stood.
    pub origin: Place,
    /// When its record was written.
    pub written_at: Option<Timestamp>,
    /// Why it was not taken, a word.
    pub reason: String,
    /// Why it was not taken, a sentence.
    pub error: String,
    /// What of the record is not in the letter; `None` when all of it is.
    pub cut: Option<String>,
}

impl Entry {
    /// Reads a record of the dead letters' topic.
    #[must_use]
    pub fn read(record: &TopicRecord) -> Self {
        match (letter(record), replayed(record)) {
            (Some(letter), _) => Self::Letter(letter),
            (None, Some(place)) => Self::Replayed(place),
            (None, None) => Self::Foreign,
        }
    }
}

/// The headers that the record of a letter had, in order.
pub fn original_headers(letter: &TopicRecord) -> impl Iterator<Item = (&str, &Bytes)> {
    letter
        .headers
        .iter()
        .filter_map(|(name, value)| Some((name.strip_prefix(ORIGINAL_HEADER_PREFIX)?, value)))
}

fn letter(record: &TopicRecord) -> Option<Letter> {
    let text = |name| record.header(name).map(str::to_owned);
    Some(Letter {
        origin_topic: text(ORIGIN_TOPIC_HEADER)?,
        origin: place(record, ORIGIN_PARTITION_HEADER, ORIGIN_OFFSET_HEADER)?,
        written_at: record
            .header(ORIGIN_TIMESTAMP_HEADER)
            .and_then(|written| written.parse().ok()),
        reason: text(REASON_HEADER)?,
        error: text(ERROR_HEADER).unwrap_or_default(),
        cut: cut(record),
    })
}

fn replayed(record: &TopicRecord) -> Option<Place> {
    place(record, REPLAYED_PARTITION_HEADER, REPLAYED_OFFSET_HEADER)
}

fn place(record: &TopicRecord, partition: &str, offset: &str) -> Option<Place> {
    Some(Place {
        partition: record.header(partition)?.parse().ok()?,
        offset: record.header(offset)?.parse().ok()?,
    })
}

fn cut(record: &TopicRecord) -> Option<String> {
    let mut cut = Vec::new();
    for (name, kept, what) in [
        (ORIGINAL_BYTES_HEADER, record.value.len(), "bytes"),
        (
            ORIGINAL_KEY_BYTES_HEADER,
            record.key.len(),
            "bytes of the key",
        ),
    ] {
        if let Some(whole) = record.header(name) {
            cut.push(format!("{kept} of {whole} {what}"));
        }
    }
    if let Some(left_out) = record.header(ORIGINAL_HEADERS_LEFT_OUT_HEADER) {
        cut.push(format!("all but {left_out} of its headers"));
    }
    (!cut.is_empty()).then(|| cut.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(headers: &[(&str, &str)]) -> TopicRecord {
        let owned = |(name, value): &(&str, &str)| {
            ((*name).to_owned(), Bytes::copy_from_slice(value.as_bytes()))
        };
        TopicRecord {
            partition: 1,
            offset: 2,
            timestamp: None,
            key: Bytes::new(),
            headers: headers.iter().map(owned).collect(),
            value: Bytes::from_static(b"abc"),
        }
    }

    #[test]
    fn letters_markers_and_others_are_told_apart() {
        let origin = [
            ("origin_topic", "t"),
            ("origin_partition", "3"),
            ("origin_offset", "17"),
            ("reason", "malformed"),
            ("error", "why"),
            ("original_bytes", "9"),
            ("original_header.blake3", "x"),
        ];
        let record_of_letter = record(&origin);
        let Entry::Letter(letter) = Entry::read(&record_of_letter) else {
            panic!("a letter")
        };
        assert_eq!(letter.origin.to_string(), "3:17");
        assert_eq!(letter.cut.as_deref(), Some("3 of 9 bytes"));
        let originals: Vec<_> = original_headers(&record_of_letter).collect();
        assert_eq!(originals, [("blake3", &Bytes::from_static(b"x"))]);
        let marker = record(&[("replayed_partition", "1"), ("replayed_offset", "2")]);
        let place = "1:2".parse().expect("a place");
        assert_eq!(Entry::read(&marker), Entry::Replayed(place));
        assert_eq!(Entry::read(&record(&[])), Entry::Foreign);
        assert_eq!(Entry::read(&record(&origin[..3])), Entry::Foreign);
        for wrong in ["", "1", "1:", "-1:2", "1:-2", "a:b"] {
            assert!(wrong.parse::<Place>().is_err(), "{wrong:?}");
        }
    }
}
