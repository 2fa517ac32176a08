//! A dump of any size arrives byte by byte as it was sent, whatever the topic's limit, and no message passes the limit.

use harness::dumps;
use harness::kafka::{self, Isolation};
use harness::stack::{Plan, Stack};

/// Around the places where a chunk ends, and far past them.
const SIZES: [usize; 6] = [
    100_000,
    1_000_000,
    1_048_576,
    1_048_577,
    8_000_000,
    100 * 1024 * 1024,
];

#[test]
fn through_kafka_with_its_default_limit() {
    every_size(Plan::split());
}

#[test]
fn through_kafka_with_a_small_limit() {
    every_size(Plan::split().limit(100_000));
}

#[test]
fn through_kafka_with_a_large_limit() {
    every_size(Plan::split().limit(10_000_000));
}

#[test]
fn through_the_local_queue() {
    every_size(Plan::standalone());
}

fn every_size(plan: Plan) {
    let stack = plan.start();
    for (seed, bytes) in SIZES.into_iter().enumerate() {
        let dump = dumps::sized(bytes, seed as u64 + 1);
        let id = stack.upload(&dump);
        dumps::check_report(&stack.report(&id));
        // Not assert_eq: a difference would print a hundred megabytes.
        assert!(
            stack.stored_dump(&id) == dump,
            "the dump of {bytes} bytes was changed on its way"
        );
    }
    if !stack.broker().is_empty() {
        no_message_passes_the_limit(&stack);
    }
    stack.finish(SIZES.len() as u64, 0);
}

fn no_message_passes_the_limit(stack: &Stack) {
    let topic = &stack.topics().attachments;
    let limit = kafka::limit(stack.broker(), topic) as usize;
    let records = kafka::read_all(stack.broker(), topic, Isolation::Uncommitted);
    let sent: usize = SIZES.iter().sum();
    let carried: usize = records.iter().map(|record| record.value.len()).sum();
    assert!(carried > sent, "{carried} bytes carried for {sent} sent");
    assert!(
        carried < sent + sent / 10,
        "{carried} bytes carried for {sent} sent"
    );
    let largest = records.iter().map(kafka::Record::content_bytes).max();
    assert!(largest <= Some(limit), "{largest:?} passes {limit}");
}
