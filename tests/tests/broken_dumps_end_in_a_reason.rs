//! Dumps that were cut, flipped or filled with nonsense, or made so that little becomes much: each has exactly one outcome,
//! with a reason when it failed; the processor lives and does not grow.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use harness::broken::{self, Breaker};
use harness::conservation::Scale;
use harness::kafka::{self, Isolation};
use harness::metrics::Metrics;
use harness::stack::{FATE_DEADLINE, Plan, Stack};
use harness::wait;

const DEADLINE: Duration = Duration::from_secs(600);
/// What a report may have.
const REPORT_BYTES_MAX: u64 = 16 << 20;
/// How much a process may grow that relays and processes reports of that size, several at a time.
const HOSTILE_GROWTH_BYTES_MAX: u64 = 100_000_000;

#[test]
fn broken_dumps_end_in_a_reason() {
    let scale = Scale::of("broken_dumps_end_in_a_reason");
    let dumps = scale.pick(200, 1000);
    // A fifth of a short run is too little to have met the largest reports, eight of them side by side.
    let growth_bytes_max = scale.pick(120_000_000, 25_000_000);
    let mut stack = Plan::split().start();
    let processor = stack.processor().running().id();
    let mut breaker = Breaker::new(scale.seed());
    let begun = Instant::now();

    let mut ids: Vec<String> = Vec::new();
    let mut memory = Vec::new();
    for _ in 0..5 {
        ids.extend((0..dumps / 5).map(|_| stack.upload(&breaker.dump())));
        all_told(&mut stack, ids.len());
        memory.push(stack.processor().memory_bytes());
    }

    let took = begun.elapsed();
    assert_eq!(stack.processor().running().id(), processor);
    assert_eq!(stack.processor().running().exited(), None);
    let topic = stack.topics().outcomes.clone();
    let told = stack.events_told_once(&topic, &ids);
    assert_eq!(told.len(), dumps, "outcomes of nobody's upload");
    let fates = fates(&stack, &topic);
    println!(
        "{dumps} broken dumps in {:.1} s: {fates:?}; the processor's memory after each fifth, in MB: {:?}",
        took.as_secs_f64(),
        memory
            .iter()
            .map(|bytes| bytes / 1_000_000)
            .collect::<Vec<_>>(),
    );
    assert!(memory[4] < memory[0] + growth_bytes_max, "{memory:?}");
    let processed = fates.get("processed").copied().unwrap_or_default();
    assert!((1..dumps as u64).contains(&processed), "{fates:?}");
    assert!(fates.contains_key("unreadable_minidump"), "{fates:?}");
    stack.finish(processed, dumps as u64 - processed);
}

#[test]
fn small_hostile_dumps_become_no_large_reports() {
    let scale = Scale::of("small_hostile_dumps_become_no_large_reports");
    let dumps = scale.pick(45, 500);
    let mut stack = Plan::standalone().start();
    let begun = Instant::now();
    let mut memory = Vec::new();
    let mut largest = 0;
    for fifth in 0..5 {
        let numbers = fifth * dumps / 5..(fifth + 1) * dumps / 5;
        let ids: Vec<String> = numbers
            .map(|number| stack.upload(&broken::hostile(number)))
            .collect();
        for id in ids {
            stack.fate(&id, "processed", FATE_DEADLINE);
            let report = stack.stored_dir(&id).join("report.json");
            let bytes = std::fs::metadata(report).expect("is stored").len();
            largest = largest.max(bytes);
        }
        memory.push(stack.processor().memory_bytes());
    }
    println!(
        "{dumps} hostile dumps in {:.1} s: the largest report has {largest} bytes; memory after each fifth: {memory:?}",
        begun.elapsed().as_secs_f64()
    );
    assert!(largest > 1 << 20, "they are hostile: {largest}");
    assert!(largest <= REPORT_BYTES_MAX, "{largest}");
    let growth = memory[4].saturating_sub(memory[0]);
    assert!(growth < HOSTILE_GROWTH_BYTES_MAX, "{memory:?}");
    // More would be attempts that met a limit.
    let attempts = stack.processor().metric("crashferry_parser_attempts_total");
    assert!(attempts <= f64::from(dumps) + 1.0, "{attempts}");
    stack.finish(dumps.into(), 0);
}

/// Waits until so many outcomes are told.
fn all_told(stack: &mut Stack, outcomes: usize) {
    let admin = stack.processor().admin().to_owned();
    wait::until("all outcomes", DEADLINE, || {
        let told = Metrics::scrape(&admin).sum("crashferry_outcomes_total", &[]);
        match told == Some(outcomes as f64) {
            true => Ok(()),
            false => Err(format!("{told:?} of {outcomes}")),
        }
    });
}

/// How many ended how. Each that failed says why in words.
fn fates(stack: &Stack, topic: &str) -> BTreeMap<String, u64> {
    let mut fates = BTreeMap::new();
    for record in kafka::read_all(stack.broker(), topic, Isolation::Committed) {
        let outcome = record.json();
        let fate = match outcome["outcome"].as_str() {
            Some("processed") => "processed",
            _ => {
                let detail = &outcome["detail"];
                let words = detail["error"].as_str().unwrap_or_default();
                let limit = detail.get("limit_seconds").or(detail.get("limit_bytes"));
                assert!(words.len() > 10 || limit.is_some(), "{outcome}");
                outcome["reason"].as_str().expect("a reason")
            }
        };
        *fates.entry(fate.to_owned()).or_default() += 1;
    }
    fates
}
