//! Walking the stacks, with bounds. Left to itself rust-minidump walks every stack to its end, however many frames that
//! makes; so it is stopped before it walks, and each stack is walked here with a count and a clock.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::{Future, pending, poll_fn};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Instant;

use async_trait::async_trait;
use futures_util::FutureExt;
use minidump::{
    Minidump, MinidumpThread, MinidumpThreadList, MinidumpUnloadedModuleList, Module,
    UnifiedMemory, UnifiedMemoryList,
};
use minidump_processor::{
    PendingProcessorStatSubscriptions, PendingProcessorStats, ProcessError, ProcessState,
    ProcessorOptions,
};
use minidump_unwind::{
    CallStack, FileError, FileKind, FillSymbolError, FrameSymbolizer, FrameWalker, StackFrame,
    SymbolProvider, SymbolStats, walk_stack,
};

use super::limits::FRAME_UNLOADED_BYTES_MAX;

/// Frames kept of one thread: an overflowed stack has hundreds of thousands, all alike.
pub(super) const FRAMES_PER_THREAD_MAX: usize = 1024;
/// Frames walked of one dump, besides the first of each thread. A frame takes about 2 kB in the parser and 1 kB in the
/// report; the busiest programs have a thousand threads of some forty.
pub(super) const FRAMES_MAX: usize = 1 << 16;
/// Names of unloaded modules told of one frame: they may all have lain in the same place.
const UNLOADED_MODULES_PER_FRAME_MAX: usize = 16;

/// How walking ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Walk {
    /// Threads whose stacks were walked, to the end or to a bound.
    pub(super) walked: usize,
    /// Whether time ran out before all were.
    pub(super) out_of_time: bool,
    /// Ids of the threads that have more frames than are kept of one.
    pub(super) deep: Vec<u32>,
    /// Threads that were cut short, or not begun, because the dump has too many frames.
    pub(super) over: usize,
    /// Whether names of unloaded modules were left out, because all frames have too many.
    pub(super) crowded: bool,
}

/// What the dump tells without walking: each thread has the one frame its registers give.
pub(super) fn unwalked<'a, P: SymbolProvider + Sync>(
    dump: &'a Minidump<'a, &'a [u8]>,
    gate: &Gate<'_, P>,
) -> Result<ProcessState, ProcessError> {
    let mut subscriptions = PendingProcessorStatSubscriptions::default();
    subscriptions.unwalked_result = true;
    let stats = PendingProcessorStats::new(subscriptions);
    let mut options = ProcessorOptions::stable_basic();
    options.stat_reporter = Some(&stats);
    gate.close();
    let process = minidump_processor::process_minidump_with_options(dump, gate, options);
    // It asks the gate about the first frame that lies in a module, and waits; what it has by then is in the stats.
    let ended = process.now_or_never();
    gate.open();
    match (ended, stats.take_unwalked_result()) {
        (Some(Err(error)), _) => Err(error),
        (Some(Ok(_)) | None, Some(state)) | (Some(Ok(state)), None) => Ok(state),
        (None, None) => Err(ProcessError::UnknownError),
    }
}

/// Walks the stacks, the crashed thread's first, until all are walked or it is `deadline`.
pub(super) async fn walk<'a, P: SymbolProvider + Sync>(
    dump: &'a Minidump<'a, &'a [u8]>,
    state: &mut ProcessState,
    gate: &Gate<'_, P>,
    deadline: Instant,
) -> Walk {
    let Ok(list) = dump.get_stream::<MinidumpThreadList>() else {
        return Walk::default();
    };
    let memory = dump.get_memory().unwrap_or_default();
    let crashed = state.requesting_thread;
    let others = (0..state.threads.len()).filter(|index| Some(*index) != crashed);
    let mut ended = Walk::default();
    let mut left = FRAMES_MAX;
    let mut names_left = FRAME_UNLOADED_BYTES_MAX;
    for index in crashed.into_iter().chain(others) {
        let Some(thread) = list.threads.get(index) else {
            continue;
        };
        ended.out_of_time |= Instant::now() >= deadline;
        if ended.out_of_time || left == 0 {
            ended.over += usize::from(left == 0);
            place_first_frame(state, index);
            continue;
        }
        let most = left.min(FRAMES_PER_THREAD_MAX);
        let finished = walk_one(index, thread, &memory, state, gate, most, deadline).await;
        ended.crowded |= !place_unloaded(state, index, most, deadline, &mut names_left);
        let frames = &mut state.threads[index].frames;
        if frames.len() > most {
            frames.truncate(most);
            match most < FRAMES_PER_THREAD_MAX {
                true => ended.over += 1,
                false => ended.deep.push(thread.raw.thread_id),
            }
        } else if !finished {
            ended.out_of_time = true;
            continue;
        }
        ended.walked += 1;
        left -= frames.len().min(left);
    }
    state.symbol_stats = gate.stats();
    ended
}

/// Walks one stack; `false` when it was stopped. It may have more than `most` frames then.
async fn walk_one<P: SymbolProvider + Sync>(
    index: usize,
    thread: &MinidumpThread<'_>,
    memory: &UnifiedMemoryList<'_>,
    state: &mut ProcessState,
    gate: &Gate<'_, P>,
    most: usize,
    deadline: Instant,
) -> bool {
    let ProcessState {
        threads,
        modules,
        system_info,
        ..
    } = state;
    let stack = &mut threads[index];
    let stack_memory = stack_memory(thread, stack, memory);
    let count = |frame: usize, _: &StackFrame| {
        if frame >= most || Instant::now() >= deadline {
            gate.close();
        }
    };
    let finished = {
        let mut walking = pin!(walk_stack(
            index,
            count,
            stack,
            stack_memory,
            modules,
            system_info,
            gate,
        ));
        poll_fn(|context| match walking.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(true),
            Poll::Pending if gate.is_closed() => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        })
        .await
    };
    gate.open();
    finished
}

/// Names the unloaded modules that frames outside modules may have lain in; `false` when `bytes_left` does not hold them.
fn place_unloaded(
    state: &mut ProcessState,
    index: usize,
    most: usize,
    deadline: Instant,
    bytes_left: &mut usize,
) -> bool {
    let ProcessState {
        threads,
        unloaded_modules,
        ..
    } = state;
    let frames = threads[index].frames.iter_mut().take(most);
    for frame in frames.filter(|frame| frame.module.is_none()) {
        if Instant::now() >= deadline {
            break;
        }
        let found = unloaded_at(frame.instruction, unloaded_modules);
        let bytes: usize = found.keys().map(String::len).sum();
        let Some(left) = bytes_left.checked_sub(bytes) else {
            return false;
        };
        *bytes_left = left;
        frame.unloaded_modules = found;
    }
    true
}

/// As the library chooses it: the region that the stack pointer lies in, since the exception's registers may point to
/// another one than the thread's.
fn stack_memory<'m, 'a>(
    thread: &'m MinidumpThread<'a>,
    stack: &CallStack,
    memory: &'m UnifiedMemoryList<'a>,
) -> Option<UnifiedMemory<'m, 'a>> {
    let announced = thread.stack_memory(memory);
    let Some(first) = stack.frames.first() else {
        return announced;
    };
    let pointer = first.context.get_stack_pointer();
    let holds_pointer = announced
        .as_ref()
        .is_some_and(|memory| memory.get_memory_at_address::<u64>(pointer).is_some());
    match holds_pointer {
        true => announced,
        false => memory.memory_at_address(pointer).or(announced),
    }
}

fn unloaded_at(
    address: u64,
    modules: &MinidumpUnloadedModuleList,
) -> BTreeMap<String, BTreeSet<u64>> {
    let mut offsets: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    let found = modules.modules_at_address(address);
    for module in found.take(UNLOADED_MODULES_PER_FRAME_MAX) {
        let offset = address.wrapping_sub(module.raw.base_of_image);
        offsets
            .entry(module.name.clone())
            .or_default()
            .insert(offset);
    }
    offsets
}

/// A stack that is not walked still says where its thread was.
fn place_first_frame(state: &mut ProcessState, index: usize) {
    if let Some(frame) = state.threads[index].frames.first_mut() {
        frame.module = state.modules.module_at_address(frame.instruction).cloned();
    }
}

/// Symbols behind a gate: while it is closed nobody who asks gets an answer, and so whoever walks a stack can be stopped
/// at its next frame in a module. Frames outside modules are walked without asking, to the end of their stack.
pub(super) struct Gate<'a, P> {
    symbols: &'a P,
    closed: AtomicBool,
}

impl<'a, P> Gate<'a, P> {
    pub(super) fn new(symbols: &'a P) -> Self {
        Self {
            symbols,
            closed: AtomicBool::new(false),
        }
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    fn open(&self) {
        self.closed.store(false, Ordering::Relaxed);
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl<P: SymbolProvider + Sync> SymbolProvider for Gate<'_, P> {
    async fn fill_symbol(
        &self,
        module: &(dyn Module + Sync),
        frame: &mut (dyn FrameSymbolizer + Send),
    ) -> Result<(), FillSymbolError> {
        if self.is_closed() {
            return pending().await;
        }
        self.symbols.fill_symbol(module, frame).await
    }

    async fn walk_frame(
        &self,
        module: &(dyn Module + Sync),
        walker: &mut (dyn FrameWalker + Send),
    ) -> Option<()> {
        if self.is_closed() {
            return pending().await;
        }
        self.symbols.walk_frame(module, walker).await
    }

    async fn get_file_path(
        &self,
        module: &(dyn Module + Sync),
        kind: FileKind,
    ) -> Result<PathBuf, FileError> {
        self.symbols.get_file_path(module, kind).await
    }

    fn stats(&self) -> HashMap<String, SymbolStats> {
        self.symbols.stats()
    }
}
