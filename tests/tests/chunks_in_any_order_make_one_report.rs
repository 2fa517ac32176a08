//! Chunks may come in any order, twice, between other crashes' chunks, and after their event: each crash gets one
//! report, and the dump is whole.

use harness::dumps;
use harness::kafka;
use harness::stack::{Plan, Stack};
use harness::wire::{Attachment, Event};

const CHUNK_BYTES: usize = 1000;

/// A crash of a foreign producer, and the dump it carries.
struct Crash {
    event: Event,
    dump: Vec<u8>,
}

impl Crash {
    fn new() -> Self {
        let dump = dumps::unique();
        let event = Event::new(vec![Attachment::minidump(&dump, CHUNK_BYTES)]);
        assert!(event.attachments[0].chunks.len() >= 4);
        Self { event, dump }
    }
}

#[test]
fn backwards() {
    let stack = Plan::split().start();
    let crash = Crash::new();
    let mut messages = crash.event.chunks();
    messages.reverse();
    messages.push(crash.event.event());
    send(&stack, &crash, &messages);
    each_has_one_report(stack, &[crash]);
}

#[test]
fn twice() {
    let stack = Plan::split().start();
    let crash = Crash::new();
    let mut messages = crash.event.chunks();
    messages.extend(crash.event.chunks());
    messages.push(crash.event.event());
    messages.extend(crash.event.chunks());
    messages.push(crash.event.event());
    send(&stack, &crash, &messages);
    each_has_one_report(stack, &[crash]);
}

#[test]
fn after_their_event() {
    let stack = Plan::split().start();
    let crash = Crash::new();
    let mut messages = crash.event.chunks();
    messages.insert(1, crash.event.event());
    send(&stack, &crash, &messages);
    each_has_one_report(stack, &[crash]);
}

#[test]
fn between_other_crashes() {
    let stack = Plan::split().partitions(1).start();
    let crashes: Vec<Crash> = (0..5).map(|_| Crash::new()).collect();
    let most = crashes
        .iter()
        .map(|crash| crash.event.attachments[0].chunks.len())
        .max()
        .unwrap_or_default();
    for index in 0..most {
        for crash in &crashes {
            if index < crash.event.attachments[0].chunks.len() {
                send(&stack, crash, &[crash.event.chunk(0, index)]);
            }
        }
    }
    for crash in crashes.iter().rev() {
        send(&stack, crash, &[crash.event.event()]);
    }
    each_has_one_report(stack, &crashes);
}

fn send(stack: &Stack, crash: &Crash, messages: &[Vec<u8>]) {
    for message in messages {
        let topic = &stack.topics().attachments;
        kafka::produce(stack.broker(), topic, 0, &crash.event.key(), message, &[]);
    }
}

fn each_has_one_report(stack: Stack, crashes: &[Crash]) {
    for crash in crashes {
        let id = crash.event.hyphenated();
        let report = stack.report(&id);
        assert_eq!(report["release"], "foreign@1.0");
        assert_eq!(report["extra"]["origin"], "another producer");
        assert!(stack.stored_dump(&id) == crash.dump, "the dump of {id}");
    }
    // A fresh crash behind all of them: what came before it on its partition has been looked at by then.
    let last = Crash::new();
    let mut messages = last.event.chunks();
    messages.push(last.event.event());
    send(&stack, &last, &messages);
    stack.report(&last.event.hyphenated());
    let ids: Vec<String> = crashes
        .iter()
        .chain([&last])
        .map(|crash| crash.event.hyphenated())
        .collect();
    stack.one_report_each(ids.iter().map(String::as_str));
    stack.finish(crashes.len() as u64 + 1, 0);
}
