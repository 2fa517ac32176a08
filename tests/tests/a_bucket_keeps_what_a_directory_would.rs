//! Everything that goes to the storage, in a bucket of S3: dumps large enough for several parts, files that come before
//! and after their crash, reports; and a bucket that cannot be used is told at the start.

use harness::http::Request;
use harness::multipart::Form;
use harness::s3::{BUCKET, S3};
use harness::settings::KEY;
use harness::stack::{FATE_DEADLINE, Plan, Stack};
use harness::{dumps, wait};

/// More than two parts of 8 MiB.
const LARGE_BYTES: usize = 20_000_000;

#[test]
fn through_kafka() {
    let server = S3::start();
    keep(&Plan::split().bucket(&server, &server.address()).start());
}

#[test]
fn in_one_process() {
    let server = S3::start();
    keep(
        &Plan::standalone()
            .bucket(&server, &server.address())
            .start(),
    );
}

fn keep(stack: &Stack) {
    let large = dumps::sized(LARGE_BYTES, 1);
    let id = stack.upload(&large);
    dumps::check_report(&stack.report(&id));
    assert!(stack.stored_dump(&id) == large, "a dump in parts");

    let form = Form::new().file("log", "session.log", b"what happened");
    let path = format!("/api/1/events/{id}/attachments/?sentry_key={KEY}");
    let late = Request::post(path, form.finish()).header("Content-Type", &Form::content_type());
    assert_eq!(late.send(stack.listen()).status, 201);
    let file = wait::until("the late file", FATE_DEADLINE, || {
        let event = stack.event(&id).json();
        let file = event["late_attachments"][0]["path"].as_str();
        file.map(str::to_owned).ok_or_else(|| event.to_string())
    });
    let (_, below) = file.split_once(&format!("{id}/")).expect("its folder");
    assert_eq!(stack.stored(&id, below), b"what happened");

    let early = dumps::sized(LARGE_BYTES, 2);
    let id = send_ahead(stack, &early);
    dumps::check_report(&stack.report(&id));
    assert!(stack.stored_dump(&id) == early, "a dump that came ahead");
}

/// A large file first, by itself, and then the event that refers to it.
fn send_ahead(stack: &Stack, dump: &[u8]) -> String {
    let tus = |request: Request| request.header("Tus-Resumable", "1.0.0");
    let begin = Request::post(format!("/api/1/upload/?sentry_key={KEY}"), "");
    let begun = tus(begin)
        .header("Upload-Length", &dump.len().to_string())
        .send(stack.listen());
    let location = begun.header("location").expect("a location").to_owned();
    let whole = tus(Request::of("PATCH", &location, dump))
        .header("Content-Type", "application/offset+octet-stream")
        .header("Upload-Offset", "0")
        .send(stack.listen());
    assert_eq!(whole.status, 204, "{}", whole.text());
    let id = uuid::Uuid::new_v4();
    let reference = format!(r#"{{"location":"{location}"}}"#);
    let envelope = format!(
        "{{\"event_id\":\"{id}\"}}\n{{\"type\":\"attachment\",\"attachment_type\":\"event.minidump\",\"filename\":\"a.dmp\",\
         \"content_type\":\"application/vnd.sentry.attachment-ref+json\",\"length\":{}}}\n{reference}\n",
        reference.len()
    );
    let answer = Request::post(format!("/api/1/envelope/?sentry_key={KEY}"), envelope);
    let answer = answer.send(stack.listen());
    assert_eq!(answer.status, 200, "{}", answer.text());
    id.to_string()
}

#[test]
fn one_that_cannot_be_used_ends_the_start_with_what_was_expected() {
    let server = S3::start();
    let plan = || Plan::standalone().bucket(&server, &server.address());
    for (plan, found) in [
        (
            plan().text("storage", "url", "s3://no-such-bucket/x"),
            "NoSuchBucket",
        ),
        (
            plan().text("storage.options", "aws_secret_access_key", "another"),
            "SignatureDoesNotMatch",
        ),
    ] {
        let mut stack = plan.prepare();
        let process = stack.relay();
        process.launch();
        let status = wait::until("the process to end", FATE_DEADLINE, || {
            process
                .running()
                .exited()
                .ok_or_else(|| process_log(process))
        });
        let log = process.log();
        assert_eq!(status.code(), Some(2), "{log}");
        assert!(
            log.contains("storage.url: expected a bucket at s3://"),
            "{log}"
        );
        assert!(log.contains(found), "{log}");
    }
    let stack = plan().prepare();
    let shown = stack.command(&["config", "show"]);
    assert!(
        shown.contains("aws_secret_access_key = \"[redacted]\""),
        "{shown}"
    );
    let valid = stack.command(&["config", "check"]);
    assert!(valid.contains(BUCKET), "{valid}");
}

fn process_log(role: &harness::stack::Role) -> String {
    role.log()
}
