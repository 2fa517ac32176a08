use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;
use shared::config::Keep;
use shared::id::{EventId, ProjectId};
use shared::report::{Crash, Frame, Module, RawJson, Symbols, Thread};

use super::*;

fn envelope(event: &str) -> Envelope {
    Envelope {
        event_id: EventId::random(),
        project_id: ProjectId::new(1),
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
        revision: None,
        reprocessed_at: None,
        partial: None,
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
    built(event, large(), &PrivacyConfig::default())
}

fn built(event: &str, details: CrashDetails, privacy: &PrivacyConfig) -> Report {
    let dump = DumpDetails {
        details,
        time: None,
    };
    build(&envelope(event), dump, vec![], processing(), privacy)
}

#[test]
fn a_dump_says_when_it_crashed_unless_the_client_does_or_its_clock_is_wrong() {
    let received_at = envelope("{}").received_at;
    let told = |event: &str, time: i64| {
        let dump = DumpDetails {
            time: Timestamp::from_second(time).ok(),
            ..DumpDetails::default()
        };
        let privacy = PrivacyConfig::default();
        build(&envelope(event), dump, vec![], processing(), &privacy)
    };
    let arrival = received_at.as_second();
    for good in [arrival - 3 * 86_400, arrival, arrival + 60, 946_684_800] {
        let report = told("{}", good);
        assert_eq!(report.timestamp, Timestamp::from_second(good).ok());
        assert_eq!(report.processing.warnings, ["the dump is odd"]);
    }
    for bad in [1, 86_400, 946_684_799, arrival + 61, u32::MAX.into()] {
        let report = told("{}", bad);
        assert_eq!(report.timestamp, None, "{bad}");
        let warnings = &report.processing.warnings;
        assert!(warnings[1].contains("not believed"), "{warnings:?}");
    }
    let client = json!({"timestamp": "2025-12-31T00:00:00Z"}).to_string();
    let report = told(&client, arrival);
    assert_eq!(report.timestamp, "2025-12-31T00:00:00Z".parse().ok());
}

fn fitted(report: &Report, bytes_max: usize) -> Report {
    let json = fit(report.clone(), &encode(report), bytes_max);
    assert!(json.len() <= bytes_max, "{} > {bytes_max}", json.len());
    serde_json::from_slice(&json).expect("a report")
}

#[test]
fn our_payload_goes_in_as_it_is() {
    let event = json!({"release": "1.2", "environment": "test", "tags": {"a": 1}, "extra": {"x": "y"},
        "client": {"name": "Electron"}, "user": {"id": 7}, "warnings": ["the relay saw damage"],
        "process_type": "renderer", "breadcrumbs": [{"message": "m"}], "contexts": {"os": {}},
        "event": {"exception": {"values": []}}, "user_reports": [{"comments": "c"}], "level": "fatal",
        "timestamp": "2026-01-02T03:04:00Z", "platform": "native"});
    let report = report(&event.to_string());
    assert_eq!(report.release.as_deref(), Some("1.2"));
    assert_eq!(report.environment.as_deref(), Some("test"));
    assert_eq!(report.client.name.as_deref(), Some("Electron"));
    assert_eq!(report.user, Some(json!({"id": 7})));
    assert_eq!(report.crash.process.kind.as_deref(), Some("renderer"));
    assert_eq!(
        report.processing.warnings,
        ["the relay saw damage", "the dump is odd"]
    );
    let written = serde_json::to_value(&report).expect("encodes");
    for name in [
        "extra",
        "breadcrumbs",
        "contexts",
        "event",
        "user_reports",
        "level",
        "timestamp",
        "platform",
    ] {
        assert_eq!(written[name], event[name], "{name}");
    }
}

#[test]
fn a_foreign_payload_loses_nothing() {
    let event = json!({"release": 12, "environment": ["x"], "tags": [["a", "b"], null], "extra": 7, "user": "someone",
        "breadcrumbs": {"values": [{"message": "m"}]}, "sdk": {"name": "sentry.native", "version": "0.7"},
        "exception": {"values": [{"type": "Minidump"}]}, "modules": {"ms": "2"}});
    let report = report(&event.to_string());
    assert_eq!(report.release.as_deref(), Some("12"));
    assert_eq!(report.tags["a"], "b");
    assert_eq!(report.breadcrumbs, [json!({"message": "m"})]);
    assert_eq!(report.client.name.as_deref(), Some("sentry.native"));
    for name in [
        "environment",
        "extra",
        "user",
        "exception",
        "modules",
        "sdk",
    ] {
        assert_eq!(report.event[name], event[name], "{name}");
    }
    let warnings = report.processing.warnings.join("; ");
    assert!(
        warnings.contains("environment is kept as it came"),
        "{warnings}"
    );
    assert!(warnings.contains("extra is kept as it came"), "{warnings}");
    assert_eq!(report.processing.warnings.len(), 4, "{warnings}");
}

#[test]
fn a_bad_leaf_of_a_foreign_payload_costs_itself() {
    for bad in [
        "\"\\ud83d\"",
        "\"a\u{1}b\"",
        "NaN",
        "1e400",
        "[[1,]",
        "{\"x\":1,}",
    ] {
        let event = format!(
            r#"{{"release":"r@1","tags":{{"k":"v"}},"extra":{{"bad":{bad}}},"user":{{"id":"7"}},"contexts":{{"os":{{"name":"L"}}}}}}"#
        );
        let report = report(&event);
        assert_eq!(report.release.as_deref(), Some("r@1"), "{bad}");
        assert_eq!(
            (&report.tags["k"], &report.contexts["os"]["name"]),
            (&json!("v"), &json!("L"))
        );
        assert_eq!(report.user, Some(json!({"id": "7"})));
        let warnings = report.processing.warnings.join("; ");
        assert!(warnings.contains("extra.bad"), "{warnings}");
    }
}

#[test]
fn annotations_in_the_dump_fill_what_the_client_left_out() {
    let annotations = [
        ("prod", "Electron"),
        ("ver", "37"),
        ("_productName", "Zombies"),
        ("_version", "2"),
        ("ptype", "gpu-process"),
        ("channel", "beta"),
        ("switch-1", "--secret"),
        ("guid", "g"),
    ];
    let details = CrashDetails {
        annotations: annotations
            .map(|(name, value)| (name.into(), value.into()))
            .into(),
        ..CrashDetails::default()
    };
    let privacy = PrivacyConfig::default();
    let alone = built("{}", details.clone(), &privacy);
    assert_eq!(alone.client.name.as_deref(), Some("Electron"));
    assert_eq!(alone.client.guid.as_deref(), Some("g"));
    assert_eq!(alone.release.as_deref(), Some("Zombies@2"));
    assert_eq!(alone.environment.as_deref(), Some("beta"));
    assert_eq!(alone.crash.process.kind.as_deref(), Some("gpu-process"));
    assert_eq!(alone.tags["process_type"], "gpu-process");
    assert!(!alone.crash.annotations.contains_key("switch-1"));
    let told = alone.processing.warnings.last();
    assert!(
        told.is_some_and(|told| told.starts_with("1 command line values")),
        "{told:?}"
    );

    let event =
        json!({"release": "mine", "client": {"name": "sentry.native"}, "process_type": "main"});
    let said = built(&event.to_string(), details, &privacy);
    assert_eq!(said.client.name.as_deref(), Some("sentry.native"));
    assert_eq!(said.client.version, None, "a version of something else");
    assert_eq!(said.release.as_deref(), Some("mine"));
    assert_eq!(said.crash.process.kind.as_deref(), Some("main"));
}

#[test]
fn names_of_users_are_nowhere_in_a_report() {
    let mut details = large();
    details.modules.push(module("/home/ada/app/libx.so"));
    details.threads[0].frames[0].file = Some(r"C:\Users\ada\main.rs".into());
    details
        .annotations
        .insert("dir".into(), "/Users/ada/x".into());
    let json = json!({"modules": [{"filename": "/home/ada/app/libx.so", "size": u64::MAX}]});
    details.minidump = RawJson::new(json.to_string()).ok();
    let event = json!({"extra": {"file:///home/ada/x": "/home/ada"}}).to_string();
    let kept = built(&event, details.clone(), &PrivacyConfig::default());
    assert_eq!(kept.crash.minidump, details.minidump);
    let privacy = PrivacyConfig {
        home_paths: Keep::Drop,
        ..PrivacyConfig::default()
    };
    let report = built(&event, details, &privacy);
    let written = String::from_utf8(encode(&report).to_vec()).expect("a text");
    assert!(!written.contains("ada"), "{written}");
    assert!(written.contains("/home/~/app/libx.so"));
    assert!(
        written.contains(&u64::MAX.to_string()),
        "numbers stay whole"
    );
    let told = report.processing.warnings.last();
    assert!(
        told.is_some_and(|told| told.starts_with("6 users' names")),
        "{told:?}"
    );
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
    report.platform = Some(long.clone());
    report.level = Some(long.clone());
    report.user_reports = vec![json!(long)];
    report.event.insert("exception".into(), json!(long));
    report.contexts.insert(long.clone(), json!(1));
    report.breadcrumbs = vec![json!(long)];
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

#[test]
fn of_the_clients_event_the_error_stays_longest() {
    let long = "l".repeat(3000);
    let event = json!({"exception": {"values": [{"type": "Boom"}]}, "modules": {"m": long}, "breadcrumbs": [{"message": long}],
        "contexts": {"c": {"x": long}}, "user_reports": [{"comments": "broke"}]});
    let whole = built(
        &event.to_string(),
        CrashDetails::default(),
        &PrivacyConfig::default(),
    );
    let small = fitted(&whole, 4500);
    assert_eq!(
        small.event,
        json!({"exception": event["exception"]})
            .as_object()
            .cloned()
            .expect("an object")
    );
    assert_eq!(small.user_reports, whole.user_reports);
    let told = small.processing.warnings.last().expect("a warning");
    assert!(
        told.ends_with("1 breadcrumbs, 1 fields of the client's event"),
        "{told}"
    );
}

proptest! {
    #[test]
    fn a_fitted_report_never_passes_its_limit(
        bytes_max in REPORT_BYTES_MIN..150_000,
        fields in proptest::collection::btree_map(".{0,40}", ".{0,2000}", 0..20),
    ) {
        let event = json!({"extra": fields, "tags": fields, "contexts": fields, "exception": fields, "x": fields,
            "breadcrumbs": [fields], "user_reports": [fields]});
        let report = report(&event.to_string());
        fitted(&report, bytes_max);
    }
}

#[test]
fn a_report_that_is_renewed_keeps_what_the_client_said_and_what_was_dropped_stays_so() {
    let privacy = PrivacyConfig {
        home_paths: Keep::Drop,
        ..PrivacyConfig::default()
    };
    let event = json!({"release": "1.2", "tags": {"dir": "/home/ada/x"}, "process_type": "renderer",
        "client": {"name": "Electron"}, "warnings": ["the relay saw damage"]});
    let first = built(&event.to_string(), CrashDetails::default(), &privacy);
    let annotations = [
        ("channel", "nightly"),
        ("prod", "other"),
        ("p", "/home/ada/y"),
    ];
    let annotations = annotations.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let details = CrashDetails {
        annotations: BTreeMap::from(annotations),
        signature: Some("found now".into()),
        ..CrashDetails::default()
    };
    let anew = Processing {
        revision: Some(2),
        ..processing()
    };
    let dump = DumpDetails {
        details,
        time: Some(first.received_at),
    };
    let renewed = rebuild(first.clone(), dump, anew, &privacy);
    assert_eq!(renewed.timestamp, Some(first.received_at));
    assert_eq!(renewed.event_id, first.event_id);
    assert_eq!(renewed.release.as_deref(), Some("1.2"));
    assert_eq!(renewed.environment.as_deref(), Some("nightly"));
    assert_eq!(renewed.client.name.as_deref(), Some("Electron"));
    assert_eq!(renewed.crash.process.kind.as_deref(), Some("renderer"));
    assert_eq!(renewed.crash.signature.as_deref(), Some("found now"));
    assert_eq!(renewed.tags["dir"], "/home/~/x");
    assert_eq!(renewed.crash.annotations["p"], "/home/~/y");
    assert_eq!(renewed.processing.revision, Some(2));
    let dropped = "1 users' names in paths were dropped: privacy.home_paths";
    assert_eq!(
        renewed.processing.warnings,
        ["the relay saw damage", "the dump is odd", dropped]
    );
}
