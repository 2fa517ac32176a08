//! 200 slow clients upload 20 MB each at once: the relay's peak memory stays under 400 MB, and every dump arrives.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use harness::dumps;
use harness::http::Request;
use harness::multipart::Form;
use harness::stack::{Plan, Stack, accepted_id};

const CLIENTS: u64 = 200;
const DUMP_BYTES: usize = 20_000_000;
const MEMORY_BYTES_MAX: u64 = 400_000_000;
/// The fastest client needs ten seconds, the slowest fifty.
const SLOWEST_PACE: u64 = 400_000;
const FASTEST_PACE: u64 = 2_000_000;
const FATE_DEADLINE: Duration = Duration::from_secs(300);

/// One crowd at a time: two of them would measure each other.
static CROWD: Mutex<()> = Mutex::new(());

#[test]
fn two_hundred_times_twenty_megabytes_through_kafka() {
    crowd(Plan::split().partitions(4));
}

#[test]
fn two_hundred_times_twenty_megabytes_standalone() {
    crowd(Plan::standalone());
}

fn crowd(plan: Plan) {
    let _alone = CROWD.lock().unwrap_or_else(PoisonError::into_inner);
    let mut stack = plan.start();
    // All clients share the noise; each has its own few bytes in front of it.
    let tail: Arc<[u8]> = Arc::from(dumps::sized(DUMP_BYTES, 1).split_off(dumps::small().len()));
    let answers: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let tail = Arc::clone(&tail);
            let listen = stack.listen().to_owned();
            thread::Builder::new()
                .stack_size(256 * 1024)
                .spawn(move || upload(number, tail, &listen))
                .expect("a client can be started")
        })
        .collect();
    let ids: Vec<String> = answers
        .into_iter()
        .map(|client| client.join().expect("a client gets its answer"))
        .collect();
    let peak = stack.relay().memory_peak_bytes();
    println!("relay's peak memory: {} MB", peak / 1_000_000);
    assert!(peak < MEMORY_BYTES_MAX, "{peak} bytes");
    for (number, id) in ids.iter().enumerate() {
        stack.report_within(id, FATE_DEADLINE);
        let stored = stack.stored_dump(id);
        let head = head(number as u64);
        assert!(
            stored.starts_with(&head) && stored[head.len()..] == *tail,
            "the dump of client {number} was changed on its way"
        );
    }
    stack.finish(CLIENTS, 0);
}

fn upload(number: u64, tail: Arc<[u8]>, listen: &str) -> String {
    let (before, after) = Form::around_minidump();
    let pieces = vec![
        Arc::from(before),
        Arc::from(head(number)),
        tail,
        Arc::from(after),
    ];
    let pace = SLOWEST_PACE + (FASTEST_PACE - SLOWEST_PACE) * number / CLIENTS;
    let response = Request::post_pieces(Stack::minidump_path(), pieces)
        .header("Content-Type", &Form::content_type())
        .pace(pace)
        .send(listen);
    accepted_id(&response)
}

/// A small dump with the client's number where the header keeps its time, so that all differ.
fn head(number: u64) -> Vec<u8> {
    let mut head = dumps::small();
    let number = u32::try_from(number).expect("a small number");
    head[20..24].copy_from_slice(&number.to_le_bytes());
    head
}
