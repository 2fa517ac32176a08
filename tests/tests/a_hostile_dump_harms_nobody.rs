//! A dump that kills its parser, keeps it busy for ever or makes it swell: the outcome says so, after three attempts where
//! another may end otherwise, over restarts too; its neighbours are processed, the processor lives on, and the dump is kept.

use std::ops::RangeInclusive;
use std::path::Path;
use std::process::Command;

use harness::stack::{FATE_DEADLINE, Plan, Stack};
use harness::{broken, dumps, environment, wait};
use serde_json::Value;

/// Of the processor, before a dump that may be tried once is held to be the cause.
const DEATHS: u32 = 5;
const ATTEMPTS: u32 = 3;
/// A crash may have been an accident.
const CRASHES: RangeInclusive<u32> = ATTEMPTS..=ATTEMPTS;
/// A time-out may have been one when other processes had the processors.
const TIMEOUTS: RangeInclusive<u32> = 1..=ATTEMPTS;
/// Good dumps between two hostile ones.
const NEIGHBOURS: usize = 4;
const TIME_MAX: &str = "2s";

fn plan(plan: Plan) -> Plan {
    plan.hooked()
        .text("processor", "parse_timeout", TIME_MAX)
        .text("processor", "parse_memory", "512MiB")
        .raw("processor", "workers", "2")
        .raw("processor", "attempts", &ATTEMPTS.to_string())
}

#[test]
fn parsers_that_die_spin_or_swell_are_named_and_their_neighbours_processed() {
    let mut stack = plan(Plan::split()).start();
    let processor = stack.processor().running().id();
    let killed = dumps::hooked("spin");
    let killed_id = stack.upload(&killed);
    for attempt in 1..=ATTEMPTS {
        attempt_begins(&mut stack, attempt);
        stack.processor().running().kill_children();
    }
    let event = fails(&stack, &killed_id, "parser_crashed", &killed, CRASHES);
    assert!(error(&event).contains("SIGKILL"), "{event}");

    let hostile = [
        ("spin", "parser_timeout", TIMEOUTS),
        ("abort", "parser_crashed", CRASHES),
        ("allocate", "parser_out_of_memory", 1..=1),
        ("overflow", "parser_crashed", CRASHES),
    ];
    let mut promised = Vec::new();
    let mut neighbours = Vec::new();
    for (hook, reason, attempts) in hostile {
        let dump = dumps::hooked(hook);
        promised.push((stack.upload(&dump), reason, attempts, dump));
        neighbours.extend((0..NEIGHBOURS).map(|_| stack.upload(&dumps::unique())));
    }
    for id in &neighbours {
        dumps::check_report(&stack.report(id));
    }
    for (id, reason, attempts, dump) in &promised {
        fails(&stack, id, reason, dump, attempts.clone());
    }
    let slow = dumps::with_hook(broken::crash_with_threads(61), "slow symbols");
    let report = stack.report(&stack.upload(&slow));
    let partial = &report["processing"]["partial"];
    assert_eq!(partial["reason"], "timeout", "{partial}");
    assert_eq!(partial["threads"], 61);
    assert_eq!(report["crash"]["type"], "SIGSEGV");

    let metrics = stack.processor().metrics();
    let protected = [("protection", "system_calls")];
    let protected = metrics.sum("crashferry_parser_protected", &protected);
    assert_eq!(protected, Some(1.0), "system calls are filtered");
    let partial = metrics.sum("crashferry_partial_reports_total", &[]);
    assert_eq!(partial, Some(1.0));

    assert_eq!(stack.processor().running().exited(), None);
    assert_eq!(stack.processor().running().id(), processor);
    let processed = neighbours.len() + 1;
    stack.finish(processed as u64, promised.len() as u64 + 1);
}

#[test]
fn attempts_are_remembered_when_the_processor_is_killed_behind_kafka() {
    remembered(plan(Plan::split()).start());
}

#[test]
fn attempts_are_remembered_when_the_processor_is_killed_standalone() {
    remembered(plan(Plan::standalone()).start());
}

/// A dump that is being parsed whenever the processor dies, whatever of, is given up as well.
#[test]
fn a_dump_that_is_there_at_every_death_of_the_processor_is_given_up() {
    let one = plan(Plan::standalone()).raw("processor", "attempts", "1");
    let mut stack = one.text("processor", "parse_timeout", "60s").start();
    let dump = dumps::hooked("spin");
    let id = stack.upload(&dump);
    for _ in 0..DEATHS {
        attempt_begins(&mut stack, 1);
        stack.processor().kill();
        stack.processor().start();
    }
    let event = stack.fate(&id, "failed", FATE_DEADLINE);
    assert_eq!(event["reason"], "parser_crashed", "{event}");
    assert_eq!(event["outcome"]["attempts"], DEATHS, "{event}");
    assert!(stack.stored_dump(&id) == dump, "it is kept");
    assert!(error(&event).contains("processor itself"), "{event}");
    stack.finish(0, 1);
}

#[test]
fn the_released_program_has_no_hooks() {
    assert!(!mentions_hooks(&environment::binary()));
    assert!(mentions_hooks(&environment::hooked_binary()));
}

fn remembered(mut stack: Stack) {
    let dump = dumps::hooked("spin");
    let id = stack.upload(&dump);
    attempt_begins(&mut stack, 1);
    stack.processor().kill();
    stack.processor().start();
    let event = fails(&stack, &id, "parser_timeout", &dump, 2..=ATTEMPTS);
    let later = stack.processor().metric("crashferry_parser_attempts_total");
    let attempts = event["outcome"]["attempts"].as_f64();
    assert_eq!(
        attempts,
        Some(later + 1.0),
        "all but one in the second life"
    );
    stack.finish(0, 1);
}

/// Waits for an attempt of this life of the processor to be begun.
fn attempt_begins(stack: &mut Stack, attempt: u32) {
    let processor = stack.processor();
    wait::until("an attempt to begin", FATE_DEADLINE, || {
        let begun = processor.metric("crashferry_parser_attempts_total");
        match begun == f64::from(attempt) {
            true => Ok(()),
            false => Err(format!("{begun} attempts")),
        }
    });
}

/// Waits until the event has failed for `reason` after so many attempts, and insists that its dump is kept.
fn fails(
    stack: &Stack,
    id: &str,
    reason: &str,
    dump: &[u8],
    attempts: RangeInclusive<u32>,
) -> Value {
    let event = stack.fate(id, "failed", FATE_DEADLINE);
    assert_eq!(event["reason"], reason, "{event}");
    let made = event["outcome"]["attempts"].as_u64().unwrap_or_default();
    assert!(attempts.contains(&(made as u32)), "{event}");
    assert!(stack.stored_dump(id) == dump, "the dump of {id} is kept");
    event
}

fn error(event: &Value) -> &str {
    event["detail"]["error"].as_str().unwrap_or_default()
}

fn mentions_hooks(program: &Path) -> bool {
    let found = Command::new("grep")
        .args(["--quiet", "--text", "--fixed-strings", "hook: a"])
        .arg(program)
        .status();
    match found.expect("grep can be started").code() {
        Some(0) => true,
        Some(1) => false,
        code => panic!("grep ended with {code:?}"),
    }
}
