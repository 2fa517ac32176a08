//! Past the bounds: who is at an upload keeps its place, who makes no use of one loses it, and who finds none in time
//! gets a 503 that says when to come back.

use std::time::{Duration, Instant};

use harness::drippers::{Crowd, Manner};
use harness::dumps;
use harness::stack::{FATE_DEADLINE, Plan, Stack, accepted_id};
use harness::wait;

/// Too few open files for more than 151 connections and 172 uploads.
const FEW_DESCRIPTORS: u32 = 600;
const CONNECTIONS: usize = 151;
/// Too little memory for more than 128 uploads that are read at once.
const LITTLE_MEMORY: &str = "16MiB";
const UPLOADS: usize = 128;
/// Slow, and fast enough to be borne: bytes in each second.
const HONEST: Manner = Manner::Body(1000);
/// What the relay lets an upload or a connection wait.
const WAIT: Duration = Duration::from_secs(10);
/// For a busy machine, on top of what the relay takes.
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn every_connection_is_at_an_upload() {
    refuses(Plan::standalone().descriptors(FEW_DESCRIPTORS), CONNECTIONS);
}

#[test]
fn every_turn_is_taken() {
    let plan = Plan::standalone().text("relay", "max_inflight_bytes", LITTLE_MEMORY);
    refuses(plan, UPLOADS);
}

#[test]
fn silent_connections_lose_their_places_to_an_upload() {
    let crowd = (Manner::Silence, 3 * CONNECTIONS);
    // Each of them has five seconds; they come and go in the order in which they came.
    let waited = 4 * Duration::from_secs(5);
    let (stack, crowd) = gives_way(
        Plan::standalone().descriptors(FEW_DESCRIPTORS),
        crowd,
        waited,
    );
    // Those that are still there do not keep the relay from stopping either.
    stack.finish(1, 0);
    drop(crowd);
}

#[test]
fn dripping_uploads_lose_their_turns_to_another() {
    let plan = Plan::standalone().text("relay", "max_inflight_bytes", LITTLE_MEMORY);
    let (stack, crowd) = gives_way(plan, (Manner::Body(1), UPLOADS + 20), WAIT);
    drop(crowd);
    stack.finish(1, 0);
}

/// A crowd that is slow for good reasons fills the house: one more is told to come back, and is served once there is
/// room.
fn refuses(plan: Plan, crowd: usize) {
    let mut stack = plan.start();
    let crowd = full_house(&mut stack, crowd);
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
    assert!(crowd.cut_off().is_empty(), "nobody who sends is cut off");
    drop(crowd);
    stack.upload(&dumps::small());
    stack.finish(1, 0);
}

/// A crowd that makes no use of the house fills it: one more gets in.
fn gives_way(plan: Plan, crowd: (Manner, usize), at_most: Duration) -> (Stack, Crowd) {
    let stack = plan.start();
    let crowd = Crowd::start(stack.listen(), &[crowd]);
    let begun = Instant::now();
    let response = stack.post(&dumps::small());
    let waited = begun.elapsed();
    println!(
        "{} after {waited:.1?}, {} left",
        response.status,
        crowd.connected()
    );
    accepted_id(&response);
    assert!(waited < at_most + PATIENCE, "{waited:?}");
    (stack, crowd)
}

fn full_house(stack: &mut Stack, clients: usize) -> Crowd {
    let crowd = Crowd::start(stack.listen(), &[(HONEST, clients)]);
    wait::until_true("the house to be full", FATE_DEADLINE, || {
        let in_flight = "crashferry_uploads_in_flight";
        stack.relay().metrics().sum(in_flight, &[]) == Some(clients as f64)
    });
    crowd
}
