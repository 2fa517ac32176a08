//! Counters of refusals exist before the first, name the project and the key's first characters where those are known, and
//! cannot be made to grow; neither can the log. Parts that wait say for whom, by product and address.

use std::collections::BTreeSet;

use harness::http::Request;
use harness::ports;
use harness::settings::{KEY, OTHER_KEY};
use harness::stack::{FATE_DEADLINE, Plan, Stack};
use harness::wait;

const REJECTED: &str = "crashferry_uploads_rejected_total";

/// The series of refusals, without their values.
fn series(stack: &Stack) -> BTreeSet<String> {
    let text = Request::get("/metrics").send(&stack.admins()[0]).text();
    let lines = text.lines().filter(|line| line.starts_with(REJECTED));
    lines
        .filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned()))
        .collect()
}

fn refused(stack: &Stack, path: &str) -> u16 {
    Request::post(path, b"not a dump".to_vec())
        .send(stack.listen())
        .status
}

#[test]
fn a_stranger_grows_neither_the_metrics_nor_the_log() {
    let mut stack = Plan::standalone()
        .raw("limits", "upload", "\"1MiB\"")
        .raw("limits", "attachment", "\"1MiB\"")
        .start();
    let count =
        |stack: &mut Stack, labels: &[(&str, &str)]| stack.relay().metrics().sum(REJECTED, labels);
    let prefix = &KEY[..4];
    let known = [
        ("401", "missing_key", "1", "other"),
        ("403", "unknown_key", "1", "other"),
        ("403", "unknown_project", "other", "other"),
        ("403", "key_of_another_project", "1", "other"),
        ("400", "not_a_minidump", "1", prefix),
        ("413", "body_too_large", "1", prefix),
        ("429", "quota_exceeded", "2", &OTHER_KEY[..4]),
        ("503", "spool_full", "other", "other"),
    ];
    let labels = |(status, reason, project, key)| {
        [
            ("status", status),
            ("reason", reason),
            ("project", project),
            ("key", key),
        ]
    };
    for refusal in known {
        assert_eq!(
            count(&mut stack, &labels(refusal)),
            Some(0.0),
            "{refusal:?} before the first"
        );
    }
    let before = series(&stack);
    assert_eq!(refused(&stack, "/api/1/minidump/"), 401);
    assert_eq!(
        refused(&stack, &format!("/api/1/minidump/?sentry_key={OTHER_KEY}")),
        403
    );
    assert_eq!(
        refused(&stack, &format!("/api/1/minidump/?sentry_key={KEY}")),
        400
    );
    let large = Request::post(
        format!("/api/1/minidump/?sentry_key={KEY}"),
        vec![b'x'; 2 << 20],
    );
    assert_eq!(large.send(stack.listen()).status, 413);
    for n in 0..300 {
        assert_eq!(
            refused(&stack, &format!("/api/1/minidump/?sentry_key=stranger{n}")),
            403
        );
        assert_eq!(
            refused(
                &stack,
                &format!("/api/{}/minidump/?sentry_key=s{n}", 1000 + n)
            ),
            403
        );
    }
    for (refusal, expected) in [
        (known[0], 1.0),
        (known[1], 300.0),
        (known[2], 300.0),
        (known[3], 1.0),
        (known[4], 1.0),
        (known[5], 1.0),
        (known[6], 0.0),
    ] {
        assert_eq!(
            count(&mut stack, &labels(refusal)),
            Some(expected),
            "{refusal:?}"
        );
    }
    assert_eq!(series(&stack), before, "strangers made series");
    assert_few_lines_name_the_refusals(&stack.relay().log());
    stack.finish(0, 0);
}

/// A flood of refusals leaves a few lines of each reason, none of them with a whole key.
fn assert_few_lines_name_the_refusals(log: &str) {
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("\"refused\""))
        .collect();
    let of = |reason: &str| {
        let reason = format!("\"reason\":\"{reason}\"");
        lines.iter().filter(|line| line.contains(&reason)).count()
    };
    assert!(
        (1..=20).contains(&of("unknown_key")),
        "{}",
        of("unknown_key")
    );
    assert!(
        (1..=20).contains(&of("unknown_project")),
        "{}",
        of("unknown_project")
    );
    assert_eq!(of("missing_key"), 1);
    let of_known = lines
        .iter()
        .find(|line| line.contains("not_a_minidump"))
        .expect("its line");
    assert!(
        of_known.contains(&format!("\"key\":\"{}\"", &KEY[..4])),
        "{of_known}"
    );
    assert!(of_known.contains("\"project\":1"), "{of_known}");
    assert!(
        !log.contains(KEY) && !log.contains("stranger1"),
        "whole keys are in no log"
    );
}

#[test]
fn a_part_that_waits_says_for_whom() {
    let mut stack = Plan::split().prepare();
    let (kafka, redis) = (ports::free(), ports::free());
    let processor = stack.processor();
    processor.set_variable("CRASHFERRY__KAFKA__BROKERS", &format!("127.0.0.1:{kafka}"));
    processor.set_variable(
        "CRASHFERRY__REDIS__URL",
        &format!("redis://user:hidden@127.0.0.1:{redis}/0"),
    );
    processor.launch();
    let admin = processor.admin().to_owned();
    let first = wait::until("the first answer of /readyz", FATE_DEADLINE, || {
        let answer = Request::get("/readyz").try_send(&admin);
        answer
            .map(|answer| answer.json())
            .map_err(|error| error.to_string())
    });
    let waits = |answer: &serde_json::Value, part: &str, address: &str| {
        let parts = answer["parts"].as_array().expect("parts").clone();
        let found = parts.into_iter().find(|found| found["part"] == part);
        let found = found.unwrap_or_else(|| panic!("no part {part} in {answer}"));
        let why = found["why"].as_str().unwrap_or_default();
        assert!(why.contains(address), "{part}: {why}");
        assert!(found["since"].is_string(), "{part}");
    };
    waits(&first, "state", &format!("Redis at 127.0.0.1:{redis}"));
    let kafka = format!("127.0.0.1:{kafka}");
    let broker = wait::until("the broker's part", FATE_DEADLINE, || {
        let answer = Request::get("/readyz").send(&admin).json();
        if answer.to_string().contains("\"broker\"") {
            Ok(answer)
        } else {
            Err(answer.to_string())
        }
    });
    for part in ["broker", "consumer", "producer"] {
        waits(&broker, part, &kafka);
    }
    wait::until_true("the log to name Redis", FATE_DEADLINE, || {
        let log = stack.processor().log();
        log.lines().any(|line| {
            line.contains("Redis is away") && line.contains(&format!("127.0.0.1:{redis}"))
        })
    });
    assert!(
        !stack.processor().log().contains("hidden"),
        "a password is in the log"
    );
    stack.processor().kill();
}
