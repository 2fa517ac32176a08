//! The parser pool with real processes. This program starts itself again as the worker, one that obeys hooks in the
//! dump's bytes besides parsing; the released program has no such hooks. Hence no libtest: it would write to the
//! worker's standard output.

use std::io::{Read, Write};
use std::panic::AssertUnwindSafe;
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use processor::parser::{
    Parsed, ParsedDump, ParserPool, ParserSettings, ParserUnavailable, Unreadable,
    WORKER_SUBCOMMAND, parse, serve, symbol_provider,
};
use shared::config::ProcessorConfig;
use shared::content::{Content, Segment};
use shared::outcome::{Failure, Reason};

mod dumps;

const ABORT: &[u8] = b"hook: abort";
const PANIC: &[u8] = b"hook: panic";
const SPIN: &[u8] = b"hook: spin";
const ALLOCATE: &[u8] = b"hook: allocate";
const CHATTER: &[u8] = b"hook: chatter";
const PROCESS_ID: &[u8] = b"hook: process id";
const DIE_UNREAD: &[u8] = b"hook: die before the rest is read";

/// A test's name, and the test.
type Test = (&'static str, fn() -> LocalBoxFuture<'static, ()>);

macro_rules! tests {
    ($($test:ident),* $(,)?) => {
        &[$((stringify!($test), || $test().boxed_local())),*]
    };
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == WORKER_SUBCOMMAND) {
        return serve(obey_or_parse);
    }
    let wanted = words.iter().find(|word| !word.starts_with('-'));
    let tests: &[Test] = tests!(
        a_dump_is_parsed_in_memory_or_in_a_file,
        dumps_of_every_system_come_through,
        processes_are_used_again_and_replaced,
        no_more_processes_than_workers_run,
        an_unreadable_dump_is_tried_once,
        a_crashed_process_is_named_after_all_attempts,
        a_panic_says_where,
        a_spinning_process_is_killed,
        endless_memory_is_told_from_a_crash,
        a_process_that_dies_early_blocks_nobody,
        chatter_on_standard_error_blocks_nobody,
        an_idle_death_costs_no_attempt,
        a_worker_ends_with_its_parent_in_the_middle_of_a_dump,
        what_is_not_the_dumps_fault_is_not_held_against_it,
    );
    let mut failed = 0;
    let mut run = 0;
    for (name, test) in tests {
        if wanted.is_some_and(|wanted| !name.contains(wanted.as_str())) {
            continue;
        }
        run += 1;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let ended = runtime.block_on(AssertUnwindSafe(test()).catch_unwind());
        println!(
            "test {name} ... {}",
            if ended.is_ok() { "ok" } else { "FAILED" }
        );
        failed += usize::from(ended.is_err());
    }
    println!("test result: {} passed; {failed} failed", run - failed);
    ExitCode::from(u8::from(failed > 0))
}

/// What the worker does with a dump.
fn obey_or_parse(dump: &[u8]) -> Result<ParsedDump, Unreadable> {
    if dump.starts_with(ABORT) {
        std::process::abort();
    } else if dump.starts_with(PANIC) {
        panic!("as the hook wants");
    } else if dump.starts_with(SPIN) {
        let mut output = std::io::stdout();
        output.write_all(b".").expect("somebody reads");
        output.flush().expect("somebody reads");
        loop {
            std::hint::spin_loop();
        }
    } else if dump.starts_with(ALLOCATE) {
        let mut hoard = Vec::new();
        loop {
            hoard.push(vec![1_u8; 1 << 24]);
        }
    } else if dump.starts_with(CHATTER) {
        let line = [b'x'; 1024];
        for _ in 0..1024 {
            std::io::stderr().write_all(&line).expect("is drained");
        }
    } else if dump.starts_with(PROCESS_ID) {
        let error = std::process::id().to_string();
        return Err(Unreadable { error });
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    runtime.block_on(parse(dump, &symbol_provider()))
}

fn settings() -> ParserSettings {
    let config = ProcessorConfig::default();
    ParserSettings {
        workers: 2,
        ..ParserSettings::new(&config).expect("this program has a path")
    }
}

fn whole() -> Vec<u8> {
    dumps::crash(dumps::System::Linux, dumps::SMALL)
}

async fn parsed(pool: &ParserPool, dump: &[u8]) -> Parsed {
    pool.parse(&Content::from(dump.to_vec()))
        .await
        .expect("the pool works")
}

/// Insists that `dump` fails for `reason` after `attempts`, and that the pool then parses a good one.
async fn fails(settings: ParserSettings, dump: &[u8], reason: Reason, attempts: u32) -> Failure {
    let pool = ParserPool::start(settings);
    let failed = parsed(&pool, dump).await;
    assert_eq!(failed.attempts, attempts);
    let failure = Failure::from(failed.last.result.expect_err("fails"));
    assert_eq!(failure.reason(), reason, "{failure:?}");
    let after = parsed(&pool, &whole()).await;
    assert_eq!(after.attempts, 1);
    assert!(after.last.result.is_ok(), "{after:?}");
    pool.stop().await;
    failure
}

async fn process_id(pool: &ParserPool) -> u32 {
    let answer = parsed(pool, PROCESS_ID).await.last.result;
    let error = answer.expect_err("the hook answers so").to_string();
    error.parse().expect("a process id")
}

async fn a_dump_is_parsed_in_memory_or_in_a_file() {
    let pool = ParserPool::start(settings());
    let mut dump = whole();
    // Larger than any pipe and any piece.
    dump.resize(3 << 20, 0xaa);
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(&dump).expect("is written");
    let mut filed = Content::default();
    filed.push(Segment::Memory(dump[..100].to_vec().into()));
    filed.push(Segment::File {
        file: Arc::new(file),
        offset: 100,
        bytes: dump.len() as u64 - 100,
    });
    let from_file = pool.parse(&filed).await.expect("the pool works");
    let from_memory = parsed(&pool, &dump).await;
    let (details, warnings) = from_memory.last.result.expect("is parsed");
    assert_eq!(warnings, Vec::<String>::new());
    let crash = details.crash.as_ref().expect("is told");
    assert_eq!(crash.kind, "SIGSEGV");
    assert!(details.minidump.is_some());
    assert_eq!(
        from_file.last.result.expect("is parsed"),
        (details, warnings)
    );
    assert!(from_memory.last.seconds > 0.0);
    pool.stop().await;
    let stopped = pool.parse(&filed).await;
    assert!(matches!(stopped, Err(ParserUnavailable::Stopped)));
}

async fn dumps_of_every_system_come_through() {
    let pool = ParserPool::start(settings());
    for system in dumps::System::ALL {
        let dump = dumps::crash(system, dumps::SMALL);
        let (details, _) = parsed(&pool, &dump).await.last.result.expect("is parsed");
        let module = details.threads[1].frames[0].module.as_deref();
        assert!(module.is_some_and(|module| system.program().ends_with(module)));
    }
    pool.stop().await;
}

async fn processes_are_used_again_and_replaced() {
    let pool = ParserPool::start(ParserSettings {
        dumps_per_process_max: 2,
        ..settings()
    });
    let first = process_id(&pool).await;
    assert_eq!(process_id(&pool).await, first);
    assert_ne!(process_id(&pool).await, first);
    pool.stop().await;
}

async fn no_more_processes_than_workers_run() {
    let pool = ParserPool::start(settings());
    let all = (0..20).map(|_| process_id(&pool));
    let mut ids = futures_util::future::join_all(all).await;
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 2, "{ids:?}");
    pool.stop().await;
}

async fn an_unreadable_dump_is_tried_once() {
    let reason = Reason::UnreadableMinidump;
    let failure = fails(settings(), b"no dump", reason, 1).await;
    let Failure::UnreadableMinidump { error } = failure else {
        unreachable!("the reason was checked")
    };
    assert!(error.contains("found 7 bytes"), "{error}");
}

async fn a_crashed_process_is_named_after_all_attempts() {
    let failure = fails(settings(), ABORT, Reason::ParserCrashed, 3).await;
    assert!(format!("{failure:?}").contains("SIGABRT"), "{failure:?}");
}

async fn a_panic_says_where() {
    let failure = fails(settings(), PANIC, Reason::ParserCrashed, 3).await;
    let said = format!("{failure:?}");
    assert!(said.contains("as the hook wants"), "{said}");
    assert!(said.contains("parser_pool.rs"), "{said}");
}

async fn a_spinning_process_is_killed() {
    let settings = ParserSettings {
        time_max: Duration::from_millis(500),
        attempts_max: 2,
        ..settings()
    };
    let failure = fails(settings, SPIN, Reason::ParserTimeout, 2).await;
    assert_eq!(failure, Failure::ParserTimeout { limit_seconds: 0.5 });
}

async fn endless_memory_is_told_from_a_crash() {
    let settings = ParserSettings {
        memory_bytes_max: 512 << 20,
        ..settings()
    };
    let failure = fails(settings, ALLOCATE, Reason::ParserOutOfMemory, 3).await;
    let limit_bytes = 512 << 20;
    assert_eq!(failure, Failure::ParserOutOfMemory { limit_bytes });
}

/// The worker cannot hold the dump, dies while it is being sent, and the rest finds no reader.
async fn a_process_that_dies_early_blocks_nobody() {
    let settings = ParserSettings {
        memory_bytes_max: 128 << 20,
        ..settings()
    };
    let mut dump = DIE_UNREAD.to_vec();
    dump.resize(256 << 20, 0);
    fails(settings, &dump, Reason::ParserOutOfMemory, 3).await;
}

async fn chatter_on_standard_error_blocks_nobody() {
    let failure = fails(settings(), CHATTER, Reason::UnreadableMinidump, 1).await;
    assert!(format!("{failure:?}").contains("13 bytes"), "{failure:?}");
}

async fn an_idle_death_costs_no_attempt() {
    let pool = ParserPool::start(settings());
    let id = process_id(&pool).await;
    let pid = rustix::process::Pid::from_raw(id as i32).expect("a process id");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("is killed");
    // Dead is: all its threads have ended, and it is left for the pool to be waited for.
    let dead = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
    rustix::process::waitid(rustix::process::WaitId::Pid(pid), dead).expect("is a child");
    let attempt = pool.attempt(&Content::from(whole())).await;
    assert!(attempt.expect("the pool works").result.is_ok());
    pool.stop().await;
}

/// A parent that is killed cannot kill its workers; the end of their input must do.
async fn a_worker_ends_with_its_parent_in_the_middle_of_a_dump() {
    let mut worker = std::process::Command::new(std::env::current_exe().expect("a path"))
        .args([WORKER_SUBCOMMAND, "1073741824"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut input = worker.stdin.take().expect("is piped");
    input
        .write_all(&(SPIN.len() as u64).to_le_bytes())
        .expect("is read");
    input.write_all(SPIN).expect("is read");
    // The hook says when it spins.
    let mut output = worker.stdout.take().expect("is piped");
    output.read_exact(&mut [0]).expect("the hook was reached");
    drop(input);
    assert!(worker.wait().expect("ends").success());
}

async fn what_is_not_the_dumps_fault_is_not_held_against_it() {
    let pool = ParserPool::start(ParserSettings {
        program: "/nonexistent/crashferry".into(),
        ..settings()
    });
    let dump = Content::from(whole());
    let error = pool.parse(&dump).await.expect_err("no such program");
    assert!(matches!(error, ParserUnavailable::Start(_)), "{error}");

    let pool = ParserPool::start(settings());
    let mut lost = Content::default();
    lost.push(Segment::File {
        file: Arc::new(tempfile::tempfile().expect("a file")),
        offset: 0,
        bytes: 10,
    });
    let error = pool.parse(&lost).await.expect_err("the file is empty");
    assert!(matches!(error, ParserUnavailable::ReadDump(_)), "{error}");
    assert!(parsed(&pool, &whole()).await.last.result.is_ok());
    pool.stop().await;
}
