//! A record that is no message of the schema goes to the dead letters with its bytes, where it came from and why; the
//! crashes around it are processed.

use harness::kafka::{self, Isolation, Record};
use harness::stack::{FATE_DEADLINE, Plan, Stack};
use harness::wire::{Attachment, Event};
use harness::{dumps, wait};

#[test]
fn in_the_dead_letters_with_its_origin() {
    let mut stack = Plan::split().partitions(1).start();
    let before = Event::new(vec![Attachment::minidump(&dumps::unique(), 2000)]);
    send_all(&stack, &before);
    let garbage: [&[u8]; 3] = [
        b"\xc1 this is no message pack",
        b"",
        b"\x81\xa4type\xa5order",
    ];
    let offsets: Vec<i64> = garbage
        .iter()
        .map(|value| send(&stack, b"0123456789abcdef", value))
        .collect();
    let after = Event::new(vec![Attachment::minidump(&dumps::unique(), 2000)]);
    send_all(&stack, &after);
    stack.report(&before.hyphenated());
    stack.report(&after.hyphenated());

    let letters = wait::until("three dead letters", FATE_DEADLINE, || {
        let topic = &stack.topics().dead_letters;
        let letters = kafka::read_all(stack.broker(), topic, Isolation::Committed);
        if letters.len() == garbage.len() {
            Ok(letters)
        } else {
            Err(format!("{} letters", letters.len()))
        }
    });
    for (value, offset) in garbage.iter().zip(offsets) {
        let letter = letter_of(&letters, offset);
        assert_eq!(letter.value, *value, "the original bytes");
        assert_eq!(letter.key, b"0123456789abcdef");
        let topic = letter.header("origin_topic");
        assert_eq!(topic.as_ref(), Some(&stack.topics().attachments));
        assert_eq!(letter.header("origin_partition").as_deref(), Some("0"));
        for name in ["reason", "error", "attempts"] {
            let header = letter.header(name).unwrap_or_default();
            assert!(!header.is_empty(), "no {name}: {letter:?}");
        }
    }
    let counted = stack.processor().metrics();
    assert_eq!(counted.sum("crashferry_dead_letters_total", &[]), Some(3.0));
    stack.finish(2, 0);
}

#[test]
fn with_a_long_key_and_headers_of_a_hundred_kilobytes() {
    let stack = Plan::split().partitions(1).start();
    let ingest = &stack.topics().attachments;
    let text = "h".repeat(10_000);
    let names: Vec<String> = (0..10).map(|number| format!("h{number}")).collect();
    let headers: Vec<(&str, &str)> = names.iter().map(|name| (&name[..], &text[..])).collect();
    let key = vec![b'k'; 20_000];
    kafka::produce(stack.broker(), ingest, 0, &key, b"\xc1", &headers);
    let letter = wait::until("the letter", FATE_DEADLINE, || {
        let topic = &stack.topics().dead_letters;
        let mut letters = kafka::read_all(stack.broker(), topic, Isolation::Committed);
        letters.pop().ok_or_else(|| "none".to_owned())
    });
    assert!(letter.key == key, "{} bytes of the key", letter.key.len());
    for name in &names {
        let kept = letter.header(&format!("original_header.{name}"));
        assert!(kept.as_ref() == Some(&text), "{name}");
    }
    // Nothing of it is cut, so it can be sent again.
    let replayed = ["dead-letters", "replay", "--dry-run", "--force"];
    let said = stack.command(&replayed);
    assert!(said.contains("to be sent: 1 dead letter"), "{said}");
    stack.finish(0, 0);
}

fn letter_of(letters: &[Record], offset: i64) -> &Record {
    let offset = offset.to_string();
    letters
        .iter()
        .find(|letter| letter.header("origin_offset").as_deref() == Some(&offset))
        .unwrap_or_else(|| panic!("no letter from offset {offset}: {letters:?}"))
}

fn send(stack: &Stack, key: &[u8], value: &[u8]) -> i64 {
    kafka::produce(
        stack.broker(),
        &stack.topics().attachments,
        0,
        key,
        value,
        &[],
    )
}

fn send_all(stack: &Stack, event: &Event) {
    for chunk in event.chunks() {
        send(stack, &event.key(), &chunk);
    }
    send(stack, &event.key(), &event.event());
}
