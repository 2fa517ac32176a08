//! Dumps among bytes that nobody says are one: behind a head that was lost, or inside an item whose length is too large.

use std::io::{self, Read, Seek, SeekFrom};

use memchr::memmem;
use shared::content::Content;
use shared::content_reader::ContentReader;

use super::extent::extent;
use crate::body::Run;
use crate::error::Rejection;
use crate::items::{Extent, ItemHead, plain_head};
use crate::limits::{DUMP_HEAD_BYTES, ENVELOPE_LINE_BYTES_MAX, SEARCHED_PIECE_BYTES};
use crate::upload::{File, FileHead, Role, UploadBuilder};
use crate::validate::check_minidump;

/// A dump's first bytes, by the byte order of its writer.
const MAGICS: [&[u8]; 2] = [b"MDMP", b"PMDM"];
/// `MINIDUMP_HEADER`.
const HEADER_BYTES: usize = 32;

/// Bytes among which a dump may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Suspect {
    pub(super) run: Run,
    /// Whether they are an item whose frame seems right: then only a dump with a head before it is taken out.
    pub(super) is_framed: bool,
}

/// A dump that was found: where, and what its head says of it.
struct Found {
    start: u64,
    bytes: u64,
    head: Option<ItemHead>,
}

/// Makes the first dump among the suspects a file of the upload. Returns what was done, as a sentence.
///
/// # Errors
/// [`Rejection`] when what was received cannot be read back.
pub(super) async fn unearth(
    upload: &mut UploadBuilder,
    suspects: &[Suspect],
) -> Result<Option<String>, Rejection> {
    for suspect in suspects {
        if suspect.run.bytes < HEADER_BYTES as u64 {
            continue;
        }
        let content = upload.content(suspect.run).await?;
        let suspect = *suspect;
        let found = tokio::task::spawn_blocking(move || find(&content, suspect)).await;
        let found = found.map_err(|_| Rejection::Stopping)?;
        if let Some(file) = found.map_err(Rejection::Unreadable)? {
            let bytes = file.run.bytes;
            upload.add_file(file);
            return Ok(Some(format!(
                "a minidump of {bytes} bytes was found among bytes of no item, or of another"
            )));
        }
    }
    Ok(None)
}

fn find(content: &Content, suspect: Suspect) -> io::Result<Option<File>> {
    let mut from = 0;
    while let Some(start) = next_magic(content, from)? {
        if let Some(found) = dump_at(content, start, suspect.is_framed)? {
            return file(content, suspect.run, found).map(Some);
        }
        from = start + 1;
    }
    Ok(None)
}

/// Where the next of the magics stands.
fn next_magic(content: &Content, mut from: u64) -> io::Result<Option<u64>> {
    const OVERLAP_BYTES: u64 = 3;
    let finders = MAGICS.map(memmem::Finder::new);
    while content.len().saturating_sub(from) >= HEADER_BYTES as u64 {
        let bytes = (content.len() - from).min(SEARCHED_PIECE_BYTES as u64);
        let piece = content.read(from, bytes as usize)?;
        let found = finders
            .iter()
            .filter_map(|finder| finder.find(&piece))
            .min();
        if let Some(at) = found {
            return Ok(Some(from + at as u64));
        }
        from += bytes - OVERLAP_BYTES.min(bytes - 1);
        if bytes <= OVERLAP_BYTES {
            break;
        }
    }
    Ok(None)
}

fn dump_at(content: &Content, start: u64, needs_head: bool) -> io::Result<Option<Found>> {
    let left = content.len() - start;
    if left < HEADER_BYTES as u64 {
        return Ok(None);
    }
    let header = content.read(start, HEADER_BYTES)?;
    if check_minidump(&header, left).is_err() {
        return Ok(None);
    }
    let before = start.min(ENVELOPE_LINE_BYTES_MAX as u64);
    let before = content.read(start - before, before as usize)?;
    let head = before.strip_suffix(b"\n").and_then(|before| {
        let line = before.rsplit(|byte| *byte == b'\n').next()?;
        plain_head(line)
    });
    if needs_head && head.is_none() {
        return Ok(None);
    }
    let bytes = match head.as_ref().map(|head| head.extent) {
        Some(Extent::Bytes(stated)) => {
            let dump = content.slice(start, left);
            let least = dump.and_then(|dump| extent(&dump));
            let least = least.unwrap_or(HEADER_BYTES as u64);
            stated.max(least).min(left)
        }
        Some(Extent::Line | Extent::Unknown) | None => left,
    };
    Ok(Some(Found { start, bytes, head }))
}

fn file(content: &Content, run: Run, found: Found) -> io::Result<File> {
    let run = Run {
        start: run.start + found.start,
        bytes: found.bytes,
    };
    let start_bytes = found.bytes.min(DUMP_HEAD_BYTES as u64) as usize;
    let start = content.read(found.start, start_bytes)?.to_vec();
    let mut hasher = blake3::Hasher::new();
    let mut reader = ContentReader::new(content.clone());
    reader.seek(SeekFrom::Start(found.start))?;
    hasher.update_reader(reader.take(found.bytes))?;
    let (name, content_type) = match found.head {
        Some(head) => (head.file_name, head.content_type),
        None => (None, None),
    };
    Ok(File {
        head: FileHead {
            role: Role::Minidump,
            name,
            content_type,
        },
        start,
        run,
        blake3: hasher.finalize(),
    })
}
