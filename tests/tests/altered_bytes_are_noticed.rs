//! When the bytes that arrive are not those that were hashed, the crash fails as `corrupt_attachment` and the outcome
//! says which file and which check.

use harness::dumps;
use harness::kafka;
use harness::stack::{FATE_DEADLINE, Plan};
use harness::wire::{Attachment, Event};

#[test]
fn a_minidump_with_another_hash_fails() {
    let stack = Plan::split().start();
    let dump = dumps::unique();
    let event = Event::new(vec![Attachment::minidump(&dump, 2000)]);
    let topic = &stack.topics().attachments;
    for chunk in event.chunks() {
        kafka::produce(stack.broker(), topic, 0, &event.key(), &chunk, &[]);
    }
    let announced = blake3::hash(b"something else").to_hex().to_string();
    let header = format!("{}={announced}", event.attachments[0].id);
    let headers = [("blake3", header.as_str())];
    kafka::produce(
        stack.broker(),
        topic,
        0,
        &event.key(),
        &event.event(),
        &headers,
    );

    let answer = stack.fate(&event.hyphenated(), "failed", FATE_DEADLINE);
    assert_eq!(answer["reason"], "corrupt_attachment");
    let detail = serde_json::json!({
        "attachment": "minidump.dmp",
        "check": "blake3",
        "expected": announced,
        "found": blake3::hash(&dump).to_hex().to_string(),
    });
    assert_eq!(answer["detail"], detail);
    stack.finish(0, 1);
}
