//! A dump's streams, and what is written behind the dump in place of those that cannot be read as they are. Pure.

use std::borrow::Cow;
use std::collections::BTreeMap;

use minidump::format::MINIDUMP_STREAM_TYPE as Kind;

use super::view::View;

/// Bytes of `MINIDUMP_HEADER`, and where in it the number of streams and the directory's place are.
pub(super) const HEADER_BYTES: usize = 32;
const STREAM_COUNT_AT: usize = 8;
const DIRECTORY_RVA_AT: usize = 12;
/// Bytes of `MINIDUMP_DIRECTORY`.
const ENTRY_BYTES: usize = 12;
/// Streams and their parts begin at multiples of this.
const ALIGNMENT: usize = 8;

/// The streams that are read; others are left where they are, and out of a directory that is written anew.
const READ: [Kind; 24] = [
    Kind::ThreadListStream,
    Kind::ModuleListStream,
    Kind::MemoryListStream,
    Kind::ExceptionStream,
    Kind::SystemInfoStream,
    Kind::Memory64ListStream,
    Kind::HandleDataStream,
    Kind::UnloadedModuleListStream,
    Kind::MiscInfoStream,
    Kind::MemoryInfoListStream,
    Kind::ThreadNamesStream,
    Kind::BreakpadInfoStream,
    Kind::LinuxCpuInfo,
    Kind::LinuxProcStatus,
    Kind::LinuxLsbRelease,
    Kind::LinuxCmdLine,
    Kind::LinuxEnviron,
    Kind::LinuxMaps,
    Kind::CrashpadInfoStream,
    Kind::MozMacosCrashInfoStream,
    Kind::MozMacosBootargsStream,
    Kind::MozLinuxLimits,
    Kind::MozSoftErrors,
    Kind::AssertionInfoStream,
];

#[derive(Clone, Copy)]
struct Location {
    rva: u32,
    size: u32,
}

/// The directory lies outside the dump.
#[derive(Debug)]
pub(super) struct NoDirectory;

/// A dump and its repairs.
pub(super) struct Patch<'a> {
    /// The dump as it came.
    pub(super) view: View<'a>,
    /// What was repaired, and what is missing.
    pub(super) warnings: Vec<String>,
    streams: BTreeMap<u32, Location>,
    tail: Vec<u8>,
    is_changed: bool,
    /// A place cannot be written as 32 bits any more.
    is_full: bool,
}

impl<'a> Patch<'a> {
    /// Reads the directory: of two streams of a kind the last counts, as for rust-minidump, unless nothing of it is there.
    pub(super) fn open(view: View<'a>) -> Result<Self, NoDirectory> {
        let count = view.size(STREAM_COUNT_AT).ok_or(NoDirectory)?;
        let directory = view.size(DIRECTORY_RVA_AT).ok_or(NoDirectory)?;
        let entries = view.part(directory, count.saturating_mul(ENTRY_BYTES));
        let mut patch = Self {
            view,
            warnings: Vec::new(),
            streams: BTreeMap::new(),
            tail: Vec::new(),
            is_changed: false,
            is_full: false,
        };
        let whole = entries.len() / ENTRY_BYTES;
        if whole < count {
            if whole == 0 {
                return Err(NoDirectory);
            }
            patch.is_changed = true;
            patch.warnings.push(format!(
                "the stream directory is cut off: {whole} of {count} streams are known"
            ));
        }
        for entry in entries.chunks_exact(ENTRY_BYTES) {
            patch.add(view.of(entry));
        }
        Ok(patch)
    }

    fn add(&mut self, entry: View<'_>) {
        let [Some(kind), Some(size), Some(rva)] = [0, 4, 8].map(|at| entry.u32(at)) else {
            return;
        };
        if !READ.iter().any(|read| *read as u32 == kind) {
            return;
        }
        let there = self.view.part(rva as usize, size as usize).len();
        if there == 0 && self.streams.contains_key(&kind) {
            // The directory must not lead rust-minidump to this one.
            self.is_changed = true;
            return;
        }
        if there < size as usize {
            self.is_changed = true;
            self.warnings.push(format!(
                "{there} of {size} bytes of the stream {kind:#x} lie within the dump"
            ));
        }
        // No longer than `size`.
        let size = there as u32;
        self.streams.insert(kind, Location { rva, size });
    }

    /// What there is of a stream; `None` when the dump has none of this kind.
    pub(super) fn stream(&self, kind: Kind) -> Option<&'a [u8]> {
        let location = self.streams.get(&(kind as u32))?;
        Some(
            self.view
                .part(location.rva as usize, location.size as usize),
        )
    }

    /// Lets a stream end earlier.
    pub(super) fn shorten(&mut self, kind: Kind, bytes: usize) {
        if let Some(location) = self.streams.get_mut(&(kind as u32)) {
            location.size = location.size.min(u32::try_from(bytes).unwrap_or(u32::MAX));
            self.is_changed = true;
        }
    }

    /// Puts `content` in a stream's place.
    pub(super) fn replace(&mut self, kind: Kind, content: &[u8]) {
        let rva = self.append(content);
        let size = u32::try_from(content.len()).unwrap_or_default();
        self.streams.insert(kind as u32, Location { rva, size });
    }

    /// Takes a stream out of the directory.
    pub(super) fn remove(&mut self, kind: Kind) {
        self.is_changed |= self.streams.remove(&(kind as u32)).is_some();
    }

    /// Writes something behind the dump; says where it is then.
    pub(super) fn append(&mut self, content: &[u8]) -> u32 {
        self.is_changed = true;
        let at = self.tail_begin() + self.tail.len();
        let end = at + content.len() + ALIGNMENT;
        if u32::try_from(end).is_err() {
            self.is_full = true;
            return 0;
        }
        self.tail.extend_from_slice(content);
        let padded = self.tail.len().next_multiple_of(ALIGNMENT);
        self.tail.resize(padded, 0);
        at as u32
    }

    /// Writes a `MINIDUMP_STRING` behind the dump.
    pub(super) fn append_utf16(&mut self, text: &str) -> u32 {
        let view = self.view;
        let unit = |unit: u16| match view.is_big() {
            true => unit.to_be_bytes(),
            false => unit.to_le_bytes(),
        };
        let units: Vec<u8> = text.encode_utf16().flat_map(unit).collect();
        // A text is cut to a few KiB before it comes here.
        let mut string = view.u32_bytes(units.len() as u32).to_vec();
        string.extend_from_slice(&units);
        string.extend_from_slice(&[0, 0]);
        self.append(&string)
    }

    /// The dump with its repairs, and the warnings; the same bytes when there was nothing to repair.
    pub(super) fn finish(mut self) -> (Cow<'a, [u8]>, Vec<String>) {
        if !self.is_changed {
            return (Cow::Borrowed(self.view.bytes), self.warnings);
        }
        let view = self.view;
        let mut directory = Vec::with_capacity(self.streams.len() * ENTRY_BYTES);
        for (kind, location) in &self.streams {
            for word in [*kind, location.size, location.rva] {
                directory.extend_from_slice(&view.u32_bytes(word));
            }
        }
        let count = self.streams.len() as u32;
        let rva = self.append(&directory);
        if self.is_full {
            self.warnings
                .push("the dump is too large to be repaired: 4 GiB".into());
            return (Cow::Borrowed(view.bytes), self.warnings);
        }
        let begin = self.tail_begin();
        let mut bytes = Vec::with_capacity(begin + self.tail.len());
        bytes.extend_from_slice(view.bytes);
        bytes.resize(begin, 0);
        bytes.extend_from_slice(&self.tail);
        view.put_u32(&mut bytes, STREAM_COUNT_AT, count);
        view.put_u32(&mut bytes, DIRECTORY_RVA_AT, rva);
        (Cow::Owned(bytes), self.warnings)
    }

    fn tail_begin(&self) -> usize {
        self.view.bytes.len().next_multiple_of(ALIGNMENT)
    }
}
