//! The modules: a bad name or debug record costs itself only. rust-minidump gives up the list. Pure.

use std::borrow::Cow;

use minidump::format::MINIDUMP_STREAM_TYPE as Kind;

use super::super::limits::{
    DEBUG_RECORD_BYTES_MAX, MODULES_MAX, NAME_BYTES_MAX, UNLOADED_MODULES_MAX,
};
use super::list::{counted, extended, write_counted, write_extended};
use super::patch::Patch;
use super::text::{Names, Notes, read_utf16};
use super::view::View;

/// Bytes of `MINIDUMP_MODULE`, and where in it are: its name, the size and the place of its CodeView record.
const MODULE_BYTES: usize = 108;
const MODULE_NAME_AT: usize = 20;
const RECORD_SIZE_AT: usize = 76;
const RECORD_RVA_AT: usize = 80;
/// Bytes of `MINIDUMP_UNLOADED_MODULE` and of its list's head, and where in it are: its size, its name.
const UNLOADED_BYTES: usize = 24;
const UNLOADED_HEAD_BYTES: usize = 12;
const IMAGE_SIZE_AT: usize = 8;
const UNLOADED_NAME_AT: usize = 20;
/// Signatures of CodeView records, with the bytes that their fixed parts have.
const RECORDS: [(u32, usize); 3] = [
    (0x5344_5352, 24), // PDB 7.0, "RSDS"
    (0x3031_424e, 16), // PDB 2.0, "NB10"
    (0x4270_454c, 4),  // ELF build id, "LEpB"
];

/// Repairs the list of modules; says how many there are.
pub(super) fn modules(patch: &mut Patch<'_>) -> usize {
    let Some(stream) = patch.stream(Kind::ModuleListStream) else {
        return 0;
    };
    let view = patch.view;
    let list = counted(view.of(stream), MODULE_BYTES);
    patch.warnings.extend(list.shortage("module list"));
    let kept = list.len().min(MODULES_MAX);
    if kept < list.len() {
        let found = list.len();
        patch.warnings.push(format!(
            "the dump has {found} modules: only {MODULES_MAX} are kept"
        ));
    }
    let mut entries = Cow::Borrowed(&list.bytes[..kept * MODULE_BYTES]);
    let mut names = Names::default();
    let mut records = Notes::default();
    for (index, entry) in list.bytes.chunks_exact(MODULE_BYTES).take(kept).enumerate() {
        let (entry, at) = (view.of(entry), index * MODULE_BYTES);
        let base = entry.u64(0).unwrap_or_default();
        let name = entry.u32(MODULE_NAME_AT).unwrap_or_default();
        if let Some(mended) = names.mend(patch, name.into(), format_args!("{base:#x}")) {
            view.put_u32(entries.to_mut(), at + MODULE_NAME_AT, mended);
        }
        if let Some(size) = other_record_size(view, entry) {
            view.put_u32(entries.to_mut(), at + RECORD_SIZE_AT, size as u32);
            records.add(format_args!("{base:#x}"));
        }
    }
    let is_changed = matches!(entries, Cow::Owned(_)) || kept < list.len();
    if is_changed || !list.is_sound {
        let list = write_counted(view, &entries, MODULE_BYTES);
        patch.replace(Kind::ModuleListStream, &list);
    }
    let warnings = &mut patch.warnings;
    names.notes.warn("names of modules are damaged", warnings);
    records.warn("debug records of modules are damaged", warnings);
    kept
}

/// Names of the first modules, before the list is repaired.
pub(super) fn names(patch: &Patch<'_>, most: usize) -> Vec<String> {
    let view = patch.view;
    let stream = patch.stream(Kind::ModuleListStream).unwrap_or_default();
    let modules = counted(view.of(stream), MODULE_BYTES).bytes;
    let names = modules.chunks_exact(MODULE_BYTES).take(most);
    names
        .filter_map(|entry| {
            let rva = view.of(entry).size(MODULE_NAME_AT)?;
            read_utf16(view, rva, NAME_BYTES_MAX)
        })
        .collect()
}

/// How much of a module's CodeView record can be used; `None` when it may stay as it is.
fn other_record_size(view: View<'_>, module: View<'_>) -> Option<usize> {
    let size = module.size(RECORD_SIZE_AT)?;
    if size == 0 {
        return None;
    }
    let there = view.part(
        module.size(RECORD_RVA_AT)?,
        size.min(DEBUG_RECORD_BYTES_MAX),
    );
    let signature = view.of(there).u32(0);
    let needed = RECORDS
        .iter()
        .find_map(|(known, bytes)| (signature == Some(*known)).then_some(*bytes))
        .unwrap_or(4);
    match there.len() {
        length if length < needed => Some(0),
        length if length < size => Some(length),
        _ => None,
    }
}

/// Repairs the list of unloaded modules; says how many there are.
pub(super) fn unloaded_modules(patch: &mut Patch<'_>) -> usize {
    let Some(stream) = patch.stream(Kind::UnloadedModuleListStream) else {
        return 0;
    };
    let view = patch.view;
    let Some(list) = extended(view.of(stream), &[UNLOADED_BYTES], UNLOADED_HEAD_BYTES) else {
        patch
            .warnings
            .push("the list of unloaded modules cannot be read".into());
        return 0;
    };
    patch
        .warnings
        .extend(list.shortage("list of unloaded modules"));
    let mut kept = Vec::new();
    let mut is_sound = list.is_sound;
    let mut names = Names::default();
    let mut sizes = Notes::default();
    for entry in list.bytes.chunks_exact(list.stride) {
        let raw = &entry[..UNLOADED_BYTES];
        let entry = view.of(raw);
        let base = entry.u64(0).unwrap_or_default();
        let size = entry.u32(IMAGE_SIZE_AT).unwrap_or_default();
        if size == 0 || base.checked_add(size.into()).is_none() {
            sizes.add(format_args!("{base:#x}"));
            is_sound = false;
            continue;
        }
        if kept.len() == UNLOADED_MODULES_MAX * UNLOADED_BYTES {
            patch.warnings.push(format!(
                "the dump has {} unloaded modules: only {UNLOADED_MODULES_MAX} are kept",
                list.len()
            ));
            is_sound = false;
            break;
        }
        kept.extend_from_slice(raw);
        let name = entry.u32(UNLOADED_NAME_AT).unwrap_or_default();
        if let Some(mended) = names.mend(patch, name.into(), format_args!("{base:#x}")) {
            let at = kept.len() - UNLOADED_BYTES + UNLOADED_NAME_AT;
            view.put_u32(&mut kept, at, mended);
            is_sound = false;
        }
    }
    if !is_sound {
        let list = write_extended(view, &kept, UNLOADED_BYTES, UNLOADED_HEAD_BYTES);
        patch.replace(Kind::UnloadedModuleListStream, &list);
    }
    let warnings = &mut patch.warnings;
    names
        .notes
        .warn("names of unloaded modules are damaged", warnings);
    sizes.warn("unloaded modules have impossible sizes", warnings);
    kept.len() / UNLOADED_BYTES
}
