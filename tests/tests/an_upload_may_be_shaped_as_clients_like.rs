//! Fields and files in any order, raw bodies, every content encoding, chunked bodies, `Expect: 100-continue`, keys in
//! the query and in both headers, real curl: the dump arrives as it was, fields become `extra`, files attachments.

use std::process::Command;

use harness::dumps;
use harness::encodings;
use harness::http::{Request, Transfer};
use harness::multipart::Form;
use harness::settings::KEY;
use harness::stack::{Plan, Stack, accepted_id};

#[test]
fn in_every_shape_standalone() {
    every_shape(Plan::standalone());
}

#[test]
fn in_every_shape_through_kafka() {
    every_shape(Plan::split());
}

#[test]
fn fields_become_extra_and_files_attachments_in_any_order() {
    let stack = Plan::standalone().start();
    let dump = dumps::unique();
    let early = Form::new()
        .field("prod", "Electron")
        .field("_version", "4.5.6")
        .file("notes", "notes.txt", b"before")
        .file("upload_file_minidump", "c.dmp", &dump)
        .file("log", "session.log", b"after")
        .field("comments_", "pressed save");
    let id = accepted_id(&stack.post_form(early));
    let report = stack.report(&id);
    assert_eq!(report["extra"]["prod"], "Electron");
    assert_eq!(report["extra"]["_version"], "4.5.6");
    assert_eq!(report["extra"]["comments_"], "pressed save");
    for (name, content) in [("notes.txt", "before"), ("session.log", "after")] {
        let attachment = report["attachments"]
            .as_array()
            .and_then(|all| all.iter().find(|one| one["name"] == name))
            .unwrap_or_else(|| panic!("no {name} in {}", report["attachments"]));
        assert_eq!(attachment["size"], content.len());
        assert_ne!(attachment["sha256"], serde_json::Value::Null);
    }
    assert!(stack.stored_dump(&id) == dump);
    stack.finish(1, 0);
}

#[test]
fn a_bad_leaf_and_too_much_of_it_cost_the_event_nothing_else() {
    let stack = Plan::standalone().start();
    let rest = r#""release":"r@1","environment":"lab","user":{"id":"7"},"tags":{"k":"v"}"#;
    let long = "y".repeat(3 << 20);
    let bad: [(&str, Vec<u8>); 5] = [
        ("title", b"\"half \\ud83d\"".to_vec()),
        ("title", b"\"latin \xff\x01\"".to_vec()),
        ("title", b"[NaN,-Infinity,1e400,]".to_vec()),
        (
            "title",
            format!("{}{}", "[".repeat(5000), "]".repeat(5000)).into(),
        ),
        ("title", format!("\"{long}\"").into()),
    ];
    for (name, leaf) in &bad {
        let id = uuid::Uuid::new_v4();
        let head =
            format!("{{\"event_id\":\"{id}\"}}\n{{\"type\":\"event\"}}\n{{\"extra\":{{\"{name}\":");
        let envelope = [head.as_bytes(), leaf, b"},", rest.as_bytes(), b"}\n"].concat();
        let answer = Request::post(format!("/api/1/envelope/?sentry_key={KEY}"), envelope);
        assert_eq!(answer.send(stack.listen()).status, 200);
        let report = stack.report(&id.to_string());
        assert_eq!(report["release"], "r@1");
        assert_eq!(report["environment"], "lab");
        assert_eq!(
            (&report["user"]["id"], &report["tags"]["k"]),
            (&"7".into(), &"v".into())
        );
        let warnings = report["processing"]["warnings"].to_string();
        assert!(warnings.contains("extra.title"), "{warnings}");
    }
    stack.finish(bad.len() as u64, 0);
}

#[test]
fn curl_is_understood() {
    let stack = Plan::standalone().start();
    for way in ["-F", "--data-binary"] {
        // Past 1 MiB curl asks `Expect: 100-continue` first.
        let dump = dumps::sized(1_500_000, way.len() as u64);
        let file = stack.dir().join("curl.dmp");
        std::fs::write(&file, &dump).expect("a dump can be written");
        let file = file.display();
        let content = match way {
            "-F" => format!("upload_file_minidump=@{file}"),
            _ => format!("@{file}"),
        };
        let output = Command::new("curl")
            .args([
                "-sS",
                "--noproxy",
                "*",
                way,
                &content,
                &stack.minidump_url(),
            ])
            .output()
            .expect("curl can be started");
        let id = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(uuid::Uuid::parse_str(&id).is_ok(), "curl {way}: {output:?}");
        stack.report(&id);
        assert!(stack.stored_dump(&id) == dump, "curl {way}");
    }
    stack.finish(2, 0);
}

fn every_shape(plan: Plan) {
    let stack = plan.start();
    let mut sent = 0;
    for (what, dump, request) in shapes() {
        let response = request.send(stack.listen());
        assert_eq!(response.status, 200, "{what}: {}", response.text());
        let id = accepted_id(&response);
        dumps::check_report(&stack.report(&id));
        assert!(stack.stored_dump(&id) == dump, "{what}");
        sent += 1;
    }
    stack.finish(sent, 0);
}

type Shape = (String, Vec<u8>, Request);

fn shapes() -> Vec<Shape> {
    let mut shapes = Vec::new();
    for transfer in [Transfer::Sized, Transfer::Chunked, Transfer::Expect] {
        let dump = dumps::unique();
        let request = form(&Stack::minidump_path(), &dump).transfer(transfer);
        shapes.push((format!("{transfer:?}"), dump, request));
    }
    for (name, encode) in [
        ("gzip", encodings::gzip as fn(&[u8]) -> Vec<u8>),
        ("deflate", encodings::deflate),
        ("br", encodings::brotli),
        ("zstd", encodings::zstd),
    ] {
        for transfer in [Transfer::Sized, Transfer::Chunked] {
            let dump = dumps::unique();
            let body = encode(&Form::minidump(&dump).finish());
            let request = Request::post(Stack::minidump_path(), body)
                .header("Content-Type", &Form::content_type())
                .header("Content-Encoding", name)
                .transfer(transfer);
            shapes.push((format!("{name} {transfer:?}"), dump, request));
        }
    }
    for content_type in [
        "application/octet-stream",
        "application/x-dmp",
        "application/x-www-form-urlencoded",
        "text/plain",
    ] {
        let dump = dumps::unique();
        let request = Request::post(Stack::minidump_path(), dump.clone())
            .header("Content-Type", content_type);
        shapes.push((format!("raw {content_type}"), dump, request));
    }
    shapes.extend(keys());
    shapes
}

fn keys() -> Vec<Shape> {
    let without_slash = dumps::unique();
    let path = format!("/api/1/minidump?sentry_key={KEY}&product=Editor&version=1");
    let mut shapes = vec![(
        "no slash".to_owned(),
        without_slash.clone(),
        form(&path, &without_slash),
    )];
    for (header, value) in [
        (
            "X-Sentry-Auth",
            format!("Sentry sentry_version=7, sentry_key={KEY}"),
        ),
        ("x-sentry-auth", format!("Sentry sentry_key={KEY}")),
        ("Authorization", format!("Sentry sentry_key={KEY}")),
    ] {
        let dump = dumps::unique();
        let request = form("/api/1/minidump/", &dump).header(header, &value);
        shapes.push((format!("{header}: {value}"), dump, request));
    }
    shapes
}

fn form(path: &str, dump: &[u8]) -> Request {
    Request::post(path, Form::minidump(dump).finish()).header("Content-Type", &Form::content_type())
}
