//! The threads and their names. A thread list that is missing is made of the exception's thread. Pure.

use std::borrow::Cow;
use std::collections::HashSet;

use minidump::format::MINIDUMP_STREAM_TYPE as Kind;

use super::super::limits::THREADS_MAX;
use super::list::{counted, write_counted};
use super::patch::Patch;
use super::system::Exception;
use super::text::Names;
use super::view::View;

/// Bytes of `MINIDUMP_THREAD`, and where in it are: the size and place of its stack, of its registers.
const THREAD_BYTES: usize = 48;
const STACK_SIZE_AT: usize = 32;
const STACK_RVA_AT: usize = 36;
const CONTEXT_SIZE_AT: usize = 40;
const CONTEXT_RVA_AT: usize = 44;
/// Bytes of `MINIDUMP_THREAD_NAME`, and where in it the name's place is.
const NAME_BYTES: usize = 12;
const NAME_RVA_AT: usize = 4;

/// The thread list after its repair.
pub(super) struct Threads {
    /// How many the dump itself has.
    pub(super) found: usize,
    /// Where the registers of each are: size and place.
    pub(super) contexts: Vec<(u32, u32)>,
    /// Ids of those kept, when some were not.
    only: Option<HashSet<u32>>,
}

/// Repairs the thread list; rust-minidump reads no dump without one.
pub(super) fn threads(patch: &mut Patch<'_>, exception: Option<&Exception>) -> Threads {
    let view = patch.view;
    let stream = patch.stream(Kind::ThreadListStream);
    if stream.is_none() {
        patch.warnings.push("the dump has no thread list".into());
    }
    let list = counted(view.of(stream.unwrap_or_default()), THREAD_BYTES);
    patch.warnings.extend(list.shortage("thread list"));
    let crashed = exception.map(|exception| exception.thread_id);
    let found = list.len();
    let mut entries = Cow::Borrowed(list.bytes);
    if found > THREADS_MAX {
        keep_some(view, &mut entries, crashed);
        patch.warnings.push(format!(
            "the dump has {found} threads: only {THREADS_MAX} are kept"
        ));
    }
    let mut is_listed = false;
    let mut contexts = Vec::with_capacity(entries.len() / THREAD_BYTES + 1);
    for at in (0..entries.len()).step_by(THREAD_BYTES) {
        let entry = view.of(&entries[at..at + THREAD_BYTES]);
        is_listed |= entry.u32(0) == crashed;
        contexts.push(
            entry
                .u32(CONTEXT_SIZE_AT)
                .zip(entry.u32(CONTEXT_RVA_AT))
                .unwrap_or_default(),
        );
        let (size, rva) = (entry.size(STACK_SIZE_AT), entry.size(STACK_RVA_AT));
        let (size, rva) = size.zip(rva).unwrap_or_default();
        let there = view.part(rva, size).len();
        if there < size && there > 0 {
            view.put_u32(entries.to_mut(), at + STACK_SIZE_AT, there as u32);
        }
    }
    if let Some(exception) = exception
        && !is_listed
        && let Some((size, rva)) = exception.context
    {
        patch.warnings.push(
            "the crashing thread is not in the thread list: its registers are the exception's"
                .into(),
        );
        add_crashed(view, entries.to_mut(), exception.thread_id, (size, rva));
        contexts.push((size, rva));
    }
    if !list.is_sound || matches!(entries, Cow::Owned(_)) {
        let list = write_counted(view, &entries, THREAD_BYTES);
        patch.replace(Kind::ThreadListStream, &list);
    }
    let only = (found > THREADS_MAX).then(|| ids(view, &entries));
    Threads {
        found,
        contexts,
        only,
    }
}

/// Keeps the first threads, and the one that crashed in any case.
fn keep_some(view: View<'_>, entries: &mut Cow<'_, [u8]>, crashed: Option<u32>) {
    let last = (THREADS_MAX - 1) * THREAD_BYTES;
    let mut beyond = entries[THREADS_MAX * THREAD_BYTES..].chunks_exact(THREAD_BYTES);
    let crashed = beyond
        .rfind(|entry| crashed.is_some() && view.of(entry).u32(0) == crashed)
        .map(<[u8]>::to_vec);
    let entries = entries.to_mut();
    entries.truncate(THREADS_MAX * THREAD_BYTES);
    if let Some(crashed) = crashed {
        entries[last..].copy_from_slice(&crashed);
    }
}

fn ids(view: View<'_>, entries: &[u8]) -> HashSet<u32> {
    entries
        .chunks_exact(THREAD_BYTES)
        .filter_map(|entry| view.of(entry).u32(0))
        .collect()
}

/// A thread of which only the registers are known; its stack is found by its stack pointer.
fn add_crashed(view: View<'_>, entries: &mut Vec<u8>, id: u32, (size, rva): (u32, u32)) {
    let at = entries.len();
    entries.resize(at + THREAD_BYTES, 0);
    for (place, value) in [(0, id), (CONTEXT_SIZE_AT, size), (CONTEXT_RVA_AT, rva)] {
        view.put_u32(entries, at + place, value);
    }
}

/// Repairs the names of threads; says how many there are.
pub(super) fn names(patch: &mut Patch<'_>, threads: &Threads) -> usize {
    let Some(stream) = patch.stream(Kind::ThreadNamesStream) else {
        return 0;
    };
    let view = patch.view;
    let list = counted(view.of(stream), NAME_BYTES);
    patch.warnings.extend(list.shortage("list of thread names"));
    let mut kept = Cow::Borrowed(list.bytes);
    if list.len() > THREADS_MAX {
        let is_kept = |id: Option<u32>| match (&threads.only, id) {
            (Some(only), Some(id)) => only.contains(&id),
            (None, _) | (_, None) => true,
        };
        let some = list.bytes.chunks_exact(NAME_BYTES);
        let some = some.filter(|entry| is_kept(view.of(entry).u32(0)));
        kept = Cow::Owned(some.take(THREADS_MAX).flatten().copied().collect());
    }
    let mut names = Names::default();
    for at in (0..kept.len()).step_by(NAME_BYTES) {
        let entry = view.of(&kept[at..at + NAME_BYTES]);
        let id = entry.u32(0).unwrap_or_default();
        let rva = entry.u64(NAME_RVA_AT).unwrap_or_default();
        if let Some(mended) = names.mend(patch, rva, format_args!("thread {id}")) {
            view.put_u64(kept.to_mut(), at + NAME_RVA_AT, mended.into());
        }
    }
    if !list.is_sound || matches!(kept, Cow::Owned(_)) {
        let list = write_counted(view, &kept, NAME_BYTES);
        patch.replace(Kind::ThreadNamesStream, &list);
    }
    names
        .notes
        .warn("names of threads are damaged", &mut patch.warnings);
    kept.len() / NAME_BYTES
}
