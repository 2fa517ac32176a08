use serde_json::json;

use super::*;
use crate::config::KeepMinidump;
use crate::event::read_payload;

const ALL: PrivacyConfig = PrivacyConfig {
    command_lines: Keep::Drop,
    home_paths: Keep::Drop,
    client_address: Keep::Drop,
    minidump: KeepMinidump::Never,
    public_report: false,
};

fn payload(event: Value) -> EventPayload {
    let Value::Object(event) = event else {
        panic!("expected an object, found {event}");
    };
    read_payload(event)
}

fn sent() -> EventPayload {
    payload(json!({
        "release": "/home/ada/app@1",
        "user": {"id": 1, "ip_address": "192.0.2.1"},
        "user_reports": [{"user": {"ip_address": "192.0.2.2"}, "comments": "in /home/ada/x"}],
        "request": {"env": {"REMOTE_ADDR": "192.0.2.3"}, "headers": {"X-Forwarded-For": "192.0.2.4"}},
        "tags": {"path": r"C:\Users\Ada L\x"},
        "extra": {"switch-1": "--user-data-dir=/x", "num-switches": "1", "prod": "P", "/home/ada/k": 1, "/home/bob/k": 2},
        "contexts": {"unreal": {"CommandLine": "-log", "GameName": "G"}},
        "breadcrumbs": [{"message": "opened /home/ada/x", "data": {"argv": ["a"]}}],
        "warnings": ["the file \"/home/ada/x\" is odd"],
        "exception": {"values": [{"stacktrace": {"frames": [{"abs_path": "/Users/ada/src/main.rs"}]}}]},
    }))
}

#[test]
fn what_is_not_kept_is_nowhere_and_is_counted() {
    let mut payload = sent();
    scrub_payload(&mut payload, &ALL);
    let written = serde_json::to_string(&payload).expect("encodes");
    for gone in [
        "ada",
        "Ada",
        "bob",
        "user-data-dir",
        "-log",
        "argv",
        "192.0.2.",
        "num-switches",
    ] {
        assert!(!written.contains(gone), "{gone} in {written}");
    }
    for kept in [
        "\"prod\":\"P\"",
        "GameName",
        "/home/~/k~",
        "/Users/~/src/main.rs",
    ] {
        assert!(written.contains(kept), "{kept} not in {written}");
    }
    let told = payload.warnings[1..].join("; ");
    assert_eq!(
        told,
        "4 command line values were dropped: privacy.command_lines; \
         8 users' names in paths were dropped: privacy.home_paths; \
         4 client addresses were dropped: privacy.client_address"
    );
    let before = payload.clone();
    scrub_payload(&mut payload, &ALL);
    assert_eq!(payload, before, "a second time there is nothing left");
}

#[test]
fn by_default_only_command_lines_go() {
    let mut payload = sent();
    scrub_payload(&mut payload, &PrivacyConfig::default());
    let mut expected = sent();
    expected.extra.remove("switch-1");
    expected.extra.remove("num-switches");
    expected.contexts["unreal"] = json!({"GameName": "G"});
    expected.breadcrumbs[0]["data"] = json!({});
    expected
        .warnings
        .push("4 command line values were dropped: privacy.command_lines".into());
    assert_eq!(payload, expected);
}

#[test]
fn what_is_kept_is_not_touched() {
    let keep = PrivacyConfig {
        command_lines: Keep::Keep,
        ..PrivacyConfig::default()
    };
    let mut payload = sent();
    scrub_payload(&mut payload, &keep);
    assert_eq!(payload, sent());
}

#[test]
fn an_unknown_project_has_the_defaults() {
    let id = |number| ProjectId::new(number);
    let known = ProjectConfig {
        privacy: ALL,
        ..ProjectConfig::new(id(1), [])
    };
    let rules = PrivacyRules::new(&[known]);
    assert_eq!(rules.of(id(1)), ALL);
    assert_eq!(rules.of(id(2)), PrivacyConfig::default());
}
