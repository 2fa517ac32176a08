//! Archives of Unreal Engine's crash reporter, new and old: the dump is parsed, the context tells release and user, the
//! log's end becomes breadcrumbs, and every file is kept.

use harness::dumps;
use harness::encodings::deflate;
use harness::http::{Request, Response};
use harness::settings::KEY;
use harness::stack::{Plan, Stack, accepted_id};

const CONTEXT: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<FGenericCrashContext>
<RuntimeProperties>
<CrashGUID>UECC-Windows-379993BB42BD8FBED67986857D8844B5_0000</CrashGUID>
<CrashType>Crash</CrashType>
<ErrorMessage>Access violation - code c0000005 (first/second chance not available)</ErrorMessage>
<GameName>UE-Foxfight</GameName>
<ExecutableName>Foxfight</ExecutableName>
<BuildConfiguration>Development</BuildConfiguration>
<EngineVersion>5.4.1-33043543+++UE5+Release-5.4</EngineVersion>
<BuildVersion>++Foxfight+Main-CL-4711</BuildVersion>
<LoginId>9776d4b9b0d04b46b9d0e43d8ee5c7c6</LoginId>
<CommandLine>-token=secret</CommandLine>
</RuntimeProperties>
<GameData><Sector>Alpha</Sector></GameData>
</FGenericCrashContext>
"#;
const LOG: &str = "[2026.11.21-10.19.24:621][  0]LogInit: Starting\n[2026.11.21-10.19.25:100][  1]LogNet: Connected\n";

#[test]
fn new_and_old_archives_become_reports() {
    let stack = Plan::standalone().start();
    for (what, write) in [
        ("CR1", new_archive as fn(&[(&str, &[u8])]) -> Vec<u8>),
        ("older", old_archive),
    ] {
        let dump = dumps::unique();
        let archive = write(&[
            ("CrashContext.runtime-xml", CONTEXT.as_bytes()),
            ("CrashReportClient.ini", b"[CrashReportClient]\n"),
            ("Foxfight.log", LOG.as_bytes()),
            ("UEMinidump.dmp", &dump),
        ]);
        let id = accepted_id(&post(&stack, &archive));
        let report = stack.report(&id);
        dumps::check_report(&report);
        assert!(stack.stored_dump(&id) == dump, "{what}");
        assert_eq!(report["user"]["id"], "login-7", "{what}: {report}");
        let release = report["release"].as_str().unwrap_or_default();
        assert!(release.contains("CL-4711"), "{what}: {release:?}");
        assert_eq!(report["breadcrumbs"][1]["message"], "Connected", "{what}");
        let files = report["attachments"].as_array().expect("a list");
        let kinds: Vec<&str> = files
            .iter()
            .filter_map(|file| file["type"].as_str())
            .collect();
        assert_eq!(
            kinds,
            [
                "unreal.context",
                "event.attachment",
                "unreal.logs",
                "event.minidump"
            ],
            "{what}"
        );
        assert!(
            !report["extra"].to_string().contains("token=secret"),
            "{what}"
        );
        assert!(
            !report["contexts"].to_string().contains("token=secret"),
            "{what}"
        );
    }
    stack.finish(2, 0);
}

#[test]
fn a_bad_archive_is_refused_with_its_reason() {
    let stack = Plan::standalone().start();
    let whole = new_archive(&[("UEMinidump.dmp", &dumps::unique())]);
    for (what, body, reason) in [
        ("a header", deflate(&whole[..400]), "cut_unreal_archive"),
        ("a text", deflate(&[b'x'; 4000]), "broken_unreal_archive"),
        ("no zlib", b"hello".to_vec(), "broken_encoding"),
    ] {
        let answer = send(&stack, body);
        assert_eq!(answer.status, 400, "{what}: {}", answer.text());
        assert_eq!(answer.json()["reason"], reason, "{what}: {}", answer.text());
    }
    let other = Request::post("/api/1/unreal/nobodys/", Vec::new()).send(stack.listen());
    assert_eq!(other.status, 403);
    stack.finish(0, 0);
}

fn post(stack: &Stack, archive: &[u8]) -> Response {
    send(stack, deflate(archive))
}

fn send(stack: &Stack, body: Vec<u8>) -> Response {
    let path = format!(
        "/api/1/unreal/{KEY}/?AppID=CrashReporter&AppVersion=1.0&UploadType=crashreports&UserID=login-7%7Cepic-8%7Cos-9"
    );
    Request::post(path, body)
        .header("Content-Type", "application/octet-stream")
        .header("User-Agent", "CrashReportClient/++UE5")
        .send(stack.listen())
}

fn new_archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    [b"CR1", header(files).as_slice(), &entries(files)].concat()
}

/// Before `CR1` the header was written once more, with its numbers, behind the files.
fn old_archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let header = header(files);
    let mut blank = header.clone();
    let numbers = blank.len() - 8;
    blank[numbers..].fill(0);
    [blank, entries(files), header].concat()
}

fn header(files: &[(&str, &[u8])]) -> Vec<u8> {
    let bytes = entries(files).len() as i32;
    [
        text("UECC-Windows-379993BB42BD8FBED67986857D8844B5_0000"),
        text("UECC-Windows-379993BB42BD8FBED67986857D8844B5_0000.uecrash"),
        bytes.to_le_bytes().to_vec(),
        (files.len() as i32).to_le_bytes().to_vec(),
    ]
    .concat()
}

fn entries(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut entries = Vec::new();
    for (index, (name, content)) in files.iter().enumerate() {
        entries.extend((index as i32).to_le_bytes());
        entries.extend(text(name));
        entries.extend((content.len() as i32).to_le_bytes());
        entries.extend(*content);
    }
    entries
}

/// A name in a field of 260 bytes, as the engine writes it.
fn text(text: &str) -> Vec<u8> {
    let mut field = 260_u32.to_le_bytes().to_vec();
    field.extend(text.as_bytes());
    field.resize(4 + 260, 0);
    field
}
