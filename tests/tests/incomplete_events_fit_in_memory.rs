//! Many large crashes whose last chunks are not there yet: what is there is kept within bounds, and each crash is finished
//! when its last chunk comes.

use std::time::Duration;

use harness::conservation::Scale;
use harness::kafka::Producer;
use harness::metrics::Ledger;
use harness::stack::{Plan, Stack};
use harness::wire::{Attachment, Event};
use harness::{dumps, wait};

const CHUNK_BYTES: usize = 1 << 20;
const MIB: u64 = 1 << 20;
/// What a processor may use besides the chunks.
const BESIDES_BYTES: u64 = 150_000_000;
const DEADLINE: Duration = Duration::from_secs(600);

#[test]
fn in_memory_and_then_in_scratch_files() {
    let scale = Scale::of("incomplete_events_fit_in_memory/in_memory_and_then_in_scratch_files");
    let (events, memory_mib) = scale.pick((16, 32), (200, 256));
    let bytes = scale.pick(10_000_000, 50_000_000);
    let plan = Plan::split().text("processor", "memory", &format!("{memory_mib}MiB"));
    complete_all(&scale, plan, events, bytes, memory_mib * MIB);
}

/// More than may be kept at all: partitions wait for one another, and none for ever.
#[test]
fn past_the_room_for_scratch_files() {
    let scale = Scale::of("incomplete_events_fit_in_memory/past_the_room_for_scratch_files");
    let plan = Plan::split()
        .text("processor", "memory", "16MiB")
        .text("limits", "upload", "64MiB")
        .text("limits", "attachment", "64MiB")
        .text("processor", "scratch", "64MiB");
    complete_all(&scale, plan, 24, 10_000_000, 16 * MIB);
}

fn complete_all(scale: &Scale, plan: Plan, count: usize, bytes: usize, memory_bytes: u64) {
    // Ten gigabytes need not be stored twice to be counted.
    let mut stack = plan.project("privacy = { minidump = \"never\" }").start();
    let events: Vec<Event> = (0..count)
        .map(|number| {
            Event::new(vec![Attachment::minidump(
                &dump(bytes, number),
                CHUNK_BYTES,
            )])
        })
        .collect();
    let producer = Producer::compressing(stack.broker(), &stack.topics().attachments);
    let partition = |number: usize| i32::try_from(number % 2).expect("two partitions");
    let chunks = events[0].attachments[0].chunks.len();
    for index in 0..chunks - 1 {
        for (number, event) in events.iter().enumerate() {
            producer.send(partition(number), &event.key(), &event.chunk(0, index));
        }
    }
    producer.flush();
    for (number, event) in events.iter().enumerate() {
        producer.send(partition(number), &event.key(), &event.chunk(0, chunks - 1));
        producer.send(partition(number), &event.key(), &event.event());
    }
    producer.flush();
    let mut most_scratch = 0.0_f64;
    wait::until("every event to be finished", DEADLINE, || {
        most_scratch = most_scratch.max(stack.processor().metric("crashferry_scratch_bytes"));
        let ledger = stack.processor().metrics().ledger();
        match ledger {
            Some(Ledger { processed, .. }) if processed == count as f64 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    let peak = stack.processor().memory_peak_bytes();
    println!(
        "conservation: {} {count} incomplete events of {bytes} bytes: peak_mb={} of {} allowed, scratch_mb={}",
        scale.scenario(),
        peak / 1_000_000,
        (memory_bytes + BESIDES_BYTES) / 1_000_000,
        most_scratch as u64 / 1_000_000,
    );
    assert!(peak < memory_bytes + BESIDES_BYTES, "peak {peak}");
    let ids: Vec<String> = events.iter().map(Event::hyphenated).collect();
    stack.one_report_each(ids.iter().map(String::as_str));
    left_clean(stack, count as u64);
}

fn left_clean(stack: Stack, count: u64) {
    let scratch = stack.dir().join("processor/scratch");
    let files = std::fs::read_dir(scratch)
        .expect("the scratch directory")
        .count();
    assert_eq!(
        files, 0,
        "scratch files have no names that could be left behind"
    );
    stack.finish(count, 0);
}

/// As far as real dumps do it compresses, to about a quarter: in every kilobyte 256 bytes are noise.
fn dump(bytes: usize, number: usize) -> Vec<u8> {
    let readable = dumps::small().len();
    let mut dump = dumps::sized(readable + bytes / 4, number as u64 + 1);
    let noise = dump.split_off(readable);
    for piece in noise.chunks(256) {
        dump.extend_from_slice(piece);
        dump.resize(
            dump.len() + 768,
            u8::try_from(number % 256).expect("a byte"),
        );
    }
    dump.resize(bytes, 0);
    dump
}
