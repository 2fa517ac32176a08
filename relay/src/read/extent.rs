//! How long a minidump is at least, by what its own directory says: where its frame is wrong, no other item's head is
//! looked for before that.

use std::io;

use shared::content::Content;

use crate::limits::DUMP_RANGES_MAX;

const HEADER_BYTES: usize = 32;
/// `MINIDUMP_DIRECTORY`: a type, a length and an offset.
const ENTRY_BYTES: usize = 12;
/// `MINIDUMP_MEMORY_DESCRIPTOR`: an address, a length and an offset.
const RANGE_BYTES: usize = 16;
/// `MemoryListStream` and `Memory64ListStream`.
const MEMORY_LIST: u32 = 5;
const MEMORY64_LIST: u32 = 9;

/// The end of whatever the dump refers to, be it past the end of what is here; `None` when its directory, or a list of its
/// memory, is not all here. Blocks on the disk where the content is in a file.
pub(super) fn extent(dump: &Content) -> Option<u64> {
    let reader = Reader { dump };
    reader.extent().ok()
}

struct Reader<'d> {
    dump: &'d Content,
}

impl Reader<'_> {
    fn extent(&self) -> io::Result<u64> {
        let header = Fields(self.dump.read(0, HEADER_BYTES)?.into());
        let big_endian = header.0.starts_with(b"PMDM");
        let (streams, directory) = (header.u32(8, big_endian), header.u32(12, big_endian));
        let streams = (streams as usize).min(DUMP_RANGES_MAX);
        let entries = Fields(
            self.dump
                .read(directory.into(), streams * ENTRY_BYTES)?
                .into(),
        );
        let mut end = u64::from(directory) + (streams * ENTRY_BYTES) as u64;
        for entry in 0..entries.0.len() / ENTRY_BYTES {
            let number = |field: usize| entries.u32(entry * ENTRY_BYTES + field, big_endian);
            let (kind, bytes, offset) = (number(0), number(4), number(8));
            if bytes == 0 {
                continue;
            }
            end = end.max(u64::from(offset) + u64::from(bytes));
            let ranges = match kind {
                MEMORY_LIST => self.memory_list(offset.into(), big_endian)?,
                MEMORY64_LIST => self.memory64_list(offset.into(), big_endian)?,
                _ => continue,
            };
            end = end.max(ranges);
        }
        Ok(end)
    }

    fn memory_list(&self, offset: u64, big_endian: bool) -> io::Result<u64> {
        let count = Fields(self.dump.read(offset, 4)?.into()).u32(0, big_endian);
        let count = (count as usize).min(DUMP_RANGES_MAX);
        let ranges = Fields(self.dump.read(offset + 4, count * RANGE_BYTES)?.into());
        let ends = (0..ranges.0.len() / RANGE_BYTES).map(|range| {
            let number = |field: usize| ranges.u32(range * RANGE_BYTES + field, big_endian);
            u64::from(number(8)) + u64::from(number(12))
        });
        Ok(ends.max().unwrap_or_default())
    }

    /// Its ranges stand one behind the other.
    fn memory64_list(&self, offset: u64, big_endian: bool) -> io::Result<u64> {
        let head = Fields(self.dump.read(offset, 16)?.into());
        let (count, base) = (head.u64(0, big_endian), head.u64(8, big_endian));
        let count = count.min(DUMP_RANGES_MAX as u64) as usize;
        let ranges = Fields(self.dump.read(offset + 16, count * RANGE_BYTES)?.into());
        let ranges = (0..ranges.0.len() / RANGE_BYTES)
            .map(|range| ranges.u64(range * RANGE_BYTES + 8, big_endian));
        Ok(ranges.fold(base, u64::saturating_add))
    }
}

/// Numbers among some bytes; 0 past their end.
struct Fields(Vec<u8>);

impl Fields {
    fn u32(&self, at: usize, big_endian: bool) -> u32 {
        let bytes = self.0.get(at..).and_then(|rest| rest.first_chunk());
        bytes.map_or(0, |bytes| match big_endian {
            true => u32::from_be_bytes(*bytes),
            false => u32::from_le_bytes(*bytes),
        })
    }

    fn u64(&self, at: usize, big_endian: bool) -> u64 {
        let bytes = self.0.get(at..).and_then(|rest| rest.first_chunk());
        bytes.map_or(0, |bytes| match big_endian {
            true => u64::from_be_bytes(*bytes),
            false => u64::from_le_bytes(*bytes),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A dump with one stream of this kind and content at byte 44.
    fn dump(kind: u32, stream: &[u8]) -> Content {
        let mut dump = b"MDMP\x93\xa7\0\0\x01\0\0\0\x20\0\0\0".to_vec();
        dump.resize(HEADER_BYTES, 0);
        for number in [kind, stream.len() as u32, 44] {
            dump.extend(number.to_le_bytes());
        }
        dump.extend(stream);
        dump.into()
    }

    #[test]
    fn a_dump_is_as_long_as_what_it_refers_to() {
        assert_eq!(extent(&dump(7, &[0; 100])), Some(144));
        let mut list = 1u32.to_le_bytes().to_vec();
        list.extend(0x1000u64.to_le_bytes());
        list.extend(512u32.to_le_bytes());
        list.extend(9000u32.to_le_bytes());
        assert_eq!(extent(&dump(MEMORY_LIST, &list)), Some(9512));
        let numbers = [2u64, 5000, 0, 100, 0, 200];
        let list: Vec<u8> = numbers
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect();
        assert_eq!(extent(&dump(MEMORY64_LIST, &list)), Some(5300));
    }

    #[test]
    fn what_is_not_all_here_tells_nothing() {
        assert_eq!(extent(&Content::default()), None);
        assert_eq!(extent(&b"MDMP".to_vec().into()), None);
        let mut wild = b"MDMP\x93\xa7\0\0".to_vec();
        wild.resize(32, 0xff);
        assert_eq!(extent(&wild.into()), None);
        let whole = dump(7, &[0; 100]).read(0, 144).expect("readable");
        assert_eq!(extent(&whole.slice(..43).into()), None);
        assert_eq!(extent(&whole.slice(..44).into()), Some(144));
    }
}
