//! `crashferry reports delete`: everything of an event goes, with a receipt, in SQLite as in Redis; nothing brings it
//! back, and what cannot be deleted says why.

use std::fs;
use std::process::Output;

use harness::http::Request;
use harness::multipart::Form;
use harness::settings::KEY;
use harness::stack::{FATE_DEADLINE, Plan, Stack, accepted_id};
use harness::{dumps, wait};
use serde_json::Value;

#[test]
fn in_one_process() {
    delete(Plan::standalone());
}

#[test]
fn through_kafka() {
    delete(Plan::split());
}

fn delete(plan: Plan) {
    let mut stack = plan.start();
    let other = stack.upload(&dumps::unique());
    stack.report(&other);
    let dump = dumps::unique();
    let id = stack.upload(&dump);
    stack.report(&id);
    attach(&stack, &id, b"what happened");
    wait::until("the late file", FATE_DEADLINE, || {
        let event = stack.event(&id).json();
        let files = event["late_attachments"].as_array().map_or(0, Vec::len);
        if files == 1 {
            Ok(())
        } else {
            Err(event.to_string())
        }
    });
    let shown = stack.command(&["reports", "show", &id]);
    let shown: Value = serde_json::from_str(&shown).expect("a report");
    assert_eq!(shown["event_id"], *id);

    refuses(&mut stack, &id);
    let intended = receipt(&stack, &["--dry-run", &id]);
    assert_eq!(intended["dry_run"], true);
    assert!(stack.stored_dump(&id) == dump, "nothing was done");

    let before = stack.stored_dir(&id);
    let first = receipt(&stack, &["--yes", &id]);
    assert_eq!(first["storage"], intended["storage"]);
    check(&stack, &first, &id, dump.len());
    assert!(!before.exists(), "nothing is left");
    gone(&stack, &id);

    // Late files, and the same dump again, bring nothing back.
    attach(&stack, &id, b"and afterwards");
    wait::until("the late files' fate", FATE_DEADLINE, || {
        match stack
            .processor()
            .metric("crashferry_late_files_of_deleted_events_total")
        {
            1.0 => Ok(()),
            other => Err(other.to_string()),
        }
    });
    let form = Form::minidump(&dump).finish();
    let repeat = Request::post(Stack::minidump_path(), form)
        .header("Content-Type", &Form::content_type())
        .send(stack.listen());
    assert_eq!(accepted_id(&repeat), id);
    gone(&stack, &id);
    assert!(!before.exists(), "nothing came back");

    let second = receipt(&stack, &["--yes", &id]);
    assert_eq!(second["deleted_before"], true);
    assert_eq!(second["deleted_at"], first["deleted_at"]);
    assert_eq!(second["storage"]["bytes"], 0);
    stack.report(&other);
    // Two crashes and two uploads of late files, each counted once for ever.
    stack.finish(4, 0);
}

/// What a receipt has to say.
fn check(stack: &Stack, receipt: &Value, id: &str, dump_bytes: usize) {
    assert_eq!(receipt["event_id"], *id);
    assert_eq!(receipt["project_id"], 1);
    assert_eq!(receipt["deleted_before"], false);
    assert_eq!(receipt["state"], "outcome_marked_deleted");
    let files = receipt["storage"]["files"].as_array().expect("files");
    let bytes_of = |end: &str| {
        let mut files = files.iter();
        let file = files.find(|file| {
            file["path"]
                .as_str()
                .is_some_and(|path| path.ends_with(end))
        });
        file.unwrap_or_else(|| panic!("no {end}: {receipt}"))["bytes"].as_u64()
    };
    assert_eq!(bytes_of("/minidump.dmp"), Some(dump_bytes as u64));
    assert_eq!(bytes_of("-session.log"), Some(13));
    assert!(bytes_of("/report.json") > Some(100));
    assert_eq!(files.len(), 4, "and the list of late files: {receipt}");
    let topics = receipt["kafka"].as_array().expect("topics");
    if !stack.is_split() {
        assert!(topics.is_empty(), "{receipt}");
        return;
    }
    let names: Vec<&str> = topics
        .iter()
        .filter_map(|line| line["topic"].as_str())
        .collect();
    assert_eq!(
        names,
        [&stack.topics().attachments, &stack.topics().reports]
    );
    for line in topics {
        let until = line["kept_until"].as_str().expect("a time");
        assert!(
            until > receipt["deleted_at"].as_str().expect("a time"),
            "{receipt}"
        );
    }
}

/// What is refused, and with which words and exit status.
fn refuses(stack: &mut Stack, id: &str) {
    let unknown = uuid::Uuid::new_v4().to_string();
    let forgotten = forgotten(stack, id);
    for (words, status, expected) in [
        (
            vec!["--yes", unknown.as_str()],
            1,
            "found none with this id",
        ),
        (
            vec!["--yes", "--project", "2", id],
            1,
            "expected an event of project 2, found one of project 1: nothing of it was deleted",
        ),
        (
            vec!["--yes", "--project", "1", forgotten.as_str()],
            1,
            "expected an event of project 1, found one of project 2: nothing of it was deleted",
        ),
        (vec![id], 2, "--yes: expected"),
        (vec!["--yes", "no-id"], 2, "no-id"),
    ] {
        let output = run(stack, &words);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{words:?}: {said}");
        assert!(said.contains(expected), "{words:?}: {said}");
        assert!(output.stdout.is_empty(), "{output:?}");
    }
}

/// An event of project 2 of which only files are left, in the storage that has those of `other`.
fn forgotten(stack: &Stack, other: &str) -> String {
    let id = uuid::Uuid::new_v4().to_string();
    let stored = stack.stored_dir(other);
    let storage = stored.ancestors().nth(3).expect("project, day, event");
    let dir = storage.join("2/2020-01-01").join(&id);
    fs::create_dir_all(&dir).expect("a directory");
    fs::write(dir.join("report.json"), "{}").expect("a file");
    id
}

#[test]
fn an_event_that_is_not_finished_is_refused() {
    let mut stack = Plan::split().start();
    stack.processor().kill();
    let id = stack.upload(&dumps::unique());
    let output = wait::until("the upload to be noted", FATE_DEADLINE, || {
        let output = run(&mut stack, &["--yes", &id]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if said.contains("found none") {
            Err(said)
        } else {
            Ok(output)
        }
    });
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("expected an event that is finished"),
        "{said}"
    );
    stack.processor().start();
    stack.report(&id);
    receipt(&stack, &["--yes", &id]);
    gone(&stack, &id);
    stack.finish(1, 0);
}

fn attach(stack: &Stack, id: &str, log: &[u8]) {
    let path = format!("/api/1/events/{id}/attachments/?sentry_key={KEY}");
    let form = Form::new().file("log", "session.log", log);
    let late = Request::post(path, form.finish()).header("Content-Type", &Form::content_type());
    assert_eq!(late.send(stack.listen()).status, 201);
}

fn gone(stack: &Stack, id: &str) {
    let answer = stack.event(id);
    assert_eq!(answer.status, 410, "{}", answer.text());
    assert_eq!(answer.json()["reason"], "deleted");
}

fn receipt(stack: &Stack, words: &[&str]) -> Value {
    let told = stack.command(&[&["reports", "delete"], words].concat());
    serde_json::from_str(&told).unwrap_or_else(|error| panic!("{error}: {told}"))
}

fn run(stack: &mut Stack, words: &[&str]) -> Output {
    let words = [&["reports", "delete"], words].concat();
    stack.relay().command(&words)
}
