//! `crashferry keys`: a key that is added, disabled, enabled or limited beside a running relay is so within seconds, in
//! SQLite as in Redis; and what cannot be done says why.

use std::time::Duration;

use harness::http::{Request, Response};
use harness::multipart::Form;
use harness::redis::Redis;
use harness::settings::{KEY, OTHER_KEY};
use harness::stack::{Plan, Stack, accepted_id};
use harness::{dumps, ports, wait};
use serde_json::Value;

/// The relay follows within two seconds, on a machine without other work.
const FOLLOWED: Duration = Duration::from_secs(15);
const ADDED: &str = "a-key-of-the-operator";

#[test]
fn beside_a_standalone_process() {
    look_after(Plan::standalone().start());
}

#[test]
fn beside_a_relay_of_several_processes() {
    look_after(Plan::split().start());
}

fn look_after(stack: Stack) {
    assert_eq!(reason(&send(&stack, 1, ADDED)), "unknown_key");
    let dsn = stack.command(&[
        "keys",
        "add",
        "1",
        "--key",
        ADDED,
        "--uploads-per-hour",
        "2",
    ]);
    assert_eq!(dsn, format!("http://{ADDED}@{}/1\n", stack.listen()));
    let mut accepted = 1;
    followed("the new key", || send(&stack, 1, ADDED).status == 200);

    let random = stack.command(&["keys", "add", "3"]);
    let random = random.split(['/', '@']).nth(2).expect("a key").to_owned();
    accepted += 1;
    followed("a new project", || send(&stack, 3, &random).status == 200);

    stack.command(&["keys", "disable", KEY]);
    followed("the disabled key", || {
        let response = send(&stack, 1, KEY);
        accepted += u64::from(response.status == 200);
        response.status == 403 && reason(&response) == "disabled_key"
    });
    let list = list(&stack);
    let line = |key: &str| list.iter().find(|line| line["key"] == key);
    let changed = line(KEY).expect("it is listed");
    assert_eq!(
        (&changed["source"], &changed["enabled"]),
        (&"changed".into(), &false.into())
    );
    let added = line(ADDED).expect("it is listed");
    assert_eq!(added["source"], "store");
    assert_eq!(added["quotas"]["uploads_per_hour"], 2);
    assert_eq!(added["used"]["uploads_this_hour"], 1);
    assert_eq!(
        line(OTHER_KEY).expect("it is listed")["source"],
        "configuration"
    );
    let shown = stack.command(&["keys", "list"]);
    assert!(shown.contains("uploads_per_hour 1 of 2"), "{shown}");

    stack.command(&["keys", "enable", KEY]);
    accepted += 1;
    followed("the enabled key", || send(&stack, 1, KEY).status == 200);
    let said = stack.command(&["keys", "quota", ADDED, "--none", "--bytes-per-hour", "40B"]);
    assert_eq!(said, format!("{ADDED}: bytes_per_hour = 40B\n"));
    followed("the quota", || {
        let response = send(&stack, 1, ADDED);
        accepted += u64::from(response.status == 200);
        response.status == 413 && reason(&response) == "larger_than_quota"
    });
    stack.command(&["keys", "quota", ADDED, "--none"]);
    accepted += 1;
    followed("no quota", || send(&stack, 1, ADDED).status == 200);
    stack.finish(accepted, 0);
}

#[test]
fn and_what_cannot_be_done_says_why() {
    let mut stack = Plan::standalone().prepare();
    for (words, status, said) in [
        (
            &["keys", "disable", "nobody"][..],
            1,
            "found neither to have \"nobody\"",
        ),
        (
            &["keys", "quota", "nobody", "--none"],
            1,
            "crashferry keys list",
        ),
        (
            &["keys", "add", "2", "--key", KEY],
            1,
            "that project 1 has already",
        ),
        (&["keys", "add", "x"], 2, "a project number"),
        (
            &["keys", "add", "1", "--key", "a b"],
            2,
            "a key of 1 to 64 letters",
        ),
        (
            &["keys", "quota", KEY, "--uploads-per-hour", "0"],
            2,
            "expected at least 1, found 0",
        ),
        (
            &["keys", "quota", KEY, "--bytes-per-hour", "much"],
            2,
            "expected a size like",
        ),
    ] {
        let output = stack.relay().command(words);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{words:?}: {told}");
        assert!(told.contains(said), "{words:?}: {told}");
    }
    stack
        .relay()
        .set_variable("CRASHFERRY__REDIS__URL", &nobody_there());
    let output = stack.relay().command(&["keys", "list"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("the state store is away"), "{told}");
}

#[test]
fn a_relay_without_redis_keeps_the_keys_it_knows() {
    let mut redis = Redis::start();
    let mut stack = Plan::split().redis(&redis.address()).start();
    stack.command(&["keys", "disable", KEY]);
    followed("the disabled key", || send(&stack, 1, KEY).status == 403);
    let id = accepted_id(&send(&stack, 2, OTHER_KEY));
    redis.kill();
    wait::until_true("Redis to be missed", FOLLOWED, || {
        stack.relay().part("state") != "ready"
    });
    assert_eq!(reason(&send(&stack, 1, KEY)), "disabled_key");
    assert_ne!(accepted_id(&send(&stack, 2, OTHER_KEY)), id);
    redis.restart();
    stack.stop();
}

fn nobody_there() -> String {
    format!("redis://127.0.0.1:{}", ports::free())
}

fn list(stack: &Stack) -> Vec<Value> {
    let listed = stack.command(&["keys", "list", "--json"]);
    serde_json::from_str(&listed).expect("a JSON array")
}

fn followed(what: &str, condition: impl FnMut() -> bool) {
    wait::until_true(what, FOLLOWED, condition);
}

/// Sends a dump nobody else sends.
fn send(stack: &Stack, project: u64, key: &str) -> Response {
    let form = Form::minidump(&dumps::unique()).finish();
    Request::post(format!("/api/{project}/minidump/?sentry_key={key}"), form)
        .header("Content-Type", &Form::content_type())
        .send(stack.listen())
}

fn reason(response: &Response) -> String {
    let reason = response.json()["reason"].as_str().map(str::to_owned);
    reason.unwrap_or_else(|| panic!("no reason: {}", response.text()))
}
