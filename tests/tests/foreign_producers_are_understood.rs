//! What only other producers put on the ingest topic: files and user reports apart from their crash, bytes inline, and types
//! that carry no crash. Each is processed or named.

use harness::kafka::{self, Isolation};
use harness::stack::{FATE_DEADLINE, Plan, Stack};
use harness::wire::{self, Attachment, Event};
use harness::{dumps, wait};
use serde_json::Value;

const CHUNK_BYTES: usize = 1000;

fn send(stack: &Stack, event: &Event, messages: &[Vec<u8>]) {
    for message in messages {
        let topic = &stack.topics().attachments;
        kafka::produce(stack.broker(), topic, 0, &event.key(), message, &[]);
    }
}

/// Waits until the event lists so many files that came apart from it.
fn late_files(stack: &Stack, id: &str, count: usize) -> Vec<Value> {
    wait::until("the files to be listed", FATE_DEADLINE, || {
        let event = stack.event(id).json();
        let files = event["late_attachments"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        match files.len() == count {
            true => Ok(files),
            false => Err(event.to_string()),
        }
    })
}

#[test]
fn files_and_user_reports_apart_from_their_crash() {
    let stack = Plan::split().partitions(1).start();
    let crash = Event::new(vec![Attachment::minidump(&dumps::unique(), CHUNK_BYTES)]);
    let mut files = crash.clone();
    let log = "a line of a log\n".repeat(200);
    files.attachments = vec![
        Attachment::file("app.log", log.as_bytes(), CHUNK_BYTES),
        Attachment::file("small.txt", b"inline", CHUNK_BYTES),
    ];
    // One file comes before its crash, chunks and all, the other and the report after it.
    send(&stack, &crash, &files.chunks()[..4]);
    send(
        &stack,
        &crash,
        &[wire::attachment_message(&files, 0, false)],
    );
    let mut messages = crash.chunks();
    messages.push(crash.event());
    send(&stack, &crash, &messages);
    let id = crash.hyphenated();
    dumps::check_report(&stack.report(&id));
    send(&stack, &crash, &[wire::attachment_message(&files, 1, true)]);
    send(
        &stack,
        &crash,
        &[wire::user_report_message(&crash, "it broke")],
    );
    // The same again changes nothing.
    send(&stack, &crash, &[wire::attachment_message(&files, 1, true)]);
    send(
        &stack,
        &crash,
        &[wire::user_report_message(&crash, "it broke")],
    );
    let listed = late_files(&stack, &id, 3);
    let stored = |name: &str| {
        let file = listed.iter().find(|file| file["name"] == name);
        let file = file.unwrap_or_else(|| panic!("{name} in {listed:?}"));
        let path = file["path"].as_str().expect("a path");
        let (_, below) = path.split_once(&id).expect("in the crash's folder");
        stack.stored(&id, below.trim_start_matches('/'))
    };
    assert_eq!(stored("app.log"), log.as_bytes());
    assert_eq!(stored("small.txt"), b"inline");
    let report: Value = serde_json::from_slice(&stored("user_report.json")).expect("JSON");
    assert_eq!(report["comments"], "it broke");
    // The crash, two files, a user report: four fates, each told once.
    stack.finish(4, 0);
}

/// Under a day of 1970 retention would take the crash at its first look.
#[test]
fn an_absurd_time_costs_a_warning_and_not_the_crash() {
    let stack = Plan::split().partitions(1).start();
    let sound = process_at(&stack, None);
    for absurd in [0.into(), (-1).into(), (1_u64 << 62).into(), "soon".into()] {
        let found = format!("found {absurd}").replace('"', "\\\"");
        let event = process_at(&stack, Some(absurd));
        let received_at = second(&event["received_at"]);
        assert!(received_at >= second(&sound["received_at"]), "{event}");
        let finished_at = second(&event["outcome"]["finished_at"]);
        assert!(received_at <= finished_at, "{event}");
        assert_eq!(event["report"]["received_at"], event["received_at"]);
        let warnings = event["report"]["processing"]["warnings"].to_string();
        assert!(warnings.contains(&found), "no {found} in {warnings}");
    }
    stack.finish(5, 0);
}

/// Sends a crash that says to have been received then, or now; returns what became of it.
fn process_at(stack: &Stack, start_time: Option<rmpv::Value>) -> Value {
    let mut crash = Event::new(vec![Attachment::minidump(&dumps::unique(), CHUNK_BYTES)]);
    crash.start_time = start_time.unwrap_or(crash.start_time);
    let mut messages = crash.chunks();
    messages.push(crash.event());
    send(stack, &crash, &messages);
    let event = stack.fate(&crash.hyphenated(), "processed", FATE_DEADLINE);
    dumps::check_report(&event["report"]);
    event
}

/// A time to the second: such texts sort as their times do.
fn second(time: &Value) -> String {
    let text = time.as_str().expect("a time");
    text[.."2026-11-22T10:00:00".len()].to_owned()
}

#[test]
fn what_carries_no_crash_is_a_dead_letter_and_holds_up_nothing() {
    let stack = Plan::split().partitions(1).start();
    let crash = Event::new(vec![Attachment::minidump(&dumps::unique(), CHUNK_BYTES)]);
    let kinds = ["profile", "replay_recording_not_chunked", "metric"];
    for kind in kinds {
        send(&stack, &crash, &[wire::other_message(kind)]);
    }
    let mut messages = crash.chunks();
    messages.push(crash.event());
    send(&stack, &crash, &messages);
    dumps::check_report(&stack.report(&crash.hyphenated()));
    let letters = wait::until("every letter", FATE_DEADLINE, || {
        let topic = &stack.topics().dead_letters;
        let letters = kafka::read_all(stack.broker(), topic, Isolation::Committed);
        match letters.len() == kinds.len() {
            true => Ok(letters),
            false => Err(format!("{} letters", letters.len())),
        }
    });
    for (letter, kind) in letters.iter().zip(kinds) {
        assert_eq!(letter.header("reason").as_deref(), Some("unknown_type"));
        let error = letter.header("error").unwrap_or_default();
        assert!(error.contains(kind), "{error}");
    }
    stack.finish(1, 0);
}
