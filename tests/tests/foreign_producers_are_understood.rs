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
