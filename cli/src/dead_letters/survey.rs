//! The letters that a filter chooses, and what became of them, from one reading of their topic.

use std::collections::HashMap;

use anyhow::anyhow;
use jiff::Timestamp;
use shared::config::Config;
use shared::dead_letter::{Entry, Letter, Place, original_headers};
use shared::id::{AttachmentId, EventId};
use shared::kafka::{PartitionRange, TopicReader, TopicRecord};
use shared::limits::DEAD_LETTERS_CHOSEN_MAX;
use shared::message::{Message, SPOOL_DAMAGE_HEADER};

use super::kafka_error;
use crate::CommandError;

/// Which letters.
#[derive(Debug, Clone, Default)]
pub(super) struct Filter {
    /// Any, where there is none.
    pub(super) reasons: Vec<String>,
    pub(super) since: Option<Timestamp>,
    pub(super) until: Option<Timestamp>,
    pub(super) partition: Option<i32>,
    /// Any, where there is none.
    pub(super) places: Vec<Place>,
}

/// A letter without its bytes.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) place: Place,
    pub(super) kept_at: Option<Timestamp>,
    pub(super) letter: Letter,
    pub(super) bytes: usize,
    pub(super) message: Reading,
    /// When it was sent again.
    pub(super) replayed_at: Option<Timestamp>,
}

/// What this version makes of a message.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Reading {
    /// A slice of an attachment.
    Chunk(ChunkOf),
    /// An event, and how many chunks of each attachment it lists.
    Event(EventId, Vec<(AttachmentId, u32)>),
    /// Nothing, as before; this is why.
    Refused(String),
}

/// Which chunk.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ChunkOf {
    pub(super) event: EventId,
    pub(super) attachment: AttachmentId,
    pub(super) index: u32,
}

/// What was chosen.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// Oldest first.
    pub(super) rows: Vec<Row>,
    /// Records that are neither letters nor markers.
    pub(super) foreign: u64,
}

impl Filter {
    fn chooses(&self, record: &TopicRecord, letter: &Letter) -> bool {
        let at = record.timestamp;
        let place = place_of(record);
        (self.reasons.is_empty() || self.reasons.contains(&letter.reason))
            && (self.places.is_empty() || self.places.contains(&place))
            && self
                .since
                .is_none_or(|since| at.is_none_or(|at| at >= since))
            && self
                .until
                .is_none_or(|until| at.is_none_or(|at| at <= until))
    }

    /// What has to be read: up to the end in any case, because what became of a letter stands behind it.
    fn ranges(&self, reader: &TopicReader) -> Result<Vec<PartitionRange>, CommandError> {
        let mut ranges = Vec::new();
        for partition in reader.partitions().iter().copied() {
            let places = self.places.iter();
            let places = places.filter(|place| place.partition == partition);
            let first = places.map(|place| place.offset).min();
            let is_named = self.places.is_empty() || first.is_some();
            if !is_named || self.partition.is_some_and(|wanted| wanted != partition) {
                continue;
            }
            let range = match self.since {
                Some(since) => reader.since(partition, since),
                None => reader.whole(partition),
            };
            let mut range = range.map_err(kafka_error)?;
            range.start = range.start.max(first.unwrap_or_default());
            ranges.push(range);
        }
        Ok(ranges)
    }
}

impl Survey {
    /// Reads the dead letters' topic.
    pub(super) fn take(config: &Config, filter: &Filter) -> Result<Self, CommandError> {
        let topic = &config.kafka.topics.dead_letters;
        let mut reader = TopicReader::open(&config.kafka, topic).map_err(kafka_error)?;
        reader.read(&filter.ranges(&reader)?).map_err(kafka_error)?;
        let mut survey = Self::default();
        let mut replayed: HashMap<Place, Option<Timestamp>> = HashMap::new();
        while let Some(record) = reader.next_record().map_err(kafka_error)? {
            match Entry::read(&record) {
                Entry::Letter(letter) if filter.chooses(&record, &letter) => {
                    survey.rows.push(Row::new(&record, letter));
                }
                Entry::Letter(_) => {}
                Entry::Replayed(place) => {
                    replayed.insert(place, record.timestamp);
                }
                Entry::Foreign => survey.foreign += 1,
            }
            if survey.rows.len() > DEAD_LETTERS_CHOSEN_MAX {
                return Err(CommandError::Failed(anyhow!(
                    "expected at most {DEAD_LETTERS_CHOSEN_MAX} letters, found more: choose fewer with --since, \
                     --until, --reason or --partition"
                )));
            }
        }
        let absent = filter.places.iter().find(|place| {
            let is_named = |row: &Row| row.place == **place;
            !survey.rows.iter().any(is_named)
        });
        if let Some(place) = absent {
            return Err(CommandError::Failed(anyhow!(
                "expected a letter at {place} that the other filters let pass, found none"
            )));
        }
        for row in &mut survey.rows {
            let marker = replayed.get(&row.place);
            row.replayed_at = marker.map(|at| at.unwrap_or(Timestamp::UNIX_EPOCH));
        }
        survey.rows.sort_by_key(|row| (row.kept_at, row.place));
        Ok(survey)
    }
}

impl Row {
    fn new(record: &TopicRecord, letter: Letter) -> Self {
        Self {
            place: place_of(record),
            kept_at: record.timestamp,
            letter,
            bytes: record.value.len(),
            message: Reading::of(record),
            replayed_at: None,
        }
    }
}

impl Reading {
    /// Reads a letter's message.
    pub(super) fn of(letter: &TopicRecord) -> Self {
        match Message::decode(&letter.value) {
            Ok(Message::AttachmentChunk(chunk)) => Self::Chunk(ChunkOf {
                event: chunk.event_id,
                attachment: chunk.id,
                index: chunk.chunk_index,
            }),
            Ok(Message::Event(event)) => {
                let damaged = original_headers(letter).any(|(name, _)| name == SPOOL_DAMAGE_HEADER);
                let entries = event.attachments.into_iter();
                let sent = entries.filter(|entry| !damaged && !entry.rate_limited);
                let chunks = sent.map(|entry| (entry.id, entry.chunks)).collect();
                Self::Event(event.event_id, chunks)
            }
            Ok(Message::Attachment(file)) => {
                let entry = file.attachment;
                let comes_in_chunks = entry.data.is_none() && !entry.rate_limited;
                let chunks = comes_in_chunks.then_some((entry.id, entry.chunks));
                Self::Event(file.event_id, chunks.into_iter().collect())
            }
            Ok(Message::UserReport(report)) => match report.event_id() {
                Ok(event) => Self::Event(event, Vec::new()),
                Err(error) => Self::Refused(error.reason().to_owned()),
            },
            Err(error) => Self::Refused(error.reason().to_owned()),
        }
    }
}

/// Where a record of the dead letters' topic stands.
pub(super) fn place_of(record: &TopicRecord) -> Place {
    Place {
        partition: record.partition,
        offset: record.offset,
    }
}
