//! 1,000 connections that drip one byte a second, or nothing: other clients' p99 stays within twice what it was, the
//! relay's memory under 400 MB, and every dripper is cut off.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use harness::drippers::{Crowd, Manner};
use harness::dumps;
use harness::metrics::Ledger;
use harness::stack::{FATE_DEADLINE, Plan, Stack};
use harness::wait;

const CROWD: [(Manner, usize); 6] = [
    (Manner::Body(1), 500),
    (Manner::Http2Body, 100),
    (Manner::Head, 200),
    (Manner::Silence, 100),
    (Manner::Preface, 50),
    (Manner::Http2Idle, 50),
];
const DRIPPERS: usize = 1000;
/// Those of them that are at an upload.
const UPLOADING: f64 = 600.0;
const QUICK_CLIENTS: u32 = 4;
const UPLOADS_EACH: u32 = 250;
const UPLOADS: u32 = QUICK_CLIENTS * UPLOADS_EACH;
const DUMP_BYTES: usize = 30_000;
const MEMORY_BYTES_MAX: u64 = 400_000_000;
/// What a p99 may differ by on a machine with other work to do.
const NOISE: Duration = Duration::from_millis(5);
/// A body or a head has half a minute, and its connection a few seconds to end.
const CUT_OFF_DEADLINE: Duration = Duration::from_secs(45);

/// Makes every upload's dump another one.
static NUMBER: AtomicU32 = AtomicU32::new(0);

#[test]
fn slow_drippers_stop_nobody() {
    let mut stack = Plan::split().start();
    quick_uploads(&stack);
    let (before_p50, before_p99) = quick_uploads(&stack);
    Ledger::settles(&stack.admins(), u64::from(2 * UPLOADS), 0, FATE_DEADLINE);

    let crowd = Crowd::start(stack.listen(), &CROWD);
    wait::until_true("the crowd to be at its uploads", FATE_DEADLINE, || {
        stack.relay().metrics().sum("crashferry_uploads_in_flight", &[]) == Some(UPLOADING)
    });
    let connections = stack.relay().metrics().sum("crashferry_connections", &[]);
    assert_eq!(connections, Some(DRIPPERS as f64), "connections");
    let (during_p50, during_p99) = quick_uploads(&stack);
    let measured_at = crowd.elapsed();
    assert_eq!(crowd.connected(), DRIPPERS, "all were there while it was measured");

    wait::until("the drippers to be cut off", CUT_OFF_DEADLINE, || {
        let left = crowd.connected();
        if left == 0 { Ok(()) } else { Err(format!("{left} left")) }
    });
    let cut_off = crowd.cut_off();
    let last = cut_off.iter().map(|client| client.after).max();
    let last = last.expect("somebody was cut off");
    let peak = stack.relay().memory_peak_bytes();
    println!(
        "{DRIPPERS} drippers: p50 {before_p50:.1?} before, {during_p50:.1?} beside them; p99 {before_p99:.1?} before, \
         {during_p99:.1?} beside them (measured by {measured_at:.0?}); last cut off after {last:.1?}; relay's peak \
         memory {} MB",
        peak / 1_000_000
    );
    assert!(during_p99 <= before_p99 * 2 + NOISE, "p99 {during_p99:?}");
    assert!(last <= CUT_OFF_DEADLINE, "cut off only after {last:?}");
    assert!(peak < MEMORY_BYTES_MAX, "{peak} bytes");
    for client in cut_off.iter().filter(|client| client.manner == Manner::Body(1)) {
        let answer = String::from_utf8_lossy(&client.answer);
        let told = answer.starts_with("HTTP/1.1 408 ") && answer.contains("\"body_too_slow\"");
        assert!(told && answer.contains("connection: close"), "{answer}");
    }
    let metrics = stack.relay().metrics();
    let too_slow = [("status", "408"), ("reason", "body_too_slow")];
    let rejected = metrics.sum("crashferry_uploads_rejected_total", &too_slow);
    assert_eq!(rejected, Some(UPLOADING), "uploads that were too slow");
    let no_request = [("reason", "no_request")];
    let closed = metrics.sum("crashferry_connections_closed_total", &no_request);
    assert_eq!(closed, Some(DRIPPERS as f64 - UPLOADING), "connections without a request");
    assert_eq!(metrics.sum("crashferry_connections", &[]), Some(0.0));

    stack.upload(&dump());
    stack.finish(u64::from(3 * UPLOADS) + 1, 0);
}

/// Uploads by quick clients, a few at once; the median and the 99th percentile of their times.
fn quick_uploads(stack: &Stack) -> (Duration, Duration) {
    let mut times: Vec<Duration> = thread::scope(|scope| {
        let client = || {
            let mut times = Vec::new();
            for _ in 0..UPLOADS_EACH {
                let dump = dump();
                let begun = Instant::now();
                stack.upload(&dump);
                times.push(begun.elapsed());
                // The clients are a few of many: they do not fill the machine.
                thread::park_timeout(Duration::from_millis(10));
            }
            times
        };
        let clients: Vec<_> = (0..QUICK_CLIENTS).map(|_| scope.spawn(client)).collect();
        let times = clients.into_iter().map(|client| client.join());
        times
            .flat_map(|times| times.expect("a client ends"))
            .collect()
    });
    times.sort_unstable();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

/// A dump with a number where the header keeps its time, so that all differ.
fn dump() -> Vec<u8> {
    let mut dump = dumps::sized(DUMP_BYTES, 1);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    dump[20..24].copy_from_slice(&number.to_le_bytes());
    dump
}
