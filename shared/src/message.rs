//! The msgpack messages of the ingest topic: Sentry's public `ingest-attachments` schema, version 1.
//!
//! A crash is any number of [`AttachmentChunk`]s and then one [`EventMessage`], all keyed by the event id. What the
//! schema lacks stands in record headers, see [`Headers`].

mod headers;
mod start_time;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use headers::{
    BLAKE3_HEADER, CHUNK_COUNT_HEADER, CHUNK_OFFSET_HEADER, Headers, SPOOL_DAMAGE_HEADER,
    TRACEPARENT_HEADER, write_checksums,
};
pub use start_time::StartTime;

use crate::content::Content;
use crate::envelope::AttachmentKind;
use crate::id::{AttachmentId, EventId, InvalidId, ProjectId};
use crate::lenient::{self, Limits};
use crate::limits;

/// One message as a producer wrote it; borrows the record's bytes.
#[derive(Debug, PartialEq)]
pub enum Message<'a> {
    /// A slice of an attachment.
    AttachmentChunk(AttachmentChunk<'a>),
    /// The final message of a crash.
    Event(EventMessage<'a>),
    /// A file that is sent apart from its crash (foreign producers only).
    Attachment(AttachmentMessage),
    /// What a user said about a crash, apart from it (foreign producers only).
    UserReport(UserReportMessage<'a>),
}

/// A slice of an attachment.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct AttachmentChunk<'a> {
    /// The crash it belongs to.
    #[serde(with = "simple_event_id")]
    pub event_id: EventId,
    /// The crash's project.
    pub project_id: ProjectId,
    /// The attachment it is a slice of.
    pub id: AttachmentId,
    /// Its place among the attachment's chunks, from 0.
    pub chunk_index: u32,
    /// The bytes.
    #[serde(with = "serde_bytes")]
    pub payload: &'a [u8],
}

/// The final message of a crash: it stands in the log only when all its chunks do.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct EventMessage<'a> {
    /// The crash.
    #[serde(with = "simple_event_id")]
    pub event_id: EventId,
    /// Its project.
    pub project_id: ProjectId,
    /// When the upload was received.
    #[serde(default)]
    pub start_time: StartTime,
    /// The client's address, without port.
    #[serde(default)]
    pub remote_addr: Option<String>,
    /// The event as JSON.
    #[serde(with = "serde_bytes")]
    pub payload: &'a [u8],
    /// What the chunks make up.
    #[serde(default)]
    pub attachments: Vec<AttachmentEntry>,
}

/// A file that is sent apart from its crash; its chunks, when it has any, stand before it under the crash's id.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct AttachmentMessage {
    /// The crash.
    #[serde(with = "simple_event_id")]
    pub event_id: EventId,
    /// The crash's project.
    pub project_id: ProjectId,
    /// The file.
    pub attachment: AttachmentEntry,
}

/// What a user said about a crash, apart from it. Which crash stands in the payload.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct UserReportMessage<'a> {
    /// The crash's project.
    pub project_id: ProjectId,
    /// When it was received.
    #[serde(default)]
    pub start_time: StartTime,
    /// JSON: `{"event_id", "name", "email", "comments"}`
    #[serde(with = "serde_bytes")]
    pub payload: &'a [u8],
}

impl UserReportMessage<'_> {
    /// The crash that it is about.
    ///
    /// # Errors
    /// [`MessageError::NoCrash`] when the payload does not say.
    pub fn event_id(&self) -> Result<EventId, MessageError> {
        let (report, _) = lenient::json(self.payload, Limits::default())
            .into_object()
            .map_err(MessageError::NoCrash)?;
        let id = report.get("event_id").and_then(Value::as_str);
        let id = id.ok_or_else(|| MessageError::NoCrash("no text event_id".to_owned()))?;
        id.parse()
            .map_err(|error: InvalidId| MessageError::NoCrash(error.to_string()))
    }
}

/// An attachment as the event message lists it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AttachmentEntry {
    /// The id its chunks carry.
    pub id: AttachmentId,
    /// The file name.
    #[serde(default)]
    pub name: String,
    /// The media type.
    #[serde(default)]
    pub content_type: Option<String>,
    /// What it is.
    #[serde(default)]
    pub attachment_type: AttachmentKind,
    /// How many chunks it was cut into; 0 for an empty one.
    #[serde(default)]
    pub chunks: u32,
    /// Its size in bytes.
    #[serde(default)]
    pub size: u64,
    /// Whether a quota dropped its bytes (foreign producers only).
    #[serde(default)]
    pub rate_limited: bool,
    /// Its bytes, in place of chunks (foreign producers only).
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "inline_bytes"
    )]
    pub data: Option<Bytes>,
    /// Where its bytes are in an object store that we do not know (foreign producers only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored_id: Option<String>,
}

/// Why bytes are no message.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// Not a msgpack map with a text `type`.
    #[error("expected a msgpack map with a text field \"type\", found otherwise: {0}")]
    NotAMessage(#[source] rmp_serde::decode::Error),
    /// A type we do not know.
    #[error(
        "found a message of type {0:?}, expected \"attachment_chunk\", \"event\", \"attachment\" or \"user_report\""
    )]
    UnknownType(String),
    /// The type is known, the fields are not as they should be.
    #[error("expected the fields of an {kind:?} message: {error}")]
    Malformed {
        /// The message's type.
        kind: &'static str,
        /// What is wrong with it.
        error: rmp_serde::decode::Error,
    },
    /// A user report that does not say which crash it is about.
    #[error("expected a user report in JSON with an \"event_id\", found {0}")]
    NoCrash(String),
    /// A number that no sender of crashes needs, and that would cost memory to believe.
    #[error("expected at most {most} {of}, found {found}")]
    Oversized {
        /// What is counted.
        of: &'static str,
        /// How many there are.
        found: u64,
        /// How many there may be.
        most: u64,
    },
}

impl MessageError {
    /// Every reason there is.
    pub const REASONS: [&'static str; 5] = [
        "not_a_message",
        "unknown_type",
        "malformed",
        "no_crash",
        "oversized",
    ];

    /// The reason's name in dead letters and metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotAMessage(_) => "not_a_message",
            Self::UnknownType(_) => "unknown_type",
            Self::Malformed { .. } => "malformed",
            Self::NoCrash(_) => "no_crash",
            Self::Oversized { .. } => "oversized",
        }
    }
}

impl<'a> Message<'a> {
    /// Reads a message.
    ///
    /// # Errors
    /// [`MessageError`], which says what was expected and found.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, MessageError> {
        let Tag { kind } = rmp_serde::from_slice(bytes).map_err(MessageError::NotAMessage)?;
        let message = match kind {
            CHUNK_TYPE => Self::AttachmentChunk(decode_as(CHUNK_TYPE, bytes)?),
            EVENT_TYPE => Self::Event(decode_as(EVENT_TYPE, bytes)?),
            ATTACHMENT_TYPE => Self::Attachment(decode_as(ATTACHMENT_TYPE, bytes)?),
            USER_REPORT_TYPE => Self::UserReport(decode_as(USER_REPORT_TYPE, bytes)?),
            other => return Err(MessageError::UnknownType(other.chars().take(80).collect())),
        };
        message.check_counts()?;
        Ok(message)
    }

    /// Refuses counts that would cost memory to believe.
    fn check_counts(&self) -> Result<(), MessageError> {
        match self {
            Self::AttachmentChunk(chunk) => check_chunks(u64::from(chunk.chunk_index) + 1),
            Self::Event(event) => {
                let attachments = event.attachments.len() as u64;
                check("attachments", attachments, limits::EVENT_ATTACHMENTS_MAX)?;
                let mut entries = event.attachments.iter();
                entries.try_for_each(|entry| check_chunks(u64::from(entry.chunks)))
            }
            Self::Attachment(message) => check_chunks(u64::from(message.attachment.chunks)),
            Self::UserReport(_) => Ok(()),
        }
    }
}

fn check_chunks(found: u64) -> Result<(), MessageError> {
    check(
        "chunks of one attachment",
        found,
        limits::ATTACHMENT_CHUNKS_MAX,
    )
}

fn check(of: &'static str, found: u64, most: u64) -> Result<(), MessageError> {
    if found <= most {
        Ok(())
    } else {
        Err(MessageError::Oversized { of, found, most })
    }
}

const CHUNK_TYPE: &str = "attachment_chunk";
const EVENT_TYPE: &str = "event";
const ATTACHMENT_TYPE: &str = "attachment";
const USER_REPORT_TYPE: &str = "user_report";

#[derive(Deserialize)]
struct Tag<'a> {
    #[serde(rename = "type", borrow)]
    kind: &'a str,
}

#[derive(Serialize)]
struct Tagged<'t, T> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    body: &'t T,
}

fn decode_as<'a, T: Deserialize<'a>>(
    kind: &'static str,
    bytes: &'a [u8],
) -> Result<T, MessageError> {
    rmp_serde::from_slice(bytes).map_err(|error| MessageError::Malformed { kind, error })
}

impl EventMessage<'_> {
    /// The message's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode_named(&Tagged {
            kind: EVENT_TYPE,
            body: self,
        })
    }
}

/// Everything of a chunk but its bytes.
#[derive(Clone, Debug)]
pub struct ChunkHead {
    /// The crash it belongs to.
    pub event_id: EventId,
    /// The crash's project.
    pub project_id: ProjectId,
    /// The attachment it is a slice of.
    pub id: AttachmentId,
    /// Its place among the attachment's chunks, from 0.
    pub chunk_index: u32,
}

/// The most bytes msgpack puts before a binary.
const BINARY_HEAD_BYTES_MAX: usize = 5;

/// Bytes of the key of a chunk of ours: event id, attachment id as text, index.
const CHUNK_KEY_BYTES: usize = 16 + 36 + 4;

impl ChunkHead {
    /// The key of the chunk's record. No other chunk has it, so that a topic that is compacted by mistake keeps them all;
    /// the partition is that of the event id alone.
    #[must_use]
    pub fn key(&self) -> Vec<u8> {
        let mut key = Vec::with_capacity(CHUNK_KEY_BYTES);
        key.extend_from_slice(self.event_id.as_bytes());
        key.extend_from_slice(self.id.as_str().as_bytes());
        key.extend_from_slice(&self.chunk_index.to_be_bytes());
        key
    }

    /// The most bytes the message takes besides its payload, whatever the index.
    #[must_use]
    pub fn overhead_bytes_max(&self) -> usize {
        let empty = Self {
            chunk_index: u32::MAX,
            ..self.clone()
        }
        .encode_empty();
        empty.len() + BINARY_HEAD_BYTES_MAX
    }

    /// The message of the `bytes` bytes of `content` from `start` on, copied once, straight into place.
    ///
    /// # Errors
    /// What the file system said when the bytes are in a file.
    pub fn encode(&self, content: &Content, start: u64, bytes: usize) -> std::io::Result<Vec<u8>> {
        let mut message = self.encode_empty();
        // An empty binary is two bytes, `bin 8` and length 0, and the payload is the last field.
        message.truncate(message.len() - 2);
        message.reserve_exact(BINARY_HEAD_BYTES_MAX + bytes);
        match (u8::try_from(bytes), u16::try_from(bytes)) {
            (Ok(short), _) => message.extend([0xc4, short]),
            (_, Ok(medium)) => {
                message.push(0xc5);
                message.extend(medium.to_be_bytes());
            }
            _ => {
                message.push(0xc6);
                message.extend((bytes as u32).to_be_bytes());
            }
        }
        content.append_to(&mut message, start, bytes)?;
        Ok(message)
    }

    fn encode_empty(&self) -> Vec<u8> {
        let Self {
            event_id,
            project_id,
            id,
            chunk_index,
        } = self.clone();
        let chunk = AttachmentChunk {
            event_id,
            project_id,
            id,
            chunk_index,
            payload: &[],
        };
        encode_named(&Tagged {
            kind: CHUNK_TYPE,
            body: &chunk,
        })
    }
}

fn encode_named<T: Serialize>(message: &T) -> Vec<u8> {
    // INVARIANT: our messages have text keys and plain values, and a Vec takes every byte: encoding cannot fail.
    rmp_serde::to_vec_named(message).expect("messages encode")
}

mod inline_bytes {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer};
    use serde_bytes::ByteBuf;

    pub(super) fn serialize<S: Serializer>(
        data: &Option<Bytes>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match data {
            Some(data) => serializer.serialize_bytes(data),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Bytes>, D::Error> {
        let data = Option::<ByteBuf>::deserialize(deserializer)?;
        Ok(data.map(|data| Bytes::from(data.into_vec())))
    }
}

mod simple_event_id {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::id::EventId;

    pub(super) fn serialize<S: Serializer>(id: &EventId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&id.simple())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<EventId, D::Error> {
        EventId::deserialize(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(chunk_index: u32) -> ChunkHead {
        ChunkHead {
            event_id: EventId::random(),
            project_id: ProjectId::new(7),
            id: AttachmentId::random(),
            chunk_index,
        }
    }

    fn start_time() -> StartTime {
        let at: jiff::Timestamp = "2026-09-21T13:33:20Z".parse().expect("a time");
        at.into()
    }

    proptest! {
        #[test]
        fn a_chunk_reads_back_as_written(payload: Vec<u8>, index in 0..limits::ATTACHMENT_CHUNKS_MAX as u32, cut in 0usize..10) {
            let head = head(index);
            let start = cut.min(payload.len());
            let content = Content::from(payload.clone());
            let bytes = head.encode(&content, start as u64, payload.len() - start).expect("in memory");
            prop_assert!(bytes.len() <= head.overhead_bytes_max() + payload.len() - start);
            let Ok(Message::AttachmentChunk(read)) = Message::decode(&bytes) else { panic!("a chunk") };
            prop_assert_eq!(read.payload, &payload[start..]);
            prop_assert_eq!(read.event_id, head.event_id);
            prop_assert_eq!(read.project_id, head.project_id);
            prop_assert_eq!(read.id, head.id);
            prop_assert_eq!(read.chunk_index, index);
        }

        #[test]
        fn no_bytes_make_decoding_panic(bytes: Vec<u8>) {
            let _decoded = Message::decode(&bytes);
        }
    }

    #[test]
    fn keys_of_two_chunks_differ_and_begin_with_the_event_id() {
        let first = head(0);
        let second = ChunkHead {
            chunk_index: 1,
            ..first.clone()
        };
        let other = ChunkHead {
            id: AttachmentId::random(),
            ..first.clone()
        };
        let keys = [first.key(), second.key(), other.key()];
        for key in &keys {
            assert!(key.starts_with(first.event_id.as_bytes()));
            assert_eq!(key.len(), CHUNK_KEY_BYTES);
        }
        let different: std::collections::HashSet<_> = keys.iter().collect();
        assert_eq!(different.len(), keys.len());
    }

    #[test]
    fn chunk_lengths_at_the_edges_of_msgpack_binaries_read_back() {
        for bytes in [0usize, 1, 255, 256, 65_535, 65_536, 70_000] {
            let content = Content::from(vec![7; bytes]);
            let message = head(0).encode(&content, 0, bytes).expect("in memory");
            let Ok(Message::AttachmentChunk(read)) = Message::decode(&message) else {
                panic!("a chunk")
            };
            assert_eq!(read.payload.len(), bytes);
        }
    }

    #[test]
    fn an_event_reads_back_as_written() {
        let event = EventMessage {
            event_id: EventId::random(),
            project_id: ProjectId::new(1),
            start_time: start_time(),
            remote_addr: Some("192.0.2.1".into()),
            payload: br#"{"extra":{}}"#,
            attachments: vec![AttachmentEntry {
                id: AttachmentId::random(),
                name: "minidump.dmp".into(),
                content_type: None,
                attachment_type: AttachmentKind::Minidump,
                chunks: 3,
                size: 12,
                ..AttachmentEntry::default()
            }],
        };
        let bytes = event.encode();
        assert_eq!(
            Message::decode(&bytes).expect("an event"),
            Message::Event(event)
        );
    }

    #[test]
    fn a_foreign_file_and_a_user_report_read_back() {
        let (event_id, project_id) = (EventId::random(), ProjectId::new(1));
        let file = AttachmentMessage {
            event_id,
            project_id,
            attachment: AttachmentEntry {
                id: AttachmentId::random(),
                data: Some(Bytes::from_static(b"a log")),
                ..AttachmentEntry::default()
            },
        };
        let bytes = encode_named(&Tagged {
            kind: ATTACHMENT_TYPE,
            body: &file,
        });
        assert_eq!(
            Message::decode(&bytes).expect("a file"),
            Message::Attachment(file)
        );
        let payload = format!(
            r#"{{"event_id":"{}","comments":"it broke"}}"#,
            event_id.simple()
        );
        for (payload, about) in [(payload.as_str(), Some(event_id)), ("{}", None)] {
            let report = UserReportMessage {
                project_id,
                start_time: start_time(),
                payload: payload.as_bytes(),
            };
            let bytes = encode_named(&Tagged {
                kind: USER_REPORT_TYPE,
                body: &report,
            });
            let Message::UserReport(read) = Message::decode(&bytes).expect("a report") else {
                panic!("a report")
            };
            assert_eq!(read.event_id().ok(), about);
        }
    }

    #[test]
    fn counts_that_cost_memory_are_refused() {
        let most = u32::try_from(limits::ATTACHMENT_CHUNKS_MAX).expect("fits");
        for (index, fits) in [(most - 1, true), (most, false), (u32::MAX, false)] {
            let bytes = head(index)
                .encode(&Content::default(), 0, 0)
                .expect("in memory");
            assert_eq!(Message::decode(&bytes).is_ok(), fits, "{index}");
        }
    }

    #[test]
    fn what_is_no_message_is_named() {
        let unknown =
            rmp_serde::to_vec_named(&serde_json::json!({"type": "profile"})).expect("encodes");
        assert!(
            matches!(Message::decode(&unknown), Err(MessageError::UnknownType(kind)) if kind == "profile")
        );
        let lacking =
            rmp_serde::to_vec_named(&serde_json::json!({"type": "event"})).expect("encodes");
        assert!(matches!(
            Message::decode(&lacking),
            Err(MessageError::Malformed { kind: "event", .. })
        ));
        assert!(matches!(
            Message::decode(b"\xc1"),
            Err(MessageError::NotAMessage(_))
        ));
    }
}
