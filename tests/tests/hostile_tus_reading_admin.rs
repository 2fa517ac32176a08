//! Crowds at large files that come first (TUS), at reading back and at the admin listener, with a key and without: clients
//! of another key upload all the while, and operators are answered.

use std::sync::{Mutex, MutexGuard, PoisonError};

use harness::hostile::{Attack, Bystanders, Felt, MEMORY_BYTES_MAX, Swarm, duration};
use harness::http::Request;
use harness::settings::{KEY, OTHER_KEY};
use harness::stack::{FATE_DEADLINE, Plan, Stack, accepted_id};
use harness::{dumps, wait};

/// Attackers at once.
const CROWD: usize = 300;
/// The most that one upload beside a crowd may take: the machine has other work, and Crashpad waits for a minute.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

/// One attack at a time: two would be a third one.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets the crowd do its worst, and insists that nobody else feels it.
fn besiege(
    stack: &mut Stack,
    address: &str,
    what: &str,
    attack: impl Fn(usize) -> Attack,
) -> Swarm {
    let bystanders = Bystanders::start(stack);
    let swarm = Swarm::start(address, CROWD, attack);
    wait::lasting(duration());
    let Felt {
        uploads,
        p99,
        slowest_look,
    } = bystanders.stop();
    let peak = stack.relay().memory_peak_bytes();
    println!(
        "{what}: {uploads} uploads, p99 {p99:.1?}, /readyz within {slowest_look:.1?}, peak {} MB, crowd {:?}",
        peak / 1_000_000,
        swarm.answers()
    );
    assert!(p99 < PATIENCE, "{what}: p99 {p99:?}");
    assert!(
        slowest_look < PATIENCE,
        "{what}: /readyz took {slowest_look:?}"
    );
    assert!(peak < MEMORY_BYTES_MAX, "{what}: {peak} bytes");
    swarm
}

/// Nothing of the crowd is left in the relay's gauges once it has gone.
fn all_is_given_back(stack: &mut Stack, gauges: &[&str]) {
    for gauge in gauges {
        wait::until_true(gauge, FATE_DEADLINE, || {
            stack.relay().metrics().sum(gauge, &[]) == Some(0.0)
        });
    }
}

fn begin(stack: &Stack, project: u32, key: &str, bytes: usize) -> (u16, String) {
    let path = format!("/api/{project}/upload/?sentry_key={key}");
    let answer = Request::post(path, "")
        .header("Tus-Resumable", "1.0.0")
        .header("Upload-Length", &bytes.to_string())
        .send(stack.listen());
    let location = answer.header("location").unwrap_or_default().to_owned();
    (answer.status, location)
}

fn patch(location: &str, offset: usize, bytes: usize, body: &[u8]) -> Attack {
    let head = format!(
        "PATCH {location} HTTP/1.1\r\nHost: crashes\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: {offset}\r\n\
         Content-Type: application/offset+octet-stream\r\nContent-Length: {bytes}\r\nConnection: close\r\n\r\n"
    );
    Attack {
        opening: [head.as_bytes(), body].concat(),
        drip: b"xxxx".to_vec(),
        reads: true,
    }
}

#[test]
fn patches_of_a_busy_file_are_told_so_at_once_and_stop_nobody() {
    let _alone = alone();
    let mut stack = Plan::standalone().start();
    let locations: Vec<String> = (0..8)
        .map(|_| {
            let (status, location) = begin(&stack, 1, KEY, 50_000_000);
            assert_eq!(status, 201);
            location
        })
        .collect();
    assert_eq!(
        begin(&stack, 1, KEY, 50_000_000).0,
        503,
        "the ninth of a key"
    );
    let listen = stack.listen().to_owned();
    let swarm = besiege(&mut stack, &listen, "TUS with a key", |number| {
        patch(&locations[number % locations.len()], 0, 50_000_000, b"x")
    });
    let answers = swarm.answers();
    let busy = answers.get("423").copied().unwrap_or_default();
    assert!(
        busy > CROWD,
        "each is told at once, and comes again: {answers:?}"
    );
    let (status, other) = begin(&stack, 2, OTHER_KEY, 3);
    assert_eq!(status, 201, "another key has a share of its own");
    let whole = Request::of("PATCH", other, "abc")
        .header("Tus-Resumable", "1.0.0")
        .header("Upload-Offset", "0");
    assert_eq!(whole.send(&listen).status, 204);
    drop(swarm);
    for location in &locations {
        wait::until("the file to be free", FATE_DEADLINE, || {
            let remove = Request::of("DELETE", location.as_str(), "");
            let removed = remove.header("Tus-Resumable", "1.0.0").send(&listen);
            match removed.status {
                204 => Ok(()),
                status => Err(format!("{status}")),
            }
        });
    }
    let gauges = ["crashferry_resumable_files", "crashferry_resumable_bytes"];
    all_is_given_back(&mut stack, &gauges);
    stack.stop();
}

#[test]
fn large_files_without_a_key_or_a_token_take_nothing() {
    let _alone = alone();
    let mut stack = Plan::standalone().start();
    let (_, location) = begin(&stack, 1, KEY, 50_000_000);
    let (bare, _) = location.split_once('?').expect("a token");
    let listen = stack.listen().to_owned();
    let swarm = besiege(&mut stack, &listen, "TUS without a key", |number| {
        match number % 3 {
            0 => patch(bare, 0, 50_000_000, b"x"),
            1 => patch(&format!("{bare}?token=0123"), 0, 50_000_000, b"x"),
            _ => {
                let head = "POST /api/1/upload/ HTTP/1.1\r\nHost: crashes\r\nTus-Resumable: 1.0.0\r\n\
                            Upload-Length: 9\r\nContent-Length: 100000\r\nConnection: close\r\n\r\n";
                Attack {
                    opening: head.into(),
                    drip: b"x".to_vec(),
                    reads: true,
                }
            }
        }
    });
    let answers = swarm.answers();
    let statuses: Vec<&str> = answers.keys().map(String::as_str).collect();
    assert!(
        statuses
            .iter()
            .all(|status| ["401", "404"].contains(status)),
        "{answers:?}"
    );
    let metrics = stack.relay().metrics();
    assert_eq!(metrics.sum("crashferry_resumable_bytes", &[]), Some(0.0));
    drop(swarm);
    stack.stop();
}

#[test]
fn a_full_budget_of_large_files_leaves_uploads_and_readiness_alone() {
    let _alone = alone();
    let plan = Plan::standalone().text("spool", "resumable_max_bytes", "8MiB");
    let mut stack = plan.start();
    let mut refused = 0;
    for _ in 0..8 {
        let (status, location) = begin(&stack, 1, KEY, 2_000_000);
        if status == 503 {
            refused += 1;
            continue;
        }
        let part = Request::of("PATCH", location, vec![b'x'; 1_900_000])
            .header("Tus-Resumable", "1.0.0")
            .header("Upload-Offset", "0");
        assert_eq!(part.send(stack.listen()).status, 204);
    }
    assert!(refused > 0, "the last quarter is not for the first key");
    let held = stack.relay().metric("crashferry_resumable_bytes");
    assert!(held <= 6.0 * f64::from(1 << 20), "{held} bytes");
    let (status, location) = begin(&stack, 2, OTHER_KEY, 1_000_000);
    assert_eq!(status, 201, "another key has room left");
    let whole = Request::of("PATCH", location, vec![b'x'; 1_000_000])
        .header("Tus-Resumable", "1.0.0")
        .header("Upload-Offset", "0");
    assert_eq!(whole.send(stack.listen()).status, 204);
    let (ready, parts) = stack.relay().readiness();
    assert!(ready, "{parts}");
    stack.upload(&dumps::unique());
    stack.upload(&dumps::sized(20_000_000, 9));
    stack.finish(2, 0);
}

#[test]
fn readers_that_do_not_read_stop_nobody() {
    let _alone = alone();
    let mut stack = Plan::standalone().start();
    let id = accepted_id(&stack.post(&dumps::unique()));
    stack.report(&id);
    let report = stack.stored_dir(&id).join("report.json");
    let large = format!("{{\"x\":\"{}\"}}", "y".repeat(30_000_000));
    std::fs::write(report, large).expect("the report can be made larger");
    let listen = stack.listen().to_owned();
    for (what, key) in [
        ("reading with a key", format!("?sentry_key={KEY}")),
        ("reading without a key", String::new()),
    ] {
        let get = format!("GET /api/1/events/{id}/{key} HTTP/1.1\r\nHost: crashes\r\n\r\n");
        let swarm = besiege(&mut stack, &listen, what, |_| Attack {
            opening: get.clone().into(),
            drip: Vec::new(),
            reads: false,
        });
        drop(swarm);
    }
    all_is_given_back(&mut stack, &["crashferry_report_readers"]);
    let whole = stack.event(&id);
    assert_eq!(whole.status, 200);
    assert!(whole.body.len() > 30_000_000);
    assert_eq!(whole.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(whole.header("cache-control"), Some("no-store"));
    stack.stop();
}

#[test]
fn silent_connections_do_not_keep_operators_out() {
    let _alone = alone();
    let mut stack = Plan::standalone().start();
    let admin = stack.relay().admin().to_owned();
    let swarm = besiege(&mut stack, &admin, "the admin listener", |number| {
        let opening: &[u8] = match number % 4 {
            0 => b"",
            1 => b"GET /metrics HTTP/1.1\r\nHost: ",
            2 => b"PRI",
            _ => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        };
        Attack {
            opening: opening.to_vec(),
            drip: if number % 4 == 1 {
                b"x".to_vec()
            } else {
                Vec::new()
            },
            reads: true,
        }
    });
    drop(swarm);
    stack.stop();
}
