//! A zip archive of exactly one file. Our own reader, because the known ones load an archive's whole directory first,
//! and a directory can be as large as an upload.
//!
//! Source of all offsets: APPNOTE.TXT 6.3.10, sections 4.3 to 4.5.

use std::io::{self, Read};

use bytes::Bytes;
use flate2::Crc;
use memchr::memmem;
use shared::content::Content;

use super::{Container, ContainerError, buffered, decoder, explained};
use crate::limits::ZIP_TAIL_BYTES_MAX;

/// End of the central directory, without its comment.
const END_BYTES: usize = 22;
/// The same with 64-bit numbers, and what tells where it is.
const END64_BYTES: usize = 56;
const END64_LOCATOR_BYTES: u64 = 20;
/// A file in the central directory, without its name.
const ENTRY_BYTES: usize = 46;
/// What stands before a file's bytes, without its name.
const LOCAL_HEADER_BYTES: usize = 30;
/// The extra field with 64-bit numbers.
const EXTRA64: u16 = 1;
/// A 32-bit number whose place is there.
const ELSEWHERE: u64 = u32::MAX as u64;
const METHOD_STORED: u16 = 0;
const METHOD_DEFLATED: u16 = 8;
/// Bit 0 of a file's flags.
const FLAG_ENCRYPTED: u16 = 1;
/// Of a name in an error.
const NAME_BYTES_SHOWN: usize = 80;

/// The file's entry in the central directory.
struct Entry {
    method: u16,
    crc: u32,
    compressed_bytes: u64,
    bytes: u64,
    local_header: u64,
}

/// A reader of the one file.
pub(super) fn open(content: Content) -> Result<Box<dyn Read + Send>, ContainerError> {
    let entry = entry(&content)?;
    let data = data(&content, &entry)?;
    let inside: Box<dyn Read + Send> = match entry.method {
        METHOD_STORED => Box::new(buffered(data)),
        METHOD_DEFLATED => decoder(Container::Zip, buffered(data)).map_err(broken_by)?,
        method => {
            let found = format!("compression method {method}");
            return Err(ContainerError::Unsupported { found });
        }
    };
    Ok(Box::new(Verified {
        inside,
        left: entry.bytes,
        crc: Crc::new(),
        expected: entry.crc,
    }))
}

/// The only entry of the central directory.
fn entry(content: &Content) -> Result<Entry, ContainerError> {
    let (entries, directory) = end(content)?;
    match entries {
        1 => {}
        0 => return Err(not_one_file("none".into())),
        many => return Err(not_one_file(format!("{many} entries"))),
    }
    let header = read(content, directory, ENTRY_BYTES)?;
    if !header.starts_with(b"PK\x01\x02") {
        return Err(broken("no central directory where it should be"));
    }
    let (name_bytes, extra_bytes) = (u16_at(&header, 28), u16_at(&header, 30));
    let names = read(
        content,
        directory + ENTRY_BYTES as u64,
        usize::from(name_bytes) + usize::from(extra_bytes),
    )?;
    let (name, extra) = names.split_at(usize::from(name_bytes));
    if name.ends_with(b"/") || name.ends_with(b"\\") {
        let name = shown(name);
        return Err(not_one_file(format!("the directory {name}")));
    }
    if u16_at(&header, 8) & FLAG_ENCRYPTED != 0 {
        let found = format!("the encrypted file {}", shown(name));
        return Err(ContainerError::Unsupported { found });
    }
    let mut extra = extra64(extra);
    let mut number = |at: usize| match u64::from(u32_at(&header, at)) {
        ELSEWHERE => {
            let (number, rest) = extra.split_first_chunk().unwrap_or((&[0xff; 8], &[]));
            extra = rest;
            u64::from_le_bytes(*number)
        }
        number => number,
    };
    // In this order, whichever of them are elsewhere.
    let (bytes, compressed_bytes, local_header) = (number(24), number(20), number(42));
    Ok(Entry {
        method: u16_at(&header, 10),
        crc: u32_at(&header, 16),
        compressed_bytes,
        bytes,
        local_header,
    })
}

/// How many entries the central directory has, and where it begins.
fn end(content: &Content) -> Result<(u64, u64), ContainerError> {
    let tail_bytes = content.len().min(ZIP_TAIL_BYTES_MAX as u64);
    let start = content.len() - tail_bytes;
    let tail = read(content, start, tail_bytes as usize)?;
    let is_end = |at: &usize| {
        let comment = tail.get(at + 20..at + END_BYTES).map(|end| u16_at(end, 0));
        comment.is_some_and(|bytes| at + END_BYTES + usize::from(bytes) == tail.len())
    };
    let at = memmem::rfind_iter(&tail, b"PK\x05\x06")
        .find(is_end)
        .ok_or_else(|| broken("no end of the central directory"))?;
    let end = &tail[at..at + END_BYTES];
    let (entries, directory) = (u64::from(u16_at(end, 10)), u64::from(u32_at(end, 16)));
    if entries != u64::from(u16::MAX) && directory != ELSEWHERE {
        return Ok((entries, directory));
    }
    let locator = (start + at as u64).checked_sub(END64_LOCATOR_BYTES);
    let locator = locator.ok_or_else(|| broken("no 64-bit end of the central directory"))?;
    let locator = read(content, locator, END64_LOCATOR_BYTES as usize)?;
    if !locator.starts_with(b"PK\x06\x07") {
        return Ok((entries, directory));
    }
    let end = read(content, u64_at(&locator, 8), END64_BYTES)?;
    if !end.starts_with(b"PK\x06\x06") {
        return Err(broken("no 64-bit end of the central directory"));
    }
    Ok((u64_at(&end, 32), u64_at(&end, 48)))
}

/// The 64-bit numbers of an entry's extra fields; empty when there are none.
fn extra64(mut extra: &[u8]) -> &[u8] {
    while let Some((head, rest)) = extra.split_first_chunk::<4>() {
        let (id, bytes) = (u16_at(head, 0), usize::from(u16_at(head, 2)));
        let Some((field, rest)) = rest.split_at_checked(bytes) else {
            break;
        };
        if id == EXTRA64 {
            return field;
        }
        extra = rest;
    }
    &[]
}

/// The file's compressed bytes.
fn data(content: &Content, entry: &Entry) -> Result<Content, ContainerError> {
    let header = read(content, entry.local_header, LOCAL_HEADER_BYTES)?;
    if !header.starts_with(b"PK\x03\x04") {
        return Err(broken("no file where the central directory says"));
    }
    let names = u64::from(u16_at(&header, 26)) + u64::from(u16_at(&header, 28));
    let start = entry.local_header + LOCAL_HEADER_BYTES as u64 + names;
    content
        .slice(start, entry.compressed_bytes)
        .ok_or_else(|| broken("a file that ends outside of the archive"))
}

fn read(content: &Content, start: u64, bytes: usize) -> Result<Bytes, ContainerError> {
    if start
        .checked_add(bytes as u64)
        .is_none_or(|end| end > content.len())
    {
        return Err(broken("a place outside of the archive"));
    }
    content
        .read(start, bytes)
        .map_err(ContainerError::Unreadable)
}

fn broken(found: &'static str) -> ContainerError {
    broken_by(io::Error::new(io::ErrorKind::InvalidData, found))
}

fn broken_by(error: io::Error) -> ContainerError {
    explained(Container::Zip, error)
}

fn not_one_file(found: String) -> ContainerError {
    ContainerError::NotOneFile { found }
}

fn shown(name: &[u8]) -> String {
    let name = &name[..name.len().min(NAME_BYTES_SHOWN)];
    format!("\"{}\"", name.escape_ascii())
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

/// A file that must be as long as the directory says, and have its checksum.
struct Verified {
    inside: Box<dyn Read + Send>,
    left: u64,
    crc: Crc,
    expected: u32,
}

impl Read for Verified {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.inside.read(buffer)?;
        self.crc.update(&buffer[..bytes]);
        self.left = self
            .left
            .checked_sub(bytes as u64)
            .ok_or_else(|| invalid("a file longer than the directory says"))?;
        if bytes > 0 || buffer.is_empty() {
            return Ok(bytes);
        }
        if self.left > 0 {
            return Err(invalid("a file shorter than the directory says"));
        }
        if self.crc.sum() != self.expected {
            return Err(invalid("a file with another checksum"));
        }
        Ok(0)
    }
}

fn invalid(found: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, found)
}
