//! What test programs' parser processes do on a dump's word, its last bytes, instead of parsing it or besides. The
//! released program knows none of this.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use minidump::Module;
use minidump_unwind::{
    FileError, FileKind, FillSymbolError, FrameSymbolizer, FrameWalker, SymbolProvider,
};
use processor::parser::{ParsedDump, Unreadable, parse, symbol_provider};

/// Aborts.
pub(crate) const ABORT: &[u8] = b"hook: abort";
/// Panics.
pub(crate) const PANIC: &[u8] = b"hook: panic";
/// Calls itself without end.
pub(crate) const OVERFLOW: &[u8] = b"hook: overflow";
/// Writes one byte, then spins for ever.
pub(crate) const SPIN: &[u8] = b"hook: spin";
/// Sleeps for ever.
pub(crate) const SLEEP: &[u8] = b"hook: sleep";
/// Takes memory without end.
pub(crate) const ALLOCATE: &[u8] = b"hook: allocate";
/// Writes a megabyte to standard error, and parses.
pub(crate) const CHATTER: &[u8] = b"hook: chatter";
/// Answers with its process id.
pub(crate) const PROCESS_ID: &[u8] = b"hook: process id";
/// Parses with symbols that take [`SLOWNESS`] for a frame.
pub(crate) const SLOW: &[u8] = b"hook: slow symbols";
/// Tries what a parser has no business doing, and answers with what came of it.
pub(crate) const TRESPASS: &[u8] = b"hook: trespass";

/// How long symbols take for a frame.
pub(crate) const SLOWNESS: Duration = Duration::from_millis(50);

/// What the worker does with a dump.
pub(crate) fn obey_or_parse(dump: &[u8], deadline: Instant) -> Result<ParsedDump, Unreadable> {
    if dump.ends_with(ABORT) {
        std::process::abort();
    } else if dump.ends_with(PANIC) {
        panic!("as the hook wants");
    } else if dump.ends_with(OVERFLOW) {
        let error = overflow(0).to_string();
        return Err(Unreadable { error });
    } else if dump.ends_with(SPIN) {
        spin();
    } else if dump.ends_with(SLEEP) {
        loop {
            std::thread::park();
        }
    } else if dump.ends_with(ALLOCATE) {
        let mut hoard = Vec::new();
        loop {
            hoard.push(vec![1_u8; 1 << 24]);
        }
    } else if dump.ends_with(CHATTER) {
        for _ in 0..1024 {
            io::stderr().write_all(&[b'x'; 1024]).expect("is drained");
        }
    } else if dump.ends_with(PROCESS_ID) {
        let error = std::process::id().to_string();
        return Err(Unreadable { error });
    } else if dump.ends_with(TRESPASS) {
        let error = trespass();
        return Err(Unreadable { error });
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    match dump.ends_with(SLOW) {
        true => runtime.block_on(parse(dump, &SlowSymbols, deadline)),
        false => runtime.block_on(parse(dump, &symbol_provider(), deadline)),
    }
}

fn spin() -> ! {
    let mut output = io::stdout();
    output.write_all(b".").expect("somebody reads");
    output.flush().expect("somebody reads");
    loop {
        std::hint::spin_loop();
    }
}

#[expect(unconditional_recursion, reason = "it is to overflow the stack")]
fn overflow(depth: u64) -> u64 {
    let room = std::hint::black_box([depth; 512]);
    overflow(depth + 1) + room[1]
}

/// One line for each thing: its name and what the system said.
fn trespass() -> String {
    let one = rustix::process::Pid::INIT;
    let file = std::env::temp_dir().join("crashferry-trespass");
    let tries: [(&str, io::Result<()>); 9] = [
        ("read a file", std::fs::read("/etc/hostname").map(drop)),
        ("write a file", std::fs::write(file, "x")),
        ("list a directory", std::fs::read_dir("/").map(drop)),
        (
            "connect",
            std::net::TcpStream::connect("127.0.0.1:9").map(drop),
        ),
        (
            "execute",
            std::process::Command::new("/bin/true").status().map(drop),
        ),
        (
            "start a thread",
            std::thread::Builder::new().spawn(|| ()).map(drop),
        ),
        (
            "signal",
            rustix::process::test_kill_process(one).map_err(io::Error::from),
        ),
        ("change a limit", change_limit(None)),
        ("change another's limit", change_limit(Some(one))),
    ];
    let lines = tries.map(|(name, result)| match result {
        Ok(()) => format!("{name}: done"),
        Err(error) => format!("{name}: {error}"),
    });
    lines.join("\n")
}

/// Of memory, as it was at the start.
fn change_limit(process: Option<rustix::process::Pid>) -> io::Result<()> {
    let limit = rustix::process::Rlimit {
        current: None,
        maximum: None,
    };
    let resource = rustix::process::Resource::Stack;
    rustix::process::prlimit(process, resource, limit)
        .map(drop)
        .map_err(io::Error::from)
}

/// Symbols from afar, and none of them found.
struct SlowSymbols;

#[async_trait]
impl SymbolProvider for SlowSymbols {
    async fn fill_symbol(
        &self,
        _: &(dyn Module + Sync),
        _: &mut (dyn FrameSymbolizer + Send),
    ) -> Result<(), FillSymbolError> {
        Err(FillSymbolError {})
    }

    async fn walk_frame(
        &self,
        _: &(dyn Module + Sync),
        _: &mut (dyn FrameWalker + Send),
    ) -> Option<()> {
        std::thread::sleep(SLOWNESS);
        None
    }

    async fn get_file_path(
        &self,
        _: &(dyn Module + Sync),
        _: FileKind,
    ) -> Result<PathBuf, FileError> {
        Err(FileError::NotFound)
    }
}
