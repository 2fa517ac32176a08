//! Every request in `captures`, replayed with a dump of ours: it ends `processed`, the stored dump is that dump byte by
//! byte, and the report says what the client said.

use harness::captures::{self, Answer, Capture};
use harness::dumps;
use harness::stack::{Plan, Stack};
use serde_json::{Value, json};

/// Where in the report, and what there.
type Said = &'static [(&'static str, &'static str)];

/// What each client says about itself and its crash.
const CLIENTS: [(&str, Said); 11] = [
    (
        "breakpad-linux-minidump_upload",
        &[
            ("/client/name", "TestProd"),
            ("/client/version", "1.2.3"),
            ("/release", "TestProd@1.2.3"),
        ],
    ),
    (
        "breakpad-windows-1file",
        &[
            ("/client/name", "TestProd"),
            ("/client/version", "1.2.3"),
            ("/client/guid", "g"),
        ],
    ),
    (
        "chromium-shell-renderer-sigsegv-gzip",
        &[
            ("/client/name", "content_shell"),
            ("/client/version", "999.77.34.5"),
            ("/client/guid", "52fe297f-5e3f-4d4e-9fe0-2410b154bae9"),
            ("/process/type", "renderer"),
            ("/extra/lsb-release", "Debian GNU/Linux 12 (bookworm)"),
        ],
    ),
    ("curl-data-binary", &[]),
    (
        "curl-form",
        &[
            ("/client/name", "TestProd"),
            ("/release", "app@1.0"),
            ("/environment", "prod"),
        ],
    ),
    (
        "electron-like-renderer",
        &[
            ("/client/name", "Electron"),
            ("/client/version", "37.2.1"),
            ("/release", "Zombies@0.1.0"),
            ("/process/type", "renderer"),
            ("/extra/_companyName", "Umbrella"),
        ],
    ),
    (
        "handler-seeded-nogzip-attachments",
        &[
            ("/client/name", "content_shell"),
            ("/process/type", "renderer"),
        ],
    ),
    (
        "mozilla-crashreporter-curl",
        &[
            ("/client/name", "Firefox"),
            ("/client/version", "141.0"),
            ("/environment", "release"),
            ("/process/type", "main"),
            ("/extra/BuildID", "20250701000000"),
        ],
    ),
    (
        "rust-sentry-official-minidump-envelope",
        &[
            ("/event_id", "7be4049d-645d-4470-85f6-799fc00fe3c8"),
            ("/release", "sentryclient2@0.1.0"),
            ("/environment", "lab"),
        ],
    ),
    (
        "sentry-native-0.4.9-crashpad-crash",
        &[
            ("/release", "test-example-release"),
            ("/environment", "development"),
            ("/user/username", "some_name"),
            ("/tags/expected-tag", "some value"),
            ("/extra/extra stuff", "some value"),
            ("/client/guid", "34fa1d63-bf68-4719-8002-c5f0d3365537"),
            ("/breadcrumbs/1/message", "debug crumb"),
        ],
    ),
    (
        "sentry-node-minidump-attachment-2",
        &[
            ("/event_id", "0dc82b63-eb79-45d0-934b-3e9b8d3e1bfe"),
            ("/release", "nodeclient@0.1.0"),
            ("/environment", "production"),
            ("/tags/event.process", "renderer"),
        ],
    ),
];

#[test]
fn every_capture_has_its_expectations() {
    let expected: Vec<&str> = CLIENTS.iter().map(|(name, _)| *name).collect();
    assert_eq!(captures::names(), expected);
}

#[test]
fn every_client_gets_its_report_standalone() {
    every_client(Plan::standalone());
}

#[test]
fn every_client_gets_its_report_through_kafka() {
    every_client(Plan::split());
}

fn every_client(plan: Plan) {
    let stack = plan.project("hosts = [\"127.0.0.1\"]").start();
    for (name, said) in CLIENTS {
        let dump = dumps::unique();
        let answer = Capture::read(name).send(stack.listen(), &dump);
        assert_eq!(answer.status, 200, "{name}: {answer:?}");
        let id = event_id(&answer);
        let report = stack.report(&id);
        dumps::check_report(&report);
        assert!(stack.stored_dump(&id) == dump, "{name}: the stored dump");
        for (place, value) in said {
            let found = report.pointer(place);
            assert_eq!(found, Some(&json!(value)), "{name}: {place} in {report}");
        }
        check_files(name, &stack, &id, &report);
    }
    stack.finish(CLIENTS.len() as u64, 0);
}

/// The id in the form that each kind of client reads.
fn event_id(answer: &Answer) -> String {
    let lines = answer.body.strip_prefix("CrashID=bp-");
    let json: Result<Value, _> = serde_json::from_str(&answer.body);
    let text = match (lines, &json) {
        (Some(id), _) => id.trim_end_matches('\n'),
        (None, Ok(json)) => json["id"].as_str().unwrap_or_default(),
        (None, Err(_)) => &answer.body,
    };
    let id = uuid::Uuid::parse_str(text);
    id.unwrap_or_else(|error| panic!("{error}: {answer:?}"))
        .to_string()
}

/// The files that come beside the dump arrive as they were.
fn check_files(name: &str, stack: &Stack, id: &str, report: &Value) {
    let files: &[(&str, &[u8])] = match name {
        "handler-seeded-nogzip-attachments" => &[
            ("Alpha.json", b"{\"a\":1}\n"),
            ("__sentry-event", b"\x82\xa1a\x01"),
            ("zzz.log", b"hello log\n"),
        ],
        "sentry-native-0.4.9-crashpad-crash" => &[("CMakeCache.txt", b"an attached text file\n")],
        "curl-form" => &[("hostname", b"vm\n")],
        _ => &[],
    };
    for (file, content) in files {
        let attachments = report["attachments"].as_array().expect("a list");
        let kept = attachments.iter().find(|kept| kept["name"] == *file);
        let kept = kept.unwrap_or_else(|| panic!("{name}: no {file} in {attachments:?}"));
        let path = kept["path"].as_str().expect("it is stored");
        let (_, below) = path.split_once(&format!("{id}/")).expect("in its folder");
        assert!(stack.stored(id, below) == *content, "{name}: {file}");
    }
    if name == "handler-seeded-nogzip-attachments" {
        let warnings = report["processing"]["warnings"].to_string();
        assert!(warnings.contains("__sentry-event"), "{warnings}");
    }
}
