//! The ingest topic carries Sentry's public schema: whoever knows it can put the crash together, and our headers say
//! what the schema lacks.

use std::collections::{BTreeMap, BTreeSet};

use harness::dumps;
use harness::kafka::{self, Isolation, Record};
use harness::multipart::Form;
use harness::stack::{Plan, accepted_id};
use harness::wire::Decoded;

const LOG: &[u8] = b"opened\nsaved\n";

#[test]
fn chunks_under_keys_of_their_own_and_one_event_under_its_id() {
    let stack = Plan::split().limit(100_000).start();
    let dump = dumps::sized(500_000, 5);
    let form = Form::minidump(&dump)
        .file("log", "session.log", LOG)
        .field("prod", "Electron");
    let id = accepted_id(&stack.post_form(form));
    let topic = &stack.topics().attachments;
    let records = kafka::read_all(stack.broker(), topic, Isolation::Uncommitted);

    let event_id = uuid::Uuid::parse_str(&id).expect("an event id");
    let mut keys = BTreeSet::new();
    for record in &records {
        assert!(record.key.starts_with(event_id.as_bytes()));
        assert!(keys.insert(&record.key), "compaction would remove a record");
        assert_eq!(record.partition, records[0].partition, "one partition");
        let trace = record.header("traceparent").unwrap_or_default();
        assert_eq!(trace.split('-').count(), 4, "a trace context: {trace:?}");
        let message = Decoded::from_bytes(&record.value);
        assert_eq!(message.text("event_id"), event_id.simple().to_string());
        assert_eq!(message.number("project_id"), 1);
    }
    let (event, chunks) = records.split_last().expect("there are records");
    assert_eq!(event.key, event_id.as_bytes(), "the key is the id's bytes");
    let files = put_together(chunks);
    check_event(
        event,
        &files,
        &[("event.minidump", &dump), ("session.log", LOG)],
    );
    stack.report(&id);
    stack.finish(1, 0);
}

/// Attachment id to content and chunk count, as a stranger would put them together.
fn put_together(chunks: &[Record]) -> BTreeMap<String, (Vec<u8>, u64)> {
    let mut files: BTreeMap<String, (Vec<u8>, u64)> = BTreeMap::new();
    for record in chunks {
        let message = Decoded::from_bytes(&record.value);
        assert_eq!(message.text("type"), "attachment_chunk");
        let (content, count) = files.entry(message.text("id").to_owned()).or_default();
        assert_eq!(message.number("chunk_index"), *count, "in order");
        let offset = content.len().to_string();
        assert_eq!(record.header("chunk_offset"), Some(offset));
        content.extend_from_slice(message.bytes("payload"));
        *count += 1;
    }
    for record in chunks {
        let message = Decoded::from_bytes(&record.value);
        let (_, count) = &files[message.text("id")];
        assert_eq!(record.header("chunk_count"), Some(count.to_string()));
    }
    files
}

fn check_event(
    event: &Record,
    files: &BTreeMap<String, (Vec<u8>, u64)>,
    expected: &[(&str, &[u8])],
) {
    let message = Decoded::from_bytes(&event.value);
    assert_eq!(message.text("type"), "event");
    assert!(
        message.number("start_time") > 1_700_000_000,
        "seconds since 1970"
    );
    let payload: serde_json::Value =
        serde_json::from_slice(message.bytes("payload")).expect("the payload is JSON");
    assert_eq!(payload["extra"]["prod"], "Electron");
    let attachments = message.list("attachments");
    assert_eq!(attachments.len(), expected.len());
    let hashes = event.header("blake3").unwrap_or_default();
    for (name, content) in expected {
        let attachment = attachments
            .iter()
            .find(|one| one.text("name") == *name || one.text("attachment_type") == *name)
            .unwrap_or_else(|| panic!("no {name} in {attachments:?}"));
        let id = attachment.text("id");
        let (carried, chunks) = &files[id];
        assert!(carried == content, "the bytes of {name}");
        assert_eq!(attachment.number("chunks"), *chunks);
        assert_eq!(attachment.number("size"), content.len() as u64);
        let hash = format!("{id}={}", blake3::hash(content).to_hex());
        assert!(
            hashes.split(',').any(|one| one == hash),
            "{hash} in {hashes}"
        );
    }
}
