//! A stored dump is parsed again, beside what is running: its crash gets another revision of its report and keeps its one
//! outcome, and nothing is counted twice.

use harness::dumps;
use harness::http::Request;
use harness::kafka::{self, Isolation};
use harness::multipart::Form;
use harness::settings::KEY;
use harness::stack::{FATE_DEADLINE, Plan, Stack, accepted_id};
use serde_json::Value;

/// So large that reading it alone takes longer than a millisecond.
const SLOW_BYTES: usize = 60_000_000;

#[test]
fn standalone() {
    let mut stack = Plan::standalone().start();
    let id = stack.upload(&dumps::unique());
    let first = stack.report(&id);
    assert!(first["processing"]["revision"].is_null(), "{first}");
    let said = stack.command(&["reprocess", &id]);
    assert!(said.contains("revision 2"), "{said}");
    let second = stack.report(&id);
    dumps::check_report(&second);
    assert_eq!(second["processing"]["revision"], 2);
    assert!(second["processing"]["reprocessed_at"].is_string());
    let kept: Value = json(&stack.stored(&id, "report-1.json"));
    assert_eq!(kept, first, "the first report is kept");

    let of_the_reason = ["reprocess", "--reason", "processed", "--since", "1h"];
    let said = stack.command(&[&of_the_reason[..], &["--dry-run"]].concat());
    assert!(said.contains("1 would be parsed"), "{said}");
    assert_eq!(stack.report(&id), second);
    let said = stack.command(&[&of_the_reason[..], &["--project", "2"]].concat());
    assert!(said.contains("found 0 crashes"), "{said}");
    let said = stack.command(&of_the_reason);
    assert!(said.contains("revision 3"), "{said}");
    assert_eq!(stack.report(&id)["processing"]["revision"], 3);

    let broken = stack.upload(&dumps::header_only());
    let fate = stack.fate(&broken, "failed", FATE_DEADLINE);
    assert!(fate["report"].is_null(), "{fate}");
    for (event, why) in [
        (broken.as_str(), "unreadable_minidump"),
        ("0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0", "not known"),
    ] {
        let output = stack.relay().command(&["reprocess", event]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains(why), "{said}");
    }
    std::fs::remove_file(stack.stored_dir(&id).join("minidump.dmp")).expect("it is stored");
    let said = stack.command(&of_the_reason);
    assert!(said.contains("1 skipped, 0 failed"), "{said}");
    assert!(said.contains("its dump is not stored"), "{said}");
    stack.finish(1, 1);
}

#[test]
fn an_event_without_a_minidump_is_told_from_one_whose_dump_is_not_stored() {
    let mut stack = Plan::standalone()
        .project(r#"privacy = { minidump = "never" }"#)
        .start();
    let event = r#"{"event_id":"c0ffee00c0ffee00c0ffee00c0ffee00"}
{"type":"event"}
{"message":"nothing crashed"}
"#;
    let path = format!("/api/1/envelope/?sentry_key={KEY}");
    let taken = Request::post(path, event).send(stack.listen());
    assert_eq!(taken.status, 200, "{}", taken.text());
    let without = "c0ffee00-c0ff-ee00-c0ff-ee00c0ffee00";
    let not_stored = stack.upload(&dumps::unique());
    for (id, why) in [
        (without, "it came without a minidump, so there is nothing"),
        (&not_stored, "its dump is not stored: privacy.minidump"),
    ] {
        stack.report(id);
        for words in [&["reprocess", id, "--dry-run"][..], &["reprocess", id]] {
            let output = stack.relay().command(words);
            assert_eq!(output.status.code(), Some(1), "{output:?}");
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(said.contains(why), "{said}");
        }
    }
    stack.finish(2, 0);
}

#[test]
fn a_failed_crash_behind_kafka_gets_its_report_and_keeps_its_outcome() {
    let mut stack = Plan::split()
        .text("processor", "parse_timeout", "1ms")
        .raw("processor", "attempts", "1")
        .start();
    let form = Form::minidump(&dumps::sized(SLOW_BYTES, 1))
        .field("sentry", r#"{"release":"notes@1.2","tags":{"a":"b"}}"#);
    let id = accepted_id(&stack.post_form(form));
    let failed = stack.fate(&id, "failed", FATE_DEADLINE);
    assert_eq!(failed["reason"], "parser_timeout");
    let said: Value = json(&stack.stored(&id, "event.json"));
    assert_eq!(said["release"], "notes@1.2");
    assert_eq!(said["attachments"][0]["type"], "event.minidump");

    // The fix: time enough, and attempts enough.
    let relay = stack.relay();
    relay.set_variable("CRASHFERRY__PROCESSOR__PARSE_TIMEOUT", "60s");
    let since = failed["outcome"]["finished_at"].as_str().expect("a time");
    for revision in 1..=2 {
        let said = match revision {
            1 => stack.command(&["reprocess", "--reason", "parser_timeout", "--since", since]),
            _ => stack.command(&["reprocess", &id]),
        };
        assert!(said.contains(&format!("revision {revision}")), "{said}");
        check(&stack, &id, &failed, revision);
    }
    stack.finish(0, 1);
}

/// There is a report, and the failure as it was told.
fn check(stack: &Stack, id: &str, failed: &Value, revision: u64) {
    let event = stack.event(id).json();
    for told in ["status", "reason", "detail", "outcome"] {
        assert_eq!(event[told], failed[told], "{told}");
    }
    let report = &event["report"];
    dumps::check_report(report);
    assert_eq!(report["release"], "notes@1.2");
    assert_eq!(report["tags"]["a"], "b");
    assert_eq!(report["processing"]["revision"], revision);
    let topics = stack.topics();
    let outcomes = kafka::read_all(stack.broker(), &topics.outcomes, Isolation::Committed);
    assert_eq!(outcomes.len(), 1, "one outcome: {outcomes:?}");
    let reports = kafka::read_all(stack.broker(), &topics.reports, Isolation::Committed);
    assert_eq!(reports.len() as u64, revision);
    let last = reports.iter().max_by_key(|record| record.offset);
    let last = last.expect("a report");
    assert_eq!(last.header("revision"), Some(revision.to_string()));
    assert_eq!(last.json()["event_id"], *id);
    let compact: String = id.chars().filter(|c| *c != '-').collect();
    let key: String = last.key.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(key, compact);
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("JSON")
}
