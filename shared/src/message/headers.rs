//! What the schema lacks, in record headers: readable text, absent on a foreign producer's records.

use std::collections::HashMap;

use crate::id::AttachmentId;

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
    /// Whether one of our relays wrote the event message: it lists whatever it sent.
    #[must_use]
    pub fn are_ours(&self) -> bool {
        !self.blake3.is_empty() || self.spool_damage.is_some()
    }

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

    proptest! {
        #[test]
        fn checksums_read_back_as_written(contents in proptest::collection::vec(any::<Vec<u8>>(), 0..5)) {
            let checksums: HashMap<AttachmentId, blake3::Hash> =
                contents.iter().map(|content| (AttachmentId::random(), blake3::hash(content))).collect();
            let value = write_checksums(checksums.iter().map(|(id, hash)| (id, *hash)));
            prop_assert_eq!(Headers::read([(BLAKE3_HEADER, value.as_bytes())]).blake3, checksums);
        }
    }
}
