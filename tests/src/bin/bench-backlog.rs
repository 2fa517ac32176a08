//! How fast a processor works off a backlog, beside a loop of the rust-minidump library over the same dumps on the same cores.
//! `tests/bench/backlog` runs it with the services.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use harness::kafka::Producer;
use harness::stack::{Plan, Role, Stack};
use harness::wait;
use harness::wire::{Attachment, Event};
use minidump::Minidump;
use minidump_unwind::MultiSymbolProvider;

#[path = "../../../processor/tests/dumps/mod.rs"]
#[expect(dead_code, reason = "one of its dumps is enough here")]
mod dumps;

/// The ingest topic's partitions.
const PARTITIONS: i32 = 12;
const CHUNK_BYTES: usize = 960 << 10;
const DEADLINE: Duration = Duration::from_secs(1800);
const LOOKS_APART: Duration = Duration::from_millis(200);
/// A desktop program: with its modules and stacks about 100 kB.
const SHAPE: dumps::Shape = dumps::Shape {
    other_threads: 23,
    other_modules: 80,
    stack_words: 256,
};

fn main() {
    let number = |at: usize, default: usize| {
        let word = std::env::args().nth(at);
        word.map_or(default, |word| word.parse().expect("a number"))
    };
    let (crashes, bytes) = (number(1, 20_000), number(2, 100_000));
    let base = dumps::crash(dumps::System::Linux, SHAPE);
    assert!(
        base.len() + 16 <= bytes,
        "the dump alone has {} bytes",
        base.len()
    );
    let dump = |crash: usize| {
        let mut dump = base.clone();
        dump.resize(bytes - 8, 0x5a);
        dump.extend_from_slice(&(crash as u64).to_le_bytes());
        dump
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    println!(
        "{crashes} crashes of {bytes} bytes, {} threads each, on {cores} cores",
        SHAPE.other_threads + 1
    );
    let library = library_loop(crashes, dump);
    let mut stack = Plan::split().partitions(PARTITIONS).prepare();
    let producer = Producer::new(stack.broker(), &stack.topics().attachments);
    for crash in 0..crashes {
        let event = Event::new(vec![Attachment::minidump(&dump(crash), CHUNK_BYTES)]);
        let partition = (crash % PARTITIONS as usize) as i32;
        for chunk in event.chunks() {
            producer.send(partition, &event.key(), &chunk);
        }
        producer.send(partition, &event.key(), &event.event());
    }
    producer.flush();
    let processor = backlog(&mut stack, crashes);
    println!(
        "library {library:.0}/s, processor {processor:.0}/s: {:.0} %",
        100.0 * processor / library
    );
}

/// Crashes a second of the library alone, on every core.
fn library_loop(crashes: usize, dump: impl Fn(usize) -> Vec<u8> + Sync) -> f64 {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().build();
                let runtime = runtime.expect("a runtime");
                loop {
                    let crash = next.fetch_add(1, Ordering::Relaxed);
                    if crash >= crashes {
                        return;
                    }
                    let bytes = dump(crash);
                    let read = Minidump::read(&bytes[..]).expect("a dump");
                    let symbols = MultiSymbolProvider::new();
                    let state = minidump_processor::process_minidump(&read, &symbols);
                    let state = runtime.block_on(state).expect("it can be processed");
                    let mut json = Vec::new();
                    state
                        .print_json(&mut json, false)
                        .expect("it can be printed");
                    assert!(!json.is_empty());
                }
            });
        }
    });
    crashes as f64 / begun.elapsed().as_secs_f64()
}

/// Crashes a second of a processor that finds them all in the topic, from its first one on.
fn backlog(stack: &mut Stack, crashes: usize) -> f64 {
    let processor = stack.processor();
    processor.start();
    let processed = |processor: &Role| {
        let metrics = processor.metrics();
        metrics
            .sum("crashferry_outcomes_total", &[])
            .unwrap_or_default() as usize
    };
    wait::until_true("the first crash", DEADLINE, || processed(processor) > 0);
    let begun = Instant::now();
    let before = processed(processor);
    let (own_before, parsers_before) = processor.running().processor_time();
    let deadline = begun + DEADLINE;
    while processed(processor) < crashes {
        assert!(Instant::now() < deadline, "the backlog is not worked off");
        // To ask is work, too.
        thread::sleep(LOOKS_APART);
    }
    let took = begun.elapsed().as_secs_f64();
    let (own, parsers) = processor.running().processor_time();
    let each = |time: Duration| time.as_secs_f64() * 1000.0 / (crashes - before) as f64;
    println!(
        "  processor time: {:.2} ms an event, and its parsers {:.2} ms",
        each(own - own_before),
        each(parsers - parsers_before),
    );
    let metrics = processor.metrics();
    for stage in ["wait", "store", "parse", "record", "publish"] {
        let of = [("stage", stage)];
        let sum = metrics.sum("crashferry_processor_stage_duration_seconds_sum", &of);
        println!(
            "  {stage}: {:.2} ms an event",
            1000.0 * sum.unwrap_or_default() / crashes as f64
        );
    }
    println!("  peak {} MB", processor.memory_peak_bytes() / 1_000_000);
    (crashes - before) as f64 / took
}
