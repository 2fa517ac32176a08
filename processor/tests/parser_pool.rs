//! The parser pool with real processes. This program starts itself again as the worker, one that obeys hooks in the
//! dump's bytes besides parsing; the released program has no such hooks. Hence no libtest: it would write to the
//! worker's standard output.

use std::future::ready;
use std::io::{Read, Write};
use std::ops::RangeInclusive;
use std::os::unix::process::ExitStatusExt;
use std::panic::AssertUnwindSafe;
use std::process::{Child, ChildStdin, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use processor::parser::{
    Attempts, Parsed, ParserPool, ParserSettings, ParserUnavailable, Protection, Told,
    WORKER_SUBCOMMAND, serve,
};
use shared::config::ProcessorConfig;
use shared::content::{Content, Segment};
use shared::id::ProjectId;
use shared::outcome::{Failure, Reason};
use shared::report::PartialReason;

mod dumps;
mod hooks;

use hooks::{
    ABORT, ALLOCATE, CHATTER, OVERFLOW, PANIC, PROCESS_ID, SLEEP, SLOW, SLOWNESS, SPIN, TRESPASS,
    obey_or_parse,
};

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
        a_spinning_worker_ends_without_its_parents_doing,
        a_dump_that_takes_too_long_is_told_in_part,
        a_worker_is_refused_all_but_parsing,
        a_worker_has_no_descriptor_and_no_capability_of_its_parent,
        a_process_serves_one_project,
        an_overflowed_stack_says_so,
        attempts_of_earlier_lives_count,
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
    let parsed = parse_after(0, pool, &Content::from(dump.to_vec())).await;
    parsed.expect("the pool works")
}

fn project(number: u64) -> ProjectId {
    ProjectId::new(number)
}

/// Parses a dump that was tried so often by earlier lives of the processor.
async fn parse_after(
    before: u32,
    pool: &ParserPool,
    dump: &Content,
) -> Result<Parsed, ParserUnavailable> {
    let begun = AtomicU32::new(before);
    let attempts = Attempts::new(|| ready(begun.fetch_add(1, Ordering::Relaxed) + 1));
    pool.parse(project(1), dump, &attempts).await
}

/// A dump that ends with a hook.
fn hooked(hook: &[u8]) -> Vec<u8> {
    [&whole(), hook].concat()
}

/// Insists that `dump` fails for `reason` after `attempts`, and that the pool then parses a good one.
async fn fails(settings: ParserSettings, dump: &[u8], reason: Reason, attempts: u32) -> Failure {
    fails_within(settings, dump, reason, attempts..=attempts).await
}

async fn fails_within(
    settings: ParserSettings,
    dump: &[u8],
    reason: Reason,
    attempts: RangeInclusive<u32>,
) -> Failure {
    let pool = ParserPool::start(settings);
    let failed = parsed(&pool, dump).await;
    assert!(attempts.contains(&failed.attempts), "{failed:?}");
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
    let from_file = parse_after(0, &pool, &filed).await.expect("the pool works");
    let from_memory = parsed(&pool, &dump).await;
    let told = from_memory.last.result.expect("is parsed");
    assert_eq!(told.warnings, Vec::<String>::new());
    assert_eq!(told.partial, None);
    let crash = told.details.crash.as_ref().expect("is told");
    assert_eq!(crash.kind, "SIGSEGV");
    assert!(told.details.minidump.is_some());
    assert_eq!(from_file.last.result.expect("is parsed"), told);
    assert!(from_memory.last.seconds > 0.0);
    pool.stop().await;
    let stopped = parse_after(0, &pool, &filed).await;
    assert!(matches!(stopped, Err(ParserUnavailable::Stopped)));
}

async fn dumps_of_every_system_come_through() {
    let pool = ParserPool::start(settings());
    for system in dumps::System::ALL {
        let dump = dumps::crash(system, dumps::SMALL);
        let told = parsed(&pool, &dump).await.last.result.expect("is parsed");
        let details = told.details;
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
    assert!(said.contains("hooks/mod.rs"), "{said}");
}

async fn a_spinning_process_is_killed() {
    let settings = ParserSettings {
        time_max: Duration::from_millis(500),
        attempts_max: 2,
        ..settings()
    };
    // One, unless others have the processors.
    let failure = fails_within(settings.clone(), SPIN, Reason::ParserTimeout, 1..=2).await;
    assert_eq!(failure, Failure::ParserTimeout { limit_seconds: 0.5 });
    // That was not the dump's own doing.
    fails(settings, SLEEP, Reason::ParserTimeout, 2).await;
}

async fn endless_memory_is_told_from_a_crash() {
    let settings = ParserSettings {
        memory_bytes_max: 512 << 20,
        ..settings()
    };
    let failure = fails(settings, ALLOCATE, Reason::ParserOutOfMemory, 1).await;
    let limit_bytes = 512 << 20;
    assert_eq!(failure, Failure::ParserOutOfMemory { limit_bytes });
}

/// The worker cannot hold the dump, dies while it is being sent, and the rest finds no reader.
async fn a_process_that_dies_early_blocks_nobody() {
    let settings = ParserSettings {
        memory_bytes_max: 128 << 20,
        ..settings()
    };
    let dump = vec![0; 256 << 20];
    fails(settings, &dump, Reason::ParserOutOfMemory, 1).await;
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
    let after = parsed(&pool, &whole()).await;
    assert!(after.last.result.is_ok(), "{after:?}");
    assert_eq!(after.attempts, 1);
    pool.stop().await;
}

/// A worker of ours, with nobody to look after it, that spins on its first dump.
fn spinning_worker(time_max: Duration) -> (Child, ChildStdin) {
    let mut worker = std::process::Command::new(std::env::current_exe().expect("a path"))
        .args([WORKER_SUBCOMMAND, "1073741824"])
        .arg(time_max.as_millis().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut input = worker.stdin.take().expect("is piped");
    input
        .write_all(&(SPIN.len() as u64).to_le_bytes())
        .expect("is read");
    input.write_all(SPIN).expect("is read");
    // First it says how it is confined; then the hook says that it spins.
    let mut output = worker.stdout.take().expect("is piped");
    let mut length = [0; 8];
    output.read_exact(&mut length).expect("it has started");
    let mut confinement = vec![0; u64::from_le_bytes(length) as usize + 1];
    output
        .read_exact(&mut confinement)
        .expect("the hook was reached");
    (worker, input)
}

/// A parent that is killed cannot kill its workers; the end of their input must do.
async fn a_worker_ends_with_its_parent_in_the_middle_of_a_dump() {
    let (mut worker, input) = spinning_worker(Duration::from_secs(60));
    drop(input);
    assert!(worker.wait().expect("ends").success());
}

/// A parent that is stopped, or starved, looks at no clock.
async fn a_spinning_worker_ends_without_its_parents_doing() {
    let (mut worker, _input) = spinning_worker(Duration::from_millis(1));
    let status = worker.wait().expect("ends");
    let out_of_time = rustix::process::Signal::XCPU.as_raw();
    assert_eq!(status.signal(), Some(out_of_time), "{status}");
}

async fn a_dump_that_takes_too_long_is_told_in_part() {
    let pool = ParserPool::start(ParserSettings {
        time_max: SLOWNESS * 20,
        ..settings()
    });
    let shape = dumps::Shape {
        other_threads: 30,
        ..dumps::SMALL
    };
    let mut dump = dumps::crash(dumps::System::Linux, shape);
    dump.extend_from_slice(SLOW);
    let answer = parsed(&pool, &dump).await;
    assert_eq!(answer.attempts, 1, "{answer:?}");
    let Told {
        details,
        warnings,
        partial,
        ..
    } = answer.last.result.expect("something is told");
    let partial = partial.expect("not all of it");
    assert_eq!(partial.reason, PartialReason::Timeout);
    assert_eq!(partial.threads, 31);
    assert!((1..31).contains(&partial.threads_walked), "{partial:?}");
    assert!(warnings[0].contains("time ran out"), "{warnings:?}");
    assert_eq!(details.threads.len(), 31);
    let frames: Vec<usize> = details.threads.iter().map(|t| t.frames.len()).collect();
    assert!(frames[1] > 1, "the crashed thread comes first: {frames:?}");
    let last = &details.threads[30].frames[0];
    assert_eq!(last.module.as_deref(), Some("editor"), "{last:?}");
    let after = parsed(&pool, &whole()).await;
    assert_eq!(after.last.result.expect("is parsed").partial, None);
    pool.stop().await;
}

async fn a_worker_is_refused_all_but_parsing() {
    let pool = ParserPool::start(settings());
    let confinement = pool.confinement().await.expect("the pool works");
    let answer = parsed(&pool, &hooked(TRESPASS)).await.last.result;
    let said = answer.expect_err("the hook answers so").to_string();
    assert_eq!(said.lines().count(), 9);
    match &confinement.system_calls {
        Protection::On => {
            for line in said.lines() {
                assert!(line.contains("Operation not permitted"), "{said}");
            }
        }
        Protection::Off { why } => panic!("system calls are not filtered: {why}"),
    }
    pool.stop().await;
}

async fn a_worker_has_no_descriptor_and_no_capability_of_its_parent() {
    let left_open = tempfile::tempfile().expect("a file");
    let inherited = rustix::io::FdFlags::empty();
    rustix::io::fcntl_setfd(&left_open, inherited).expect("is passed on");
    let pool = ParserPool::start(settings());
    let confinement = pool.confinement().await.expect("the pool works");
    assert_eq!(confinement.capabilities, Protection::On);
    let process = format!("/proc/{}", process_id(&pool).await);
    let open = std::fs::read_dir(format!("{process}/fd")).expect("is running");
    let kinds = open.map(|open| {
        let path = open.expect("an entry").path();
        let file = std::fs::read_link(&path).expect("a descriptor");
        file.to_string_lossy().into_owned()
    });
    let others: Vec<String> = kinds.filter(|kind| !kind.starts_with("pipe:")).collect();
    assert_eq!(others, Vec::<String>::new(), "only its pipes");
    let status = std::fs::read_to_string(format!("{process}/status")).expect("is running");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        let line = status.lines().find(|line| line.starts_with(set));
        let line = line.expect("the kernel says it");
        // Only who holds a privilege can take it out of the bounding set; without, it cannot be used.
        let is_none = line.ends_with(&"0".repeat(16));
        assert!(is_none || set == "CapBnd", "{line}");
    }
    pool.stop().await;
}

async fn a_process_serves_one_project() {
    let pool = ParserPool::start(settings());
    let id_for = async |number| {
        let attempts = Attempts::new(|| ready(1));
        let dump = Content::from(PROCESS_ID.to_vec());
        let parsed = pool.parse(project(number), &dump, &attempts).await;
        let answer = parsed.expect("the pool works").last.result;
        answer.expect_err("the hook answers so").to_string()
    };
    let first = id_for(1).await;
    let second = id_for(2).await;
    assert_ne!(first, second);
    assert_eq!(id_for(1).await, first, "it was kept");
    assert_eq!(id_for(2).await, second);
    // So many others that the first is not kept.
    for number in 3..20 {
        assert_ne!(id_for(number).await, first);
    }
    assert_ne!(id_for(1).await, first);
    pool.stop().await;
}

async fn an_overflowed_stack_says_so() {
    let failure = fails(settings(), &hooked(OVERFLOW), Reason::ParserCrashed, 3).await;
    let said = format!("{failure:?}");
    assert!(said.contains("overflowed its stack"), "{said}");
    assert!(said.contains("SIGABRT"), "{said}");
}

async fn attempts_of_earlier_lives_count() {
    let pool = ParserPool::start(settings());
    let third = parse_after(2, &pool, &Content::from(ABORT.to_vec())).await;
    let third = third.expect("the pool works");
    assert_eq!(third.attempts, 3);
    let error = third.last.result.expect_err("fails").to_string();
    assert!(error.contains("SIGABRT"), "{error}");
    // Nobody saw how they ended: maybe well.
    let unseen = pool.begun_max();
    for earlier in [2, 3, unseen - 1] {
        let good = parse_after(earlier, &pool, &Content::from(whole())).await;
        assert!(good.expect("the pool works").last.result.is_ok());
    }
    let last = parse_after(unseen, &pool, &Content::from(whole())).await;
    let last = last.expect("the pool works");
    assert_eq!(last.attempts, unseen, "one more was not begun");
    let error = last.last.result.expect_err("is not tried").to_string();
    assert!(
        error.contains(&format!("each of {unseen} attempts")),
        "{error}"
    );
    pool.stop().await;
}

async fn what_is_not_the_dumps_fault_is_not_held_against_it() {
    let pool = ParserPool::start(ParserSettings {
        program: "/nonexistent/crashferry".into(),
        ..settings()
    });
    let dump = Content::from(whole());
    let begun = AtomicU32::new(0);
    let attempts = Attempts::new(|| ready(begun.fetch_add(1, Ordering::Relaxed) + 1));
    let error = pool.parse(project(1), &dump, &attempts).await;
    let error = error.expect_err("no such program");
    assert!(matches!(error, ParserUnavailable::Start(_)), "{error}");
    assert_eq!(begun.load(Ordering::Relaxed), 0);

    let too_little = ParserSettings {
        memory_bytes_max: 1 << 20,
        ..settings()
    };
    let says_nothing = ParserSettings {
        program: "/bin/true".into(),
        ..settings()
    };
    for settings in [too_little, says_nothing] {
        let pool = ParserPool::start(settings);
        let error = pool
            .parse(project(1), &dump, &attempts)
            .await
            .expect_err("no process");
        assert!(matches!(error, ParserUnavailable::Silent(_)), "{error}");
        assert_eq!(begun.load(Ordering::Relaxed), 0);
    }

    let pool = ParserPool::start(settings());
    let mut lost = Content::default();
    lost.push(Segment::File {
        file: Arc::new(tempfile::tempfile().expect("a file")),
        offset: 0,
        bytes: 10,
    });
    for _ in 0..5 {
        let error = pool.parse(project(1), &lost, &attempts).await;
        let error = error.expect_err("the file is empty");
        assert!(matches!(error, ParserUnavailable::ReadDump(_)), "{error}");
    }
    assert_eq!(begun.load(Ordering::Relaxed), 1, "none of them was made");
    assert!(parsed(&pool, &whole()).await.last.result.is_ok());
    pool.stop().await;
}
