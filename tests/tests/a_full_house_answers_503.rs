//! Past the bounds: who is at an upload keeps its place, who makes no use of one loses it, and who finds none in time
//! gets a 503 that says when to come back.

use std::time::{Duration, Instant};

use harness::drippers::{Crowd, Manner};
use harness::dumps;
use harness::http::Request;
use harness::multipart::Form;
use harness::settings::OTHER_KEY;
use harness::stack::{FATE_DEADLINE, Plan, Stack, accepted_id};
use harness::wait;

/// Too few open files for more than 151 connections and 172 uploads. An eighth of these are kept for large files that come
/// before their crash; one key has three quarters of the other 151.
const FEW_DESCRIPTORS: u32 = 600;
const CONNECTIONS: usize = 151;
const UPLOADS_OF_A_KEY: usize = 113;
/// Too little memory for more than 128 uploads that are read at once; one key has three quarters of these.
const LITTLE_MEMORY: &str = "16MiB";
const RECEIVING_OF_A_KEY: usize = 96;
/// Slow, and fast enough to be borne: bytes in each second.
const HONEST: Manner = Manner::Body(1000);
/// What the relay lets an upload or a connection wait.
const WAIT: Duration = Duration::from_secs(10);
/// For a busy machine, on top of what the relay takes.
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn a_key_has_its_share_of_few_descriptors() {
    let plan = Plan::standalone().descriptors(FEW_DESCRIPTORS);
    refuses(plan, UPLOADS_OF_A_KEY);
}

#[test]
fn a_key_has_its_share_of_little_memory() {
    let plan = Plan::standalone().text("relay", "max_inflight_bytes", LITTLE_MEMORY);
    refuses(plan, RECEIVING_OF_A_KEY);
}

#[test]
fn silent_connections_lose_their_places_to_an_upload() {
    let mut stack = Plan::standalone().descriptors(FEW_DESCRIPTORS).start();
    let crowd = Crowd::start(stack.listen(), &[(Manner::Silence, 3 * CONNECTIONS)]);
    one_more_gets_in(&stack, Duration::from_secs(2));
    wait::until_true("some of the crowd to have left", FATE_DEADLINE, || {
        let no_request = [("reason", "no_request")];
        let closed = "crashferry_connections_closed_total";
        stack.relay().metrics().sum(closed, &no_request) > Some(0.0)
    });
    // Those that are still there do not keep the relay from stopping either.
    stack.finish(1, 0);
    drop(crowd);
}

#[test]
fn dripping_uploads_lose_their_turns_to_another_of_their_key() {
    let plan = Plan::standalone().text("relay", "max_inflight_bytes", LITTLE_MEMORY);
    let mut stack = plan.start();
    let drippers = RECEIVING_OF_A_KEY + 20;
    let crowd = Crowd::start(stack.listen(), &[(Manner::Body(1), drippers)]);
    shows(&mut stack, "crashferry_uploads_in_flight", drippers);
    one_more_gets_in(&stack, WAIT);
    drop(crowd);
    stack.finish(1, 0);
}

/// A crowd that is slow for good reasons has all that its key may have: one more with this key is told to come back, and is
/// served once there is room; one with another key is served at once.
fn refuses(plan: Plan, clients: usize) {
    let mut stack = plan.start();
    let crowd = Crowd::start(stack.listen(), &[(HONEST, clients)]);
    shows(&mut stack, "crashferry_uploads_in_flight", clients);
    let begun = Instant::now();
    let other = format!("/api/2/minidump/?sentry_key={OTHER_KEY}");
    let other = Request::post(other, Form::minidump(&dumps::unique()).finish())
        .header("Content-Type", &Form::content_type());
    accepted_id(&other.send(stack.listen()));
    assert!(begun.elapsed() < WAIT, "{:?}", begun.elapsed());
    let begun = Instant::now();
    let response = stack.post(&dumps::small());
    let waited = begun.elapsed();
    println!(
        "{} after {waited:.1?}: {}",
        response.status,
        response.text()
    );
    assert_eq!(response.status, 503);
    assert_eq!(response.json()["reason"], "overloaded");
    assert!(response.header("retry-after").is_some(), "{response:?}");
    assert!(response.header("x-request-id").is_some(), "{response:?}");
    assert!(waited >= WAIT && waited < WAIT + PATIENCE, "{waited:?}");
    let overloaded = [("status", "503"), ("reason", "overloaded")];
    let rejected = "crashferry_uploads_rejected_total";
    let rejected = stack.relay().metrics().sum(rejected, &overloaded);
    assert_eq!(rejected, Some(1.0));
    let shown = |part: &str| part.contains("a key, a peer or a connection has its share of");
    wait::until("the pool to be shown", FATE_DEADLINE, || {
        let part = stack.relay().part("places");
        if shown(&part) { Ok(()) } else { Err(part) }
    });
    let (ready, readiness) = stack.relay().readiness();
    assert!(ready, "{readiness}");
    assert!(crowd.cut_off().is_empty(), "nobody who sends is cut off");
    drop(crowd);
    stack.upload(&dumps::small());
    stack.finish(2, 0);
}

/// Where a crowd makes no use of its places, an upload need not wait long for one.
fn one_more_gets_in(stack: &Stack, at_most: Duration) {
    let begun = Instant::now();
    let response = stack.post(&dumps::small());
    let waited = begun.elapsed();
    println!("{} after {waited:.1?}", response.status);
    accepted_id(&response);
    assert!(waited < at_most + PATIENCE, "{waited:?}");
}

fn shows(stack: &mut Stack, gauge: &str, value: usize) {
    wait::until_true(gauge, FATE_DEADLINE, || {
        stack.relay().metrics().sum(gauge, &[]) == Some(value as f64)
    });
}
