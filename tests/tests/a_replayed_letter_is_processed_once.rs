//! An event that an older version refused is sent again after the fix, with the chunks that were given up meanwhile, and is
//! processed once; a second replay sends nothing, and a dry run sends nothing at all.

use std::process::Output;

use harness::kafka::{self, Isolation, Outgoing, Record};
use harness::stack::{FATE_DEADLINE, Plan, Stack};
use harness::wire::{Attachment, Event};
use harness::{dumps, wait};

/// What the older version called the reason.
const REASON: &str = "malformed";

#[test]
fn with_its_chunks() {
    let mut stack = Plan::split()
        .partitions(2)
        .text("processor", "incomplete_after", "1s")
        .start();
    let dump = dumps::unique();
    let event = Event::new(vec![Attachment::minidump(&dump, dump.len().div_ceil(3))]);
    let ingest = stack.topics().attachments.clone();
    let chunks: Vec<Outgoing> = event
        .chunks()
        .into_iter()
        .map(|chunk| sent(&event, chunk))
        .collect();
    let offsets = kafka::produce_all(stack.broker(), &ingest, &chunks);
    // Where the older version met the event message, this one meets something that it does not read either.
    let refused = kafka::produce_all(stack.broker(), &ingest, &[sent(&event, b"\xc1".to_vec())])[0];
    letters(&stack, 1);
    given_up(&mut stack, 3.0);
    let place = keep(&stack, &event, event.event(), refused);
    // One of the chunks was refused as well.
    keep(&stack, &event, event.chunk(0, 1), offsets[1]);
    let before = all(&stack, &ingest).len();

    let said = replay(&mut stack, &["--dry-run"]);
    assert!(said.contains("3 chunks go along"), "{said}");
    assert!(
        said.contains("would refuse again as not_a_message"),
        "{said}"
    );
    let listed = stack.command(&["dead-letters", "list"]);
    assert!(
        listed.contains("3 dead letters: 2 malformed, 1 not_a_message"),
        "{listed}"
    );
    let unasked = stack.relay().command(&["dead-letters", "replay"]);
    assert_eq!(unasked.status.code(), Some(2), "{unasked:?}");
    assert_eq!(all(&stack, &ingest).len(), before, "nothing was sent");

    let said = replay(&mut stack, &["--yes"]);
    assert!(
        said.contains("sent 2 letters again, with 3 chunks"),
        "{said}"
    );
    dumps::check_report(&stack.report(&event.hyphenated()));
    assert!(stack.stored_dump(&event.hyphenated()) == dump);
    let records = all(&stack, &ingest);
    assert_eq!(records.len(), before + 4, "three chunks and the event");
    let last = records
        .iter()
        .max_by_key(|record| record.offset)
        .expect("records");
    assert_eq!(last.value, event.event());
    assert_eq!(last.key, event.key());
    assert_eq!(last.header("traceparent").as_deref(), Some("00-1-2-01"));
    assert_eq!(last.headers.len(), 1, "its own headers and no others");

    let said = replay(&mut stack, &["--yes"]);
    assert!(said.contains("2 letters sent before"), "{said}");
    let listed = stack.command(&["dead-letters", "list", "--offset", &place]);
    assert!(listed.contains("1 was sent again and is not"), "{listed}");
    assert_eq!(
        all(&stack, &ingest).len(),
        before + 4,
        "nothing was sent twice"
    );
    let listed = stack.command(&["dead-letters", "list"]);
    assert!(listed.contains("2 were sent again"), "{listed}");
    let listed = stack.command(&["dead-letters", "list", "--all", "--json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    let listed = listed.as_array().expect("a list");
    let replayed = listed
        .iter()
        .filter(|letter| letter["replayed_at"].is_string());
    assert_eq!((listed.len(), replayed.count()), (3, 2));

    // Sent once more all the same, the event is a copy of a finished one.
    let reason = ["--yes", "--again", "--reason", REASON];
    replay(&mut stack, &reason);
    consumed(&mut stack, before as f64 + 8.0);
    stack.one_report_each([event.hyphenated().as_str()]);
    stack.finish(1, 0);
}

#[test]
fn what_retention_has_taken_is_told_and_so_is_what_a_letter_looks_like() {
    let mut stack = Plan::split().partitions(1).start();
    let event = Event::new(vec![Attachment::minidump(&dumps::unique(), 2000)]);
    let chunks = event.chunks();
    let ingest = stack.topics().attachments.clone();
    kafka::produce_all(stack.broker(), &ingest, &[sent(&event, chunks[0].clone())]);
    keep(&stack, &event, event.event(), 1);
    let said = replay(&mut stack, &["--dry-run"]);
    let gone = format!(
        "{} of its chunks are no longer in the topic",
        chunks.len() - 1
    );
    assert!(said.contains(&gone), "{said}");
    let shown = stack.command(&["dead-letters", "show", "0:0"]);
    for part in [
        "origin_offset: 1",
        "\"type\": \"event\"",
        "bytes>",
        "--offset 0:0",
    ] {
        assert!(shown.contains(part), "no {part} in:\n{shown}");
    }
    let absent = stack.relay().command(&["dead-letters", "show", "0:7"]);
    assert_eq!(absent.status.code(), Some(1), "{absent:?}");
    let raw = stack
        .relay()
        .command(&["dead-letters", "show", "0:0", "--raw", "-"]);
    assert!(raw.stdout == event.event(), "the bytes as they are");
    stack.stop();
}

#[test]
fn without_kafka_the_operator_is_told_where_to_look() {
    let mut stack = Plan::standalone().start();
    let output = stack.relay().command(&["dead-letters", "list"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(text(&output).contains("spool/quarantine"), "{output:?}");
    stack.finish(0, 0);
}

/// A record of the event, with a header of its sender's.
fn sent(event: &Event, value: Vec<u8>) -> Outgoing {
    Outgoing {
        partition: 0,
        key: event.key(),
        value,
        headers: vec![("traceparent".to_owned(), b"00-1-2-01".to_vec())],
    }
}

/// Puts a message into the dead letters as an older version would have; returns where it stands there.
fn keep(stack: &Stack, event: &Event, value: Vec<u8>, offset: i64) -> String {
    let offset = offset.to_string();
    let headers = [
        ("origin_topic", stack.topics().attachments.as_str()),
        ("origin_partition", "0"),
        ("origin_offset", &offset),
        ("reason", REASON),
        ("error", "an older version did not know this field"),
        ("attempts", "1"),
        ("original_header.traceparent", "00-1-2-01"),
    ];
    let topic = &stack.topics().dead_letters;
    let kept = kafka::produce(stack.broker(), topic, 0, &event.key(), &value, &headers);
    format!("0:{kept}")
}

fn replay(stack: &mut Stack, words: &[&str]) -> String {
    let output = stack
        .relay()
        .command(&[&["dead-letters", "replay"], words].concat());
    assert!(output.status.success(), "{}", text(&output));
    text(&output)
}

fn all(stack: &Stack, topic: &str) -> Vec<Record> {
    kafka::read_all(stack.broker(), topic, Isolation::Committed)
}

fn letters(stack: &Stack, count: usize) {
    let topic = stack.topics().dead_letters.clone();
    wait::until("a letter", FATE_DEADLINE, || {
        match all(stack, &topic).len() {
            found if found == count => Ok(()),
            found => Err(format!("{found} letters")),
        }
    });
}

fn given_up(stack: &mut Stack, chunks: f64) {
    let processor = stack.processor();
    wait::until(
        "the chunks to be given up",
        FATE_DEADLINE,
        || match processor.metric("crashferry_abandoned_chunks_total") {
            found if found == chunks => Ok(()),
            found => Err(format!("{found} chunks")),
        },
    );
}

fn consumed(stack: &mut Stack, records: f64) {
    let processor = stack.processor();
    wait::until("everything to be read", FATE_DEADLINE, || {
        match processor.metric("crashferry_records_consumed_total") {
            found if found >= records => Ok(()),
            found => Err(format!("{found} records")),
        }
    });
}

fn text(output: &Output) -> String {
    let out = String::from_utf8_lossy(&output.stdout);
    format!("{out}{}", String::from_utf8_lossy(&output.stderr))
}
