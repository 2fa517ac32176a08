//! The handles of a Windows process. rust-minidump follows a chain of object information until it ends, and a chain that
//! leads back to itself never does (docs/upstream.md). Pure.

use minidump::format::MINIDUMP_STREAM_TYPE as Kind;

use super::super::limits::{HANDLE_LINKS_MAX, HANDLES_MAX};
use super::list::{extended, write_extended};
use super::patch::Patch;
use super::text::{Names, Notes};
use super::view::View;

/// Bytes of `MINIDUMP_HANDLE_DESCRIPTOR`, of `MINIDUMP_HANDLE_DESCRIPTOR_2`, and of their list's head.
const DESCRIPTOR_BYTES: usize = 32;
const DESCRIPTOR_2_BYTES: usize = 40;
const HEAD_BYTES: usize = 16;
/// Where in both the names of type and object are.
const NAMES_AT: [usize; 2] = [8, 12];
/// Where in the second the first link of the chain is.
const OBJECT_INFO_AT: usize = 32;

/// Repairs the list of handles; says how many there are.
pub(super) fn handles(patch: &mut Patch<'_>) -> usize {
    let Some(stream) = patch.stream(Kind::HandleDataStream) else {
        return 0;
    };
    let view = patch.view;
    let strides = [DESCRIPTOR_BYTES, DESCRIPTOR_2_BYTES];
    let Some(list) = extended(view.of(stream), &strides, HEAD_BYTES) else {
        patch
            .warnings
            .push("the list of handles cannot be read".into());
        // Its head may still lead rust-minidump astray.
        patch.remove(Kind::HandleDataStream);
        return 0;
    };
    patch.warnings.extend(list.shortage("list of handles"));
    let found = list.len();
    let kept = found.min(HANDLES_MAX);
    if kept < found {
        patch.warnings.push(format!(
            "the dump has {found} handles: only {HANDLES_MAX} are kept"
        ));
    }
    // Only what a chain begins with is in the longer descriptor.
    let stride = match list.stride {
        DESCRIPTOR_2_BYTES => DESCRIPTOR_2_BYTES,
        _ => DESCRIPTOR_BYTES,
    };
    let mut is_sound = list.is_sound && kept == found;
    let mut entries = Vec::with_capacity(kept * stride);
    let mut names = Names::default();
    let mut chains = Notes::default();
    for entry in list.bytes.chunks_exact(list.stride).take(kept) {
        let at = entries.len();
        entries.extend_from_slice(&entry[..stride]);
        let entry = view.of(entry);
        let handle = entry.u64(0).unwrap_or_default();
        for name_at in NAMES_AT {
            let rva = entry.u32(name_at).unwrap_or_default();
            if rva == 0 {
                continue;
            }
            if let Some(mended) = names.mend(patch, rva.into(), format_args!("{handle:#x}")) {
                view.put_u32(&mut entries, at + name_at, mended);
                is_sound = false;
            }
        }
        if stride == DESCRIPTOR_2_BYTES && !ends(view, entry.u32(OBJECT_INFO_AT)) {
            view.put_u32(&mut entries, at + OBJECT_INFO_AT, 0);
            chains.add(format_args!("{handle:#x}"));
            is_sound = false;
        }
    }
    if !is_sound {
        let list = write_extended(view, &entries, stride, HEAD_BYTES);
        patch.replace(Kind::HandleDataStream, &list);
    }
    let warnings = &mut patch.warnings;
    names.notes.warn("names of handles are damaged", warnings);
    chains.warn("object information of handles has no end", warnings);
    kept
}

/// Whether a chain of `MINIDUMP_HANDLE_OBJECT_INFORMATION`, each of which begins with the place of the next, ends soon.
fn ends(view: View<'_>, first: Option<u32>) -> bool {
    let mut next = first;
    for _ in 0..HANDLE_LINKS_MAX {
        match next {
            None | Some(0) => return true,
            Some(rva) => next = view.u32(rva as usize),
        }
    }
    false
}
