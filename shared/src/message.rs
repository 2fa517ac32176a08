//! The msgpack messages of the ingest topic: Sentry's public `ingest-attachments` schema, version 1.
//!
//! A crash is any number of [`AttachmentChunk`]s and then one [`EventMessage`], all keyed by the event id. What the
//! schema lacks stands in record headers, see [`Headers`].

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::content::Content;
use crate::envelope::AttachmentKind;
use crate::id::{AttachmentId, EventId, ProjectId};

/// Header of a chunk: how many chunks its attachment has, decimal.
pub const CHUNK_COUNT_HEADER: &str = "chunk_count";
/// Header of a chunk: where in the attachment its payload starts, decimal bytes.
pub const CHUNK_OFFSET_HEADER: &str = "chunk_offset";
/// Header of an event: `<attachment id>=<hex>,…`, the BLAKE3 of each attachment.
pub const BLAKE3_HEADER: &str = "blake3";
/// Header of both: W3C trace context.
pub const TRACEPARENT_HEADER: &str = "traceparent";

/// Header of an event whose spool file was damaged: what is wrong with it. There are no chunks then.
pub const SPOOL_DAMAGE_HEADER: &str = "spool_damage";

/// One message as a producer wrote it; borrows the record's bytes.
#[derive(Debug, PartialEq)]
pub enum Message<'a> {
    /// A slice of an attachment.
    AttachmentChunk(AttachmentChunk<'a>),
    /// The final message of a crash.
    Event(EventMessage<'a>),
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
    /// When the upload was received, in seconds since 1970.
    pub start_time: u64,
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

/// An attachment as the event message lists it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
}

/// Why bytes are no message.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// Not a msgpack map with a text `type`.
    #[error("expected a msgpack map with a text field \"type\", found otherwise: {0}")]
    NotAMessage(#[source] rmp_serde::decode::Error),
    /// A type we do not know.
    #[error("expected a message of type \"attachment_chunk\" or \"event\", found {0:?}")]
    UnknownType(String),
    /// The type is known, the fields are not as they should be.
    #[error("expected the fields of an {kind:?} message: {error}")]
    Malformed {
        /// The message's type.
        kind: &'static str,
        /// What is wrong with it.
        error: rmp_serde::decode::Error,
    },
}

impl MessageError {
    /// The reason's name in dead letters and metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotAMessage(_) => "not_a_message",
            Self::UnknownType(_) => "unknown_type",
            Self::Malformed { .. } => "malformed",
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
        match kind {
            CHUNK_TYPE => decode_as(CHUNK_TYPE, bytes).map(Self::AttachmentChunk),
            EVENT_TYPE => decode_as(EVENT_TYPE, bytes).map(Self::Event),
            other => Err(MessageError::UnknownType(other.chars().take(80).collect())),
        }
    }
}

const CHUNK_TYPE: &str = "attachment_chunk";
const EVENT_TYPE: &str = "event";

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

impl ChunkHead {
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

/// What our record headers say; all of it absent on a foreign producer's records.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Headers {
    /// [`CHUNK_COUNT_HEADER`]
    pub chunk_count: Option<u32>,
    /// [`CHUNK_OFFSET_HEADER`]
    pub chunk_offset: Option<u64>,
    /// [`BLAKE3_HEADER`], by attachment id
    pub blake3: HashMap<AttachmentId, blake3::Hash>,
    /// [`TRACEPARENT_HEADER`]
    pub traceparent: Option<String>,
    /// [`SPOOL_DAMAGE_HEADER`]
    pub spool_damage: Option<String>,
}

impl Headers {
    /// Reads the headers of a record. A header that cannot be read counts as absent: it only ever adds a check.
    pub fn read<'a>(headers: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        let mut read = Self::default();
        for (name, value) in headers {
            let Ok(value) = std::str::from_utf8(value) else {
                continue;
            };
            match name {
                CHUNK_COUNT_HEADER => read.chunk_count = value.parse().ok(),
                CHUNK_OFFSET_HEADER => read.chunk_offset = value.parse().ok(),
                BLAKE3_HEADER => read.blake3 = read_checksums(value),
                TRACEPARENT_HEADER => read.traceparent = Some(value.to_owned()),
                SPOOL_DAMAGE_HEADER => read.spool_damage = Some(value.to_owned()),
                _ => {}
            }
        }
        read
    }
}

/// The value of [`BLAKE3_HEADER`].
pub fn write_checksums<'a>(
    checksums: impl IntoIterator<Item = (&'a AttachmentId, blake3::Hash)>,
) -> String {
    let entries: Vec<String> = checksums
        .into_iter()
        .map(|(id, hash)| format!("{id}={}", hash.to_hex()))
        .collect();
    entries.join(",")
}

fn read_checksums(value: &str) -> HashMap<AttachmentId, blake3::Hash> {
    let entries = value.split(',').filter_map(|entry| entry.rsplit_once('='));
    entries
        .filter_map(|(id, hex)| Some((AttachmentId::from(id), blake3::Hash::from_hex(hex).ok()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(chunk_index: u32) -> ChunkHead {
        ChunkHead {
            event_id: EventId::random(),
            project_id: ProjectId::new(7).expect("not zero"),
            id: AttachmentId::random(),
            chunk_index,
        }
    }

    proptest! {
        #[test]
        fn a_chunk_reads_back_as_written(payload: Vec<u8>, index: u32, cut in 0usize..10) {
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

        #[test]
        fn checksums_read_back_as_written(contents in proptest::collection::vec(any::<Vec<u8>>(), 0..5)) {
            let checksums: HashMap<AttachmentId, blake3::Hash> =
                contents.iter().map(|content| (AttachmentId::random(), blake3::hash(content))).collect();
            let value = write_checksums(checksums.iter().map(|(id, hash)| (id, *hash)));
            prop_assert_eq!(Headers::read([(BLAKE3_HEADER, value.as_bytes())]).blake3, checksums);
        }
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
            project_id: ProjectId::new(1).expect("not zero"),
            start_time: 1_790_000_000,
            remote_addr: Some("192.0.2.1".into()),
            payload: br#"{"extra":{}}"#,
            attachments: vec![AttachmentEntry {
                id: AttachmentId::random(),
                name: "minidump.dmp".into(),
                content_type: None,
                attachment_type: AttachmentKind::Minidump,
                chunks: 3,
                size: 12,
                rate_limited: false,
            }],
        };
        let bytes = event.encode();
        assert_eq!(
            Message::decode(&bytes).expect("an event"),
            Message::Event(event)
        );
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
