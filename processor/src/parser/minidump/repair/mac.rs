//! What macOS noted of a crash: a record that is damaged costs itself only, a text that is none is repaired. Pure.

use minidump::format::MINIDUMP_STREAM_TYPE as Kind;

use super::super::limits::TEXT_BYTES_MAX;
use super::patch::Patch;
use super::text::utf8;
use super::view::View;

/// Bytes of `MINIDUMP_MAC_CRASH_INFO`; behind its three words are places for this many records.
const HEAD_BYTES: usize = 172;
const RECORDS_AT: usize = 12;
const RECORDS_MAX: usize = 20;
const COUNT_AT: usize = 4;
const STRINGS_OFFSET_AT: usize = 8;
/// Where in a record its version is, and what the fixed part of the oldest and of later ones needs.
const VERSION_AT: usize = 8;
const FIXED_BYTES_MIN: usize = 16;
/// From this version on a record has strings, so many.
const VERSION_WITH_STRINGS: u64 = 4;
const STRINGS: usize = 5;
/// Bytes of a record; its strings have 8 KiB each at most.
const RECORD_BYTES_MAX: u32 = 64 << 10;

/// Repairs the crash information of macOS; says how many records there are.
pub(super) fn crash_info(patch: &mut Patch<'_>) -> usize {
    let Some(stream) = patch.stream(Kind::MozMacosCrashInfoStream) else {
        return 0;
    };
    let view = patch.view;
    let head = view.of(stream);
    let Some(strings_at) = head
        .size(STRINGS_OFFSET_AT)
        .filter(|_| stream.len() >= HEAD_BYTES)
    else {
        patch
            .warnings
            .push("the crash information of macOS is cut off".into());
        patch.remove(Kind::MozMacosCrashInfoStream);
        return 0;
    };
    let count = head.size(COUNT_AT).unwrap_or_default().min(RECORDS_MAX);
    let mut is_sound = true;
    let mut version = None;
    let mut kept: Vec<[u32; 2]> = Vec::new();
    for index in 0..count {
        let at = RECORDS_AT + index * 8;
        let [Some(size), Some(rva)] = [at, at + 4].map(|at| head.u32(at)) else {
            continue;
        };
        let size = size.min(RECORD_BYTES_MAX);
        let record = view.whole(rva as usize, size as usize);
        let checked = record.and_then(|record| check(view.of(record), strings_at, &mut version));
        match checked {
            None => is_sound = false,
            Some(Record::Sound) => kept.push([size, rva]),
            Some(Record::Mended(record)) => {
                is_sound = false;
                kept.push([record.len() as u32, patch.append(&record)]);
            }
        }
    }
    if !is_sound {
        let mut mended = stream[..HEAD_BYTES].to_vec();
        view.put_u32(&mut mended, COUNT_AT, kept.len() as u32);
        for (index, words) in kept.iter().enumerate() {
            for (word, value) in words.iter().enumerate() {
                view.put_u32(&mut mended, RECORDS_AT + index * 8 + word * 4, *value);
            }
        }
        patch.replace(Kind::MozMacosCrashInfoStream, &mended);
        patch.warnings.push(format!(
            "the crash information of macOS is damaged: {} of {count} records are kept",
            kept.len()
        ));
    }
    kept.len()
}

enum Record {
    Sound,
    Mended(Vec<u8>),
}

/// A record as it can be read; `None` for one that cannot, or whose version is not that of the others.
fn check(record: View<'_>, strings_at: usize, version: &mut Option<u64>) -> Option<Record> {
    let own = record.u64(VERSION_AT)?;
    if *version.get_or_insert(own) != own || record.bytes.len() < FIXED_BYTES_MIN {
        return None;
    }
    if own < VERSION_WITH_STRINGS {
        return Some(Record::Sound);
    }
    let fixed = record.bytes.get(..strings_at)?;
    let mut rest = &record.bytes[strings_at..];
    let mut mended = fixed.to_vec();
    let mut is_sound = true;
    for _ in 0..STRINGS {
        let end = rest.iter().position(|byte| *byte == 0);
        let raw = &rest[..end.unwrap_or(rest.len())];
        let (text, is_repaired) = utf8(raw, TEXT_BYTES_MAX);
        is_sound &= end.is_some() && !is_repaired;
        mended.extend_from_slice(text.as_bytes());
        mended.push(0);
        rest = &rest[end.map_or(rest.len(), |end| end + 1)..];
    }
    Some(match is_sound {
        true => Record::Sound,
        false => Record::Mended(mended),
    })
}
