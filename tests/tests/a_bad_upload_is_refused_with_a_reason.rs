//! What is not a crash dump, or not allowed, or too large, gets the stated status with a reason for programs and a
//! detail for people; the relay's memory stays flat, and nothing of it counts as accepted.

use harness::encodings;
use harness::http::{Request, Response, Transfer};
use harness::multipart::Form;
use harness::settings::{KEY, OTHER_KEY};
use harness::stack::{Plan, Stack, accepted_id};
use harness::{dumps, multipart};

const MIB: usize = 1 << 20;
const LIMIT: &str = "20MiB";
const LIMIT_BYTES: usize = 20 * MIB;
/// Growth of the peak over everything below; a single body held whole would exceed it.
const GROWTH_BYTES_MAX: u64 = 64 << 20;

/// An upload that must be refused: the request, the status, the reason, and what its detail must hold.
struct Refusal {
    request: Request,
    status: u16,
    reason: &'static str,
    detail: &'static str,
}

#[test]
fn standalone() {
    every_refusal(Plan::standalone());
}

#[test]
fn in_front_of_kafka() {
    every_refusal(Plan::split());
}

fn every_refusal(plan: Plan) {
    let mut stack = plan
        .text("limits", "upload", LIMIT)
        .text("limits", "attachment", LIMIT)
        .start();
    let id = stack.upload(&dumps::unique());
    stack.report(&id);
    let before = stack.relay().memory_peak_bytes();
    for refusal in contents().into_iter().chain(limits()).chain(keys()) {
        let response = refusal.request.send(stack.listen());
        check(&refusal, &response);
    }
    let growth = stack.relay().memory_peak_bytes() - before;
    assert!(growth < GROWTH_BYTES_MAX, "memory grew by {growth} bytes");
    stack.finish(1, 0);
}

#[test]
fn what_is_more_than_the_limits_of_count_and_fields_costs_the_rest_and_not_the_dump() {
    let stack = Plan::standalone().start();
    let many = (0..40).fold(Form::minidump(&dumps::unique()), |form, number| {
        form.file(&format!("file-{number}"), "a.log", b"x")
    });
    let fields = (0..40).fold(Form::new(), |form, number| {
        form.field(&format!("field-{number}"), &"v".repeat(64 * 1024))
    });
    let fields = fields.file("upload_file_minidump", "a.dmp", &dumps::unique());
    for (form, limit) in [
        (many, "limits.attachments = 30"),
        (fields, "limits.form = 1MiB"),
    ] {
        let id = accepted_id(&post(form.finish()).send(stack.listen()));
        let report = stack.report(&id);
        dumps::check_report(&report);
        let warnings = report["processing"]["warnings"].to_string();
        assert!(warnings.contains(limit), "{warnings}");
    }
    stack.finish(2, 0);
}

fn check(refusal: &Refusal, response: &Response) {
    let reason = refusal.reason;
    let text = response.text();
    assert_eq!(response.status, refusal.status, "{reason}: {text}");
    let body = response.json();
    assert_eq!(body["reason"], reason, "{text}");
    let detail = body["detail"].as_str().unwrap_or_default();
    assert!(detail.contains(refusal.detail), "{reason}: {text}");
    assert!(body["causes"].is_array(), "{reason} has no causes: {text}");
    for header in ["x-request-id", "x-sentry-error"] {
        let value = response.header(header).unwrap_or_default();
        assert!(!value.is_empty(), "{reason} has no {header}: {response:?}");
    }
}

fn contents() -> Vec<Refusal> {
    let form = |reason, detail, content: &[u8]| {
        refusal(400, reason, detail, post(Form::minidump(content).finish()))
    };
    let whole = Form::minidump(&dumps::unique()).finish();
    let gzip = encodings::gzip(&whole);
    // Nothing of the dump is in these: of one that is cut, what came is kept.
    let cut_gzip = post(gzip[..14].to_vec()).header("Content-Encoding", "gzip");
    let cut_form = post(whole[..100].to_vec());
    let no_start = [b"a preamble\r\n", &whole[..]].concat();
    let other_boundary = Request::post(Stack::minidump_path(), no_start)
        .header("Content-Type", "multipart/form-data; boundary=another");
    let no_file = post(Form::new().field("prod", "Electron").finish());
    let text = b"it crashed when I pressed save, and it did so twice\n";
    let raw_text = Request::post(Stack::minidump_path(), text.to_vec())
        .header("Content-Type", "application/octet-stream");
    let microdump = b"-----BEGIN BREAKPAD MICRODUMP-----\nV Editor:1.0\nO L x86_64 4 Linux 5.10\n";
    vec![
        form("not_a_minidump", "\"MDMP\"", &[0x7f; 4096]),
        form("empty_minidump", "0 bytes", b""),
        form("short_minidump", "31 bytes", &dumps::small()[..31]),
        form("microdump", "microdump", microdump),
        form("not_a_minidump", "it crashed", text),
        refusal(400, "not_a_minidump", "it crashed", raw_text),
        refusal(400, "missing_minidump", "upload_file_minidump", no_file),
        refusal(400, "boundary_not_found", "another", other_boundary),
        refusal(400, "broken_encoding", "gzip", cut_gzip),
        refusal(400, "cut_multipart", "closing boundary", cut_form),
    ]
}

fn limits() -> Vec<Refusal> {
    // A header that passes, and zeros without end behind it.
    let mut bomb = dumps::small();
    bomb.resize(300 * MIB, 0);
    let bomb = encodings::gzip(&Form::minidump(&bomb).finish());
    assert!(bomb.len() < 2 * MIB, "a bomb is small: {}", bomb.len());
    let over = Form::minidump(&dumps::sized(LIMIT_BYTES + MIB, 3)).finish();
    let bomb = post(bomb).header("Content-Encoding", "gzip");
    let chunked = post(over.clone()).transfer(Transfer::Chunked);
    vec![
        refusal(413, "body_too_large", LIMIT, bomb),
        refusal(413, "body_too_large", LIMIT, post(over)),
        refusal(413, "body_too_large", LIMIT, chunked),
    ]
}

fn keys() -> Vec<Refusal> {
    let to = |path: &str| form_to(path, Form::minidump(&dumps::unique()).finish());
    let with_key =
        |project: u32, key: &str| to(&format!("/api/{project}/minidump/?sentry_key={key}"));
    let other = format!("Sentry sentry_version=7, sentry_key={OTHER_KEY}");
    let two_keys = with_key(1, KEY).header("X-Sentry-Auth", &other);
    let unknown = with_key(1, "ffffffffffffffffffffffffffffffff");
    vec![
        refusal(401, "missing_key", "sentry_key", to("/api/1/minidump/")),
        refusal(401, "several_keys", "one key", two_keys),
        refusal(403, "unknown_key", "project 1", unknown),
        refusal(
            403,
            "key_of_another_project",
            "project 1",
            with_key(1, OTHER_KEY),
        ),
        refusal(403, "unknown_project", "77", with_key(77, KEY)),
    ]
}

fn refusal(status: u16, reason: &'static str, detail: &'static str, request: Request) -> Refusal {
    Refusal {
        request,
        status,
        reason,
        detail,
    }
}

fn post(body: Vec<u8>) -> Request {
    form_to(&Stack::minidump_path(), body)
}

fn form_to(path: &str, body: Vec<u8>) -> Request {
    Request::post(path, body).header("Content-Type", &multipart::Form::content_type())
}
