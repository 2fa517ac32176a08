//! What rust-minidump found -> the details of a report.

use std::collections::BTreeMap;

use minidump::{MinidumpModule, Module as _};
use minidump_processor::ProcessState;
use minidump_unwind::{CallStack, FrameTrust, StackFrame};
use shared::report::{Cpu, Crash, CrashDetails, Frame, Module, Os, Process, Symbols, Thread};

use super::limits::{NAME_BYTES_MAX, TEXT_BYTES_MAX};
use super::repair::{System, cut};

/// Annotations that name the kind of process: Chromium's and Electron's.
const PROCESS_TYPE_ANNOTATIONS: [&str; 2] = ["ptype", "process_type"];

/// The details, but for the signature.
pub(super) fn details(
    state: &ProcessState,
    annotations: BTreeMap<String, String>,
    origin: System,
) -> CrashDetails {
    let system = &state.system_info;
    let is_told = origin == System::Told;
    let uptime = state
        .process_create_time
        .and_then(|start| state.time.duration_since(start).ok());
    let mut modules: Vec<&MinidumpModule> = state.modules.iter().collect();
    modules.sort_by_key(|module| module.base_address());
    CrashDetails {
        os: Some(Os {
            name: system.os.long_name().into_owned(),
            version: system.os_version.clone().filter(|_| is_told),
            build: system.os_build.clone().filter(|_| is_told),
        }),
        cpu: Some(Cpu {
            arch: system.cpu.to_string(),
            info: system.cpu_info.clone().filter(|_| is_told),
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
        function: shortened(frame.function_name.as_ref(), NAME_BYTES_MAX),
        file: shortened(frame.source_file_name.as_ref(), TEXT_BYTES_MAX),
        line: frame.source_line,
        trust: trust(frame.trust).to_owned(),
    }
}

fn shortened(text: Option<&String>, bytes_max: usize) -> Option<String> {
    let mut text = text?.clone();
    cut(&mut text, bytes_max);
    Some(text)
}

/// The names of rust-minidump's JSON, whose `none` is written `non`.
pub(super) fn trust(trust: FrameTrust) -> &'static str {
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

fn hex(address: u64) -> String {
    format!("{address:#x}")
}

/// The last component of a path of any system.
pub(super) fn file_name(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}
