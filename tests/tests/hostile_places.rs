//! Attackers that hold what is scarce beside twenty good uploads a second with another key: all of the good ones get their
//! 200 as if nobody else were there, the relay's memory stays bounded, and it stays ready.
//!
//! Short, all attackers of a kind at once; with `CRASHFERRY_TEST_LONG=1`, for a minute, and each kind by itself.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use harness::attackers::{Attackers, Manner, Slow};
use harness::http::Request;
use harness::multipart::Form;
use harness::settings::OTHER_KEY;
use harness::stack::{Plan, Stack};
use harness::{dumps, encodings, wait};

const UPLOADS_PER_SECOND: u32 = 20;
const QUIET_FOR: Duration = Duration::from_secs(3);
const MEMORY_BYTES_MAX: u64 = 400_000_000;
/// What unread HTTP/2 connections may add altogether, what the allocator keeps of 17,000 refused requests included. Their
/// windows are a part of it that the relay counts.
const UNREAD_BYTES_MAX: u64 = 96 << 20;
const WINDOW_BYTES_MAX: f64 = (16 << 20) as f64;
/// What a p99 may differ by on a machine with other work to do.
const NOISE: Duration = Duration::from_millis(20);
/// A p99 that is bearable anywhere: no client gives up sooner.
const BEARABLE: Duration = Duration::from_secs(5);
/// One at a time: two of them would measure each other.
static ALONE: Mutex<()> = Mutex::new(());
/// Makes every upload's dump another one.
static NUMBER: AtomicU32 = AtomicU32::new(1);

/// Attackers, and what good clients send meanwhile.
struct Scenario {
    name: &'static str,
    attackers: Vec<(Manner, usize)>,
    good: fn(&[u8]) -> Request,
    /// The pool that the attackers use up, or their share of it.
    pool: &'static str,
}

#[test]
fn http_2_requests_without_a_key_and_half_sent_uploads_with_one_stop_nobody() {
    let keyless = slow(&keyless_path(), b"{\"event_id\":\"", true);
    let uploads = slow(&Stack::minidump_path(), &[b'M'; 4096], true);
    let http2 = |streams, request: Slow| Manner::Http2 { streams, request };
    both(
        Plan::standalone,
        Scenario {
            name: "36 connections with 64 envelopes without a key",
            attackers: vec![(http2(64, keyless), 36)],
            good: plain,
            pool: "keyless_envelopes",
        },
        Scenario {
            name: "250 connections with four half-sent uploads each",
            attackers: vec![(http2(4, uploads), 250)],
            good: plain,
            pool: "http2_window_bytes",
        },
    );
}

#[test]
fn wide_decoders_that_drip_or_idle_stop_no_compressed_upload() {
    // Noise is not compressed: what drips later belongs to it, whatever it is.
    let frame = encodings::zstd_wide(&dumps::sized(1_000_000, 1));
    let request = |path: &str, opening: &[u8], drips| Slow {
        headers: vec![("content-encoding", "zstd".to_owned())],
        ..slow(path, opening, drips)
    };
    let crowd = |path: &str| {
        let idle = Manner::Http2 {
            streams: 64,
            request: request(path, b"", false),
        };
        let drips = Manner::Http1(request(path, &frame[..20_000], true));
        vec![(drips, 8), (idle, 33)]
    };
    both(
        Plan::standalone,
        Scenario {
            name: "8 dripping zstd bodies and 33 times 64 idle ones, without a key",
            attackers: crowd(&keyless_path()),
            good: zstd,
            pool: "keyless_envelopes",
        },
        Scenario {
            name: "8 dripping zstd bodies and 33 times 64 idle ones, with a key",
            attackers: crowd(&Stack::minidump_path()),
            good: zstd,
            pool: "decoder_bytes",
        },
    );
}

#[test]
fn parts_that_take_long_to_unwrap_stop_no_other() {
    let bomb = Form::minidump(&encodings::bzip2(&vec![0; 190 << 20])).finish();
    let request = |path: &str| Slow {
        headers: vec![("content-type", Form::content_type())],
        ..slow(path, &bomb, false)
    };
    both(
        Plan::standalone,
        Scenario {
            name: "24 bz2 parts of some hundred bytes, with a key",
            attackers: vec![(Manner::Http1(request(&Stack::minidump_path())), 24)],
            good: wrapped,
            pool: "",
        },
        Scenario {
            name: "24 bz2 parts of some hundred bytes, without a key",
            attackers: vec![(Manner::Http1(request("/api/1/minidump/")), 24)],
            good: wrapped,
            pool: "",
        },
    );
}

#[test]
fn half_sent_bodies_do_not_use_up_a_small_spool() {
    let opening = vec![b'M'; 600_000];
    both(
        || Plan::standalone().text("spool", "max_bytes", "220MiB"),
        Scenario {
            name: "500 half-sent bodies of 600 kB, with a key",
            attackers: vec![(
                Manner::Http1(slow(&Stack::minidump_path(), &opening, true)),
                500,
            )],
            good: plain,
            pool: "",
        },
        Scenario {
            name: "500 half-sent envelopes of 600 kB, without a key",
            attackers: vec![(Manner::Http1(slow(&keyless_path(), &opening, true)), 500)],
            good: plain,
            pool: "keyless_envelopes",
        },
    );
}

#[test]
fn more_connections_than_descriptors_stop_nobody() {
    let uploads = slow(&Stack::minidump_path(), &[b'M'; 4096], true);
    let keyless = slow(&keyless_path(), b"{\"event_id\":\"", true);
    both(
        || Plan::standalone().descriptors(1024),
        Scenario {
            name: "500 half-sent uploads on connections of their own, with a key",
            attackers: vec![(Manner::Http1(uploads), 500)],
            good: plain,
            pool: "uploads",
        },
        Scenario {
            name: "400 silent connections and 200 envelopes without a key",
            attackers: vec![(Manner::Silence, 400), (Manner::Http1(keyless), 200)],
            good: plain,
            pool: "connections",
        },
    );
}

#[test]
fn five_hundred_unread_http_2_connections_add_little_memory() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut stack = Plan::standalone().start();
    good_uploads(&mut stack, plain, Duration::from_secs(2));
    let before = stack.relay().memory_peak_bytes();
    // As much as the windows allow, of envelopes whose places are taken.
    let request = slow(&keyless_path(), &[b' '; 16_000], true);
    let manner = Manner::Http2 {
        streams: 4,
        request,
    };
    let attackers = Attackers::start(stack.listen(), &[(manner, 500)]);
    good_uploads(&mut stack, plain, Duration::from_secs(5));
    let added = stack.relay().memory_peak_bytes() - before;
    let (connected, answered, _) = attackers.counts();
    println!(
        "{connected} connections, {answered} answers: {} MB more",
        added / 1_000_000
    );
    assert!(connected >= 500, "{connected} connections");
    assert!(added <= UNREAD_BYTES_MAX, "{added} bytes");
    let windows = [("pool", "http2_window_bytes")];
    let windows = stack
        .relay()
        .metrics()
        .sum("crashferry_pool_used", &windows);
    assert!(windows <= Some(WINDOW_BYTES_MAX), "{windows:?}");
    drop(attackers);
    stack.finish(7 * u64::from(UPLOADS_PER_SECOND), 0);
}

/// Two kinds of attackers: at once when time is short, one after the other when it is not.
fn both(plan: impl Fn() -> Plan, first: Scenario, second: Scenario) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    if is_long() {
        beside(plan(), vec![first]);
        beside(plan(), vec![second]);
    } else {
        beside(plan(), vec![first, second]);
    }
}

/// Good clients before the attackers, and beside them.
fn beside(plan: Plan, scenarios: Vec<Scenario>) {
    let lasts = Duration::from_secs(if is_long() { 60 } else { 8 });
    let mut stack = plan.start();
    let good = scenarios[0].good;
    good_uploads(&mut stack, good, Duration::from_secs(1));
    let quiet = good_uploads(&mut stack, good, QUIET_FOR);
    let attackers: Vec<_> = scenarios
        .iter()
        .map(|scenario| Attackers::start(stack.listen(), &scenario.attackers))
        .collect();
    let during = good_uploads(&mut stack, good, lasts);
    for (scenario, attackers) in scenarios.iter().zip(&attackers) {
        let (connected, answered, accepted) = attackers.counts();
        println!(
            "{}: {connected} connections, {answered} answers, {accepted} of them 200",
            scenario.name
        );
        assert!(connected > 0, "{}: nobody came", scenario.name);
        assert_eq!(
            accepted, 0,
            "{}: half an upload was accepted",
            scenario.name
        );
        let shortages = [("pool", scenario.pool)];
        let shortages = stack
            .relay()
            .metrics()
            .sum("crashferry_pool_shortages_total", &shortages);
        assert!(
            scenario.pool.is_empty() || shortages > Some(0.0),
            "{}: {} was never short",
            scenario.name,
            scenario.pool
        );
    }
    let peak = stack.relay().memory_peak_bytes();
    println!(
        "quiet p50 {:.1?} p99 {:.1?}; beside attackers p50 {:.1?} p99 {:.1?}; peak memory {} MB",
        quiet.p50,
        quiet.p99,
        during.p50,
        during.p99,
        peak / 1_000_000
    );
    assert!(peak < MEMORY_BYTES_MAX, "{peak} bytes");
    assert!(during.p99 < BEARABLE, "{during:?}");
    if is_long() {
        assert!(
            during.p99 <= quiet.p99 * 2 + NOISE,
            "{quiet:?} and {during:?}"
        );
    }
    drop(attackers);
    wait::until_true(
        "the places to be free again",
        Duration::from_secs(60),
        || {
            let metrics = stack.relay().metrics();
            metrics.sum("crashferry_pool_used", &[("pool", "uploads")]) == Some(0.0)
                && metrics.sum("crashferry_pool_used", &[("pool", "request_bytes")]) == Some(0.0)
        },
    );
    let sent = quiet.sent + during.sent + u64::from(UPLOADS_PER_SECOND);
    stack.finish(sent, 0);
}

/// What good clients waited for their answers.
#[derive(Debug)]
struct Times {
    sent: u64,
    p50: Duration,
    p99: Duration,
}

/// Twenty uploads a second, each on a connection of its own, and the relay's readiness once a second.
fn good_uploads(stack: &mut Stack, good: fn(&[u8]) -> Request, lasts: Duration) -> Times {
    let begun = Instant::now();
    let count = lasts.as_secs() as u32 * UPLOADS_PER_SECOND;
    let mut times: Vec<Duration> = thread::scope(|scope| {
        let mut clients = Vec::new();
        for number in 0..count {
            wait::lasting_until(begun + Duration::from_secs(1) * number / UPLOADS_PER_SECOND);
            let listen = stack.listen().to_owned();
            clients.push(scope.spawn(move || {
                let request = good(&dump());
                let begun = Instant::now();
                let response = request.send(&listen);
                assert_eq!(response.status, 200, "{}", response.text());
                begun.elapsed()
            }));
            if number % UPLOADS_PER_SECOND == 0 {
                let (ready, body) = stack.relay().readiness();
                assert!(ready, "not ready: {body}");
            }
        }
        let times = clients.into_iter().map(|client| client.join());
        times
            .map(|time| time.expect("a good upload gets its 200"))
            .collect()
    });
    times.sort_unstable();
    Times {
        sent: times.len() as u64,
        p50: times[times.len() / 2],
        p99: times[times.len() * 99 / 100],
    }
}

fn plain(dump: &[u8]) -> Request {
    form(&Form::minidump(dump).finish())
}

fn zstd(dump: &[u8]) -> Request {
    form(&encodings::zstd(&Form::minidump(dump).finish())).header("Content-Encoding", "zstd")
}

fn wrapped(dump: &[u8]) -> Request {
    plain(&encodings::gzip(dump))
}

fn form(body: &[u8]) -> Request {
    let path = format!("/api/2/minidump/?sentry_key={OTHER_KEY}");
    Request::post(path, body).header("Content-Type", &Form::content_type())
}

/// An envelope whose key would stand in its first line.
fn keyless_path() -> String {
    "/api/1/envelope/".to_owned()
}

fn slow(path: &str, opening: &[u8], drips: bool) -> Slow {
    Slow {
        path: path.to_owned(),
        headers: Vec::new(),
        opening: Bytes::copy_from_slice(opening),
        drips,
    }
}

/// A dump with a number where the header keeps its time, so that all differ.
fn dump() -> Vec<u8> {
    let mut dump = dumps::sized(30_000, 1);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    dump[20..24].copy_from_slice(&number.to_le_bytes());
    dump
}

fn is_long() -> bool {
    std::env::var_os("CRASHFERRY_TEST_LONG").is_some()
}
