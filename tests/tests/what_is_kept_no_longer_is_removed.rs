//! `storage.keep`: whole days that are too old go, and the oldest events of a project that has too many bytes; what came
//! just now stays, and so does what a project keeps for itself. Who asks for an event that is gone is told so.

use std::fs;
use std::path::Path;
use std::time::Duration;

use harness::stack::{Plan, Stack};
use harness::{dumps, wait};

/// The first sweep comes within ten seconds of the start, and this machine has other work to do.
const SWEPT_WITHIN: Duration = Duration::from_secs(40);
const FILE_BYTES: usize = 50_000;

#[test]
fn by_age() {
    let plan = Plan::standalone().text("storage.keep", "age", "30d");
    let mut stack = plan.prepare();
    let storage = stack.dir().join("data/storage");
    let old = [
        event(&storage, 1, "2020-01-01"),
        event(&storage, 7, "2020-02-29"),
    ];
    let strange = storage.join("1/2020-01-01/notes.txt");
    fs::write(&strange, "not ours").expect("a file");
    stack.start();
    let id = stack.upload(&dumps::unique());
    stack.report(&id);
    wait::until("the sweep", SWEPT_WITHIN, || is_gone(&old));
    swept(&mut stack, "age", 2, 2 * FILE_BYTES);
    stack.stored_dump(&id);
    assert!(strange.is_file(), "what is not ours stays");
    stack.finish(1, 0);
}

#[test]
fn by_bytes_the_oldest_first_and_as_each_project_says() {
    let two = 2 * FILE_BYTES;
    let plan = Plan::standalone()
        .text("storage.keep", "bytes", &format!("{two}B"))
        .project("keep = {}");
    let mut stack = plan.prepare();
    let storage = stack.dir().join("data/storage");
    let days = ["2020-01-01", "2020-01-02", "2020-01-02", "2020-01-03"];
    let kept_for_ever: Vec<_> = days.map(|day| event(&storage, 1, day)).to_vec();
    let events: Vec<_> = days.map(|day| event(&storage, 2, day)).to_vec();
    stack.start();
    wait::until("the sweep", SWEPT_WITHIN, || is_gone(&events[..1]));
    swept(&mut stack, "bytes", 2, two);
    let of_the_same_day = [&events[1], &events[2]].map(|dir| dir.is_dir());
    assert!(
        of_the_same_day[0] != of_the_same_day[1],
        "one of two has to go"
    );
    assert!(events[3].is_dir(), "the youngest stays");
    assert!(kept_for_ever.iter().all(|dir| dir.is_dir()));
    stack.finish(0, 0);
}

#[test]
fn the_status_says_that_the_report_is_gone() {
    let mut stack = Plan::standalone().start();
    let id = stack.upload(&dumps::unique());
    let kept = stack.fate(&id, "processed", SWEPT_WITHIN);
    assert!(kept["report_gone"].is_null(), "{kept}");
    let dir = stack.stored_dir(&id);
    let process = stack.processor();
    process.stop();
    process.set_variable("CRASHFERRY__STORAGE__KEEP__BYTES", "1B");
    process.start();
    wait::until("the sweep", SWEPT_WITHIN, || {
        is_gone(std::slice::from_ref(&dir))
    });

    let gone = stack.event(&id).json();
    assert_eq!(gone["status"], "processed");
    assert_eq!(gone["outcome"], kept["outcome"]);
    assert!(gone["report"].is_null(), "{gone}");
    let why = gone["report_gone"].as_str().expect("a text");
    assert!(why.contains("storage.keep"), "{why}");
    let shown = stack.relay().command(&["reports", "show", &id]);
    assert_eq!(shown.status.code(), Some(1), "{shown:?}");
    let said = String::from_utf8_lossy(&shown.stderr);
    assert!(said.contains("storage.keep"), "{said}");
    stack.finish(1, 0);
}

/// A stored event of that day, as another run of the processor left it.
fn event(storage: &Path, project: u32, day: &str) -> std::path::PathBuf {
    let dir = storage.join(format!("{project}/{day}/{}", uuid::Uuid::new_v4()));
    fs::create_dir_all(dir.join("attachments")).expect("a directory");
    let (report, rest) = (1_000, FILE_BYTES - 1_000);
    fs::write(dir.join("report.json"), vec![b' '; report]).expect("a file");
    fs::write(dir.join("attachments/0-a.log"), vec![b'a'; rest]).expect("a file");
    dir
}

fn is_gone(dirs: &[std::path::PathBuf]) -> Result<(), String> {
    match dirs.iter().find(|dir| dir.exists()) {
        None => Ok(()),
        Some(dir) => Err(format!("{} is there", dir.display())),
    }
}

/// The metrics tell of one sweep, and what it removed.
fn swept(stack: &mut Stack, reason: &str, events: usize, bytes: usize) {
    let process = stack.processor();
    let name = "crashferry_retention_last_sweep_timestamp_seconds";
    wait::until_true("the sweep to be told", SWEPT_WITHIN, || {
        process.metric(name) > 0.0
    });
    let metrics = process.metrics();
    for (what, expected) in [("events", events), ("bytes", bytes)] {
        let name = format!("crashferry_retention_removed_{what}_total");
        let removed = metrics.sum(&name, &[("reason", reason)]);
        assert_eq!(removed, Some(expected as f64), "{what}");
    }
}
