//! The bytes of a minidump -> what the report says of it, by rust-minidump. Runs in the worker process only.

mod json;
mod walk;

use std::collections::BTreeMap;
use std::time::Instant;

use minidump::{
    Minidump, MinidumpAnnotation, MinidumpCrashpadInfo, MinidumpException, MinidumpModule,
    MinidumpModuleList, MinidumpStream, Module as _,
};
use minidump_processor::{ProcessError, ProcessState};
use minidump_unwind::{
    CallStack, CallStackInfo, FrameTrust, MultiSymbolProvider, StackFrame, SymbolProvider,
};
use shared::report::{
    Cpu, Crash, CrashDetails, Frame, Module, Os, Partial, PartialReason, Process, Symbols, Thread,
};

use crate::signature::signature;

use walk::{FRAMES_MAX, FRAMES_PER_THREAD_MAX, Gate, THREADS_MAX, Walk};

/// Modules kept: a browser has some three hundred, a large game under a thousand.
const MODULES_MAX: usize = 4096;
/// Annotations that name the kind of process: Chromium's and Electron's.
const PROCESS_TYPE_ANNOTATIONS: [&str; 2] = ["ptype", "process_type"];
/// Where Crashpad puts the annotations that have no name of their own.
const LIST_ANNOTATIONS: &str = "list_annotations";

/// What a dump told.
#[derive(Debug)]
pub struct ParsedDump {
    /// All but rust-minidump's own JSON.
    pub details: CrashDetails,
    /// What was odd.
    pub warnings: Vec<String>,
    /// What is absent because time ran out.
    pub partial: Option<Partial>,
    /// rust-minidump's own JSON.
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
/// [`Unreadable`] when the header, the stream directory, the system information or the thread list cannot be read;
/// damage elsewhere becomes a warning.
pub async fn parse(
    dump: &[u8],
    symbols: &(impl SymbolProvider + Sync),
    deadline: Instant,
) -> Result<ParsedDump, Unreadable> {
    let begun = Instant::now();
    let container = Minidump::read(dump).map_err(|error| unreadable_container(dump, &error))?;
    let gate = Gate::new(symbols);
    let mut state =
        walk::unwalked(&container, &gate).map_err(|error| unreadable_streams(dump, &error))?;
    let walk = walk::walk(&container, &mut state, &gate, deadline).await;
    let mut warnings = Vec::new();
    let partial = walk.out_of_time.then(|| Partial {
        reason: PartialReason::Timeout,
        seconds: begun.elapsed().as_secs_f64(),
        threads_walked: walk.walked,
        threads: state.threads.len(),
    });
    note_bounds(&walk, partial.as_ref(), &mut warnings);
    cap_lists(&mut state, &mut warnings);
    note_damage(&container, &state, &mut warnings);
    let annotations = annotations(&container, &mut warnings);
    let json = json::to_json(&mut state).map_err(|error| Unreadable {
        error: format!("what was read cannot be written as JSON: {error}"),
    })?;
    let mut details = details(&state, annotations);
    details.signature = Some(signature(&details));
    Ok(ParsedDump {
        details,
        warnings,
        partial,
        json,
    })
}

fn details(state: &ProcessState, annotations: BTreeMap<String, String>) -> CrashDetails {
    let system = &state.system_info;
    let uptime = state
        .process_create_time
        .and_then(|start| state.time.duration_since(start).ok());
    let mut modules: Vec<&MinidumpModule> = state.modules.iter().take(MODULES_MAX).collect();
    modules.sort_by_key(|module| module.base_address());
    CrashDetails {
        os: Some(Os {
            name: system.os.long_name().into_owned(),
            version: system.os_version.clone(),
            build: system.os_build.clone(),
        }),
        cpu: Some(Cpu {
            arch: system.cpu.to_string(),
            info: system.cpu_info.clone(),
            count: system.cpu_count as u64,
        }),
        process: Process {
            pid: state.process_id,
            uptime: uptime.map(|uptime| uptime.as_secs()),
            kind: PROCESS_TYPE_ANNOTATIONS
                .iter()
                .find_map(|name| annotations.get(*name).cloned()),
        },
        crash: crash(state),
        signature: None,
        threads: state.threads.iter().map(thread).collect(),
        modules: modules
            .into_iter()
            .map(|found| module(found, state))
            .collect(),
        annotations,
        minidump: None,
    }
}

fn crash(state: &ProcessState) -> Option<Crash> {
    let exception = state.exception_info.as_ref()?;
    let reason = exception.reason.to_string();
    Some(Crash {
        kind: crash_kind(&reason).to_owned(),
        address: Some(hex(exception.address.0)),
        reason,
        thread: state.requesting_thread,
    })
}

/// `SIGSEGV` of `SIGSEGV / SEGV_MAPERR`, `EXCEPTION_ACCESS_VIOLATION` of `EXCEPTION_ACCESS_VIOLATION_READ`: the name
/// the system's manual has, without the kind of access that rust-minidump adds.
fn crash_kind(reason: &str) -> &str {
    let kind = reason.split(" / ").next().unwrap_or(reason);
    for name in ["EXCEPTION_ACCESS_VIOLATION", "EXCEPTION_IN_PAGE_ERROR"] {
        if kind.starts_with(name) {
            return name;
        }
    }
    kind
}

fn thread(stack: &CallStack) -> Thread {
    Thread {
        id: stack.thread_id,
        name: stack.thread_name.clone(),
        frames: stack.frames.iter().map(frame).collect(),
    }
}

fn frame(frame: &StackFrame) -> Frame {
    let module = frame.module.as_ref();
    // A damaged module list may place a module anywhere.
    let offset = |module: &MinidumpModule| frame.instruction.wrapping_sub(module.base_address());
    Frame {
        ip: hex(frame.instruction),
        module: module.map(|module| file_name(&module.name).to_owned()),
        module_offset: module.map(|module| hex(offset(module))),
        function: frame.function_name.clone(),
        file: frame.source_file_name.clone(),
        line: frame.source_line,
        trust: trust(frame.trust).to_owned(),
    }
}

/// The names of rust-minidump's JSON, whose `none` is written `non`.
fn trust(trust: FrameTrust) -> &'static str {
    match trust {
        FrameTrust::None => "none",
        FrameTrust::Scan
        | FrameTrust::CfiScan
        | FrameTrust::FramePointer
        | FrameTrust::CallFrameInfo
        | FrameTrust::PreWalked
        | FrameTrust::Context => trust.as_str(),
    }
}

fn module(module: &MinidumpModule, state: &ProcessState) -> Module {
    let stats = state.symbol_stats.get(file_name(&module.name));
    Module {
        name: module.name.clone(),
        base: hex(module.base_address()),
        size: module.size(),
        debug_id: module
            .debug_identifier()
            .map(|id| id.breakpad().to_string()),
        code_id: module.code_identifier().map(|id| id.to_string()),
        symbols: match stats {
            Some(stats) if stats.corrupt_symbols => Symbols::Corrupt,
            Some(stats) if stats.loaded_symbols => Symbols::Found,
            _ => Symbols::Missing,
        },
    }
}

/// Crashpad's annotations: the process's, then the modules'. As Crashpad's own uploader does, the first of a name wins
/// and the nameless ones are joined (`minidump_to_upload_parameters.cc`).
fn annotations<'a>(
    dump: &'a Minidump<'a, &'a [u8]>,
    warnings: &mut Vec<String>,
) -> BTreeMap<String, String> {
    let info = match dump.get_stream::<MinidumpCrashpadInfo>() {
        Ok(info) => info,
        Err(minidump::Error::StreamNotFound) => return BTreeMap::new(),
        Err(error) => {
            warnings.push(format!("the Crashpad annotations cannot be read: {error}"));
            return BTreeMap::new();
        }
    };
    let mut all = info.simple_annotations;
    let mut listed = Vec::new();
    for module in info.module_list {
        for (name, value) in module.simple_annotations {
            all.entry(name).or_insert(value);
        }
        for (name, value) in module.annotation_objects {
            if let MinidumpAnnotation::String(value) = value {
                all.entry(name).or_insert(value);
            }
        }
        listed.extend(module.list_annotations);
    }
    if !listed.is_empty() {
        all.entry(LIST_ANNOTATIONS.into())
            .or_insert_with(|| listed.join("\n"));
    }
    all
}

/// Says what walking left out.
fn note_bounds(walk: &Walk, partial: Option<&Partial>, warnings: &mut Vec<String>) {
    let Walk { deep, over, .. } = walk;
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
    if let Some(partial) = partial {
        warnings.push(format!(
            "time ran out after {:.1} s: the stacks of {} of {} threads are walked",
            partial.seconds, partial.threads_walked, partial.threads
        ));
    }
}

/// Keeps the first threads and modules, and the thread that crashed in any case.
fn cap_lists(state: &mut ProcessState, warnings: &mut Vec<String>) {
    let found = state.threads.len();
    if found > THREADS_MAX {
        if let Some(crashed) = state
            .requesting_thread
            .filter(|index| *index >= THREADS_MAX)
        {
            state.threads.swap(THREADS_MAX - 1, crashed);
            state.requesting_thread = Some(THREADS_MAX - 1);
        }
        state.threads.truncate(THREADS_MAX);
        warnings.push(format!(
            "the dump has {found} threads: only {THREADS_MAX} are kept"
        ));
    }
    let found = state.modules.iter().count();
    if found > MODULES_MAX {
        warnings.push(format!(
            "the dump has {found} modules: only {MODULES_MAX} are kept"
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

fn hex(address: u64) -> String {
    format!("{address:#x}")
}

/// The last component of a path of any system.
fn file_name(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

#[cfg(test)]
mod tests;
