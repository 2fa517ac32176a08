//! The low watermark of one partition: up to where its events are done with, what above it is done with, and where to
//! begin again for the chunks of those that are not. Pure.
//!
//! What is done above the watermark travels as text beside the committed offset: a version, then the offsets of the event
//! messages as LEB128 distances, each from the one before and the first from the watermark, in base64.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use shared::kafka::COMMIT_METADATA_BYTES_MAX;

/// What the text begins with.
const VERSION: &str = "1:";
/// How many finished events above the watermark are safely remembered: three bytes each, four characters in base64.
pub(super) const FINISHED_ABOVE_MAX: usize = (COMMIT_METADATA_BYTES_MAX - VERSION.len()) / 4;

/// What of a partition is done with.
#[derive(Debug)]
pub(super) struct Watermark {
    /// Below this everything was done with when we took the partition over.
    floor: i64,
    /// The next offset to be read.
    position: i64,
    /// Offsets of event messages, and of records of no event, that are not done with.
    held: BTreeSet<i64>,
    /// First offsets of attachments that are not done with, and how many begin there: their chunks are needed.
    begun: BTreeMap<i64, u32>,
    /// Offsets of event messages that are done with, above the watermark.
    finished: BTreeSet<i64>,
}

impl Watermark {
    /// A partition that is taken over at `offset`, read from `resume` on, with the text that was committed beside it. A
    /// text that is not ours counts as none.
    pub(super) fn resumed(offset: i64, resume: i64, metadata: &str) -> Self {
        Self {
            floor: offset,
            position: resume,
            held: BTreeSet::new(),
            begun: BTreeMap::new(),
            finished: decode(offset, metadata).unwrap_or_default(),
        }
    }

    /// Below this everything was done with when the partition was taken over.
    pub(super) fn floor(&self) -> i64 {
        self.floor
    }

    /// Notes that `offset` was read. Whether it is the first time.
    pub(super) fn read(&mut self, offset: i64) -> bool {
        let first_time = offset >= self.position;
        self.position = self.position.max(offset + 1);
        first_time
    }

    /// Nothing below `offset` can be read any more.
    pub(super) fn skip_to(&mut self, offset: i64) {
        self.position = self.position.max(offset);
    }

    /// An attachment begins at `offset`.
    pub(super) fn begin(&mut self, offset: i64) {
        *self.begun.entry(offset).or_default() += 1;
    }

    /// The chunks of the attachment that began at `offset` are not needed any more.
    pub(super) fn end(&mut self, offset: i64) {
        if let Some(events) = self.begun.get_mut(&offset) {
            *events -= 1;
            if *events == 0 {
                self.begun.remove(&offset);
            }
        }
    }

    /// The event message, or the record of no event, at `offset` is not done with.
    pub(super) fn hold(&mut self, offset: i64) {
        self.held.insert(offset);
    }

    /// The record of no event at `offset` is done with.
    pub(super) fn release(&mut self, offset: i64) {
        self.held.remove(&offset);
        let lowest = self.lowest_unfinished();
        self.finished = self.finished.split_off(&lowest);
    }

    /// The event whose message stands at `offset` is finished.
    pub(super) fn finish_event(&mut self, offset: i64) {
        self.held.remove(&offset);
        self.finished.insert(offset);
        self.release(offset);
    }

    /// Whether what stands at `offset` was done with before.
    pub(super) fn was_finished(&self, offset: i64) -> bool {
        offset < self.floor || self.finished.contains(&offset)
    }

    /// How many finished events stand above the watermark and below `offset`.
    pub(super) fn finished_below(&self, offset: i64) -> u64 {
        self.finished.range(..offset).count() as u64
    }

    /// How many finished events stand above the watermark.
    pub(super) fn finished_above(&self) -> usize {
        self.finished.len()
    }

    /// The lowest offset of an event message, or of a record of no event, that is not done with; else the next to be
    /// read. Chunks do not hold it: those whose event never comes would hold it for long.
    pub(super) fn lowest_unfinished(&self) -> i64 {
        let next = self.position.max(self.floor);
        self.held.first().copied().unwrap_or(next)
    }

    /// Where reading has to begin again: lower than the watermark when chunks below it are needed, or may be, because they
    /// have not been read again yet.
    pub(super) fn resume(&self) -> i64 {
        let unread = self.lowest_unfinished().min(self.position);
        self.begun
            .first_key_value()
            .map_or(unread, |(offset, _)| unread.min(*offset))
    }

    /// The next offset to be read.
    pub(super) fn position(&self) -> i64 {
        self.position
    }

    /// The text to be committed beside the watermark. The highest offsets are left out when it would be too long.
    pub(super) fn metadata(&self) -> String {
        let watermark = self.lowest_unfinished();
        let mut bytes = Vec::new();
        let mut previous = watermark;
        for offset in self.finished.range(watermark..) {
            let before = bytes.len();
            write_distance(&mut bytes, (offset - previous) as u64);
            previous = *offset;
            if VERSION.len() + bytes.len().div_ceil(3) * 4 > COMMIT_METADATA_BYTES_MAX {
                bytes.truncate(before);
                break;
            }
        }
        if bytes.is_empty() {
            String::new()
        } else {
            format!("{VERSION}{}", STANDARD_NO_PAD.encode(bytes))
        }
    }
}

fn decode(watermark: i64, metadata: &str) -> Option<BTreeSet<i64>> {
    let bytes = STANDARD_NO_PAD
        .decode(metadata.strip_prefix(VERSION)?)
        .ok()?;
    let mut rest = &bytes[..];
    let mut offset = watermark;
    let mut finished = BTreeSet::new();
    while !rest.is_empty() {
        offset = offset.checked_add_unsigned(read_distance(&mut rest)?)?;
        finished.insert(offset);
    }
    Some(finished)
}

fn write_distance(bytes: &mut Vec<u8>, mut distance: u64) {
    while distance >= 0x80 {
        bytes.push(distance as u8 | 0x80);
        distance >>= 7;
    }
    bytes.push(distance as u8);
}

fn read_distance(bytes: &mut &[u8]) -> Option<u64> {
    let mut distance = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        distance |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(distance);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against the plain definition: the lowest offset in the set of unfinished ones, else the next to be read.
        #[test]
        fn the_watermark_is_the_lowest_unfinished_offset(steps in proptest::collection::vec((any::<bool>(), 0usize..50), 1..200)) {
            let mut watermark = Watermark::resumed(100, 100, "");
            let mut unfinished: Vec<i64> = Vec::new();
            let mut next = 100;
            let mut committed = 100;
            for (read, pick) in steps {
                if read {
                    prop_assert!(watermark.read(next));
                    watermark.hold(next);
                    unfinished.push(next);
                    next += 1;
                } else if !unfinished.is_empty() {
                    watermark.release(unfinished.swap_remove(pick % unfinished.len()));
                }
                let expected = unfinished.iter().copied().min().unwrap_or(next);
                prop_assert_eq!(watermark.lowest_unfinished(), expected);
                prop_assert!(expected >= committed, "it never moves back");
                committed = expected;
            }
        }

        #[test]
        fn an_offset_is_first_read_once(offsets in proptest::collection::vec(0i64..50, 1..100)) {
            let mut watermark = Watermark::resumed(0, 0, "");
            let mut highest = HashSet::new();
            for offset in offsets {
                let above_all = highest.iter().all(|seen| *seen < offset);
                prop_assert_eq!(watermark.read(offset), above_all);
                highest.insert(offset);
            }
        }
    }

    /// What stands in a log: the one chunk of an event, or its message.
    #[derive(Clone, Copy, Debug)]
    enum Record {
        Chunk(usize),
        Event(usize),
    }

    #[derive(Clone, Debug)]
    enum Step {
        Read,
        Finish(usize),
        Commit,
        Restart,
    }

    /// Each event's message comes some records after its chunk.
    fn log(delays: &[usize]) -> Vec<Record> {
        let chunks = (0..delays.len()).map(|event| (2 * event, Record::Chunk(event)));
        let events = delays.iter().enumerate();
        let events = events.map(|(event, delay)| (2 * (event + delay) + 1, Record::Event(event)));
        let mut placed: Vec<(usize, Record)> = chunks.chain(events).collect();
        placed.sort_by_key(|(place, _)| *place);
        placed.into_iter().map(|(_, record)| record).collect()
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => Just(Step::Read),
            4 => (0usize..50).prop_map(Step::Finish),
            3 => Just(Step::Commit),
            1 => Just(Step::Restart),
        ]
    }

    proptest! {
        /// However often we are killed, and whatever was read again by then: what is not finished is read again, its chunk
        /// and its message, and what is finished is known.
        #[test]
        fn nothing_that_is_needed_is_below_where_reading_begins_again(
            delays in proptest::collection::vec(0usize..6, 1..40),
            steps in proptest::collection::vec(step(), 1..400),
        ) {
            let log = log(&delays);
            let place = |wanted: fn(Record) -> Option<usize>, event: usize| {
                let found = log.iter().position(|record| wanted(*record) == Some(event));
                found.expect("it is in the log") as i64
            };
            let chunk_of = |event| place(|record| match record {
                Record::Chunk(event) => Some(event),
                Record::Event(_) => None,
            }, event);
            let message_of = |event| place(|record| match record {
                Record::Event(event) => Some(event),
                Record::Chunk(_) => None,
            }, event);
            let mut committed = (0, 0, String::new());
            let mut committed_done = HashSet::new();
            let mut done = HashSet::new();
            let mut watermark = Watermark::resumed(0, 0, "");
            let (mut next, mut begun, mut open) = (0, HashSet::new(), Vec::new());
            for step in steps {
                match step {
                    Step::Read => {
                        let Some(record) = log.get(next as usize) else { continue };
                        watermark.read(next);
                        match *record {
                            Record::Chunk(event) => {
                                watermark.begin(next);
                                begun.insert(event);
                            }
                            Record::Event(event) if watermark.was_finished(next) => {
                                prop_assert!(done.contains(&event), "event {event} was never finished");
                                if begun.remove(&event) {
                                    watermark.end(chunk_of(event));
                                }
                            }
                            Record::Event(event) => {
                                prop_assert!(!done.contains(&event), "event {event} is finished");
                                prop_assert!(begun.contains(&event), "the chunk of event {event} is gone");
                                watermark.hold(next);
                                open.push(event);
                            }
                        }
                        next += 1;
                    }
                    Step::Finish(pick) if !open.is_empty() => {
                        let event = open.swap_remove(pick % open.len());
                        watermark.finish_event(message_of(event));
                        begun.remove(&event);
                        watermark.end(chunk_of(event));
                        done.insert(event);
                    }
                    Step::Finish(_) => {}
                    Step::Commit => {
                        let metadata = watermark.metadata();
                        committed = (watermark.lowest_unfinished(), watermark.resume(), metadata);
                        committed_done = done.clone();
                    }
                    Step::Restart => {
                        let (offset, resume, metadata) = &committed;
                        watermark = Watermark::resumed(*offset, *resume, metadata);
                        (next, begun, open) = (*resume, HashSet::new(), Vec::new());
                        done = committed_done.clone();
                    }
                }
            }
        }
    }

    #[test]
    fn chunks_without_an_event_hold_where_to_begin_again_and_not_the_watermark() {
        let mut watermark = Watermark::resumed(5, 5, "");
        for offset in 5..1000 {
            watermark.read(offset);
        }
        watermark.begin(5);
        for offset in 6..1000 {
            watermark.hold(offset);
            watermark.finish_event(offset);
        }
        assert_eq!(
            (watermark.lowest_unfinished(), watermark.resume()),
            (1000, 5)
        );
        assert_eq!(
            (watermark.finished_above(), watermark.metadata().len()),
            (0, 0)
        );
        watermark.end(5);
        assert_eq!(watermark.resume(), 1000);
    }

    #[test]
    fn what_was_finished_is_known_while_chunks_below_are_read_again() {
        let mut watermark = Watermark::resumed(10, 5, "");
        assert!(watermark.read(5));
        watermark.begin(5);
        assert_eq!((watermark.lowest_unfinished(), watermark.resume()), (10, 5));
        assert!(watermark.was_finished(9) && !watermark.was_finished(10));
        watermark.read(10);
        watermark.hold(10);
        assert_eq!((watermark.lowest_unfinished(), watermark.resume()), (10, 5));
        watermark.finish_event(10);
        watermark.end(5);
        assert_eq!(
            (watermark.lowest_unfinished(), watermark.resume()),
            (11, 11)
        );
    }

    proptest! {
        #[test]
        fn what_is_finished_above_the_watermark_survives_a_restart(
            first in 0i64..1_000_000_000,
            distances in proptest::collection::vec(0i64..100_000, 0..FINISHED_ABOVE_MAX),
        ) {
            let mut watermark = Watermark::resumed(first, first, "");
            watermark.read(first);
            watermark.hold(first);
            let mut offset = first + 1;
            for distance in distances {
                offset += distance;
                watermark.read(offset);
                watermark.finish_event(offset);
            }
            let metadata = watermark.metadata();
            prop_assert!(metadata.len() <= COMMIT_METADATA_BYTES_MAX);
            let resumed = Watermark::resumed(first, first, &metadata);
            prop_assert_eq!(&resumed.finished, &watermark.finished);
            watermark.release(first);
            prop_assert_eq!(watermark.finished_above(), 0, "below the watermark nothing needs to be remembered");
        }

        #[test]
        fn a_text_that_is_not_ours_counts_as_none(text: String) {
            let resumed = Watermark::resumed(5, 5, &text);
            prop_assert_eq!(resumed.position(), 5);
        }
    }
}
