//! Chunks that wait to be listed by an event message. Pure.

use std::collections::{BTreeMap, HashMap};

use shared::content::Segment;
use shared::id::AttachmentId;
use shared::message::AttachmentEntry;

use super::{LogTime, Taken};

/// What arrived under one event's id.
#[derive(Debug, Default)]
pub(super) struct Source {
    attachments: HashMap<AttachmentId, Pieces>,
    last_seen: LogTime,
    bytes: u64,
}

/// The chunks of one attachment.
#[derive(Debug)]
pub(super) struct Pieces {
    first_offset: i64,
    last_offset: i64,
    chunks: BTreeMap<u32, Segment>,
    /// Its bytes were dropped because its event has too many: how many there are.
    given_up: Option<u64>,
}

impl Source {
    /// Takes a chunk; `payload` is only called when it is needed.
    pub(super) fn take(
        &mut self,
        attachment: &AttachmentId,
        index: u32,
        (offset, now): (i64, LogTime),
        bytes: u64,
        payload: impl FnOnce() -> Segment,
    ) -> Taken {
        self.last_seen = now;
        let begins = !self.attachments.contains_key(attachment);
        let pieces = self
            .attachments
            .entry(attachment.clone())
            .or_insert_with(|| Pieces::begun_at(offset));
        pieces.last_offset = pieces.last_offset.max(offset);
        if pieces.chunks.contains_key(&index) {
            return Taken::Repeats(Vec::new());
        }
        match &mut pieces.given_up {
            Some(given_up) => *given_up += bytes,
            None => {
                self.bytes += bytes;
                pieces.chunks.insert(index, payload());
            }
        }
        if begins {
            Taken::Begins
        } else {
            Taken::Continues
        }
    }

    /// Drops the bytes of an event that has more than `bytes_max`: no room would ever be enough for it.
    pub(super) fn give_up_beyond(&mut self, bytes_max: u64) {
        if self.bytes <= bytes_max {
            return;
        }
        for pieces in self.attachments.values_mut() {
            let held = std::mem::take(&mut pieces.chunks);
            let bytes: u64 = held.values().map(Segment::len).sum();
            pieces.given_up = Some(pieces.given_up.unwrap_or_default() + bytes);
        }
        self.bytes = 0;
    }

    pub(super) fn get(&self, attachment: &AttachmentId) -> Option<&Pieces> {
        self.attachments.get(attachment)
    }

    pub(super) fn remove(&mut self, attachment: &AttachmentId) -> Option<Pieces> {
        let pieces = self.attachments.remove(attachment)?;
        let bytes: u64 = pieces.chunks.values().map(Segment::len).sum();
        self.bytes -= bytes;
        Some(pieces)
    }

    /// Drops what is left; returns where it began.
    pub(super) fn clear(&mut self) -> Vec<i64> {
        let begun = self.begun();
        *self = Self::default();
        begun
    }

    /// Where the attachments begin.
    pub(super) fn begun(&self) -> Vec<i64> {
        self.attachments
            .values()
            .map(Pieces::first_offset)
            .collect()
    }

    /// The lowest and the highest offset of a chunk.
    pub(super) fn span(&self) -> Option<(i64, i64)> {
        let firsts = self.attachments.values().map(|pieces| pieces.first_offset);
        let lasts = self.attachments.values().map(|pieces| pieces.last_offset);
        firsts.min().zip(lasts.max())
    }

    pub(super) fn attachments(&self) -> impl Iterator<Item = &AttachmentId> {
        self.attachments.keys()
    }

    pub(super) fn chunks(&self) -> u64 {
        let chunks = self.attachments.values().map(|pieces| pieces.chunks.len());
        chunks.map(|chunks| chunks as u64).sum()
    }

    pub(super) fn last_seen(&self) -> LogTime {
        self.last_seen
    }

    pub(super) fn is_empty(&self) -> bool {
        self.attachments.is_empty()
    }
}

impl Pieces {
    fn begun_at(offset: i64) -> Self {
        Self {
            first_offset: offset,
            last_offset: offset,
            chunks: BTreeMap::new(),
            given_up: None,
        }
    }

    pub(super) fn first_offset(&self) -> i64 {
        self.first_offset
    }

    pub(super) fn given_up(&self) -> Option<u64> {
        self.given_up
    }

    /// The bytes of the first `chunks` chunks that are here, in order.
    pub(super) fn segments(&self, chunks: u32) -> impl Iterator<Item = &Segment> {
        self.chunks.range(..chunks).map(|(_, segment)| segment)
    }

    /// Those of the first `chunks` chunks that are not here.
    pub(super) fn missing(&self, chunks: u32) -> impl Iterator<Item = u32> {
        (0..chunks).filter(|index| !self.chunks.contains_key(index))
    }
}

/// Whether nothing more of an attachment is waited for.
pub(super) fn is_whole(source: Option<&Source>, entry: &AttachmentEntry) -> bool {
    let comes_in_chunks = !entry.rate_limited && entry.data.is_none() && entry.stored_id.is_none();
    if !comes_in_chunks || entry.chunks == 0 {
        return true;
    }
    let pieces = source.and_then(|source| source.get(&entry.id));
    pieces.is_some_and(|pieces| {
        pieces.given_up.is_some() || pieces.missing(entry.chunks).next().is_none()
    })
}
