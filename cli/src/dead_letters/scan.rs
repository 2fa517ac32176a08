//! The chunks that belong to events among the letters: the processor gave them up when it refused their events, and they go
//! along from where they still stand in the ingest topic.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use shared::config::Config;
use shared::dead_letter::Place;
use shared::id::{AttachmentId, EventId};
use shared::kafka::{PartitionRange, TopicReader, TopicRecord};
use shared::message::{AttachmentChunk, Message};

use super::kafka_error;
use super::survey::{ChunkOf, Reading, Row};
use crate::CommandError;

/// How much longer before its event than `processor.incomplete_after` a chunk is looked for.
const MARGIN: Duration = Duration::from_secs(600);

/// What goes along with an event.
#[derive(Debug, Default)]
pub(super) struct Company {
    /// Offsets of its chunks in the event's partition.
    pub(super) offsets: BTreeSet<i64>,
    /// Their bytes.
    pub(super) bytes: u64,
    /// Chosen letters that are among them.
    pub(super) letters: BTreeSet<Place>,
    /// Chunks of it that are neither in the log any more nor among the letters chosen.
    pub(super) missing: u64,
}

/// An event whose chunks are looked for.
struct Target {
    letter: Place,
    event: EventId,
    range: PartitionRange,
    wanted: HashMap<AttachmentId, u32>,
    found: HashMap<ChunkOf, (i64, usize)>,
}

/// What goes along with each of the events among `rows`, by the places of their letters.
pub(super) fn company(
    config: &Config,
    reader: &mut TopicReader,
    rows: &[&Row],
) -> Result<BTreeMap<Place, Company>, CommandError> {
    let mut targets = Vec::new();
    for row in rows {
        targets.extend(Target::of(config, reader, row)?);
    }
    let mut by_event: HashMap<EventId, Vec<usize>> = HashMap::new();
    for (number, target) in targets.iter().enumerate() {
        by_event.entry(target.event).or_default().push(number);
    }
    for windows in rounds(&targets) {
        reader.read(&windows).map_err(kafka_error)?;
        while let Some(record) = reader.next_record().map_err(kafka_error)? {
            let Ok(Message::AttachmentChunk(chunk)) = Message::decode(&record.value) else {
                continue;
            };
            for number in by_event.get(&chunk.event_id).into_iter().flatten() {
                targets[*number].take(&record, &chunk);
            }
        }
    }
    let company = targets
        .into_iter()
        .map(|target| (target.letter, target.company(rows)));
    Ok(company.collect())
}

impl Target {
    /// `None` for a letter that is no event, or one without chunks.
    fn of(config: &Config, reader: &TopicReader, row: &Row) -> Result<Option<Self>, CommandError> {
        let Reading::Event(event, chunks) = &row.message else {
            return Ok(None);
        };
        let wanted: HashMap<AttachmentId, u32> = chunks.iter().cloned().collect();
        if wanted.values().all(|chunks| *chunks == 0) {
            return Ok(None);
        }
        let partition = row.letter.origin.partition;
        let longest = config.processor.incomplete_after.get() + MARGIN;
        let oldest = row.letter.written_at.map(|at| at.checked_sub(longest));
        let range = match oldest {
            Some(Ok(oldest)) => reader.since(partition, oldest),
            Some(Err(_)) | None => reader.whole(partition),
        };
        let mut range = range.map_err(kafka_error)?;
        range.end = range.end.min(row.letter.origin.offset);
        Ok(Some(Self {
            letter: row.place,
            event: *event,
            range,
            wanted,
            found: HashMap::new(),
        }))
    }

    fn wants(&self, chunk: &ChunkOf) -> bool {
        let listed = self.wanted.get(&chunk.attachment);
        chunk.event == self.event && listed.is_some_and(|chunks| chunk.index < *chunks)
    }

    /// Of a chunk that stands there more than once, the last one is taken.
    fn take(&mut self, record: &TopicRecord, chunk: &AttachmentChunk<'_>) {
        let PartitionRange {
            partition,
            start,
            end,
        } = self.range;
        let chunk = ChunkOf {
            event: chunk.event_id,
            attachment: chunk.id.clone(),
            index: chunk.chunk_index,
        };
        let is_before = record.partition == partition && (start..end).contains(&record.offset);
        if is_before && self.wants(&chunk) {
            let at = (record.offset, record.value.len());
            self.found.insert(chunk, at);
        }
    }

    fn company(self, rows: &[&Row]) -> Company {
        let mut letters = BTreeSet::new();
        let mut have: HashSet<&ChunkOf> = self.found.keys().collect();
        for row in rows {
            let Reading::Chunk(chunk) = &row.message else {
                continue;
            };
            if !self.wants(chunk) {
                continue;
            }
            if self.found.contains_key(chunk) {
                letters.insert(row.place);
            } else if row.place < self.letter {
                // It is sent by itself, and before.
                have.insert(chunk);
            }
        }
        let wanted: u64 = self.wanted.values().map(|chunks| u64::from(*chunks)).sum();
        Company {
            missing: wanted.saturating_sub(have.len() as u64),
            letters,
            offsets: self.found.values().map(|(offset, _)| *offset).collect(),
            bytes: self.found.values().map(|(_, bytes)| *bytes as u64).sum(),
        }
    }
}

/// What has to be read for all of them, nothing twice: at most one range of a partition at a time.
fn rounds(targets: &[Target]) -> Vec<Vec<PartitionRange>> {
    let mut ranges: Vec<PartitionRange> = targets.iter().map(|target| target.range).collect();
    ranges.retain(|range| range.start < range.end);
    ranges.sort_by_key(|range| (range.partition, range.start));
    let mut joined: Vec<PartitionRange> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if last.partition == range.partition && range.start <= last.end => {
                last.end = last.end.max(range.end);
            }
            Some(_) | None => joined.push(range),
        }
    }
    let mut rounds: Vec<Vec<PartitionRange>> = Vec::new();
    let mut placed: HashMap<i32, usize> = HashMap::new();
    for range in joined {
        let round = placed.entry(range.partition).or_default();
        if rounds.len() <= *round {
            rounds.push(Vec::new());
        }
        rounds[*round].push(range);
        *round += 1;
    }
    rounds
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(partition: i32, start: i64, end: i64) -> Target {
        Target {
            letter: "0:0".parse().expect("a place"),
            event: EventId::random(),
            range: PartitionRange {
                partition,
                start,
                end,
            },
            wanted: HashMap::new(),
            found: HashMap::new(),
        }
    }

    #[test]
    fn nothing_is_read_twice_and_one_range_of_a_partition_at_a_time() {
        let targets = [
            target(0, 10, 20),
            target(0, 15, 30),
            target(0, 50, 60),
            target(1, 0, 5),
            target(1, 9, 9),
        ];
        let range = |partition, start, end| PartitionRange {
            partition,
            start,
            end,
        };
        assert_eq!(
            rounds(&targets),
            [
                vec![range(0, 10, 30), range(1, 0, 5)],
                vec![range(0, 50, 60)]
            ]
        );
    }
}
