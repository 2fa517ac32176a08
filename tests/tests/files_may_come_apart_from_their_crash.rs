//! Files that come after their crash, in a request of their own; large files that come before it, in several requests.

use harness::http::{Request, Response};
use harness::multipart::Form;
use harness::settings::{KEY, OTHER_KEY};
use harness::stack::{FATE_DEADLINE, Plan, Stack};
use harness::{dumps, wait};
use serde_json::Value;

#[test]
fn a_late_file_is_shown_with_its_crash_standalone() {
    late(Plan::standalone());
}

#[test]
fn a_late_file_is_shown_with_its_crash_through_kafka() {
    late(Plan::split());
}

fn late(plan: Plan) {
    let stack = plan.start();
    let id = stack.upload(&dumps::unique());
    stack.report(&id);
    let path = format!("/api/1/events/{id}/attachments/?sentry_key={KEY}");
    let form = Form::new()
        .file("log", "session.log", b"what happened")
        .file("screenshot", "shot.png", b"\x89PNG");
    let answer = post_form(&stack, &path, form);
    assert_eq!((answer.status, answer.text().as_str()), (201, ""));
    let event = wait::until("the late files", FATE_DEADLINE, || {
        let event = stack.event(&id).json();
        let files = event["late_attachments"].as_array().map_or(0, Vec::len);
        if files == 2 {
            Ok(event)
        } else {
            Err(event.to_string())
        }
    });
    for (at, name, content) in [(0, "session.log", "what happened"), (1, "shot.png", "")] {
        let file = &event["late_attachments"][at];
        assert_eq!(file["name"], name);
        let (_, below) = below(file, &id);
        if !content.is_empty() {
            assert_eq!(stack.stored(&id, below), content.as_bytes());
        }
    }
    assert_eq!(event["status"], "processed");
    // The upload has a fate of its own, and the crash one report.
    stack.finish(2, 0);
}

fn below<'f>(file: &'f Value, id: &str) -> (&'f str, &'f str) {
    let path = file["path"].as_str().expect("it is stored");
    path.split_once(&format!("{id}/"))
        .expect("in the crash's folder")
}

#[test]
fn a_late_request_is_refused_with_its_reason() {
    let stack = Plan::standalone().start();
    let id = stack.upload(&dumps::unique());
    let no_files = post_form(
        &stack,
        &format!("/api/1/events/{id}/attachments/?sentry_key={KEY}"),
        Form::new(),
    );
    assert_eq!(no_files.json()["reason"], "nothing_to_keep");
    let stranger = post_form(
        &stack,
        &format!("/api/1/events/{id}/attachments/?sentry_key={OTHER_KEY}"),
        Form::new().file("log", "a.log", b"x"),
    );
    assert_eq!(stranger.status, 403);
    stack.finish(1, 0);
}

#[test]
fn a_large_file_comes_first_in_pieces_standalone() {
    large(Plan::standalone());
}

#[test]
fn a_large_file_comes_first_in_pieces_through_kafka() {
    large(Plan::split());
}

fn large(plan: Plan) {
    let stack = plan.start();
    let dump = dumps::sized(5_000_000, 4711);
    let location = begin(&stack, dump.len());
    let (first, rest) = dump.split_at(2_000_000);
    let answer = bring(&stack, &location, 0, first);
    assert_eq!((answer.status, offset(&answer)), (204, 2_000_000));
    // Sent again by a client that did not see the answer.
    let answer = bring(&stack, &location, 0, first);
    assert_eq!(answer.json()["reason"], "wrong_upload_offset");
    let answer = tus(Request::of("HEAD", &location, "")).send(stack.listen());
    assert_eq!((answer.status, offset(&answer)), (200, 2_000_000));
    let answer = bring(&stack, &location, 2_000_000, rest);
    assert_eq!((answer.status, offset(&answer)), (204, dump.len()));

    let id = uuid::Uuid::new_v4();
    let reference = format!(
        r#"{{"path":"minidump.dmp","location":"{location}","content_type":"application/octet-stream"}}"#
    );
    let envelope = format!(
        "{{\"event_id\":\"{id}\"}}\n{{\"type\":\"event\"}}\n{{\"release\":\"big@1\"}}\n\
         {{\"type\":\"attachment\",\"attachment_type\":\"event.minidump\",\"filename\":\"minidump.dmp\",\"attachment_length\":{},\
         \"content_type\":\"application/vnd.sentry.attachment-ref+json\",\"length\":{}}}\n{reference}\n",
        dump.len(),
        reference.len()
    );
    let answer = Request::post(format!("/api/1/envelope/?sentry_key={KEY}"), envelope);
    let answer = answer.send(stack.listen());
    assert_eq!(answer.status, 200, "{}", answer.text());
    let report = stack.report(&id.to_string());
    dumps::check_report(&report);
    assert_eq!(report["release"], "big@1");
    assert!(stack.stored_dump(&id.to_string()) == dump);
    stack.finish(1, 0);
}

#[test]
fn a_large_file_is_refused_with_its_reason() {
    let stack = Plan::standalone().start();
    let path = format!("/api/1/upload/?sentry_key={KEY}");
    let create = |length: &str| {
        let request = tus(Request::post(&path, "")).header("Upload-Length", length);
        request.send(stack.listen())
    };
    assert_eq!(create("many").json()["reason"], "missing_upload_length");
    let huge = create("9999999999");
    assert_eq!(
        (huge.status, huge.json()["reason"].as_str()),
        (413, Some("attachment_too_large"))
    );
    let old = Request::post(&path, "").header("Upload-Length", "5");
    assert_eq!(old.send(stack.listen()).status, 412);
    let location = begin(&stack, 5);
    let surplus = bring(&stack, &location, 0, b"123456");
    assert_eq!(surplus.json()["reason"], "upload_too_long");
    let unknown = format!("/api/1/upload/{}/", uuid::Uuid::new_v4());
    assert_eq!(bring(&stack, &unknown, 0, b"1").status, 404);
    stack.finish(0, 0);
}

#[test]
fn a_large_file_is_charged_as_it_comes_and_its_first_envelope_is_not_charged_for_it() {
    let quotas = format!("keys = [{{ key = {KEY:?}, bytes_per_hour = \"3MiB\" }}]");
    let stack = Plan::standalone().project(&quotas).start();
    early_in_an_hour();
    // No dump: a second one of the same dump would be a repeat, which is charged for nothing.
    let dump = vec![b'y'; 2_500_000];
    let location = begin(&stack, dump.len());
    let (first, rest) = dump.split_at(1_000_000);
    assert_eq!(bring(&stack, &location, 0, first).status, 204);
    let used = used_bytes(&stack);
    assert!((1_000_000..=1 << 20).contains(&used), "{used}");
    assert_eq!(bring(&stack, &location, first.len(), rest).status, 204);
    assert_eq!(used_bytes(&stack), dump.len() as u64);
    let other = tus(Request::post(
        format!("/api/1/upload/?sentry_key={KEY}"),
        "",
    ))
    .header("Upload-Length", "1000000")
    .send(stack.listen());
    let other = other.header("location").expect("announced is not sent");
    let over = bring(&stack, other, 0, &vec![b'x'; 1_000_000]);
    assert_eq!(over.status, 429, "{}", over.text());
    assert_eq!(over.json()["reason"], "quota_exceeded");

    let refer = |release: &str| {
        let reference = format!(r#"{{"location":"{location}"}}"#);
        let envelope = format!(
            "{{}}\n{{\"type\":\"event\"}}\n{{\"release\":\"{release}\"}}\n\
             {{\"type\":\"attachment\",\"attachment_type\":\"event.attachment\",\"filename\":\"a.bin\",\
             \"content_type\":\"application/vnd.sentry.attachment-ref+json\",\"length\":{}}}\n{reference}\n",
            reference.len()
        );
        let path = format!("/api/1/envelope/?sentry_key={KEY}");
        Request::post(path, envelope).send(stack.listen())
    };
    let first = refer("a@1");
    assert_eq!(first.status, 200, "{}", first.text());
    assert!(used_bytes(&stack) < dump.len() as u64 + 10_000);
    let second = refer("a@2");
    assert_eq!(
        second.status,
        429,
        "a second upload of the same bytes: {}",
        second.text()
    );
    stack.finish(1, 0);
}

#[test]
fn an_empty_file_is_whole_at_once_and_a_compressed_one_is_refused() {
    let stack = Plan::standalone().start();
    let location = begin(&stack, 0);
    let answer = tus(Request::of("HEAD", &location, "")).send(stack.listen());
    assert_eq!((answer.status, offset(&answer)), (200, 0));
    let location = begin(&stack, 5);
    for encoding in ["gzip", "br", "zstd", "deflate", "identity, gzip"] {
        let compressed = tus(Request::of("PATCH", &location, "12345"))
            .header("Upload-Offset", "0")
            .header("Content-Encoding", encoding)
            .send(stack.listen());
        assert_eq!(compressed.status, 415, "{encoding}");
        assert_eq!(compressed.json()["reason"], "encoded_upload");
    }
    assert_eq!(bring(&stack, &location, 0, b"12345").status, 204);
    stack.finish(0, 0);
}

/// The scenario takes seconds, and the next hour begins with nothing used.
fn early_in_an_hour() {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let into = now.expect("after 1970").as_secs() % 3600;
    if into > 3600 - 30 {
        wait::lasting(std::time::Duration::from_secs(3601 - into));
    }
}

fn used_bytes(stack: &Stack) -> u64 {
    let keys: Value =
        serde_json::from_str(&stack.command(&["keys", "list", "--json"])).expect("JSON");
    let keys = keys.as_array().expect("a list");
    let key = keys.iter().find(|key| key["key"] == KEY);
    let used = &key.expect("it is listed")["used"]["bytes_this_hour"];
    used.as_u64().expect("a number of bytes")
}

fn begin(stack: &Stack, bytes: usize) -> String {
    let request = tus(Request::post(
        format!("/api/1/upload/?sentry_key={KEY}"),
        "",
    ));
    let answer = request
        .header("Upload-Length", &bytes.to_string())
        .send(stack.listen());
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.header("location").expect("a location").to_owned()
}

fn bring(stack: &Stack, location: &str, offset: usize, bytes: &[u8]) -> Response {
    tus(Request::of("PATCH", location, bytes))
        .header("Content-Type", "application/offset+octet-stream")
        .header("Upload-Offset", &offset.to_string())
        .send(stack.listen())
}

fn tus(request: Request) -> Request {
    request.header("Tus-Resumable", "1.0.0")
}

fn offset(answer: &Response) -> usize {
    let offset = answer.header("upload-offset").expect("an offset");
    offset.parse().expect("a number")
}

fn post_form(stack: &Stack, path: &str, form: Form) -> Response {
    Request::post(path, form.finish())
        .header("Content-Type", &Form::content_type())
        .send(stack.listen())
}

#[test]
fn a_user_report_and_files_alone_belong_to_the_event_they_name() {
    let stack = Plan::standalone().start();
    let id = stack.upload(&dumps::unique());
    stack.report(&id);
    let envelope = format!(
        "{{\"event_id\":\"{id}\"}}\n{{\"type\":\"user_report\"}}\n{{\"comments\":\"I pressed save\"}}\n\
         {{\"type\":\"attachment\",\"filename\":\"a.log\"}}\na log"
    );
    let answer = Request::post(format!("/api/1/envelope/?sentry_key={KEY}"), envelope);
    assert_eq!(answer.send(stack.listen()).status, 200);
    let event = wait::until("the late files", FATE_DEADLINE, || {
        let event = stack.event(&id).json();
        let files = event["late_attachments"].as_array().map_or(0, Vec::len);
        if files == 2 {
            Ok(event)
        } else {
            Err(event.to_string())
        }
    });
    assert_eq!(event["late_attachments"][0]["name"], "user_report.json");
    assert_eq!(event["late_attachments"][1]["name"], "a.log");
    stack.finish(2, 0);
}

#[test]
fn a_reference_to_nothing_costs_a_warning_and_not_the_event() {
    let stack = Plan::standalone().start();
    let reference = format!(
        r#"{{"location":"/api/1/upload/{}/"}}"#,
        uuid::Uuid::new_v4()
    );
    let envelope = format!(
        "{{}}\n{{\"type\":\"event\"}}\n{{\"release\":\"a@1\"}}\n{{\"type\":\"attachment\",\"filename\":\"a.dmp\",\
         \"attachment_type\":\"event.minidump\",\"content_type\":\"application/vnd.sentry.attachment-ref+json\",\"length\":{}}}\n{reference}",
        reference.len()
    );
    let answer = Request::post(format!("/api/1/envelope/?sentry_key={KEY}"), envelope);
    let answer = answer.send(stack.listen());
    assert_eq!(answer.status, 200, "{}", answer.text());
    let id = answer.json()["id"].as_str().expect("an id").to_owned();
    let id = uuid::Uuid::parse_str(&id).expect("an id").to_string();
    let report = stack.report(&id);
    assert_eq!(report["release"], "a@1");
    assert_eq!(report["attachments"][0]["name"], "a.dmp");
    let warnings = report["processing"]["warnings"].to_string();
    assert!(
        warnings.contains("a file that was to come first"),
        "{warnings}"
    );
    stack.finish(1, 0);
}
