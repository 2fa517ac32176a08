//! An envelope as records: the chunks that fit a topic's limit, then the event. Pure but for reading contents.

use std::num::NonZeroU32;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use shared::chunk::Cut;
use shared::content::Content;
use shared::envelope::{Attachment, AttachmentKind, Envelope, OVERFLOWED_EVENT};
use shared::id::{AttachmentId, EventId, ProjectId};
use shared::kafka::Record;
use shared::message::{
    AttachmentEntry, BLAKE3_HEADER, CHUNK_COUNT_HEADER, CHUNK_OFFSET_HEADER, ChunkHead,
    EventMessage, SPOOL_DAMAGE_HEADER, TRACEPARENT_HEADER, write_checksums,
};
use shared::size_limit::TopicLimit;

/// The event's JSON when the real one travels as an attachment.
const STAND_IN_EVENT: &[u8] = b"{}";

/// One sending of an envelope: its attachments under fresh ids, cut for one limit.
pub(super) struct Sending<'e> {
    envelope: &'e Envelope,
    topic: Arc<str>,
    partition: i32,
    traceparent: String,
    event: Bytes,
    attachments: Vec<(Attachment, Cut)>,
    event_bytes_max: usize,
}

/// One chunk to be made into a record.
#[derive(Clone)]
pub(super) struct Chunk {
    head: ChunkHead,
    content: Content,
    start: u64,
    bytes: usize,
    chunks: u32,
}

impl<'e> Sending<'e> {
    /// Cuts the envelope for `limit`, or for `chunk_bytes_max` where that is less. All of it goes to `partition`, also when
    /// the topic gets others meanwhile.
    pub(super) fn new(
        envelope: &'e Envelope,
        (topic, partition): (Arc<str>, i32),
        limit: TopicLimit,
        chunk_bytes_max: Option<u64>,
    ) -> Self {
        let traceparent = traceparent(envelope.event_id);
        let mut sending = Self {
            envelope,
            topic,
            partition,
            traceparent,
            event: envelope.event.clone(),
            attachments: Vec::with_capacity(envelope.attachments.len()),
            event_bytes_max: 0,
        };
        let chunk_bytes = sending.chunk_bytes(limit, chunk_bytes_max);
        let attachments = envelope
            .attachments
            .iter()
            .map(|attachment| sent_again(attachment, chunk_bytes));
        sending.attachments = attachments.collect();
        let checksums = sending.checksums();
        let headers = [
            (BLAKE3_HEADER, checksums.as_str()),
            (TRACEPARENT_HEADER, sending.traceparent.as_str()),
        ];
        sending.event_bytes_max =
            limit.value_bytes_max(envelope.event_id.as_bytes().len(), headers);
        if sending.event_message().len() > sending.event_bytes_max {
            sending.overflow_event(chunk_bytes);
        }
        sending
    }

    /// The largest payload whose chunk message is a record within the limit.
    fn chunk_bytes(&self, limit: TopicLimit, chunk_bytes_max: Option<u64>) -> NonZeroU32 {
        let head = self.head(&AttachmentId::random(), 0);
        let (count, offset) = (u32::MAX.to_string(), u64::MAX.to_string());
        let headers = [
            (CHUNK_COUNT_HEADER, count.as_str()),
            (CHUNK_OFFSET_HEADER, offset.as_str()),
            (TRACEPARENT_HEADER, self.traceparent.as_str()),
        ];
        let value_bytes_max = limit.value_bytes_max(head.key().len(), headers);
        let payload_bytes_max = value_bytes_max.saturating_sub(head.overhead_bytes_max()) as u64;
        let bytes = payload_bytes_max
            .min(chunk_bytes_max.unwrap_or(u64::MAX))
            .min(u64::from(u32::MAX));
        // INVARIANT: the smallest limit leaves room for a payload, and configuration refuses a chunk size of 0.
        NonZeroU32::new(bytes as u32).expect("a chunk holds at least one byte")
    }

    /// Moves event JSON that does not fit the event message into an attachment of its own.
    fn overflow_event(&mut self, chunk_bytes: NonZeroU32) {
        let event = std::mem::replace(&mut self.event, Bytes::from_static(STAND_IN_EVENT));
        let overflowed = Attachment {
            id: AttachmentId::random(),
            name: OVERFLOWED_EVENT.to_owned(),
            content_type: Some("application/json".to_owned()),
            kind: AttachmentKind::EventPayload,
            blake3: Some(blake3::hash(&event)),
            content: Content::from(event),
        };
        self.attachments.push(sent_again(&overflowed, chunk_bytes));
    }

    /// Every chunk of every attachment.
    pub(super) fn chunks(&self) -> impl Iterator<Item = Chunk> + '_ {
        self.attachments.iter().flat_map(|(attachment, cut)| {
            cut.ranges().zip(0..).map(|(range, index)| Chunk {
                head: self.head(&attachment.id, index),
                content: attachment.content.clone(),
                start: range.start,
                bytes: (range.end - range.start) as usize,
                chunks: cut.chunks(),
            })
        })
    }

    /// The record of a chunk. Blocks on the disk when the content is in a file.
    pub(super) fn chunk_record(&self, chunk: &Chunk) -> std::io::Result<Record> {
        chunk.record(&self.topic, self.partition, self.traceparent.clone())
    }

    /// What [`Chunk::record`] needs besides the chunk.
    pub(super) fn chunk_context(&self) -> (Arc<str>, i32, String) {
        let topic = Arc::clone(&self.topic);
        (topic, self.partition, self.traceparent.clone())
    }

    /// The record of the event, to be sent when every chunk is in the log.
    pub(super) fn event_record(&self) -> Record {
        Record {
            topic: Arc::clone(&self.topic),
            partition: Some(self.partition),
            key: self.envelope.event_id.as_bytes().to_vec(),
            headers: vec![
                (BLAKE3_HEADER, self.checksums()),
                (TRACEPARENT_HEADER, self.traceparent.clone()),
            ],
            value: self.event_message(),
        }
    }

    fn event_message(&self) -> Vec<u8> {
        let entry = |(attachment, cut): &(Attachment, Cut)| AttachmentEntry {
            id: attachment.id.clone(),
            name: attachment.name.clone(),
            content_type: attachment.content_type.clone(),
            attachment_type: attachment.kind.clone(),
            chunks: cut.chunks(),
            size: attachment.content.len(),
            ..AttachmentEntry::default()
        };
        EventMessage {
            event_id: self.envelope.event_id,
            project_id: self.envelope.project_id,
            start_time: self.envelope.received_at.into(),
            remote_addr: self.envelope.remote_addr.clone(),
            payload: &self.event,
            attachments: self.attachments.iter().map(entry).collect(),
        }
        .encode()
    }

    fn checksums(&self) -> String {
        let hashes = self
            .attachments
            .iter()
            .filter_map(|(attachment, _)| Some((&attachment.id, attachment.blake3?)));
        write_checksums(hashes)
    }

    fn head(&self, id: &AttachmentId, chunk_index: u32) -> ChunkHead {
        let Envelope {
            event_id,
            project_id,
            ..
        } = *self.envelope;
        ChunkHead {
            event_id,
            project_id,
            id: id.clone(),
            chunk_index,
        }
    }
}

impl Chunk {
    /// Bytes of its payload.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether making the record never touches a disk.
    pub(super) fn is_in_memory(&self) -> bool {
        self.content.is_in_memory()
    }

    /// The record. Blocks on the disk when the content is in a file.
    pub(super) fn record(
        &self,
        topic: &Arc<str>,
        partition: i32,
        traceparent: String,
    ) -> std::io::Result<Record> {
        Ok(Record {
            topic: Arc::clone(topic),
            partition: Some(partition),
            key: self.head.key(),
            headers: vec![
                (CHUNK_COUNT_HEADER, self.chunks.to_string()),
                (CHUNK_OFFSET_HEADER, self.start.to_string()),
                (TRACEPARENT_HEADER, traceparent),
            ],
            value: self.head.encode(&self.content, self.start, self.bytes)?,
        })
    }
}

/// The event of an upload whose spool file cannot be read any more: the minidump in name only, and what is wrong with the
/// file. It fits any limit that is worked with.
pub(super) fn damage_record(
    (topic, partition): (Arc<str>, i32),
    (project_id, event_id): (ProjectId, EventId),
    received_at: Timestamp,
    file: &str,
    damage: &str,
) -> Record {
    let minidump = AttachmentEntry {
        id: AttachmentId::random(),
        name: file.to_owned(),
        attachment_type: AttachmentKind::Minidump,
        ..AttachmentEntry::default()
    };
    let event = EventMessage {
        event_id,
        project_id,
        start_time: received_at.into(),
        remote_addr: None,
        payload: STAND_IN_EVENT,
        attachments: vec![minidump],
    };
    Record {
        topic,
        partition: Some(partition),
        key: event_id.as_bytes().to_vec(),
        headers: vec![
            (SPOOL_DAMAGE_HEADER, damage.to_owned()),
            (TRACEPARENT_HEADER, traceparent(event_id)),
        ],
        value: event.encode(),
    }
}

/// The attachment under a fresh id, so that its chunks never mix with those of an earlier sending.
fn sent_again(attachment: &Attachment, chunk_bytes: NonZeroU32) -> (Attachment, Cut) {
    let cut = Cut::new(attachment.content.len(), chunk_bytes);
    (
        Attachment {
            id: AttachmentId::random(),
            ..attachment.clone()
        },
        cut,
    )
}

/// W3C trace context whose trace id is the event id, so that traces and logs are found by the same word.
fn traceparent(event_id: EventId) -> String {
    let trace = event_id.simple();
    format!("00-{trace}-{}-01", &trace[16..])
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;
    use shared::id::{EventId, ProjectId};
    use shared::message::{Headers, Message};

    use super::*;

    fn envelope(event: Vec<u8>, contents: &[Vec<u8>]) -> Envelope {
        let attachment = |content: &Vec<u8>| Attachment {
            id: AttachmentId::random(),
            name: "minidump.dmp".into(),
            content_type: Some("application/octet-stream".into()),
            kind: AttachmentKind::Minidump,
            content: Content::from(content.clone()),
            blake3: Some(blake3::hash(content)),
        };
        Envelope {
            event_id: EventId::random(),
            project_id: ProjectId::new(1),
            received_at: Timestamp::UNIX_EPOCH,
            remote_addr: None,
            event: event.into(),
            attachments: contents.iter().map(attachment).collect(),
        }
    }

    /// What librdkafka and the broker count, at most.
    fn record_bytes(record: &Record) -> usize {
        let headers: usize = record
            .headers
            .iter()
            .map(|(name, value)| name.len() + value.len() + 10)
            .sum();
        61 + 36 + record.key.len() + record.value.len() + headers
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn every_record_fits_the_limit_and_together_they_are_the_envelope(
            sizes in proptest::collection::vec(0usize..400_000, 0..4),
            event_bytes in 0usize..200_000,
            limit in 65_536u32..1_100_000,
        ) {
            let contents: Vec<Vec<u8>> = sizes.iter().map(|size| (0..*size).map(|byte| byte as u8).collect()).collect();
            let event = format!("{{\"a\":\"{}\"}}", "x".repeat(event_bytes)).into_bytes();
            let envelope = envelope(event.clone(), &contents);
            let limit = TopicLimit::new(limit).expect("large enough");
            let sending = Sending::new(&envelope, ("topic".into(), 3), limit, None);
            let mut keys = std::collections::HashSet::new();
            let mut received: std::collections::HashMap<AttachmentId, Vec<u8>> = Default::default();
            for chunk in sending.chunks() {
                let record = sending.chunk_record(&chunk).expect("in memory");
                prop_assert!(record_bytes(&record) <= limit.bytes() as usize);
                prop_assert_eq!(record.partition, Some(3));
                prop_assert!(keys.insert(record.key.clone()));
                let Ok(Message::AttachmentChunk(read)) = Message::decode(&record.value) else { panic!("a chunk") };
                let bytes = received.entry(read.id).or_default();
                let headers = Headers::read(record.headers.iter().map(|(name, value)| (*name, value.as_bytes())));
                prop_assert_eq!(headers.chunk_offset, Some(bytes.len() as u64));
                bytes.extend_from_slice(read.payload);
            }
            let record = sending.event_record();
            prop_assert!(record_bytes(&record) <= limit.bytes() as usize);
            prop_assert_eq!(record.partition, Some(3));
            prop_assert!(keys.insert(record.key.clone()));
            let Ok(Message::Event(read)) = Message::decode(&record.value) else { panic!("an event") };
            let headers = Headers::read(record.headers.iter().map(|(name, value)| (*name, value.as_bytes())));
            let mut carried = Some(Bytes::copy_from_slice(read.payload));
            for (entry, content) in read.attachments.iter().zip(contents.iter().map(Vec::as_slice).chain([&event[..]])) {
                let bytes = received.remove(&entry.id).unwrap_or_default();
                prop_assert_eq!(headers.blake3.get(&entry.id).copied(), Some(blake3::hash(&bytes)));
                prop_assert_eq!(&bytes[..], content);
                prop_assert_eq!(entry.size, content.len() as u64);
                if entry.name == OVERFLOWED_EVENT {
                    carried = Some(bytes.into());
                }
            }
            prop_assert!(received.is_empty());
            prop_assert_eq!(carried.as_deref(), Some(&event[..]));
        }
    }
}
