use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;
use shared::id::{EventId, ProjectId};
use shared::report::{Crash, Frame, Module, RawJson, Symbols, Thread};

use super::*;

fn envelope(event: &str) -> Envelope {
    Envelope {
        event_id: EventId::random(),
        project_id: ProjectId::new(1).expect("not zero"),
        received_at: "2026-01-02T03:04:05Z".parse().expect("a time"),
        remote_addr: None,
        event: event.to_owned().into(),
        attachments: vec![],
    }
}

fn processing() -> Processing {
    Processing {
        parser: "rust-minidump 0.27".into(),
        started_at: "2026-01-02T03:04:06Z".parse().expect("a time"),
        seconds: 0.25,
        warnings: vec!["the dump is odd".into()],
    }
}

fn frame(module: &str) -> Frame {
    Frame {
        ip: "0x1230".into(),
        module: Some(module.into()),
        module_offset: Some("0x30".into()),
        function: None,
        file: None,
        line: None,
        trust: "scan".into(),
    }
}

fn module(name: &str) -> Module {
    Module {
        name: name.into(),
        base: "0x1200".into(),
        size: 4096,
        debug_id: None,
        code_id: None,
        symbols: Symbols::Missing,
    }
}

/// A crash of the third of four threads, in `editor`, with 40 other modules.
fn large() -> CrashDetails {
    let threads = (0..4).map(|id| Thread {
        id,
        name: None,
        frames: vec![frame(if id == 2 { "editor" } else { "other" }); 100],
    });
    let others = (0..40).map(|n| module(&format!("/usr/lib/lib{n}.so")));
    CrashDetails {
        crash: Some(Crash {
            kind: "SIGSEGV".into(),
            address: Some("0x42".into()),
            reason: "SIGSEGV / SEGV_MAPERR".into(),
            thread: Some(2),
        }),
        signature: Some("editor+0x30".into()),
        threads: threads.collect(),
        modules: others.chain([module("/opt/editor")]).collect(),
        annotations: BTreeMap::from([("channel".into(), "n".repeat(500))]),
        minidump: RawJson::new(json!({"modules": "m".repeat(100_000)}).to_string()).ok(),
        ..CrashDetails::default()
    }
}

fn report(event: &str) -> Report {
    build(&envelope(event), large(), vec![], processing())
}

fn fitted(report: &Report, bytes_max: usize) -> Report {
    let json = fit(report.clone(), &encode(report), bytes_max);
    assert!(json.len() <= bytes_max, "{} > {bytes_max}", json.len());
    serde_json::from_slice(&json).expect("a report")
}

#[test]
fn our_payload_goes_in_as_it_is() {
    let event = json!({"release": "1.2", "environment": "test", "tags": {"a": 1}, "extra": {"ptype": "renderer"},
        "client": {"name": "Electron"}, "user": {"id": 7}, "warnings": ["the relay saw damage"]});
    let report = report(&event.to_string());
    assert_eq!(report.release.as_deref(), Some("1.2"));
    assert_eq!(report.client.name.as_deref(), Some("Electron"));
    assert_eq!(report.user, Some(json!({"id": 7})));
    assert_eq!(report.crash.process.kind.as_deref(), Some("renderer"));
    assert_eq!(
        report.processing.warnings,
        ["the relay saw damage", "the dump is odd"]
    );
}

#[test]
fn a_foreign_payload_loses_only_what_is_odd() {
    let event = json!({"release": 12, "environment": ["x"], "tags": [["a", "b"]], "extra": 7, "user": "someone"});
    let report = report(&event.to_string());
    assert_eq!(report.release.as_deref(), Some("12"));
    assert_eq!(report.environment, None);
    assert_eq!(report.tags["a"], "b");
    let warnings = report.processing.warnings.join("; ");
    assert!(warnings.contains("environment is not used"), "{warnings}");
    assert!(warnings.contains("extra is not used"), "{warnings}");
    assert_eq!(report.processing.warnings.len(), 3, "{warnings}");
}

#[test]
fn an_event_that_is_no_json_is_a_warning() {
    for event in ["", "{", "[]", "nonsense", &"[".repeat(10_000)] {
        let report = report(event);
        assert!(
            report.processing.warnings[0].contains("expected a JSON object"),
            "{:?}",
            report.processing.warnings
        );
        assert_eq!(report.crash.signature.as_deref(), Some("editor+0x30"));
    }
}

#[test]
fn what_fits_is_not_touched() {
    let report = report("{}");
    let whole = encode(&report);
    let same = fit(report, &whole, whole.len());
    assert_eq!(same.as_ptr(), whole.as_ptr());
}

#[test]
fn the_minidump_goes_first_and_the_crash_last() {
    let whole = report(&json!({"extra": {"log": "l".repeat(3000)}}).to_string());
    let without_json = fitted(&whole, encode(&whole).len() - 1);
    assert_eq!(without_json.crash.minidump, None);
    assert_eq!(without_json.crash.threads, whole.crash.threads);
    let told = without_json.processing.warnings.last();
    assert!(told.is_some_and(|told| told.ends_with("whole in the storage: rust-minidump's JSON")));

    let one_thread = fitted(&whole, 25_000);
    assert_eq!(one_thread.crash.threads[..], whole.crash.threads[2..3]);
    let crash = one_thread.crash.crash.as_ref().expect("is kept");
    assert_eq!(crash.thread, Some(0), "the index follows the thread");

    let small = fitted(&whole, 14_000);
    assert_eq!(small.crash.modules, [module("/opt/editor")]);
    assert!(small.extra.is_empty());
    let told = small.processing.warnings.join("; ");
    assert!(
        told.contains(
            "3 threads that did not crash, 40 modules without frames here, 1 extra values"
        ),
        "{told}"
    );

    let smallest = fitted(&whole, REPORT_BYTES_MIN);
    assert_eq!(smallest.crash.signature, whole.crash.signature);
    assert_eq!(smallest.event_id, whole.event_id);
}

#[test]
fn the_smallest_report_is_small_whatever_the_names_are() {
    let mut report = report("{}");
    let long = "\u{1}".repeat(5000);
    report.release = Some(long.clone());
    report.environment = Some(long.clone());
    report.client.name = Some(long.clone());
    report.crash.signature = Some(long.clone());
    report.processing.parser = long.clone();
    report.crash.crash = Some(Crash {
        kind: long.clone(),
        address: Some(long.clone()),
        reason: long,
        thread: Some(9),
    });
    fitted(&report, REPORT_BYTES_MIN);
}

proptest! {
    #[test]
    fn a_fitted_report_never_passes_its_limit(
        bytes_max in REPORT_BYTES_MIN..150_000,
        fields in proptest::collection::btree_map(".{0,40}", ".{0,2000}", 0..20),
    ) {
        let report = report(&json!({"extra": fields, "tags": fields}).to_string());
        fitted(&report, bytes_max);
    }
}
