//! A dump that is damaged in places -> one that rust-minidump reads, and what had to be repaired. Pure.
//!
//! rust-minidump reads most streams whole or not at all: one bad string in the module list costs all modules, and without
//! thread list or system information there is no report. So each stream is looked through before; what cannot be read as it
//! is, is written anew behind the dump, and the directory with it. A sound dump stays as it is and is not copied. The same
//! pass bounds what a dump can make of few bytes: every string, every list, and chains that lead back to themselves.

mod annotations;
mod files;
mod handles;
mod list;
mod mac;
mod memory;
mod modules;
mod patch;
mod system;
mod text;
mod threads;
mod view;

use std::borrow::Cow;
use std::collections::BTreeMap;

use minidump::format::{MINIDUMP_SIGNATURE, MINIDUMP_STREAM_TYPE as Kind};

use patch::{HEADER_BYTES, Patch};
use view::View;

pub(super) use text::cut;

/// Where in the header the time of the crash is, in seconds since 1970.
const TIME_AT: usize = 20;

/// A dump that can be read.
#[derive(Debug)]
pub(super) struct Repaired<'a> {
    /// The dump; its own bytes when nothing had to be repaired.
    pub(super) bytes: Cow<'a, [u8]>,
    /// Crashpad's annotations, which rust-minidump is not asked for.
    pub(super) annotations: BTreeMap<String, String>,
    /// Whether system and processor are the dump's own word.
    pub(super) system: System,
    /// The time in the header, in seconds since 1970.
    pub(super) time: u32,
    /// What was repaired, and what is missing.
    pub(super) warnings: Vec<String>,
}

/// What the system information is after its repair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum System {
    /// The dump's own.
    Told,
    /// The dump has none: processor and system are taken from the rest of it.
    Guessed,
}

/// There is nothing to read in a dump.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Hopeless {
    /// The header is none, or the directory lies outside the dump: rust-minidump says which.
    Container,
    /// No stream tells anything of the crash.
    Nothing,
}

/// Repairs what can be.
///
/// # Errors
/// [`Hopeless`] when nothing would be left.
pub(super) fn repair(dump: &[u8]) -> Result<Repaired<'_>, Hopeless> {
    let view = in_its_order(dump)?;
    let mut patch = Patch::open(view).map_err(|_| Hopeless::Container)?;
    let exception = system::exception(&mut patch);
    let threads = threads::threads(&mut patch, exception.as_ref());
    let has_system = patch
        .stream(Kind::SystemInfoStream)
        .is_some_and(|info| !info.is_empty());
    // The crashed thread's registers are the surest.
    let crashed = exception.as_ref().and_then(|found| found.context);
    let contexts: Vec<(u32, u32)> = crashed
        .into_iter()
        .chain(threads.contexts.clone())
        .collect();
    let system = system::system(&mut patch, &contexts);
    let told = [
        exception.is_some(),
        has_system,
        threads.found > 0,
        threads::names(&mut patch, &threads) > 0,
        modules::modules(&mut patch) > 0,
        modules::unloaded_modules(&mut patch) > 0,
        system::process(&mut patch),
        handles::handles(&mut patch) > 0,
        files::files(&mut patch) > 0,
        mac::crash_info(&mut patch) > 0,
    ];
    system::boot_arguments(&mut patch);
    memory::memory(&mut patch);
    let info = patch.stream(Kind::CrashpadInfoStream);
    let annotations = info.map(|info| annotations::annotations(view, info, &mut patch.warnings));
    let annotations = annotations.unwrap_or_default();
    if annotations.is_empty() && !told.contains(&true) {
        return Err(Hopeless::Nothing);
    }
    let (bytes, warnings) = patch.finish();
    Ok(Repaired {
        bytes,
        annotations,
        system,
        time: view.u32(TIME_AT).unwrap_or_default(),
        warnings,
    })
}

/// The dump in the byte order of its signature.
fn in_its_order(dump: &[u8]) -> Result<View<'_>, Hopeless> {
    let little = View::new(dump, false);
    let is_big = match little.u32(0).filter(|_| dump.len() >= HEADER_BYTES) {
        Some(MINIDUMP_SIGNATURE) => false,
        Some(swapped) if swapped.swap_bytes() == MINIDUMP_SIGNATURE => true,
        Some(_) | None => return Err(Hopeless::Container),
    };
    Ok(View::new(dump, is_big))
}

#[cfg(test)]
mod tests;
