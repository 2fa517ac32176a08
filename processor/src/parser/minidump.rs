//! The bytes of a minidump -> what the report says of it, by rust-minidump. Runs in the worker process only.

mod bounds;
mod details;
mod json;
mod limits;
mod repair;
mod walk;

use std::time::Instant;

use jiff::Timestamp;
use minidump::{Minidump, MinidumpException, MinidumpModuleList, MinidumpStream as _};
use minidump_processor::{ProcessError, ProcessState};
use minidump_unwind::{CallStackInfo, MultiSymbolProvider, SymbolProvider};
use shared::report::{CrashDetails, Partial, PartialReason};

use crate::signature::signature;

use details::{details, file_name, trust};
use limits::TOLD_BYTES_MAX;
use repair::{Hopeless, Repaired, repair};
use walk::{FRAMES_MAX, FRAMES_PER_THREAD_MAX, Gate, Walk};

/// What a dump told.
#[derive(Debug)]
pub struct ParsedDump {
    /// All but rust-minidump's own JSON.
    pub details: CrashDetails,
    /// What was odd.
    pub warnings: Vec<String>,
    /// What is absent because time ran out.
    pub partial: Option<Partial>,
    /// When it was written, by the clock of its machine; `None` when it does not say.
    pub time: Option<Timestamp>,
    /// rust-minidump's own JSON; empty when it was left out.
    pub json: Vec<u8>,
}

/// The dump cannot be read, however often one tries.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct Unreadable {
    /// What was expected and what was found.
    pub error: String,
}

/// Where symbols come from. None do yet: whoever adds a source adds it here, and it stays hot from dump to dump.
#[must_use]
pub fn symbol_provider() -> impl SymbolProvider + Sync {
    MultiSymbolProvider::new()
}

/// Reads a dump and walks its stacks until `deadline`; what was not walked by then is absent, and said to be.
///
/// # Errors
/// [`Unreadable`] when nothing of the crash can be read. Damage becomes a warning, and costs what is damaged.
pub async fn parse(
    dump: &[u8],
    symbols: &(impl SymbolProvider + Sync),
    deadline: Instant,
) -> Result<ParsedDump, Unreadable> {
    let begun = Instant::now();
    let repaired = repair(dump).map_err(|hopeless| unreadable(dump, &hopeless))?;
    let Repaired {
        bytes,
        annotations,
        system,
        time,
        mut warnings,
    } = repaired;
    let container =
        Minidump::read(&bytes[..]).map_err(|error| unreadable_container(dump, &error))?;
    let gate = Gate::new(symbols);
    let mut state =
        walk::unwalked(&container, &gate).map_err(|error| unreadable_streams(dump, &error))?;
    let walk = walk::walk(&container, &mut state, &gate, deadline).await;
    let partial = walk.out_of_time.then(|| Partial {
        reason: PartialReason::Timeout,
        seconds: begun.elapsed().as_secs_f64(),
        threads_walked: walk.walked,
        threads: state.threads.len(),
    });
    note_bounds(&walk, partial.as_ref(), &mut warnings);
    note_damage(&container, &state, &mut warnings);
    let mut details = details(&state, annotations, system);
    details.signature = Some(signature(&details));
    let told = bounds::cut_down(&mut details, TOLD_BYTES_MAX, &mut warnings);
    let json = json(
        &mut state,
        TOLD_BYTES_MAX.saturating_sub(told),
        &mut warnings,
    )?;
    bounds::cut_warnings(&mut warnings);
    Ok(ParsedDump {
        details,
        warnings,
        partial,
        time: (time > 0)
            .then(|| Timestamp::from_second(time.into()).ok())
            .flatten(),
        json,
    })
}

/// rust-minidump's own JSON, which is the first to go when it is too much.
fn json(
    state: &mut ProcessState,
    bytes_max: usize,
    warnings: &mut Vec<String>,
) -> Result<Vec<u8>, Unreadable> {
    match json::to_json(state, bytes_max) {
        Ok(Some(json)) => Ok(json),
        Ok(None) => {
            warnings.push(format!(
                "rust-minidump's JSON is left out: it has more than {bytes_max} bytes"
            ));
            Ok(Vec::new())
        }
        Err(error) => Err(Unreadable {
            error: format!("what was read cannot be written as JSON: {error}"),
        }),
    }
}

/// Says what walking left out.
fn note_bounds(walk: &Walk, partial: Option<&Partial>, warnings: &mut Vec<String>) {
    let Walk {
        deep,
        over,
        crowded,
        ..
    } = walk;
    for id in deep {
        warnings.push(format!(
            "thread {id} has more than {FRAMES_PER_THREAD_MAX} frames: only the innermost are kept"
        ));
    }
    if *over > 0 {
        warnings.push(format!(
            "the dump has more than {FRAMES_MAX} frames: {over} threads are cut short"
        ));
    }
    if *crowded {
        warnings.push("names of unloaded modules are left out of some frames: too many".into());
    }
    if let Some(partial) = partial {
        warnings.push(format!(
            "time ran out after {:.1} s: the stacks of {} of {} threads are walked",
            partial.seconds, partial.threads_walked, partial.threads
        ));
    }
}

/// rust-minidump passes over streams that it can do without; a reader wants to know that they are there and damaged.
fn note_damage<'a>(
    dump: &'a Minidump<'a, &'a [u8]>,
    state: &ProcessState,
    warnings: &mut Vec<String>,
) {
    let is_damaged = |stream| {
        !matches!(
            dump.get_raw_stream(stream),
            Err(minidump::Error::StreamNotFound)
        )
    };
    if state.modules.iter().next().is_none() {
        let why = match is_damaged(MinidumpModuleList::STREAM_TYPE) {
            true => "the module list is empty or cannot be read",
            false => "the dump has no module list",
        };
        warnings.push(format!("{why}: frames cannot be placed"));
    }
    if state.exception_info.is_none() && is_damaged(MinidumpException::STREAM_TYPE) {
        warnings.push("the exception cannot be read: why the program crashed is unknown".into());
    }
    let crashing = state
        .requesting_thread
        .and_then(|index| state.threads.get(index));
    match crashing.map(|thread| &thread.info) {
        None if state.exception_info.is_some() => {
            warnings.push("the crashing thread is not in the thread list".into());
        }
        None | Some(CallStackInfo::Ok) => {}
        Some(CallStackInfo::MissingContext) => {
            warnings.push("the crashing thread has no registers: it cannot be walked".into());
        }
        Some(CallStackInfo::MissingMemory) => {
            warnings.push("the crashing thread has no stack memory: it cannot be walked".into());
        }
        Some(CallStackInfo::UnsupportedCpu) => {
            warnings.push("the stacks of this processor cannot be walked".into());
        }
        Some(CallStackInfo::DumpThreadSkipped) => {
            warnings.push("the crashing thread is the one that wrote the dump".into());
        }
    }
}

fn unreadable(dump: &[u8], hopeless: &Hopeless) -> Unreadable {
    match (hopeless, Minidump::read(dump)) {
        (Hopeless::Container, Err(error)) => unreadable_container(dump, &error),
        (Hopeless::Container | Hopeless::Nothing, _) => Unreadable {
            error: format!(
                "nothing of the crash can be read: no stream that tells of it lies within the {} bytes of the dump",
                dump.len()
            ),
        },
    }
}

fn unreadable_container(dump: &[u8], error: &minidump::Error) -> Unreadable {
    use minidump::Error as Is;
    let bytes = dump.len();
    let error = match error {
        Is::MissingHeader => format!("expected a minidump header of 32 bytes, found {bytes} bytes"),
        Is::HeaderMismatch => format!(
            "expected the magic \"MDMP\", found {:?}",
            String::from_utf8_lossy(dump.get(..4).unwrap_or(dump))
        ),
        Is::VersionMismatch => {
            "expected minidump format version 0xa793 in the header's byte order, found another"
                .into()
        }
        Is::MissingDirectory => format!(
            "the stream directory lies outside the {bytes} bytes of the dump: it was cut off, or never finished"
        ),
        Is::FileNotFound
        | Is::IoError
        | Is::StreamReadFailure
        | Is::StreamSizeMismatch { .. }
        | Is::StreamNotFound
        | Is::ModuleReadFailure
        | Is::MemoryReadFailure
        | Is::DataError
        | Is::CodeViewReadFailure
        | Is::UknownElementType => format!("{error}, in a dump of {bytes} bytes"),
    };
    Unreadable { error }
}

fn unreadable_streams(dump: &[u8], error: &ProcessError) -> Unreadable {
    let bytes = dump.len();
    let error = match error {
        ProcessError::MissingThreadList => format!(
            "the thread list is missing or lies outside the {bytes} bytes of the dump: nothing to walk"
        ),
        ProcessError::MissingSystemInfo => format!(
            "the system information is missing or lies outside the {bytes} bytes of the dump: its processor is unknown"
        ),
        ProcessError::MinidumpReadError(error) => return unreadable_container(dump, error),
        ProcessError::UnknownError => format!("{error}, in a dump of {bytes} bytes"),
    };
    Unreadable { error }
}

#[cfg(test)]
#[path = "../../tests/dumps/mod.rs"]
mod dumps;
#[cfg(test)]
#[path = "../../tests/hostile/mod.rs"]
mod hostile;
#[cfg(test)]
mod tests;
