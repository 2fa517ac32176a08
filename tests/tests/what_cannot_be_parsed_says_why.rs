//! An accepted upload that cannot become a report ends `failed` with the reason, on the event's URL, in the outcomes
//! and in the metrics; the processor goes on.

use harness::dumps;
use harness::kafka::{self, Isolation};
use harness::stack::{FATE_DEADLINE, Plan, Stack};

#[test]
fn a_damaged_dump_is_accepted_and_fails_as_unreadable_standalone() {
    a_damaged_dump(Plan::standalone().start());
}

#[test]
fn a_damaged_dump_is_accepted_and_fails_as_unreadable_behind_kafka() {
    let stack = Plan::split().start();
    let topics = stack.topics().clone();
    let broker = stack.broker().to_owned();
    let id = damaged(&stack);
    let outcomes = kafka::read_all(&broker, &topics.outcomes, Isolation::Committed);
    let outcome = outcomes.first().expect("an outcome").json();
    assert_eq!(outcome["event_id"], id);
    assert_eq!(outcome["outcome"], "failed");
    assert_eq!(outcome["reason"], "unreadable_minidump");
    assert_eq!(outcomes.len(), 1);
    let reports = kafka::read_all(&broker, &topics.reports, Isolation::Committed);
    assert!(reports.is_empty(), "{reports:?}");
    next_is_processed(stack);
}

#[test]
fn a_parser_that_takes_too_long_is_stopped_and_the_outcome_says_so() {
    let stack = Plan::standalone()
        .text("processor", "parse_timeout", "1ms")
        .raw("processor", "attempts", "2")
        .start();
    // So large that reading it alone takes longer than that.
    let id = stack.upload(&dumps::sized(60_000_000, 1));
    let event = stack.fate(&id, "failed", FATE_DEADLINE);
    assert_eq!(event["reason"], "parser_timeout");
    assert_eq!(event["outcome"]["attempts"], 2);
    stack.finish(0, 1);
}

fn a_damaged_dump(mut stack: Stack) {
    damaged(&stack);
    let labels = [("outcome", "failed"), ("reason", "unreadable_minidump")];
    let metrics = stack.processor().metrics();
    assert_eq!(metrics.sum("crashferry_outcomes_total", &labels), Some(1.0));
    next_is_processed(stack);
}

/// Uploads a header without a body, waits for its fate and returns its id.
fn damaged(stack: &Stack) -> String {
    let dump = dumps::header_only();
    let id = stack.upload(&dump);
    let event = stack.fate(&id, "failed", FATE_DEADLINE);
    assert_eq!(event["reason"], "unreadable_minidump");
    let error = event["detail"]["error"].as_str().unwrap_or_default();
    assert!(!error.is_empty(), "{event}");
    assert!(stack.stored_dump(&id) == dump, "the bytes are kept");
    id
}

fn next_is_processed(stack: Stack) {
    let id = stack.upload(&dumps::unique());
    dumps::check_report(&stack.report(&id));
    stack.finish(1, 1);
}
