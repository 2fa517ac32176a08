//! The storage, a bucket in S3, is away for a while under load: uploads are answered as ever, the processor says what is
//! missing, takes no more than it can hold, and goes on by itself when the bucket is back.

use std::time::Duration;

use harness::conservation::{Load, Scale, Shape, Verdict};
use harness::faults::{Fault, Proxy};
use harness::s3::S3;
use harness::stack::{Plan, Role, Stack};
use harness::{dumps, ports, wait};

/// A storage that is away is named within this time.
const NAMED_WITHIN: Duration = Duration::from_secs(15);
/// Intake stands within this time after that: what it may hold has been taken.
const STANDS_WITHIN: Duration = Duration::from_secs(30);
/// Two looks at intake that see the same are this far apart: time for many records.
const LOOKS_APART: Duration = Duration::from_secs(1);
/// So much larger may the processor get while it can store nothing.
const GROWTH_BYTES_MAX: u64 = 96 << 20;
/// What waits is worked off within this time.
const WORKED_OFF_WITHIN: Duration = Duration::from_secs(180);

const SHAPE: Shape = Shape {
    clients: 8,
    per_second: 40,
};

#[test]
fn behind_kafka() {
    let scale = Scale::of("storage_away_loses_nothing");
    let server = S3::start();
    let proxy = Proxy::start(ports::free(), &server.address());
    let mut stack = Plan::split().bucket(&server, &proxy.address()).start();
    let load = Load::start(&scale, &stack, SHAPE);
    load.more_promises(40);
    let before = stack.processor().memory_peak_bytes();
    let (from, away) = (load.now(), Duration::from_secs(scale.pick(10, 120)));
    proxy.set(Fault::Refuse);
    let processor = stack.processor();
    wait::until("the storage to be named", NAMED_WITHIN, || named(processor));
    assert!(!processor.readiness().0, "not ready without a storage");
    let stands = stands(processor);
    // The second half in silence, which only a time-out of ours ends.
    let half = (away / 2).saturating_sub(load.now() - from);
    wait::lasting(half);
    proxy.set(Fault::BlackHole);
    wait::lasting(away.saturating_sub(load.now() - from));
    assert_eq!(consumed(processor), stands, "intake stands to the end");
    let growth = processor.memory_peak_bytes().saturating_sub(before);
    let until = load.now();
    let waiting = load.so_far().promises.len();
    proxy.set(Fault::None);
    wait::until(
        "the storage to be back",
        WORKED_OFF_WITHIN,
        || match processor.part("storage").as_str() {
            "ready" => Ok(()),
            other => Err(other.to_owned()),
        },
    );
    let back = load.now();
    load.more_promises(20);
    let tally = load.stop();
    let verdict = Verdict::reach(&scale, &mut stack, &tally);
    println!(
        "storage away {:?}: intake stood at {stands} records while {waiting} uploads were promised; answers then: {}; the \
         processor grew by {} MB; ready {:?} after the bucket was back",
        until - from,
        tally.latencies(from..until),
        growth / 1_000_000,
        back - until,
    );
    verdict.is_conserved();
    tally.only_promises();
    assert!(growth < GROWTH_BYTES_MAX, "the processor grew by {growth}");
    stack.stop();
}

#[test]
fn in_one_process() {
    let server = S3::start();
    let proxy = Proxy::start(ports::free(), &server.address());
    let mut stack = Plan::standalone().bucket(&server, &proxy.address()).start();
    let mut uploaded = upload_each(&stack, 0..10);
    for (id, _) in &uploaded {
        stack.report(id);
    }
    proxy.set(Fault::Reset);
    uploaded.extend(upload_each(&stack, 10..60));
    let process = stack.relay();
    wait::until("the storage to be named", NAMED_WITHIN, || named(process));
    assert!(process.readiness().0, "uploads are spooled all the same");
    let stands = stands(process);
    assert!(stands < 60.0, "{stands} of 60 are taken");
    proxy.set(Fault::None);
    for (id, dump) in &uploaded {
        stack.report_within(id, WORKED_OFF_WITHIN);
        assert!(stack.stored_dump(id) == *dump, "the dump of {id}");
    }
    stack.stop();
}

fn upload_each(stack: &Stack, numbers: std::ops::Range<u64>) -> Vec<(String, Vec<u8>)> {
    let upload = |number| {
        let dump = dumps::sized(100_000, number);
        (stack.upload(&dump), dump)
    };
    numbers.map(upload).collect()
}

/// `/readyz` says of the storage that it is not ready.
fn named(role: &Role) -> Result<(), String> {
    match role.part("storage").as_str() {
        "ready" => Err("ready".to_owned()),
        _ => Ok(()),
    }
}

/// Waits until no more records are taken from the queue, and says how many were.
fn stands(role: &Role) -> f64 {
    let mut before = consumed(role);
    wait::until("intake to stand", STANDS_WITHIN, || {
        wait::lasting(LOOKS_APART);
        let now = consumed(role);
        let (was, stands) = (before, before == now);
        before = now;
        match stands {
            true => Ok(now),
            false => Err(format!("{was}, then {now} records")),
        }
    })
}

fn consumed(role: &Role) -> f64 {
    role.metric("crashferry_records_consumed_total")
}
