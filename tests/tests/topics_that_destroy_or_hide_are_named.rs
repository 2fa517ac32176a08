//! Settings of the ingest topic that destroy crashes, a stranger's open transaction that hides them, and a group whose offsets
//! somebody has reset: the first two are named within a minute, the last tells nothing twice.

use std::time::Duration;

use harness::kafka::{self, OpenTransaction};
use harness::metrics::Ledger;
use harness::stack::{FATE_DEADLINE, Plan, Role, Stack};
use harness::{dumps, wait};

/// How soon operators are told.
const DEADLINE: Duration = Duration::from_secs(60);

#[test]
fn a_compacted_topic_is_refused_at_the_start_and_named_later() {
    let mut stack = Plan::split().partitions(1).start();
    let topic = stack.topics().attachments.clone();
    is_part(stack.relay(), "topic_settings", &["ready"]);
    is_part(stack.processor(), "topic_settings", &["ready"]);
    for policy in ["compact", "compact,delete"] {
        kafka::alter(stack.broker(), &topic, &[("cleanup.policy", policy)]);
        let found = format!("expected delete, found {policy}");
        let command = format!("--entity-name {topic} --add-config cleanup.policy=delete");
        let named = ["cleanup.policy", &found, &command];
        for role in [0, 1] {
            let role = match role {
                0 => stack.relay(),
                _ => stack.processor(),
            };
            is_part(role, "topic_settings", &named);
            let (ready, answer) = role.readiness();
            assert!(ready, "uploads get their 200 all the same: {answer}");
            assert_eq!(answer["degraded"], true);
        }
    }
    // Neither role starts with it, and no topic is said to be in order.
    stack.relay().stop();
    stack.processor().stop();
    for (role, words) in [
        (0, &["relay"][..]),
        (1, &["processor"]),
        (1, &["topics", "create"]),
    ] {
        let role = match role {
            0 => stack.relay(),
            _ => stack.processor(),
        };
        let output = role.command(words);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {output:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        for part in [
            "kafka.topics",
            "cleanup.policy",
            "--add-config cleanup.policy=delete",
        ] {
            assert!(said.contains(part), "{words:?}: {said}");
        }
    }
    kafka::alter(stack.broker(), &topic, &[("retention.ms", "60000")]);
    stack.start();
    for role in [0, 1] {
        let role = match role {
            0 => stack.relay(),
            _ => stack.processor(),
        };
        is_part(
            role,
            "topic_settings",
            &["retention.ms", "expected at least 3600000, found 60000"],
        );
    }
    kafka::alter(stack.broker(), &topic, &[("retention.ms", "604800000")]);
    is_part(stack.relay(), "topic_settings", &["ready"]);
    is_part(stack.processor(), "topic_settings", &["ready"]);
    let id = stack.upload(&dumps::unique());
    stack.report(&id);
    stack.stop();
}

#[test]
fn dead_letters_that_are_compacted_are_refused_and_outcomes_may_be() {
    let mut stack = Plan::split().partitions(1).prepare();
    let topics = stack.topics().clone();
    let compact = [("cleanup.policy", "compact")];
    kafka::alter(stack.broker(), &topics.outcomes, &compact);
    kafka::alter(stack.broker(), &topics.reports, &compact);
    kafka::alter(stack.broker(), &topics.dead_letters, &compact);
    let output = stack.processor().command(&["processor"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(&topics.dead_letters), "{said}");
    kafka::alter(
        stack.broker(),
        &topics.dead_letters,
        &[("cleanup.policy", "delete")],
    );
    stack.start();
    is_part(stack.processor(), "output_topic_settings", &["ready"]);
    let id = stack.upload(&dumps::unique());
    stack.report(&id);
    stack.one_report_each([id.as_str()]);
    stack.finish(1, 0);
}

#[test]
fn a_strangers_open_transaction() {
    let mut stack = Plan::split().partitions(1).start();
    let first = stack.upload(&dumps::unique());
    stack.report(&first);
    let topic = stack.topics().attachments.clone();
    let stranger = OpenTransaction::begin(stack.broker(), &topic, 0);
    let hidden = stack.upload(&dumps::unique());
    let named = [
        "open_transactions",
        "describe-producers",
        "--partition 0 --start-offset",
    ];
    is_part(stack.processor(), "open_transactions", &named);
    for address in stack.admins() {
        wait::until("the lag to be shown", DEADLINE, || {
            let metrics = harness::metrics::Metrics::scrape(&address);
            let shown = |name: &str| metrics.sum(name, &[("partition", "0")]);
            let lag = shown("crashferry_partition_lag_records");
            let gap = shown("crashferry_partition_stable_gap_records");
            let headroom = shown("crashferry_partition_headroom_seconds");
            let oldest = metrics.sum("crashferry_oldest_in_flight_seconds", &[]);
            let is_shown = lag >= Some(2.0)
                && gap >= Some(2.0)
                && headroom.is_some_and(f64::is_finite)
                && oldest > Some(1.0);
            match is_shown {
                true => Ok(()),
                false => Err(format!(
                    "lag {lag:?}, gap {gap:?}, headroom {headroom:?}, oldest {oldest:?}"
                )),
            }
        });
    }
    assert_eq!(stack.event(&hidden).json()["status"], "accepted");
    stranger.abort();
    stack.report(&hidden);
    is_part(stack.processor(), "open_transactions", &["ready"]);
    // The stranger's mark stands behind the last record, and is no backlog.
    for address in stack.admins() {
        wait::until("nothing to be behind", DEADLINE, || {
            let metrics = harness::metrics::Metrics::scrape(&address);
            match metrics.sum("crashferry_partition_lag_records", &[]) {
                Some(0.0) => Ok(()),
                lag => Err(format!("{lag:?}")),
            }
        });
    }
    stack.finish(2, 0);
}

#[test]
fn a_group_whose_offsets_are_reset_or_gone_tells_nothing_twice() {
    let mut stack = Plan::split().partitions(1).start();
    let group = stack.topics().attachments.clone();
    let mut ids: Vec<String> = (0..4).map(|_| stack.upload(&dumps::unique())).collect();
    ids.iter().for_each(|id| drop(stack.report(id)));
    stack.processor().stop();
    wait_for_empty_group(&stack, &group);
    kafka::reset_offset(stack.broker(), &group, &group, 0, 0);
    read_again(&mut stack, &mut ids);
    // Killed, and begun in the middle.
    stack.processor().kill();
    wait_for_empty_group(&stack, &group);
    kafka::reset_offset(stack.broker(), &group, &group, 0, 1);
    read_again(&mut stack, &mut ids);
    stack.processor().stop();
    wait_for_empty_group(&stack, &group);
    kafka::delete_group(stack.broker(), &group);
    read_again(&mut stack, &mut ids);
    let accepted = ids.len() as u64;
    Ledger::settles(&stack.admins(), accepted, 0, FATE_DEADLINE);
    stack.stop();
}

/// Starts the processor; what is new is processed, and what was told before is told no more.
fn read_again(stack: &mut Stack, ids: &mut Vec<String>) {
    stack.processor().start();
    let new = stack.upload(&dumps::unique());
    stack.report(&new);
    ids.push(new);
    stack.one_report_each(ids.iter().map(String::as_str));
}

/// A member is one of its group until its session ends, also when it was stopped: it may come back.
fn wait_for_empty_group(stack: &Stack, group: &str) {
    wait::until(
        "the processor to leave its group",
        FATE_DEADLINE,
        || match kafka::is_empty_group(stack.broker(), group) {
            true => Ok(()),
            false => Err("it is a member".to_owned()),
        },
    );
}

fn is_part(role: &Role, part: &str, said: &[&str]) {
    wait::until(&format!("{part} to say {said:?}"), DEADLINE, || {
        let is = role.part(part);
        match said.iter().all(|words| is.contains(words)) && (said == ["ready"]) == (is == "ready")
        {
            true => Ok(()),
            false => Err(is),
        }
    });
}
