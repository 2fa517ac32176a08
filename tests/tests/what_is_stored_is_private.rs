//! Files are this user's alone whatever the umask; a client key reads a report only where the project says so; and the
//! storage leaves its volume some room.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use harness::http::Request;
use harness::settings::{KEY, OTHER_KEY};
use harness::stack::{FATE_DEADLINE, Plan, Stack, accepted_id};
use harness::{dumps, wait};

#[test]
fn every_file_is_this_users_alone_whatever_the_umask() {
    let dir = tempfile::tempdir().expect("a directory");
    let program = dir.path().join("crashferry");
    let binary = harness::environment::binary();
    let script = format!("#!/bin/sh\numask 000\nexec '{}' \"$@\"\n", binary.display());
    fs::write(&program, script).expect("a script");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("a mode");
    let mut stack = Plan::standalone().program(&program).start();
    let id = stack.upload(&dumps::sized(3_000_000, 4));
    stack.report(&id);
    let begin = Request::post(format!("/api/1/upload/?sentry_key={KEY}"), "")
        .header("Tus-Resumable", "1.0.0")
        .header("Upload-Length", "9");
    let begun = begin.send(stack.listen());
    let location = begun.header("location").expect("a location");
    let part = Request::of("PATCH", location, "abc")
        .header("Tus-Resumable", "1.0.0")
        .header("Upload-Offset", "0");
    assert_eq!(part.send(stack.listen()).status, 204);
    let data = stack.relay().data().to_owned();
    let mut files = Vec::new();
    collect(&data, &mut files);
    for name in [
        "state.db",
        "state.db-wal",
        "minidump.dmp",
        "report.json",
        ".part",
        "lock",
    ] {
        assert!(
            files.iter().any(|(path, _)| path.ends_with(name)),
            "no {name} in {files:?}"
        );
    }
    for (path, mode) in &files {
        assert_eq!(mode & 0o077, 0, "{path} has mode {mode:o}");
    }
    let log = stack.relay().log();
    assert!(
        !log.contains("others on this machine may read this"),
        "{log}"
    );

    // Made wider by other hands, they are warned about.
    stack.relay().stop();
    let state = data.join("state.db");
    fs::set_permissions(&state, fs::Permissions::from_mode(0o644)).expect("a mode");
    stack.start();
    let log = stack.relay().log();
    let warned = log
        .lines()
        .find(|line| line.contains("others on this machine"));
    let warned = warned.unwrap_or_else(|| panic!("no warning in {log}"));
    assert!(
        warned.contains("state.db") && warned.contains("0644"),
        "{warned}"
    );
    stack.finish(1, 0);
}

/// All that is below a directory, with modes.
fn collect(dir: &Path, files: &mut Vec<(String, u32)>) {
    for entry in fs::read_dir(dir).expect("it can be listed") {
        let entry = entry.expect("an entry");
        // What is there for a moment may have gone.
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        let path = entry.path();
        files.push((path.display().to_string(), metadata.permissions().mode()));
        if metadata.is_dir() {
            collect(&path, files);
        }
    }
}

#[test]
fn a_client_key_reads_a_report_only_where_the_project_says_so() {
    let stack = Plan::standalone().start();
    let post = |dump: &[u8]| {
        let path = format!("/api/2/minidump/?sentry_key={OTHER_KEY}");
        accepted_id(&Request::post(path, dump).send(stack.listen()))
    };
    let read = |id: &str, status: &str| {
        wait::until(status, FATE_DEADLINE, || {
            let path = format!("/api/2/events/{id}/?sentry_key={OTHER_KEY}");
            let answer = Request::get(path).send(stack.listen());
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert_eq!(answer.header("cache-control"), Some("no-store"));
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
            let event = answer.json();
            if event["status"] == status {
                Ok(event)
            } else {
                Err(event.to_string())
            }
        })
    };
    let fields = |event: &serde_json::Value| {
        let object = event.as_object().expect("an object");
        object.keys().cloned().collect::<Vec<_>>().join(" ")
    };
    let processed = read(&post(&dumps::unique()), "processed");
    assert_eq!(fields(&processed), "event_id project_id received_at status");
    let failed = read(&post(&dumps::header_only()), "failed");
    assert_eq!(
        fields(&failed),
        "event_id project_id reason received_at status"
    );
    let public = stack.upload(&dumps::unique());
    dumps::check_report(&stack.report(&public));
    let shown = stack.command(&[
        "reports",
        "show",
        processed["event_id"].as_str().expect("an id"),
    ]);
    assert!(
        shown.contains("crash-report/1"),
        "operators read it: {shown}"
    );
    stack.finish(2, 1);
}

#[test]
fn a_storage_without_room_waits_for_some_and_says_so() {
    let plan = Plan::standalone().text("storage", "min_free_bytes", "8000000GiB");
    let mut stack = plan.start();
    let id = stack.upload(&dumps::unique());
    wait::until("the storage to be full", FATE_DEADLINE, || {
        let part = stack.relay().part("storage");
        if part.contains("expected storage.min_free_bytes") {
            Ok(())
        } else {
            Err(part)
        }
    });
    assert_eq!(stack.event(&id).json()["status"], "accepted");
    stack.relay().stop();
    stack
        .relay()
        .set_variable("CRASHFERRY__STORAGE__MIN_FREE_BYTES", "0B");
    stack.start();
    dumps::check_report(&stack.report(&id));
    stack.finish(1, 0);
}

#[test]
fn what_inflates_too_much_is_refused_unless_the_project_allows_it() {
    let bomb = |bytes: usize| {
        let mut dump = dumps::sized(30_000, 5);
        dump.resize(bytes, 0);
        harness::encodings::zstd(&dump)
    };
    let send = |stack: &Stack, body: Vec<u8>| {
        Request::post(Stack::minidump_path(), body)
            .header("Content-Type", "application/octet-stream")
            .header("Content-Encoding", "zstd")
            .send(stack.listen())
    };
    let stack = Plan::standalone().start();
    let refused = send(&stack, bomb(100 << 20));
    assert_eq!(refused.status, 413, "{}", refused.text());
    assert_eq!(refused.json()["reason"], "inflated_too_much");
    accepted_id(&send(&stack, bomb(9 << 20)));
    stack.finish(1, 0);
    let allowed = Plan::standalone().project("limits = { inflation = 100000 }");
    let stack = allowed.start();
    accepted_id(&send(&stack, bomb(100 << 20)));
    stack.finish(1, 0);
}

#[test]
fn what_strangers_wrote_does_nothing_to_the_terminal() {
    let shown = Command::new(harness::environment::binary())
        .args(["config", "check", "--config", "no\u{1b}[2Jsuch\u{202e}file"])
        .output()
        .expect("the binary can be started");
    let said = String::from_utf8_lossy(&shown.stderr).into_owned();
    assert!(
        said.contains("\\u001b[2J") && said.contains("\\u202e"),
        "{said:?}"
    );
    assert!(
        !said.contains('\u{1b}') && !said.contains('\u{202e}'),
        "{said:?}"
    );
}
