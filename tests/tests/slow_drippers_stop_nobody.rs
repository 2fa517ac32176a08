//! 1,000 connections that drip one byte a second, or nothing: other clients' p99 stays within twice what it was, the
//! relay's memory under 400 MB, and every dripper is cut off.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use harness::drippers::{Crowd, Manner};
use harness::dumps;
use harness::stack::{FATE_DEADLINE, Plan, Stack};
use harness::wait;

const CROWD: [(Manner, usize); 7] = [
    (Manner::Body(1), 500),
    (Manner::Http2Body, 100),
    (Manner::Head, 150),
    (Manner::OldHead, 50),
    (Manner::Silence, 100),
    (Manner::Preface, 50),
    (Manner::Http2Idle, 50),
];
const DRIPPERS: usize = 1000;
/// Those of them that are at an upload.
const UPLOADING: f64 = 600.0;
const QUICK_CLIENTS: u32 = 4;
const UPLOADS_EACH: u32 = 50;
const ROUNDS: usize = 3;
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
    // Parsing has its own limits and its own processes; what it takes of a small machine would only blur the times.
    stack.processor().stop();
    quick_uploads(&stack);
    let before = calmest_round(&stack);

    let crowd = Crowd::start(stack.listen(), &CROWD);
    wait::until_true("the crowd to be there", FATE_DEADLINE, || {
        let metrics = stack.relay().metrics();
        metrics.sum("crashferry_uploads_in_flight", &[]) == Some(UPLOADING)
            && metrics.sum("crashferry_connections", &[]) == Some(DRIPPERS as f64)
    });
    let during = calmest_round(&stack);
    let measured_at = crowd.elapsed();
    assert_eq!(
        crowd.connected(),
        DRIPPERS,
        "all were there while it was measured"
    );

    stack.processor().start();
    wait::until("the drippers to be cut off", CUT_OFF_DEADLINE, || {
        let left = crowd.connected();
        if left == 0 {
            Ok(())
        } else {
            Err(format!("{left} left"))
        }
    });
    let cut_off = crowd.cut_off();
    let last = cut_off.iter().map(|client| client.after).max();
    let last = last.expect("somebody was cut off");
    let peak = stack.relay().memory_peak_bytes();
    println!(
        "{DRIPPERS} drippers: p50 {:.1?} and p99 {:.1?} before, {:.1?} and {:.1?} beside them, within {measured_at:.0?}; \
         cut off by {last:.1?}; relay's peak memory {} MB",
        before.p50,
        before.p99,
        during.p50,
        during.p99,
        peak / 1_000_000
    );
    if !during.bearable(&before) {
        // A machine that has got busier in the meantime stays so without the crowd.
        let after = calmest_round(&stack);
        assert!(
            during.bearable(&after),
            "{during:?}, {before:?} before and {after:?} after"
        );
    }
    assert!(last <= CUT_OFF_DEADLINE, "cut off only after {last:?}");
    assert!(peak < MEMORY_BYTES_MAX, "{peak} bytes");
    for client in cut_off
        .iter()
        .filter(|client| client.manner == Manner::Body(1))
    {
        let answer = String::from_utf8_lossy(&client.answer);
        let told = answer.starts_with("HTTP/1.1 408 ") && answer.contains("\"body_too_slow\"");
        assert!(told && answer.contains("Connection: close"), "{answer}");
    }
    let metrics = stack.relay().metrics();
    let too_slow = [("status", "408"), ("reason", "body_too_slow")];
    let rejected = metrics.sum("crashferry_uploads_rejected_total", &too_slow);
    assert_eq!(rejected, Some(UPLOADING), "uploads that were too slow");
    let no_request = [("reason", "no_request")];
    let closed = metrics.sum("crashferry_connections_closed_total", &no_request);
    assert_eq!(
        closed,
        Some(DRIPPERS as f64 - UPLOADING),
        "connections without a request"
    );
    wait::until_true("every connection to be gone", FATE_DEADLINE, || {
        stack.relay().metrics().sum("crashferry_connections", &[]) == Some(0.0)
    });

    stack.upload(&dump());
    let sent = u64::from(NUMBER.load(Ordering::Relaxed));
    stack.finish(sent, 0);
}

/// What quick clients waited for their answers.
#[derive(Debug)]
struct Times {
    p50: Duration,
    p99: Duration,
}

impl Times {
    fn bearable(&self, without_crowd: &Self) -> bool {
        self.p99 <= without_crowd.p99 * 2 + NOISE
    }
}

/// The round with the lowest p99: what else the machine does comes and goes, the crowd stays.
fn calmest_round(stack: &Stack) -> Times {
    let rounds = (0..ROUNDS).map(|_| quick_uploads(stack));
    rounds
        .min_by_key(|times| times.p99)
        .expect("there is a round")
}

/// One round of uploads by quick clients, a few at once.
fn quick_uploads(stack: &Stack) -> Times {
    let mut times: Vec<Duration> = thread::scope(|scope| {
        let client = || {
            let mut times = Vec::new();
            for _ in 0..UPLOADS_EACH {
                let dump = dump();
                let begun = Instant::now();
                stack.upload(&dump);
                times.push(begun.elapsed());
                // The clients are a few of many: they do not fill the machine.
                thread::park_timeout(Duration::from_millis(5));
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
    Times {
        p50: times[times.len() / 2],
        p99: times[times.len() * 99 / 100],
    }
}

/// A dump with a number where the header keeps its time, so that all differ.
fn dump() -> Vec<u8> {
    let mut dump = dumps::sized(DUMP_BYTES, 1);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    dump[20..24].copy_from_slice(&number.to_le_bytes());
    dump
}
