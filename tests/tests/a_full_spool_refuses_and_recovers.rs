//! The broker is away and the spool's volume fills up: uploads are refused with 503 and `Retry-After`, nothing half
//! written stays, and what was promised before is kept. Room again means 200 again, without a restart.

use std::fs;
use std::path::Path;
use std::time::Duration;

use harness::conservation::{Load, Scale, Shape, Tally, Verdict};
use harness::kafka::Broker;
use harness::stack::{Plan, READY_DEADLINE, Role};
use harness::volume::SmallVolume;
use harness::{environment, wait};

const VOLUME_BYTES: u64 = 24 << 20;
const BALLAST_BYTES: u64 = 8 << 20;
/// At the pace of the load the volume is full long before.
const FULL_WITHIN: Duration = Duration::from_secs(60);
const SHAPE: Shape = Shape {
    clients: 4,
    per_second: 40,
};

#[test]
fn by_its_bound_of_free_space() {
    let scale = Scale::of("a_full_spool_refuses_and_recovers/by_its_bound_of_free_space");
    fill(&scale, "2MiB");
}

#[test]
fn by_a_volume_without_a_free_byte() {
    let scale = Scale::of("a_full_spool_refuses_and_recovers/by_a_volume_without_a_free_byte");
    fill(&scale, "0B");
}

fn fill(scale: &Scale, min_free_bytes: &str) {
    let volume = SmallVolume::mount(VOLUME_BYTES);
    let ballast = volume.ballast(BALLAST_BYTES);
    let mut broker = Broker::start(&environment::kafka_libs());
    let plan = Plan::split().broker(&broker.address());
    let plan = plan.text("spool", "min_free_bytes", min_free_bytes);
    let mut stack = plan.prepare();
    stack.relay().set_data(volume.path());
    stack.start();
    broker.kill();

    let load = Load::start(scale, &stack, SHAPE);
    refused(&load);
    let relay = stack.relay();
    spool_is(relay, false);
    fs::remove_file(&ballast).expect("the ballast can be thrown out");
    load.more_promises(5);
    refused(&load);
    let tally = load.stop();
    check_refusals(&tally);
    let leftovers = relay.spool_files("incoming");
    assert_eq!(leftovers, [] as [&Path; 0], "half-written files");

    broker.restart();
    spool_is(relay, true);
    let verdict = Verdict::reach(scale, &mut stack, &tally);
    verdict.is_conserved();
    let damaged = stack.relay().spool_files("quarantine");
    assert_eq!(damaged, [] as [&Path; 0], "a file was damaged");
    stack.stop();
}

/// Waits until uploads are being refused.
fn refused(load: &Load) {
    let before = load.so_far().refusals.len();
    wait::until_true("the spool to be full", FULL_WITHIN, || {
        load.so_far().refusals.len() > before + 10
    });
}

fn check_refusals(tally: &Tally) {
    assert_eq!(tally.unanswered, 0, "uploads without an answer");
    for refusal in &tally.refusals {
        refusal.says_try_again();
    }
}

/// Waits until the relay, and its spool, are ready or are not.
fn spool_is(relay: &Role, expected: bool) {
    wait::until("the relay's readiness to turn", READY_DEADLINE, || {
        let (ready, answer) = relay.readiness();
        let spool = relay.part("spool") == "ready";
        match (ready, spool) == (expected, expected) {
            true => Ok(()),
            false => Err(answer.to_string()),
        }
    });
}
