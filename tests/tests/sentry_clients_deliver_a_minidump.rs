//! Sentry's own clients, as their registries ship them, deliver an event with a minidump: sentry-cli, @sentry/node and the
//! Rust SDK. The report is under the event's own id, with what the client said.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use harness::settings::KEY;
use harness::stack::{Plan, Stack};
use harness::{dumps, environment};
use sentry::protocol::{Attachment, AttachmentType, Envelope, EnvelopeItem, Event};
use serde_json::Value;

const FLUSH_DEADLINE: Duration = Duration::from_secs(20);

#[test]
fn sentry_cli_sends_an_envelope() {
    let stack = Plan::standalone().start();
    let dump = dumps::unique();
    let id = uuid::Uuid::new_v4();
    let file = stack.dir().join("crash.envelope");
    std::fs::write(&file, envelope(id, &dump)).expect("the envelope can be written");
    let output = Command::new(environment::clients().join("node_modules/.bin/sentry-cli"))
        .args(["send-envelope", "--raw"])
        .arg(&file)
        .env("SENTRY_DSN", dsn(&stack))
        .output()
        .expect("sentry-cli can be started");
    assert!(output.status.success(), "{output:?}");
    let report = check(&stack, &id.to_string(), &dump);
    assert_eq!(report["release"], "cli@1.0");
    assert_eq!(report["tags"]["channel"], "beta");
    stack.finish(1, 0);
}

#[test]
fn the_node_sdk_sends_an_event_with_a_minidump() {
    let stack = Plan::standalone().start();
    let dump = dumps::unique();
    let file = stack.dir().join("crash.dmp");
    std::fs::write(&file, &dump).expect("the dump can be written");
    let id = printed(&node(&dsn(&stack), &file));
    let id = uuid::Uuid::parse_str(&id).expect("an event id").to_string();
    let report = check(&stack, &id, &dump);
    assert_eq!(report["release"], "node-client@1.2.3");
    assert_eq!(report["environment"], "tests");
    assert_eq!(report["tags"]["event.process"], "renderer");
    assert_eq!(report["user"]["id"], "u-1");
    stack.finish(1, 0);
}

#[test]
fn the_rust_sdk_sends_an_event_with_a_minidump() {
    let stack = Plan::split().start();
    let dump = dumps::unique();
    let client = sentry::init(dsn(&stack));
    let event = Event {
        release: Some("rust-client@4.5.6".into()),
        environment: Some("tests".into()),
        ..Event::default()
    };
    let id = event.event_id.to_string();
    let mut envelope = Envelope::from(event);
    envelope.add_item(EnvelopeItem::Attachment(Attachment {
        buffer: dump.clone(),
        filename: "crash.dmp".into(),
        content_type: Some("application/octet-stream".into()),
        ty: Some(AttachmentType::Minidump),
    }));
    client.send_envelope(envelope);
    assert!(
        client.close(Some(FLUSH_DEADLINE)),
        "the SDK sends it in time"
    );
    let report = check(&stack, &id, &dump);
    assert_eq!(report["release"], "rust-client@4.5.6");
    assert_eq!(report["environment"], "tests");
    stack.finish(1, 0);
}

fn check(stack: &Stack, id: &str, dump: &[u8]) -> Value {
    let report = stack.report(id);
    dumps::check_report(&report);
    assert!(stack.stored_dump(id) == dump, "the stored dump");
    report
}

fn dsn(stack: &Stack) -> String {
    format!("http://{KEY}@{}/1", stack.listen())
}

fn envelope(id: uuid::Uuid, dump: &[u8]) -> Vec<u8> {
    let event = r#"{"level":"fatal","release":"cli@1.0","tags":{"channel":"beta"}}"#;
    let head = format!(
        "{{\"event_id\":\"{id}\"}}\n{{\"type\":\"event\"}}\n{event}\n\
         {{\"type\":\"attachment\",\"attachment_type\":\"event.minidump\",\"length\":{},\"filename\":\"a.dmp\"}}\n",
        dump.len()
    );
    [head.as_bytes(), dump].concat()
}

fn node(dsn: &str, dump: &Path) -> Output {
    let clients = environment::clients();
    let output = Command::new("node")
        .arg(clients.join("node-minidump.mjs"))
        .arg(dsn)
        .arg(dump)
        .output()
        .expect("node can be started");
    assert!(output.status.success(), "{output:?}");
    output
}

fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
