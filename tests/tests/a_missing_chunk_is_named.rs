//! When a piece of a crash never arrives, the outcome says which; the crashes after it are not held up, and a secondary
//! attachment's loss does not cost the report.

use std::time::Duration;

use harness::dumps;
use harness::kafka::{self, Isolation};
use harness::stack::{Plan, Stack};
use harness::wire::{Attachment, Event};
use serde_json::Value;

/// How soon the verdict must be there.
const VERDICT_DEADLINE: Duration = Duration::from_secs(10);

#[test]
fn a_minidump_without_its_second_chunk_fails_and_the_next_crash_is_processed() {
    let mut stack = Plan::split().partitions(1).start();
    let dump = dumps::unique();
    let torn = Event::new(vec![Attachment::minidump(&dump, dump.len().div_ceil(3))]);
    let minidump = &torn.attachments[0];
    assert_eq!(minidump.chunks.len(), 3);

    let first = send(&stack, &torn, &torn.chunk(0, 0));
    send(&stack, &torn, &torn.chunk(0, 2));
    let last = send(&stack, &torn, &torn.event());
    let next = Event::new(vec![Attachment::minidump(&dumps::unique(), 2000)]);
    send_all(&stack, &next);

    let event = stack.fate(&torn.hyphenated(), "failed", VERDICT_DEADLINE);
    let received = minidump.chunks[0].len() + minidump.chunks[2].len();
    let expected = serde_json::json!([{
        "attachment": "minidump.dmp",
        "expected_chunks": 3,
        "missing": [1],
        "expected_bytes": dump.len(),
        "received_bytes": received,
        "first_offset": first,
        "last_offset": last,
    }]);
    assert_eq!(event["reason"], "missing_chunks");
    assert_eq!(event["detail"], expected);
    assert_eq!(event["outcome"]["partition"], 0);
    assert_eq!(event["outcome"]["offset"], last);

    stack.report(&next.hyphenated());
    let outcomes = outcomes_of(&stack, &torn);
    assert_eq!(outcomes.len(), 1, "one fate each: {outcomes:?}");
    assert_eq!(outcomes[0]["outcome"], "failed");
    assert_eq!(outcomes[0]["reason"], "missing_chunks");
    assert_eq!(outcomes[0]["detail"], expected);
    assert_eq!(outcomes[0]["partition"], 0);
    let labels = [("outcome", "failed"), ("reason", "missing_chunks")];
    let counted = stack.processor().metrics();
    assert_eq!(
        counted.sum("crashferry_outcomes_total", &labels),
        Some(1.0),
        "the metric counts the failure once: {counted:?}"
    );
    stack.finish(1, 1);
}

#[test]
fn a_secondary_attachment_without_a_chunk_is_named_in_the_report() {
    let stack = Plan::split().start();
    let log = vec![b'x'; 3000];
    let event = Event::new(vec![
        Attachment::minidump(&dumps::unique(), 4000),
        Attachment::file("session.log", &log, 1000),
    ]);
    for index in 0..event.attachments[0].chunks.len() {
        send(&stack, &event, &event.chunk(0, index));
    }
    send(&stack, &event, &event.chunk(1, 0));
    send(&stack, &event, &event.chunk(1, 2));
    send(&stack, &event, &event.event());

    let report = stack.report(&event.hyphenated());
    let attachments = report["attachments"].as_array().expect("a list");
    let by_name = |name: &str| -> &Value {
        let found = attachments.iter().find(|one| one["name"] == name);
        found.unwrap_or_else(|| panic!("no {name} in {attachments:?}"))
    };
    let missing = &by_name("session.log")["missing"];
    assert_eq!(missing["missing"], serde_json::json!([1]));
    assert_eq!(missing["expected_chunks"], 3);
    assert_eq!(missing["expected_bytes"], 3000);
    assert_eq!(missing["received_bytes"], 2000);
    assert_eq!(by_name("session.log")["path"], Value::Null);
    assert_eq!(by_name("minidump.dmp")["missing"], Value::Null);
    dumps::check_report(&report);
    stack.finish(1, 0);
}

fn send(stack: &Stack, event: &Event, value: &[u8]) -> i64 {
    let topic = &stack.topics().attachments;
    kafka::produce(stack.broker(), topic, 0, &event.key(), value, &[])
}

fn send_all(stack: &Stack, event: &Event) {
    for chunk in event.chunks() {
        send(stack, event, &chunk);
    }
    send(stack, event, &event.event());
}

fn outcomes_of(stack: &Stack, event: &Event) -> Vec<Value> {
    let topic = &stack.topics().outcomes;
    kafka::read_all(stack.broker(), topic, Isolation::Committed)
        .iter()
        .map(kafka::Record::json)
        .filter(|outcome| outcome["event_id"] == event.hyphenated())
        .collect()
}
