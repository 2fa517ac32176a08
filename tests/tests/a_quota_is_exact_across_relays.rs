//! A key with a quota of N: N uploads pass, whichever relay they come to; the next gets 429 and how long to wait, and after
//! that passes. Repeats cost nothing; without Redis each relay counts by itself.

use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use harness::dumps;
use harness::http::Response;
use harness::metrics::Ledger;
use harness::redis::Redis;
use harness::settings::KEY;
use harness::stack::{FATE_DEADLINE, Plan, Stack, accepted_id};
use harness::wait;

const UPLOADS: usize = 10;
const RACING: usize = 30;
const NOTICED: Duration = Duration::from_secs(20);

#[test]
fn of_uploads() {
    let plan = Plan::split().two_relays();
    let stack = plan
        .project(&quota(&format!("uploads_per_minute = {UPLOADS}")))
        .start();
    let relays = stack.relays();
    early_in_a_minute();
    let answers: Vec<(Vec<u8>, Response)> = thread::scope(|scope| {
        let racing: Vec<_> = (0..RACING)
            .map(|at| &relays[at % relays.len()])
            .map(|relay| {
                scope.spawn(|| {
                    let dump = dumps::unique();
                    let response = Stack::post_to(relay, &dump);
                    (dump, response)
                })
            })
            .collect();
        let answers = racing.into_iter().map(|racing| racing.join());
        answers.map(|answer| answer.expect("an answer")).collect()
    });
    let (passed, refused): (Vec<_>, Vec<_>) = answers
        .into_iter()
        .partition(|(_, response)| response.status == 200);
    assert_eq!(passed.len(), UPLOADS);
    for (_, response) in &refused {
        is_refused(response, "uploads_per_minute", &UPLOADS.to_string());
    }
    // A repeat is not charged, nor refused for that matter, unless its key is known to be used up before it is read.
    let seconds = relays.iter().map(|relay| {
        let response = Stack::post_to(relay, &dumps::unique());
        is_refused(&response, "uploads_per_minute", &UPLOADS.to_string())
    });
    let seconds = seconds.max().expect("two relays");
    wait::lasting(Duration::from_secs(seconds));
    for relay in &relays {
        accepted_id(&Stack::post_to(relay, &dumps::unique()));
    }
    stack.finish(UPLOADS as u64 + 2, 0);
}

#[test]
fn of_bytes_and_repeats_are_not_charged() {
    let plan = Plan::standalone();
    let stack = plan.project(&quota("bytes_per_hour = \"1MiB\"")).start();
    early_in_a_minute();
    let first = dumps::sized(400_000, 1);
    let id = stack.upload(&first);
    for _ in 0..5 {
        assert_eq!(stack.upload(&first), id);
    }
    stack.upload(&dumps::sized(400_000, 2));
    let response = stack.post(&dumps::sized(400_000, 3));
    is_refused(&response, "bytes_per_hour", "1MiB");
    stack.upload(&dumps::sized(200_000, 4));
    let response = stack.post(&dumps::sized(1_100_000, 5));
    assert_eq!(response.status, 413, "{}", response.text());
    assert_eq!(response.json()["reason"], "larger_than_quota");
    assert_eq!(stack.upload(&first), id, "a repeat passes all the same");
    stack.finish(3, 0);
}

#[test]
fn and_without_redis_each_relay_counts_by_itself() {
    let mut redis = Redis::start();
    let plan = Plan::split().redis(&redis.address()).two_relays();
    let mut stack = plan.project(&quota("uploads_per_hour = 4")).start();
    let relays = stack.relays();
    early_in_a_minute();
    accepted_id(&Stack::post_to(&relays[0], &dumps::unique()));
    // So long Redis may keep to itself what it has confirmed.
    wait::lasting(Duration::from_secs(2));
    redis.kill();
    let away = |role: &harness::stack::Role| role.part("state") != "ready";
    wait::until_true("Redis to be missed", NOTICED, || {
        away(stack.relay()) && away(stack.second_relay())
    });
    for (relay, left) in [(&relays[0], 3), (&relays[1], 4)] {
        for _ in 0..left {
            accepted_id(&Stack::post_to(relay, &dumps::unique()));
        }
        let response = Stack::post_to(relay, &dumps::unique());
        is_refused(&response, "uploads_per_hour", "4");
    }
    redis.restart();
    // Both have told what they took meanwhile: the quota stays used up, also at a relay that knows nothing of it.
    wait::until_true("Redis to be found", NOTICED, || {
        !away(stack.relay()) && !away(stack.second_relay())
    });
    wait::until("what was taken to be told", NOTICED, || {
        let listed = stack.command(&["keys", "list", "--json"]);
        let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
        let used = &listed[0]["used"]["uploads_this_hour"];
        if *used == 8 {
            Ok(())
        } else {
            Err(listed.to_string())
        }
    });
    stack.second_relay().stop();
    stack.second_relay().start();
    let response = Stack::post_to(&relays[1], &dumps::unique());
    is_refused(&response, "uploads_per_hour", "4");
    Ledger::settles(&stack.admins(), 8, 0, FATE_DEADLINE);
    stack.stop();
}

fn quota(limit: &str) -> String {
    format!("keys = [{{ key = {KEY:?}, {limit} }}]")
}

/// Returns early enough in a minute, and so in an hour, for what follows to happen within it.
fn early_in_a_minute() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.expect("after 1970").as_secs();
    let (of_minute, of_hour) = (now % 60, now % 3600);
    if of_hour > 3500 {
        wait::lasting(Duration::from_secs(3600 - of_hour));
    } else if of_minute > 30 {
        wait::lasting(Duration::from_secs(60 - of_minute));
    }
}

/// Insists on a refusal by this limit, and returns the seconds to wait.
fn is_refused(response: &Response, limit: &str, value: &str) -> u64 {
    assert_eq!(response.status, 429, "{}", response.text());
    let body = response.json();
    assert_eq!(body["reason"], "quota_exceeded");
    let detail = body["detail"].as_str().expect("a detail");
    assert!(detail.contains(&format!("{limit} = {value}")), "{detail}");
    let seconds = response.header("retry-after").expect("a time to wait");
    let limits = format!("{seconds}:error;attachment;default:key:{limit}");
    assert_eq!(
        response.header("x-sentry-rate-limits"),
        Some(limits.as_str())
    );
    let seconds = seconds.parse().expect("seconds");
    assert!((1..=3600).contains(&seconds), "{seconds}");
    seconds
}
