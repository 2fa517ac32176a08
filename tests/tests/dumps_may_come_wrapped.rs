//! Dumps compressed within their part, a form within the form, parts without the line break before their boundary: the
//! stored dump is what the program wrote, byte by byte. What is empty, cut or no dump is refused with its reason.

use harness::dumps;
use harness::encodings::{bzip2, gzip, xz, zip, zstd};
use harness::http::Request;
use harness::multipart::Form;
use harness::stack::{Plan, Stack, accepted_id};

#[test]
fn every_wrapping_is_undone() {
    let stack = Plan::standalone().start();
    let mut sent = 0;
    let wrappings = [
        ("gzip", "a.dmp.gz", gzip as fn(&[u8]) -> Vec<u8>),
        ("xz", "a.dmp.xz", xz),
        ("bzip2", "a.dmp.bz2", bzip2),
        ("zstd", "a.dmp.zst", zstd),
        ("zip", "a.dmp.zip", |dump| zip(&[("a.dmp", dump)])),
        ("a form", "a.dmp", nested),
        ("a form in gzip", "a.dmp", |dump| gzip(&nested(dump))),
    ];
    for (seed, (what, name, wrap)) in wrappings.into_iter().enumerate() {
        // Past what stays in memory as well.
        for bytes in [100_000, 3_000_000] {
            let dump = dumps::sized(bytes, seed as u64);
            let form = Form::new().file("upload_file_minidump", name, &wrap(&dump));
            let id = accepted_id(&stack.post_form(form.field("prod", "Editor")));
            let report = stack.report(&id);
            dumps::check_report(&report);
            assert!(stack.stored_dump(&id) == dump, "{what}, {bytes} bytes");
            assert_eq!(report["client"]["name"], "Editor", "{what}");
            assert_eq!(report["attachments"][0]["name"], "a.dmp", "{what}");
            sent += 1;
        }
    }
    stack.finish(sent, 0);
}

#[test]
fn a_compressed_dump_may_be_the_whole_body() {
    let stack = Plan::standalone().start();
    let dump = dumps::unique();
    let request = Request::post(Stack::minidump_path(), gzip(&dump));
    let request = request.header("Content-Type", "application/octet-stream");
    let id = accepted_id(&request.send(stack.listen()));
    stack.report(&id);
    assert!(stack.stored_dump(&id) == dump);
    stack.finish(1, 0);
}

#[test]
fn a_missing_line_break_between_two_files_glues_nothing() {
    let stack = Plan::standalone().start();
    let dump = dumps::unique();
    let head = "Content-Disposition: form-data; name=";
    let parts = [
        format!("--b\r\n{head}\"upload_file_minidump\"; filename=\"minidump.dmp\"\r\n\r\n")
            .into_bytes(),
        dump.clone(),
        format!("--b\r\n{head}\"log\"; filename=\"log\"\r\n\r\n").into_bytes(),
        b"a log\r\n--b--\r\n".to_vec(),
    ];
    let request = Request::post(Stack::minidump_path(), parts.concat())
        .header("Content-Type", "multipart/form-data; boundary=b");
    let id = accepted_id(&request.send(stack.listen()));
    let report = stack.report(&id);
    assert!(stack.stored_dump(&id) == dump);
    assert_eq!(report["attachments"][1]["size"], 5);
    stack.finish(1, 0);
}

#[test]
fn what_is_no_dump_inside_is_refused_with_its_reason() {
    let stack = Plan::standalone()
        .text("limits", "attachment", "2MiB")
        .start();
    let dump = dumps::unique();
    let whole = gzip(&dump);
    for (what, content, status, reason) in [
        ("nothing", Vec::new(), 400, "empty_minidump"),
        ("half a header", dump[..20].to_vec(), 400, "short_minidump"),
        ("nothing in gzip", gzip(b""), 400, "empty_minidump"),
        (
            "a text in gzip",
            gzip(b"just some text"),
            400,
            "not_a_minidump",
        ),
        (
            "the start of a gzip",
            whole[..14].to_vec(),
            400,
            "broken_container",
        ),
        (
            "two files in a zip",
            zip(&[("a", &dump), ("b", b"x")]),
            400,
            "broken_container",
        ),
        (
            "an empty form",
            b"--inner--\r\n".to_vec(),
            400,
            "not_a_minidump",
        ),
        (
            "a form without a dump",
            nested_field(),
            400,
            "missing_minidump",
        ),
        (
            "a bomb",
            gzip(&vec![0; 64 << 20]),
            413,
            "attachment_too_large",
        ),
    ] {
        let form = Form::new().file("upload_file_minidump", "a.dmp", &content);
        let answer = stack.post_form(form);
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
        assert_eq!(answer.json()["reason"], reason, "{what}: {}", answer.text());
        assert!(answer.header("x-sentry-error").is_some(), "{what}");
    }
    stack.finish(0, 0);
}

/// A form of its own, as Electron on Linux sends it up to version 15.
fn nested(dump: &[u8]) -> Vec<u8> {
    let head = "Content-Disposition: form-data; name=";
    let before = format!(
        "--inner\r\n{head}\"ptype\"\r\n\r\nrenderer\r\n\
         --inner\r\n{head}\"upload_file_minidump\"; filename=\"a.dmp\"\r\n\r\n"
    );
    [before.as_bytes(), dump, b"\r\n--inner--\r\n"].concat()
}

fn nested_field() -> Vec<u8> {
    b"--inner\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--inner--\r\n".to_vec()
}
