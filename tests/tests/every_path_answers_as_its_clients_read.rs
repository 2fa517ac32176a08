//! The answers that clients and operators read: ids in the form asked for, Mozilla's lines, CORS, health, slashes.

use harness::dumps;
use harness::http::Request;
use harness::metrics::Metrics;
use harness::multipart::Form;
use harness::settings::KEY;
use harness::stack::{Plan, Stack, accepted_id};

#[test]
fn an_id_of_16_digits_leads_to_its_event() {
    let stack = Plan::standalone().start();
    let dump = dumps::unique();
    let path = format!("/api/1/minidump/?sentry_key={KEY}&id=hex16");
    for what in ["first", "again"] {
        let answer = form(&path, &dump).send(stack.listen());
        assert_eq!(answer.status, 200, "{what}: {}", answer.text());
        let id = answer.text();
        assert!(
            id.len() == 16 && id.bytes().all(|digit| digit.is_ascii_hexdigit()),
            "{id}"
        );
        let report = stack.report(&id);
        let whole = report["event_id"].as_str().expect("an id").to_owned();
        assert_eq!(whole.replace('-', "")[..16], id);
        assert!(stack.stored_dump(&whole) == dump);
    }
    stack.finish(1, 0);
}

#[test]
fn mozillas_client_reads_lines() {
    let stack = Plan::standalone().start();
    let dump = dumps::unique();
    let body = Form::new()
        .file(
            "extra",
            "extra.json",
            br#"{"ProductName":"Firefox","Version":"141.0"}"#,
        )
        .file("upload_file_minidump", "a.dmp", &dump)
        .file("upload_file_minidump_content", "b.dmp", &dumps::unique())
        .finish();
    let send = |path: &str, body: &[u8]| {
        Request::post(path, body)
            .header("Content-Type", &Form::content_type())
            .send(stack.listen())
    };
    let answer = send(&format!("/submit?key={KEY}"), &body);
    let lines = answer.text();
    let id = lines
        .strip_prefix("CrashID=bp-")
        .and_then(|id| id.strip_suffix('\n'));
    let id = id.unwrap_or_else(|| panic!("{} {lines:?}", answer.status));
    let report = stack.report(id);
    assert_eq!(report["release"], "Firefox@141.0");
    assert_eq!(report["attachments"][1]["name"], "b.dmp");
    assert_eq!(report["attachments"][1]["type"], "event.attachment");
    for (path, body, status, line) in [
        ("/submit", body.clone(), 401, "Discarded=missing_key\n"),
        ("/submit?key=nobodys", body, 403, "Discarded=unknown_key\n"),
        (
            &format!("/submit?key={KEY}"),
            Form::new().finish(),
            400,
            "Discarded=missing_minidump\n",
        ),
    ] {
        let answer = send(path, &body);
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (status, line),
            "{path}"
        );
    }
    stack.finish(1, 0);
}

#[test]
fn a_browser_may_ask_and_send() {
    let stack = Plan::standalone().start();
    let asked = Request::of("OPTIONS", "/api/1/envelope/", "").send(stack.listen());
    assert_eq!(asked.status, 200);
    for (header, value) in [
        ("access-control-allow-origin", "*"),
        ("access-control-max-age", "3600"),
    ] {
        assert_eq!(asked.header(header), Some(value));
    }
    let methods = asked.header("access-control-allow-methods");
    assert!(methods.is_some_and(|methods| methods.contains("POST")));
    let sent = form(&Stack::minidump_path(), &dumps::unique());
    let answer = sent
        .header("Origin", "https://app.example.org")
        .send(stack.listen());
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    let exposed = answer
        .header("access-control-expose-headers")
        .unwrap_or_default();
    for header in ["x-sentry-error", "x-sentry-rate-limits", "retry-after"] {
        assert!(exposed.contains(header), "{exposed}");
    }
    stack.finish(1, 0);
}

#[test]
fn health_is_asked_for_as_sentrys_relay_is() {
    let stack = Plan::standalone().start();
    for path in ["live", "ready"] {
        let path = format!("/api/relay/healthcheck/{path}/");
        let answer = Request::get(path).send(stack.listen());
        assert_eq!(answer.status, 200);
        assert_eq!(answer.json()["is_healthy"], true);
    }
    stack.finish(0, 0);
}

#[test]
fn an_envelope_without_a_crash_is_answered_and_counted() {
    let stack = Plan::standalone().start();
    let path = format!("/api/1/envelope/?sentry_key={KEY}");
    let session = "{}\n{\"type\":\"session\"}\n{\"sid\":\"x\",\"status\":\"ok\"}\n{\"type\":\"client_report\",\"length\":2}\n{}";
    let answer = Request::post(&path, session).send(stack.listen());
    assert_eq!((answer.status, answer.text().as_str()), (200, "{}"));
    let id = uuid::Uuid::new_v4();
    let event = format!(
        "{{\"event_id\":\"{}\",\"dsn\":\"http://{KEY}@x/1\"}}\n{{\"type\":\"event\"}}\n\
         {{\"message\":\"it broke\",\"release\":\"a@1\",\"tags\":[[\"a\",\"b\"]]}}\n\
         {{\"type\":\"user_report\"}}\n{{\"comments\":\"I pressed save\"}}",
        id.simple()
    );
    // Its key is in its header.
    let answer = Request::post("/api/1/envelope", event).send(stack.listen());
    assert_eq!(
        answer.json()["id"],
        id.simple().to_string(),
        "{}",
        answer.text()
    );
    let report = stack.report(&id.to_string());
    assert_eq!(report["release"], "a@1");
    assert_eq!(report["tags"]["a"], "b");
    assert_eq!(report["event"]["message"], "it broke");
    assert_eq!(report["user_reports"][0]["comments"], "I pressed save");
    let bad = Request::post(&path, "not an envelope").send(stack.listen());
    assert_eq!(bad.json()["reason"], "broken_envelope");
    let nobody = Request::post("/api/1/envelope/", "{}\n").send(stack.listen());
    assert_eq!(nobody.status, 401);
    let metrics = Metrics::scrape(&stack.admins()[0]);
    for kind in ["session", "client_report"] {
        let items = metrics.sum("crashferry_envelope_items_total", &[("kind", kind)]);
        assert_eq!(items, Some(1.0), "{kind}");
    }
    stack.finish(1, 0);
}

#[test]
fn slashes_to_spare_change_nothing() {
    let stack = Plan::standalone().start();
    for path in ["/api/1/minidump", "//api//1/minidump//", "/api/1/minidump/"] {
        let path = format!("{path}?sentry_key={KEY}");
        accepted_id(&form(&path, &dumps::unique()).send(stack.listen()));
    }
    stack.finish(3, 0);
}

fn form(path: &str, dump: &[u8]) -> Request {
    Request::post(path, Form::minidump(dump).finish()).header("Content-Type", &Form::content_type())
}
