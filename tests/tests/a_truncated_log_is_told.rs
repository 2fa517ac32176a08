//! Retention removes records before they are read: which ones is told once among the outcomes, and what comes after them is
//! processed.

use std::time::{Duration, Instant};

use harness::kafka::{self, Isolation};
use harness::metrics::Ledger;
use harness::stack::{Plan, Stack};
use harness::{dumps, wait};
use serde_json::Value;

/// How soon it is told.
const DEADLINE: Duration = Duration::from_secs(10);
/// How soon events that went with the log have their fate.
const LOST_DEADLINE: Duration = Duration::from_secs(30);

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
        is_ended(&stack, id);
    }
    // Once, also after another start.
    stack.processor().stop();
    stack.processor().start();
    let after = stack.upload(&dumps::unique());
    stack.report(&after);
    is_told(&stack, next, end);
    told_once(&stack, &lost);
    Ledger::settles(&stack.admins(), 3, 3, DEADLINE);
    stack.stop();
}

#[test]
fn under_a_processor_that_stood_still() {
    let mut stack = Plan::split().partitions(1).start();
    let before = stack.upload(&dumps::unique());
    stack.report(&before);
    let next = settled_end(&stack);
    stack.processor().running().freeze();
    let under_way: Vec<String> = (0..3).map(|_| stack.upload(&dumps::unique())).collect();
    let end = end(&stack);
    kafka::delete_records(stack.broker(), &stack.topics().attachments, 0, end);
    let after = stack.upload(&dumps::unique());
    stack.processor().running().thaw();
    stack.report(&after);
    // What was on its way when it was frozen was read.
    let first = gaps(&stack)[0]["offset"].as_i64().expect("an offset");
    assert!((next..end).contains(&first), "{first}");
    is_told(&stack, first, end);
    let fates: Vec<String> = under_way.iter().map(|id| fate(&stack, id)).collect();
    let failed = fates.iter().filter(|fate| *fate == "failed").count() as u64;
    assert!(failed > 0, "{fates:?}");
    told_once(&stack, &under_way);
    Ledger::settles(&stack.admins(), 5 - failed, failed, DEADLINE);
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

/// Waits until an event has its fate.
fn fate(stack: &Stack, id: &str) -> String {
    wait::until("an event to have its fate", LOST_DEADLINE, || {
        match stack.event(id).json()["status"].as_str() {
            Some(fate @ ("processed" | "failed")) => Ok(fate.to_owned()),
            other => Err(format!("{other:?}")),
        }
    })
}

/// Waits until a lost event has failed, for the reason and with the place of its message.
fn is_ended(stack: &Stack, id: &str) {
    let event = stack.fate(id, "failed", LOST_DEADLINE);
    assert_eq!(event["reason"], "log_truncated");
    assert_eq!(
        event["detail"]["topic"],
        stack.topics().attachments.as_str()
    );
    assert!(event["detail"]["log_start"].as_i64() > Some(0), "{event}");
}

/// Insists that the outcomes topic tells of each of these events once.
fn told_once(stack: &Stack, ids: &[String]) {
    let outcomes = &stack.topics().outcomes;
    wait::until("every event to be told", LOST_DEADLINE, || {
        let records = kafka::read_all(stack.broker(), outcomes, Isolation::Committed);
        for id in ids {
            let of_this = records
                .iter()
                .filter(|record| record.json()["event_id"] == id.as_str());
            match of_this.count() {
                1 => {}
                0 => return Err(format!("{id} is not told")),
                times => panic!("{id} is told {times} times"),
            }
        }
        Ok(())
    });
}

fn gaps(stack: &Stack) -> Vec<Value> {
    let outcomes = kafka::read_all(
        stack.broker(),
        &stack.topics().outcomes,
        Isolation::Committed,
    );
    let told = outcomes.iter().map(kafka::Record::json);
    told.filter(|told| told["reason"] == "log_truncated" && told["event_id"].is_null())
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
