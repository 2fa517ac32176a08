//! Small dumps that make much of few bytes: shared names, shared stacks, lists that overlap, chains without an end. Written
//! byte by byte, with the stream directory in front.

const THREAD_LIST: u32 = 3;
const MODULE_LIST: u32 = 4;
const MEMORY_LIST: u32 = 5;
const EXCEPTION: u32 = 6;
const SYSTEM_INFO: u32 = 7;
const HANDLES: u32 = 12;
const UNLOADED_MODULES: u32 = 14;
const THREAD_NAMES: u32 = 24;
const CRASHPAD: u32 = 0x4350_0001;
const SOFT_ERRORS: u32 = 0x4d7a_0004;

const STREAMS_MAX: usize = 16;
const STACK_BASE: u64 = 0x0010_0000;
const MODULE_BASE: u64 = 0x40_0000;
const MODULE_BYTES: u32 = 0x10_0000;
/// Bytes of most of these dumps, about.
const SMALL_BYTES: usize = 10_000;

/// How many kinds there are.
pub(crate) const KINDS: u32 = 9;

/// A dump that is being written.
pub(crate) struct Raw {
    bytes: Vec<u8>,
    streams: Vec<[u32; 3]>,
}

impl Raw {
    pub(crate) fn new(time: u32) -> Self {
        let mut bytes = vec![0; 32 + 12 * STREAMS_MAX];
        bytes[..4].copy_from_slice(b"MDMP");
        bytes[4..8].copy_from_slice(&0xa793_u32.to_le_bytes());
        bytes[12..16].copy_from_slice(&32_u32.to_le_bytes());
        bytes[20..24].copy_from_slice(&time.to_le_bytes());
        Self {
            bytes,
            streams: Vec::new(),
        }
    }

    /// Writes something; says where it is.
    pub(crate) fn put(&mut self, content: &[u8]) -> u32 {
        let at = self.bytes.len().next_multiple_of(8);
        self.bytes.resize(at, 0);
        self.bytes.extend_from_slice(content);
        at as u32
    }

    pub(crate) fn utf16(&mut self, text: &str) -> u32 {
        let units: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let length = (units.len() as u32).to_le_bytes();
        self.put(&[&length[..], &units, &[0, 0]].concat())
    }

    pub(crate) fn utf8(&mut self, text: &[u8]) -> u32 {
        let length = (text.len() as u32).to_le_bytes();
        self.put(&[&length[..], text, &[0]].concat())
    }

    pub(crate) fn stream(&mut self, kind: u32, content: &[u8]) {
        let at = self.put(content);
        self.streams.push([kind, content.len() as u32, at]);
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        let count = (self.streams.len() as u32).to_le_bytes();
        self.bytes[8..12].copy_from_slice(&count);
        let directory = words(&self.streams.concat());
        self.bytes[32..32 + directory.len()].copy_from_slice(&directory);
        self.bytes
    }
}

pub(crate) fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn wide(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}

/// `count` times one entry behind its count.
fn list(count: u32, entry: &[u32]) -> Vec<u8> {
    [words(&[count]), words(&entry.repeat(count as usize))].concat()
}

/// A hostile dump; `n` chooses its kind and its time, so that no two are alike.
pub(crate) fn hostile(n: u32) -> Vec<u8> {
    let mut raw = Raw::new(1_790_000_000 + n);
    let room = SMALL_BYTES - 3000;
    match n % KINDS {
        0 => crash(&mut raw, "editor", 4, 60, room / 2),
        1 => crash(&mut raw, &"\u{1}".repeat(2000), 2, 60, room / 4),
        2 => crash(&mut raw, &"n".repeat(2000), room as u32 / 108, 2, 128),
        3 => {
            crash(&mut raw, "editor", 1, 2, 1024);
            handles(&mut raw);
        }
        4 => {
            crash(&mut raw, "editor", 1, 2, 64);
            annotations(&mut raw, room);
        }
        5 => {
            crash(&mut raw, "editor", 0, 40, room / 4);
            unloaded(&mut raw, 100);
        }
        6 => counts(&mut raw),
        7 => {
            crash(&mut raw, "editor", 1, 60, 512);
            let name = raw.utf16(&"\u{7f}\u{202e}".repeat(700));
            let names = (0..60).flat_map(|id| [id, name, 0]);
            let names: Vec<u32> = [60].into_iter().chain(names).collect();
            raw.stream(THREAD_NAMES, &words(&names));
        }
        _ => {
            crash(&mut raw, "editor", 1, 1, 64);
            let nested = format!("{}{}", "[".repeat(100), "]".repeat(100));
            raw.stream(SOFT_ERRORS, nested.as_bytes());
        }
    }
    raw.finish()
}

/// Threads that share one stack full of return addresses and one set of registers; modules that share one name and lie
/// one behind another.
fn crash(raw: &mut Raw, name: &str, modules: u32, threads: u32, stack_bytes: usize) {
    let mut system = vec![0; 56];
    system[0] = 9;
    system[20..24].copy_from_slice(&0x8201_u32.to_le_bytes());
    raw.stream(SYSTEM_INFO, &system);
    let name = raw.utf16(name);
    let mut entries = words(&[modules]);
    for n in 0..modules {
        let [low, high] = wide(MODULE_BASE + u64::from(n) * u64::from(MODULE_BYTES));
        let mut module = vec![low, high, MODULE_BYTES, 0, 0, name];
        module.resize(27, 0);
        entries.extend(words(&module));
    }
    raw.stream(MODULE_LIST, &entries);
    let address = (MODULE_BASE + 0x1230).to_le_bytes();
    let stack = raw.put(&address.repeat(stack_bytes / 8));
    let mut context = vec![0; 1232];
    context[48..52].copy_from_slice(&0x0010_001f_u32.to_le_bytes());
    context[152..160].copy_from_slice(&STACK_BASE.to_le_bytes());
    context[160..168].copy_from_slice(&STACK_BASE.to_le_bytes());
    context[248..256].copy_from_slice(&address);
    let context = raw.put(&context);
    let [low, high] = wide(STACK_BASE);
    let stack_bytes = stack_bytes as u32;
    let thread = |id| {
        [
            id,
            0,
            0,
            0,
            0,
            0,
            low,
            high,
            stack_bytes,
            stack,
            1232,
            context,
        ]
    };
    let all: Vec<u32> = [threads]
        .into_iter()
        .chain((0..threads).flat_map(thread))
        .collect();
    raw.stream(THREAD_LIST, &words(&all));
    raw.stream(MEMORY_LIST, &list(1, &[low, high, stack_bytes, stack]));
    let mut exception = vec![0, 0, 11, 1];
    exception.resize(40, 0);
    exception.extend([1232, context]);
    raw.stream(EXCEPTION, &words(&exception));
}

/// Handles whose object information leads back to itself, and that share one long name.
fn handles(raw: &mut Raw) {
    let name = raw.utf16(&"h".repeat(1500));
    let link = raw.put(&words(&[0, 1, 12]));
    raw.bytes[link as usize..link as usize + 4].copy_from_slice(&link.to_le_bytes());
    let handle = [7, 0, name, name, 0, 0, 1, 1, link, 0];
    let count = 100;
    let head = words(&[16, 40, count, 0]);
    let handles = words(&handle.repeat(count as usize));
    raw.stream(HANDLES, &[head, handles].concat());
}

/// Modules that share one dictionary whose keys overlap.
fn annotations(raw: &mut Raw, room: usize) {
    let value = raw.utf8(&[b'v'; 3000]);
    // Every fourth byte begins a key of 0x101 bytes.
    let keys = raw.put(&[1_u8, 1, 0, 0].repeat(room / 8));
    let pairs = (0..room as u32 / 16).flat_map(|n| [keys + 4 * n, value]);
    let pairs: Vec<u32> = [room as u32 / 16].into_iter().chain(pairs).collect();
    let pairs_bytes = pairs.len() as u32 * 4;
    let dictionary = raw.put(&words(&pairs));
    let module = raw.put(&words(&[1, 0, 0, pairs_bytes, dictionary, 0, 0]));
    let links = list(60, &[0, 28, module]);
    let links_bytes = links.len() as u32;
    let links = raw.put(&links);
    let mut info = vec![1, 0, 0, 0, 0, 0, 0, 0, 0];
    info.extend([pairs_bytes, dictionary, links_bytes, links]);
    raw.stream(CRASHPAD, &words(&info));
}

/// Unloaded modules that all lay where the stack's addresses are.
fn unloaded(raw: &mut Raw, count: u32) {
    let name = raw.utf16(&"u".repeat(1000));
    let [low, high] = wide(MODULE_BASE);
    let module = [low, high, MODULE_BYTES, 0, 0, name];
    let head = words(&[12, 24, count]);
    raw.stream(
        UNLOADED_MODULES,
        &[head, words(&module.repeat(count as usize))].concat(),
    );
}

/// Lists that say they are as long as can be.
fn counts(raw: &mut Raw) {
    crash(raw, "editor", 1, 1, 64);
    for stream in &raw.streams.clone() {
        let at = stream[2] as usize;
        if matches!(stream[0], THREAD_LIST | MODULE_LIST | MEMORY_LIST) {
            raw.bytes[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        }
    }
    raw.stream(HANDLES, &words(&[16, 40, u32::MAX, 0]));
    raw.stream(UNLOADED_MODULES, &words(&[12, 24, u32::MAX]));
    raw.stream(CRASHPAD, &[0xff; 64]);
}
