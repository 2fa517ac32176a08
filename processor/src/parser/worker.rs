//! The parser process: dumps in on standard input, answers out on standard output, one after another.
//!
//! First it says how it is confined: a length and a [`Confinement`] in msgpack. Then, for each dump: a request is the dump's
//! length and its bytes; an answer is the length of an [`Answer`] in msgpack, that, the length of rust-minidump's JSON (0
//! when there is none) and that. Lengths are 8 bytes, little-endian. The process reads no file and ends, in the middle of a
//! dump if need be, when its standard input is closed: it never outlives its parent.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use shared::report::{CrashDetails, Partial};

use super::confine::{self, Confinement};
use super::minidump::{ParsedDump, Unreadable, parse, symbol_provider};

/// The hidden subcommand that runs [`worker_main`]; the limits follow it: memory in bytes, time for a dump in
/// milliseconds.
pub const WORKER_SUBCOMMAND: &str = "parse-worker";

/// Of the time for a dump, what goes by before the parser answers with what it has. The rest is for writing that.
const WALKING_SHARE: f64 = 0.75;
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
        partial: Option<Partial>,
        /// When the dump was written, by the clock of its machine.
        time: Option<Timestamp>,
    },
    /// The dump cannot be read.
    Unreadable { error: String },
}

/// A dump, and when its parsing has to come to an end.
struct Request {
    dump: Vec<u8>,
    deadline: Instant,
}

/// Runs the worker: reads the limits, its last arguments, and serves until standard input is closed.
#[must_use]
pub fn worker_main() -> ExitCode {
    let symbols = symbol_provider();
    let runtime = match tokio::runtime::Builder::new_current_thread().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    serve(move |dump, deadline| runtime.block_on(parse(dump, &symbols, deadline)))
}

/// Runs a worker that answers with what `parse` makes of a dump until a deadline; [`worker_main`] is this with the real
/// parser.
#[must_use]
pub fn serve(
    parse: impl FnMut(&[u8], Instant) -> Result<ParsedDump, Unreadable> + Send + 'static,
) -> ExitCode {
    match confine_and_serve(parse) {
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

fn confine_and_serve(
    parse: impl FnMut(&[u8], Instant) -> Result<ParsedDump, Unreadable> + Send + 'static,
) -> io::Result<Infallible> {
    confine::close_inherited()?;
    let (memory_bytes_max, time_max) = limits()?;
    let early = confine::before_threads(memory_bytes_max)?;
    // A panic ends the process, whichever thread it is on: the parent must not wait for an answer.
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        std::process::exit(101);
    }));
    let mut answers = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let standard = [io::stdout().as_raw_fd(), io::stderr().as_raw_fd()];
    let outputs = [standard[0], standard[1], answers.as_raw_fd()];
    let (requests, waiting) = sync_channel(0);
    let (running, runs) = sync_channel(0);
    let (handed_over, output) = sync_channel(1);
    std::thread::Builder::new()
        .name("parser".into())
        .stack_size(STACK_BYTES)
        .spawn(move || {
            if let (Ok(()), Ok(answers)) = (running.send(()), output.recv()) {
                answer_all(&waiting, answers, time_max, parse);
            }
        })?;
    // A thread makes system calls to come to life that it needs never again.
    let no_thread = |_| io::Error::from(io::ErrorKind::BrokenPipe);
    runs.recv().map_err(no_thread)?;
    let confinement = Confinement {
        landlock: early.landlock,
        capabilities: early.capabilities,
        system_calls: confine::after_threads(outputs)?,
    };
    answers.write_all(&behind_length(&confinement)?)?;
    handed_over
        .send(answers)
        .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
    read_all(io::stdin().lock(), time_max, &requests)
}

/// The last two arguments.
fn limits() -> io::Result<(u64, Duration)> {
    let arguments: Vec<String> = std::env::args().collect();
    let read = |back: usize| {
        let argument = arguments.len().checked_sub(back);
        argument.and_then(|index| arguments[index].parse::<u64>().ok())
    };
    match (read(2), read(1)) {
        (Some(memory), Some(time)) => Ok((memory, Duration::from_millis(time))),
        (None, _) | (_, None) => Err(io::Error::other(format!(
            "expected bytes of memory and milliseconds as the last arguments, found {arguments:?}"
        ))),
    }
}

/// Hands each dump on and at once waits for the next: so the end of the input is seen while a dump is being parsed.
fn read_all(
    mut input: impl Read,
    time_max: Duration,
    requests: &SyncSender<Request>,
) -> io::Result<Infallible> {
    loop {
        let mut length = [0; 8];
        input.read_exact(&mut length)?;
        // The parent's clock runs since it sent the length.
        let deadline = Instant::now() + time_max.mul_f64(WALKING_SHARE);
        let bytes = u64::from_le_bytes(length);
        let mut dump = Vec::with_capacity(bytes.min(DUMP_RESERVE_BYTES_MAX) as usize);
        if input.by_ref().take(bytes).read_to_end(&mut dump)? as u64 != bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        requests
            .send(Request { dump, deadline })
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
    }
}

fn answer_all(
    requests: &Receiver<Request>,
    mut answers: File,
    time_max: Duration,
    mut parse: impl FnMut(&[u8], Instant) -> Result<ParsedDump, Unreadable>,
) {
    for Request { dump, deadline } in requests {
        let answered = confine::limit_processor_time(time_max)
            .and_then(|()| write_answer(&mut answers, parse(&dump, deadline)));
        if let Err(error) = answered {
            // Without this end the parent waits in vain.
            eprintln!("parse worker: the dump cannot be answered: {error}");
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
                partial: parsed.partial,
                time: parsed.time,
            };
            (answer, parsed.json)
        }
        Err(Unreadable { error }) => (Answer::Unreadable { error }, Vec::new()),
    };
    let mut head = behind_length(&answer)?;
    head.extend_from_slice(&(minidump.len() as u64).to_le_bytes());
    output.write_all(&head)?;
    output.write_all(&minidump)
}

fn behind_length(part: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut packed = vec![0; 8];
    rmp_serde::encode::write(&mut packed, part).map_err(io::Error::other)?;
    let bytes = packed.len() as u64 - 8;
    packed[..8].copy_from_slice(&bytes.to_le_bytes());
    Ok(packed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_is_cut_off_is_not_handed_on() {
        let (requests, waiting) = sync_channel(2);
        let mut input = 3_u64.to_le_bytes().to_vec();
        input.extend_from_slice(b"abc");
        input.extend_from_slice(&9_u64.to_le_bytes());
        input.extend_from_slice(b"def");
        let Err(error) = read_all(&input[..], Duration::from_secs(1), &requests);
        assert!(is_parting(&error), "{error}");
        drop(requests);
        let dumps: Vec<_> = waiting.iter().map(|request| request.dump).collect();
        assert_eq!(dumps, [b"abc"]);
    }
}
