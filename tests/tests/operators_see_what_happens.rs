//! `/healthz`, `/readyz`, `/metrics` and the logs of every role tell an operator what happens; an unknown event is 404.

use harness::dumps;
use harness::http::Request;
use harness::stack::{FATE_DEADLINE, Plan, Stack};
use harness::wait;
use serde_json::Value;

#[test]
fn standalone() {
    let (stack, id) = one_crash(Plan::standalone());
    every_role_answers(&stack);
    logs_name_the_event(stack, &["standalone"], &id);
}

#[test]
fn in_both_roles_behind_kafka() {
    let (mut stack, id) = one_crash(Plan::split());
    every_role_answers(&stack);
    let relay = stack.relay().metrics();
    let limit = relay.sum("crashferry_topic_limit_bytes", &[]);
    assert_eq!(limit, Some(1_048_588.0));
    let confirmed = relay.sum("crashferry_delivery_latency_seconds_count", &[]);
    assert!(
        confirmed >= Some(2.0),
        "a chunk and an event: {confirmed:?}"
    );
    wait::until_true("the producer to be empty", FATE_DEADLINE, || {
        let unconfirmed = stack.relay().metrics();
        unconfirmed.sum("crashferry_producer_queue_messages", &[]) == Some(0.0)
    });
    let processor = stack.processor().metrics();
    for partition in ["0", "1"] {
        let lag = processor.sum(
            "crashferry_partition_lag_records",
            &[("partition", partition)],
        );
        assert!(lag.is_some(), "no lag of partition {partition}");
    }
    let consumed = processor.sum("crashferry_records_consumed_total", &[]);
    let first_seen = processor.sum("crashferry_records_first_seen_total", &[]);
    assert_eq!(consumed, first_seen, "nothing came twice");
    logs_name_the_event(stack, &["relay", "processor"], &id);
}

fn one_crash(plan: Plan) -> (Stack, String) {
    let stack = plan.start();
    let id = stack.upload(&dumps::unique());
    stack.report(&id);
    let unknown = stack.event("00000000-0000-4000-8000-000000000000");
    assert_eq!(unknown.status, 404, "{}", unknown.text());
    (stack, id)
}

fn every_role_answers(stack: &Stack) {
    for admin in stack.admins() {
        let health = Request::get("/healthz").send(&admin);
        assert_eq!(health.status, 200, "{}", health.text());
        let ready = Request::get("/readyz").send(&admin);
        assert_eq!(ready.status, 200, "{}", ready.text());
        assert!(
            ready.json().is_object(),
            "each part's state: {}",
            ready.text()
        );
        let metrics = Request::get("/metrics").send(&admin);
        for line in metrics
            .text()
            .lines()
            .filter(|line| line.starts_with("# TYPE"))
        {
            assert!(line.starts_with("# TYPE crashferry_"), "{line}");
        }
    }
}

fn logs_name_the_event(stack: Stack, roles: &[&str], id: &str) {
    for role in roles {
        let log = std::fs::read_to_string(stack.dir().join(format!("{role}.log")));
        let log = log.expect("the role logs");
        for line in log.lines() {
            let parsed: Result<Value, _> = serde_json::from_str(line);
            assert!(parsed.is_ok(), "{role} logged what is not JSON: {line:?}");
        }
        let named = |line: &&str| line.contains("\"event_id\"") && line.contains(id);
        assert!(
            log.lines().any(|line| named(&line)),
            "{role} never named {id}"
        );
    }
    stack.finish(1, 0);
}
