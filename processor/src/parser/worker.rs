//! The parser process: dumps in on standard input, answers out on standard output, one after another.
//!
//! A request is the dump's length and its bytes; an answer is the length of an [`Answer`] in JSON, that JSON, the
//! length of rust-minidump's JSON (0 when there is none) and that. Lengths are 8 bytes, little-endian. The process reads
//! no file and ends, in the middle of a dump if need be, when its standard input is closed: it never outlives its parent.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rustix::process::{Resource, Rlimit, setrlimit};
use serde::{Deserialize, Serialize};
use shared::report::CrashDetails;

use super::minidump::{ParsedDump, Unreadable, parse, symbol_provider};

/// The hidden subcommand that runs [`worker_main`]; the memory limit in bytes follows it.
pub const WORKER_SUBCOMMAND: &str = "parse-worker";

/// Stack of the thread that parses.
const STACK_BYTES: usize = 8 << 20;
/// What is set aside for a dump before its bytes come.
const DUMP_RESERVE_BYTES_MAX: u64 = 1 << 30;

/// The first part of an answer.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    /// What the dump told, without rust-minidump's JSON, which follows as it is.
    Parsed {
        details: Box<CrashDetails>,
        warnings: Vec<String>,
    },
    /// The dump cannot be read.
    Unreadable { error: String },
}

/// Runs the worker: reads the memory limit, its last argument, and serves until standard input is closed.
#[must_use]
pub fn worker_main() -> ExitCode {
    let symbols = symbol_provider();
    let runtime = match tokio::runtime::Builder::new_current_thread().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    serve(move |dump| runtime.block_on(parse(dump, &symbols)))
}

/// Runs a worker that answers with what `parse` returns; [`worker_main`] is this with the real parser.
#[must_use]
pub fn serve(
    parse: impl FnMut(&[u8]) -> Result<ParsedDump, Unreadable> + Send + 'static,
) -> ExitCode {
    match limit_and_serve(parse) {
        Ok(never) => match never {},
        // The parent closed our standard input, or it is gone: nothing is wrong here.
        Err(error) if is_parting(&error) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn is_parting(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe
    )
}

fn failed(error: &io::Error) -> ExitCode {
    eprintln!("parse worker: {error}");
    ExitCode::FAILURE
}

fn limit_and_serve(
    parse: impl FnMut(&[u8]) -> Result<ParsedDump, Unreadable> + Send + 'static,
) -> io::Result<Infallible> {
    let argument = std::env::args().next_back().unwrap_or_default();
    let memory_bytes_max = argument.parse().map_err(|_| {
        io::Error::other(format!(
            "expected a memory limit in bytes as the last argument, found {argument:?}"
        ))
    })?;
    limit(Resource::As, memory_bytes_max)?;
    limit(Resource::Core, 0)?;
    // A panic ends the process, whichever thread it is on: the parent must not wait for an answer.
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        std::process::exit(101);
    }));
    let answers = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let (dumps, waiting) = sync_channel(0);
    std::thread::Builder::new()
        .name("parser".into())
        .stack_size(STACK_BYTES)
        .spawn(move || answer_all(&waiting, answers, parse))?;
    read_all(io::stdin().lock(), &dumps)
}

fn limit(resource: Resource, most: u64) -> io::Result<()> {
    let limit = Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    Ok(setrlimit(resource, limit)?)
}

/// Hands each dump on and at once waits for the next: so the end of the input is seen while a dump is being parsed.
fn read_all(mut input: impl Read, dumps: &SyncSender<Vec<u8>>) -> io::Result<Infallible> {
    loop {
        let mut length = [0; 8];
        input.read_exact(&mut length)?;
        let bytes = u64::from_le_bytes(length);
        let mut dump = Vec::with_capacity(bytes.min(DUMP_RESERVE_BYTES_MAX) as usize);
        if input.by_ref().take(bytes).read_to_end(&mut dump)? as u64 != bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        dumps
            .send(dump)
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
    }
}

fn answer_all(
    dumps: &Receiver<Vec<u8>>,
    mut answers: File,
    mut parse: impl FnMut(&[u8]) -> Result<ParsedDump, Unreadable>,
) {
    for dump in dumps {
        if let Err(error) = write_answer(&mut answers, parse(&dump)) {
            // Without this end the parent waits in vain.
            eprintln!("parse worker: the answer cannot be written: {error}");
            std::process::exit(1);
        }
    }
}

fn write_answer(output: &mut impl Write, result: Result<ParsedDump, Unreadable>) -> io::Result<()> {
    let (answer, minidump) = match result {
        Ok(parsed) => {
            let answer = Answer::Parsed {
                details: Box::new(parsed.details),
                warnings: parsed.warnings,
            };
            (answer, parsed.json)
        }
        Err(Unreadable { error }) => (Answer::Unreadable { error }, Vec::new()),
    };
    let mut head = vec![0; 8];
    serde_json::to_writer(&mut head, &answer)?;
    let bytes = head.len() as u64 - 8;
    head[..8].copy_from_slice(&bytes.to_le_bytes());
    head.extend_from_slice(&(minidump.len() as u64).to_le_bytes());
    output.write_all(&head)?;
    output.write_all(&minidump)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_is_cut_off_is_not_handed_on() {
        let (dumps, waiting) = sync_channel(2);
        let mut input = 3_u64.to_le_bytes().to_vec();
        input.extend_from_slice(b"abc");
        input.extend_from_slice(&9_u64.to_le_bytes());
        input.extend_from_slice(b"def");
        let Err(error) = read_all(&input[..], &dumps);
        assert!(is_parting(&error), "{error}");
        drop(dumps);
        assert_eq!(waiting.iter().collect::<Vec<_>>(), [b"abc"]);
    }
}
