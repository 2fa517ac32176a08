//! What is not a crash dump, or not allowed, or too large, gets the stated status with a reason for programs and a
//! detail for people; the relay's memory stays flat, and nothing of it counts as accepted.

use harness::encodings;
use harness::http::{Request, Response, Transfer};
use harness::multipart::Form;
use harness::settings::{KEY, OTHER_KEY};
use harness::stack::{Plan, Stack};
use harness::{dumps, multipart};

const MIB: usize = 1 << 20;
const LIMIT: &str = "20MiB";
const LIMIT_BYTES: usize = 20 * MIB;
/// Growth of the peak over everything below; a single body held whole would exceed it.
const GROWTH_BYTES_MAX: u64 = 64 << 20;

/// An upload that must be refused: what it is, the request, the status, and a word its detail must hold.
struct Refusal {
    what: &'static str,
    request: Request,
    status: u16,
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

fn check(refusal: &Refusal, response: &Response) {
    let what = refusal.what;
    let text = response.text();
    assert_eq!(response.status, refusal.status, "{what}: {text}");
    let body = response.json();
    let reason = body["reason"].as_str().unwrap_or_default();
    assert!(!reason.is_empty(), "{what} has no reason: {text}");
    let detail = body["detail"].as_str().unwrap_or_default().to_lowercase();
    assert!(detail.contains(refusal.detail), "{what}: {text}");
    assert!(body["causes"].is_array(), "{what} has no causes: {text}");
    for header in ["x-request-id", "x-sentry-error"] {
        let value = response.header(header).unwrap_or_default();
        assert!(!value.is_empty(), "{what} has no {header}: {response:?}");
    }
}

fn contents() -> Vec<Refusal> {
    let form = |what, status, detail, content: &[u8]| Refusal {
        what,
        request: post(Form::minidump(content).finish()),
        status,
        detail,
    };
    let whole = Form::minidump(&dumps::unique()).finish();
    let gzip = encodings::gzip(&whole);
    let other_boundary = Request::post(Stack::minidump_path(), whole)
        .header("Content-Type", "multipart/form-data; boundary=another");
    let no_file = Form::new().field("prod", "Electron").finish();
    let cut = post(gzip[..gzip.len() / 2].to_vec()).header("Content-Encoding", "gzip");
    let raw_text = Request::post(Stack::minidump_path(), b"hello".to_vec())
        .header("Content-Type", "application/octet-stream");
    let microdump = b"-----BEGIN BREAKPAD MICRODUMP-----\nV Editor:1.0\nO L x86_64 4 Linux 5.10\n";
    vec![
        form("not a minidump", 400, "minidump", &[0x7f; 4096]),
        form("an empty minidump", 400, "minidump", b""),
        form("31 bytes", 400, "minidump", &dumps::small()[..31]),
        form("a microdump", 400, "minidump", microdump),
        form(
            "a text file",
            400,
            "minidump",
            b"it crashed when I pressed save\n",
        ),
        refusal("no file", post(no_file), 400, "upload_file_minidump"),
        refusal("a wrong boundary", other_boundary, 400, "multipart"),
        refusal("a cut gzip", cut, 400, "gzip"),
        refusal("raw text", raw_text, 400, "minidump"),
    ]
}

fn limits() -> Vec<Refusal> {
    let bomb = encodings::gzip(&Form::minidump(&vec![0; 300 * MIB]).finish());
    assert!(bomb.len() < MIB, "a bomb is small: {}", bomb.len());
    let over = Form::minidump(&dumps::sized(LIMIT_BYTES + MIB, 3)).finish();
    let many = (0..40).fold(Form::minidump(&dumps::small()), |form, number| {
        form.file(&format!("file-{number}"), "a.log", b"x")
    });
    let fields = (0..40).fold(Form::new(), |form, number| {
        form.field(&format!("field-{number}"), &"v".repeat(64 * 1024))
    });
    let fields = fields.file("upload_file_minidump", "a.dmp", &dumps::small());
    vec![
        refusal(
            "a gzip bomb",
            post(bomb).header("Content-Encoding", "gzip"),
            413,
            "20",
        ),
        refusal("too large, with its length", post(over.clone()), 413, "20"),
        refusal(
            "too large, without its length",
            post(over).transfer(Transfer::Chunked),
            413,
            "20",
        ),
        refusal("too many files", post(many.finish()), 413, "30"),
        refusal("too many bytes of fields", post(fields.finish()), 413, "1"),
    ]
}

fn keys() -> Vec<Refusal> {
    let to = |path: &str| form_to(path, Form::minidump(&dumps::unique()).finish());
    let both = format!("/api/1/minidump/?sentry_key={KEY}");
    let auth = format!("Sentry sentry_version=7, sentry_key={OTHER_KEY}");
    vec![
        refusal("no key", to("/api/1/minidump/"), 401, "key"),
        refusal(
            "two keys",
            to(&both).header("X-Sentry-Auth", &auth),
            401,
            "key",
        ),
        refusal(
            "an unknown key",
            to("/api/1/minidump/?sentry_key=ffffffffffffffffffffffffffffffff"),
            403,
            "key",
        ),
        refusal(
            "another project's key",
            to(&format!("/api/1/minidump/?sentry_key={OTHER_KEY}")),
            403,
            "key",
        ),
        refusal(
            "an unknown project",
            to(&format!("/api/77/minidump/?sentry_key={KEY}")),
            403,
            "",
        ),
    ]
}

fn refusal(what: &'static str, request: Request, status: u16, detail: &'static str) -> Refusal {
    Refusal {
        what,
        request,
        status,
        detail,
    }
}

fn post(body: Vec<u8>) -> Request {
    form_to(&Stack::minidump_path(), body)
}

fn form_to(path: &str, body: Vec<u8>) -> Request {
    Request::post(path, body).header("Content-Type", &multipart::Form::content_type())
}
