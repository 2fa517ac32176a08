//! Retention removes records before they are read: which ones is told once among the outcomes, and what comes after them is
//! processed.

use std::time::{Duration, Instant};

use harness::kafka::{self, Isolation};
use harness::stack::{Plan, Stack};
use harness::{dumps, wait};
use serde_json::Value;

/// How soon it is told.
const DEADLINE: Duration = Duration::from_secs(10);

#[test]
fn while_the_processor_was_away() {
    let mut stack = Plan::split().partitions(1).start();
    let before = stack.upload(&dumps::unique());
    stack.report(&before);
    let next = settled_end(&stack);
    stack.processor().stop();
    let lost: Vec<String> = (0..3).map(|_| stack.upload(&dumps::unique())).collect();
    let end = end(&stack);
    kafka::delete_records(stack.broker(), &stack.topics().attachments, 0, end);
    stack.processor().start();
    is_told(&stack, next, end);
    let after = stack.upload(&dumps::unique());
    stack.report(&after);
    for id in &lost {
        assert_eq!(stack.event(id).json()["status"], "accepted");
    }
    // Once, also after another start.
    stack.processor().stop();
    stack.processor().start();
    let after = stack.upload(&dumps::unique());
    stack.report(&after);
    is_told(&stack, next, end);
    stack.stop();
}

#[test]
fn under_a_processor_that_stood_still() {
    let mut stack = Plan::split().partitions(1).start();
    let before = stack.upload(&dumps::unique());
    stack.report(&before);
    let next = settled_end(&stack);
    stack.processor().running().freeze();
    for _ in 0..3 {
        stack.upload(&dumps::unique());
    }
    let end = end(&stack);
    kafka::delete_records(stack.broker(), &stack.topics().attachments, 0, end);
    let after = stack.upload(&dumps::unique());
    stack.processor().running().thaw();
    stack.report(&after);
    // What was on its way when it was frozen was read.
    let first = gaps(&stack)[0]["offset"].as_i64().expect("an offset");
    assert!((next..end).contains(&first), "{first}");
    is_told(&stack, first, end);
    stack.stop();
}

/// Insists that exactly one record tells of the range.
fn is_told(stack: &Stack, first: i64, end: i64) {
    let begun = Instant::now();
    let told = wait::until("the gap to be told", DEADLINE, || {
        let told = gaps(stack);
        match told.is_empty() {
            true => Err("nothing is told yet".to_owned()),
            false => Ok(told),
        }
    });
    println!(
        "log_truncated told after {:?}: {}",
        begun.elapsed(),
        told[0]
    );
    let [gap] = &told[..] else {
        panic!("told once, found {told:?}")
    };
    let topic = &stack.topics().attachments;
    let expected = serde_json::json!({
        "topic": topic, "first_offset": first, "last_offset": end - 1, "offsets": end - first, "already_finished": 0,
    });
    assert_eq!(gap["detail"], expected);
    assert_eq!(
        (&gap["event_id"], &gap["outcome"]),
        (&Value::Null, &Value::from("failed"))
    );
    assert_eq!(
        (&gap["partition"], &gap["offset"]),
        (&Value::from(0), &Value::from(first))
    );
}

fn gaps(stack: &Stack) -> Vec<Value> {
    let outcomes = kafka::read_all(
        stack.broker(),
        &stack.topics().outcomes,
        Isolation::Committed,
    );
    let told = outcomes.iter().map(kafka::Record::json);
    told.filter(|told| told["reason"] == "log_truncated")
        .collect()
}

/// The end of the ingest topic's only partition.
fn end(stack: &Stack) -> i64 {
    let records = kafka::read_all(
        stack.broker(),
        &stack.topics().attachments,
        Isolation::Committed,
    );
    records.last().map_or(0, |record| record.offset + 1)
}

/// As [`end`], once the processor has committed it.
fn settled_end(stack: &Stack) -> i64 {
    let end = end(stack);
    let processor = stack.admins().pop().expect("a processor");
    wait::until("the watermark to reach the end", DEADLINE, || {
        let metrics = harness::metrics::Metrics::scrape(&processor);
        match metrics.sum("crashferry_partition_watermark_offset", &[]) {
            Some(watermark) if watermark == end as f64 => Ok(()),
            found => Err(format!("{found:?} of {end}")),
        }
    });
    end
}
