//! The memory regions: one that is cut off keeps its beginning, one that is damaged costs itself only. Pure.

use std::borrow::Cow;

use minidump::format::MINIDUMP_STREAM_TYPE as Kind;

use super::super::limits::REGIONS_MAX;
use super::list::{counted, extended, write_counted, write_extended};
use super::patch::Patch;

/// Bytes of `MINIDUMP_MEMORY_DESCRIPTOR`, and where in it the region's size and place are.
const REGION_BYTES: usize = 16;
const REGION_SIZE_AT: usize = 8;
const REGION_RVA_AT: usize = 12;
/// Bytes of `MINIDUMP_MEMORY_DESCRIPTOR64` and of its list's head: a count, the place of the first region.
const REGION64_BYTES: usize = 16;
const REGION64_SIZE_AT: usize = 8;
const LIST64_HEAD_BYTES: usize = 16;
/// Bytes of `MINIDUMP_MEMORY_INFO` and of its list's head.
const INFO_BYTES: usize = 48;
const INFO_HEAD_BYTES: usize = 16;

/// Repairs all lists of memory regions.
pub(super) fn memory(patch: &mut Patch<'_>) {
    regions(patch);
    regions64(patch);
    region_infos(patch);
}

fn regions(patch: &mut Patch<'_>) {
    let Some(stream) = patch.stream(Kind::MemoryListStream) else {
        return;
    };
    let view = patch.view;
    let list = counted(view.of(stream), REGION_BYTES);
    patch.warnings.extend(list.shortage("memory list"));
    let kept = list.len().min(REGIONS_MAX);
    note_kept(patch, kept, list.len());
    let mut entries = Cow::Borrowed(&list.bytes[..kept * REGION_BYTES]);
    let mut lost = 0;
    for (index, entry) in list.bytes.chunks_exact(REGION_BYTES).take(kept).enumerate() {
        let entry = view.of(entry);
        let (size, rva) = (entry.size(REGION_SIZE_AT), entry.size(REGION_RVA_AT));
        let (size, rva) = size.zip(rva).unwrap_or_default();
        let there = view.part(rva, size).len();
        if there < size {
            lost += 1;
            let at = index * REGION_BYTES + REGION_SIZE_AT;
            view.put_u32(entries.to_mut(), at, there as u32);
        }
    }
    note_lost(patch, lost);
    if !list.is_sound || kept < list.len() || matches!(entries, Cow::Owned(_)) {
        let list = write_counted(view, &entries, REGION_BYTES);
        patch.replace(Kind::MemoryListStream, &list);
    }
}

/// The regions of this list lie one behind another, so that those behind the end of the dump are lost.
fn regions64(patch: &mut Patch<'_>) {
    let Some(stream) = patch.stream(Kind::Memory64ListStream) else {
        return;
    };
    let view = patch.view;
    let list = view.of(stream);
    let (Some(claimed), Some(first)) = (list.u64(0), list.u64(8)) else {
        patch
            .warnings
            .push("the list of 64-bit memory cannot be read".into());
        return patch.remove(Kind::Memory64ListStream);
    };
    let entries = stream.get(LIST64_HEAD_BYTES..).unwrap_or_default();
    let end = view.bytes.len() as u64;
    let mut rva = first;
    let mut kept = Vec::new();
    let whole = (entries.len() / REGION64_BYTES) as u64;
    let count = claimed.min(whole).min(REGIONS_MAX as u64) as usize;
    let mut is_whole = claimed == whole && entries.len() == count * REGION64_BYTES;
    for entry in entries.chunks_exact(REGION64_BYTES).take(count) {
        let size = view.of(entry).u64(REGION64_SIZE_AT).unwrap_or_default();
        let there = end.saturating_sub(rva).min(size);
        if there == 0 && size > 0 {
            is_whole = false;
            break;
        }
        kept.extend_from_slice(entry);
        if there < size {
            is_whole = false;
            let at = kept.len() - REGION64_BYTES + REGION64_SIZE_AT;
            view.put_u64(&mut kept, at, there);
            break;
        }
        rva += size;
    }
    if is_whole {
        return;
    }
    let count = kept.len() / REGION64_BYTES;
    patch.warnings.push(format!(
        "the list of 64-bit memory is damaged: it says {claimed} regions, and {count} are there"
    ));
    if count == 0 {
        // The other list may have some.
        return patch.remove(Kind::Memory64ListStream);
    }
    let mut list = view.u64_bytes(count as u64).to_vec();
    list.extend_from_slice(&view.u64_bytes(first));
    list.extend_from_slice(&kept);
    patch.replace(Kind::Memory64ListStream, &list);
}

fn region_infos(patch: &mut Patch<'_>) {
    let Some(stream) = patch.stream(Kind::MemoryInfoListStream) else {
        return;
    };
    let view = patch.view;
    let Some(list) = extended(view.of(stream), &[INFO_BYTES], INFO_HEAD_BYTES) else {
        patch
            .warnings
            .push("the list of memory information cannot be read".into());
        return;
    };
    patch
        .warnings
        .extend(list.shortage("list of memory information"));
    if list.is_sound && list.len() <= REGIONS_MAX {
        return;
    }
    let entries = list.bytes.chunks_exact(list.stride).take(REGIONS_MAX);
    let entries: Vec<u8> = entries
        .flat_map(|entry| &entry[..INFO_BYTES])
        .copied()
        .collect();
    let list = write_extended(view, &entries, INFO_BYTES, INFO_HEAD_BYTES);
    patch.replace(Kind::MemoryInfoListStream, &list);
}

fn note_kept(patch: &mut Patch<'_>, kept: usize, found: usize) {
    if kept < found {
        patch.warnings.push(format!(
            "the dump has {found} memory regions: only {REGIONS_MAX} are kept"
        ));
    }
}

fn note_lost(patch: &mut Patch<'_>, lost: usize) {
    if lost > 0 {
        patch.warnings.push(format!(
            "{lost} memory regions lie partly or wholly outside the dump"
        ));
    }
}
