//! rust-minidump's own JSON, written as the library's `print_json` writes it, but without building it first.
//!
//! `print_json` makes a tree of the whole, copied anew at each level: it takes several times as long as walking the
//! stacks did. So the library writes all but its two long lists, and threads and modules are streamed here. A test holds
//! the result against `print_json`.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;

use minidump::system_info::PointerWidth;
use minidump::{
    MinidumpContext, MinidumpContextValidity, MinidumpModule, MinidumpModuleList, Module as _,
};
use minidump_processor::ProcessState;
use minidump_unwind::{CallStack, InlineFrame, StackFrame, SymbolStats};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::bounds::Bounded;
use super::{file_name, trust};

/// What the JSON of a desktop program's dump takes, mostly.
const LIKELY_BYTES: usize = 256 << 10;

/// The JSON of `print_json`, compact; `None` when it would have more than `bytes_max` bytes. `state` is as before
/// afterwards.
///
/// # Errors
/// What serde says; nothing in a state is known to bring it to that.
pub(super) fn to_json(
    state: &mut ProcessState,
    bytes_max: usize,
) -> Result<Option<Vec<u8>>, serde_json::Error> {
    let threads = std::mem::take(&mut state.threads);
    let modules = std::mem::replace(&mut state.modules, MinidumpModuleList::new());
    let crashing = state.requesting_thread.take();
    let mut rest = Bounded::new(bytes_max, 0);
    let printed = state.print_json(&mut rest, false);
    state.threads = threads;
    state.modules = modules;
    state.requesting_thread = crashing;
    let mut json = Bounded::new(bytes_max, LIKELY_BYTES);
    let written = printed.and_then(|()| {
        let mut writer = serde_json::Serializer::new(&mut json);
        write(state, serde_json::from_slice(&rest.bytes)?, &mut writer)
    });
    match written {
        Ok(()) => Ok(Some(json.bytes)),
        Err(error) if error.is_io() => Ok(None),
        Err(error) => Err(error),
    }
}

fn write<S: Serializer>(
    state: &ProcessState,
    mut rest: BTreeMap<Cow<'_, str>, &RawValue>,
    writer: S,
) -> Result<S::Ok, S::Error> {
    let width = state.system_info.cpu.pointer_width();
    let mut map = writer.serialize_map(None)?;
    if let Some(info) = rest.remove("crash_info") {
        let mut info: Map<String, Value> =
            serde_json::from_str(info.get()).map_err(serde::ser::Error::custom)?;
        info.insert("crashing_thread".into(), state.requesting_thread.into());
        map.serialize_entry("crash_info", &info)?;
    }
    for name in ["modules", "threads", "thread_count"] {
        rest.remove(name);
    }
    for (name, value) in rest {
        map.serialize_entry(&name, value)?;
    }
    let index = state.requesting_thread;
    let crashing = index.and_then(|index| state.threads.get(index));
    if let Some(stack) = crashing.filter(|stack| !stack.frames.is_empty()) {
        map.serialize_entry("crashing_thread", &Thread::new(stack, width, index))?;
    }
    map.serialize_entry("modules", &Modules { state, width })?;
    map.serialize_entry("thread_count", &state.threads.len())?;
    let threads = Threads {
        stacks: &state.threads,
        width,
    };
    map.serialize_entry("threads", &threads)?;
    map.end()
}

/// An address as wide as the crashed program's.
#[derive(Clone, Copy)]
struct Address(u64, PointerWidth);

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            PointerWidth::Bits32 => write!(f, "{:#010x}", self.0),
            PointerWidth::Bits64 | PointerWidth::Unknown => write!(f, "{:#018x}", self.0),
        }
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

struct Threads<'a> {
    stacks: &'a [CallStack],
    width: PointerWidth,
}

impl Serialize for Threads<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let threads = self.stacks.iter();
        serializer.collect_seq(threads.map(|stack| Thread::new(stack, self.width, None)))
    }
}

#[derive(Serialize)]
struct Thread<'a> {
    frame_count: usize,
    last_error_value: Option<String>,
    thread_name: Option<&'a str>,
    thread_id: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    threads_index: Option<usize>,
    frames: Frames<'a>,
}

impl<'a> Thread<'a> {
    /// With an index, it is written as the crashing thread: its first frame has registers.
    fn new(stack: &'a CallStack, width: PointerWidth, threads_index: Option<usize>) -> Self {
        Self {
            frame_count: stack.frames.len(),
            last_error_value: stack.last_error_value.map(|error| error.to_string()),
            thread_name: stack.thread_name.as_deref(),
            thread_id: stack.thread_id,
            threads_index,
            frames: Frames {
                frames: &stack.frames,
                width,
                with_registers: threads_index.is_some(),
            },
        }
    }
}

struct Frames<'a> {
    frames: &'a [StackFrame],
    width: PointerWidth,
    with_registers: bool,
}

impl Serialize for Frames<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(self.frames.len()))?;
        for (index, frame) in self.frames.iter().enumerate() {
            let mut written = Frame::new(index, frame, self.width);
            if self.with_registers && index == 0 {
                written.registers = Some(registers(&frame.context));
            }
            seq.serialize_element(&written)?;
        }
        seq.end()
    }
}

#[derive(Serialize)]
struct Frame<'a> {
    frame: usize,
    module: Option<&'a str>,
    function: Option<&'a str>,
    file: Option<&'a str>,
    line: Option<u32>,
    offset: Address,
    inlines: Option<Vec<Inline<'a>>>,
    module_offset: Option<Address>,
    unloaded_modules: Option<Vec<Unloaded<'a>>>,
    function_offset: Option<Address>,
    missing_symbols: bool,
    trust: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    registers: Option<BTreeMap<&'static str, String>>,
}

#[derive(Serialize)]
struct Inline<'a> {
    function: &'a str,
    file: Option<&'a str>,
    line: Option<u32>,
}

#[derive(Serialize)]
struct Unloaded<'a> {
    module: &'a str,
    offsets: Vec<Address>,
}

impl<'a> Frame<'a> {
    fn new(index: usize, frame: &'a StackFrame, width: PointerWidth) -> Self {
        let module = frame.module.as_ref();
        // A damaged list may place a module anywhere.
        let since = |base: u64| Address(frame.instruction.wrapping_sub(base), width);
        let inline = |inline: &'a InlineFrame| Inline {
            function: &inline.function_name,
            file: inline.source_file_name.as_deref(),
            line: inline.source_line,
        };
        let unloaded = frame
            .unloaded_modules
            .iter()
            .map(|(module, offsets)| Unloaded {
                module,
                offsets: offsets
                    .iter()
                    .map(|offset| Address(*offset, width))
                    .collect(),
            });
        Self {
            frame: index,
            module: module.map(|module| file_name(&module.name)),
            function: frame.function_name.as_deref(),
            file: frame.source_file_name.as_deref(),
            line: frame.source_line,
            offset: Address(frame.instruction, width),
            inlines: (!frame.inlines.is_empty())
                .then(|| frame.inlines.iter().map(inline).collect()),
            module_offset: module.map(|module| since(module.base_address())),
            unloaded_modules: (!frame.unloaded_modules.is_empty()).then(|| unloaded.collect()),
            function_offset: frame.function_base.map(since),
            missing_symbols: frame.function_name.is_none(),
            trust: trust(frame.trust),
            registers: None,
        }
    }
}

fn registers(context: &MinidumpContext) -> BTreeMap<&'static str, String> {
    let is_valid = |name: &&'static str| match &context.valid {
        MinidumpContextValidity::All => true,
        MinidumpContextValidity::Some(valid) => valid.contains(name),
    };
    let names = context.general_purpose_registers().iter().copied();
    names
        .filter(is_valid)
        .map(|name| (name, context.format_register(name)))
        .collect()
}

struct Modules<'a> {
    state: &'a ProcessState,
    width: PointerWidth,
}

impl Serialize for Modules<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let modules = self.state.modules.iter();
        serializer.collect_seq(modules.map(|module| {
            Module::new(
                module,
                &self.state.cert_info,
                &self.state.symbol_stats,
                self.width,
            )
        }))
    }
}

#[derive(Serialize)]
struct Module<'a> {
    base_addr: Address,
    debug_file: String,
    debug_id: String,
    end_addr: Address,
    filename: &'a str,
    code_id: String,
    version: Option<Cow<'a, str>>,
    cert_subject: Option<&'a str>,
    missing_symbols: bool,
    loaded_symbols: bool,
    corrupt_symbols: bool,
    symbol_url: Option<&'a str>,
}

impl<'a> Module<'a> {
    fn new(
        module: &'a MinidumpModule,
        certificates: &'a HashMap<String, String>,
        stats: &'a HashMap<String, SymbolStats>,
        width: PointerWidth,
    ) -> Self {
        let filename = file_name(&module.name);
        let stats = stats.get(filename);
        let found = stats.and_then(|stats| stats.extra_debug_info.as_ref());
        let (debug_file, debug_id) = match found {
            Some(found) => (
                Cow::Borrowed(found.debug_file.as_str()),
                found.debug_identifier,
            ),
            None => (
                module.debug_file().unwrap_or_default(),
                module.debug_identifier().unwrap_or_default(),
            ),
        };
        let end = module.base_address().wrapping_add(module.size());
        Self {
            base_addr: Address(module.base_address(), width),
            debug_file: file_name(&debug_file).to_owned(),
            debug_id: debug_id.breakpad().to_string(),
            end_addr: Address(end, width),
            filename,
            code_id: module.code_identifier().unwrap_or_default().to_string(),
            version: module.version(),
            cert_subject: certificates.get(filename).map(String::as_str),
            missing_symbols: stats.is_some_and(|stats| !stats.loaded_symbols),
            loaded_symbols: stats.is_some_and(|stats| stats.loaded_symbols),
            corrupt_symbols: stats.is_some_and(|stats| stats.corrupt_symbols),
            symbol_url: stats.and_then(|stats| stats.symbol_url.as_deref()),
        }
    }
}
