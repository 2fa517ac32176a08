//! The relay is killed (-9) again and again while four clients upload: every upload that was answered with 200 has
//! exactly one outcome and its dump is whole; one that got no answer has one outcome or none.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use harness::http::Request;
use harness::metrics::Ledger;
use harness::multipart::Form;
use harness::stack::{FATE_DEADLINE, Plan, Stack, accepted_id};
use harness::{dumps, wait};

const CLIENTS: u64 = 4;
const KILLS: usize = 5;
/// Answers between two kills.
const ANSWERS: usize = 12;
const ANSWERS_DEADLINE: Duration = Duration::from_secs(60);

/// What the clients share.
#[derive(Default)]
struct Load {
    /// Event ids that were promised a fate, with the seed and size of the dump.
    promised: Mutex<Vec<(String, u64, usize)>>,
    unanswered: AtomicUsize,
    stop: AtomicBool,
}

impl Load {
    fn promised(&self) -> Vec<(String, u64, usize)> {
        let promised = self.promised.lock();
        promised.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// One client: upload after upload, and after a broken connection the next one.
    fn run(&self, client: u64, listen: &str) {
        for number in 0.. {
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
            let seed = client * 1_000_000 + number;
            let bytes = if number % 5 == 0 { 2_500_000 } else { 60_000 };
            let body = Form::minidump(&dumps::sized(bytes, seed)).finish();
            let answer = Request::post(Stack::minidump_path(), body)
                .header("Content-Type", &Form::content_type())
                .try_send(listen);
            match answer {
                Ok(response) => {
                    let promise = (accepted_id(&response), seed, bytes);
                    let promised = self.promised.lock();
                    promised
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(promise);
                }
                Err(_) => {
                    self.unanswered.fetch_add(1, Ordering::SeqCst);
                    wait::until_true("the relay to be back", ANSWERS_DEADLINE, || {
                        harness::environment::answers(listen)
                    });
                }
            }
        }
    }
}

#[test]
fn in_front_of_kafka() {
    let mut stack = Plan::split().start();
    let load = kill_under_load(&mut stack);
    let promised = load.promised();
    let ids = promised.iter().map(|(id, _, _)| id);
    let mut told = stack.events_told_once(&stack.topics().outcomes, ids.clone());
    for id in ids {
        told.remove(id);
    }
    let unanswered = load.unanswered.load(Ordering::SeqCst);
    println!(
        "{} promised, {unanswered} unanswered, {} of them told",
        promised.len(),
        told.len()
    );
    assert!(
        told.len() <= unanswered,
        "outcomes of nobody's uploads: {told:?}"
    );
    stack.finish((promised.len() + told.len()) as u64, 0);
}

#[test]
fn standalone() {
    let mut stack = Plan::standalone().start();
    let load = kill_under_load(&mut stack);
    let promised = load.promised().len() as f64;
    let unanswered = load.unanswered.load(Ordering::SeqCst) as f64;
    let admin = stack.relay().admin().to_owned();
    let ledger = wait::until("the ledger to show every promise", FATE_DEADLINE, || {
        let ledger = stack.relay().metrics().ledger();
        ledger
            .filter(|ledger| ledger.in_flight == 0.0 && ledger.processed >= promised)
            .ok_or_else(|| format!("{ledger:?}, promised {promised}"))
    });
    assert!(ledger.processed <= promised + unanswered, "{ledger:?}");
    Ledger::settles(&[admin], ledger.processed as u64, 0, FATE_DEADLINE);
}

/// Kills the relay under load, lets the load end, and checks every promise.
fn kill_under_load(stack: &mut Stack) -> Arc<Load> {
    let load = Arc::new(Load::default());
    let clients: Vec<_> = (1..=CLIENTS)
        .map(|client| {
            let load = Arc::clone(&load);
            let listen = stack.listen().to_owned();
            thread::spawn(move || load.run(client, &listen))
        })
        .collect();
    for _ in 0..KILLS {
        more_answers(&load);
        stack.relay().kill();
        stack.relay().start();
    }
    more_answers(&load);
    load.stop.store(true, Ordering::SeqCst);
    for client in clients {
        client
            .join()
            .expect("a client saw nothing but 200 and broken connections");
    }
    for (id, seed, bytes) in load.promised() {
        dumps::check_report(&stack.report(&id));
        let whole = stack.stored_dump(&id) == dumps::sized(bytes, seed);
        assert!(whole, "the dump of {id} was changed");
    }
    load
}

fn more_answers(load: &Load) {
    let before = load.promised().len();
    wait::until("more answers", ANSWERS_DEADLINE, || {
        match load.promised().len() - before {
            ANSWERS.. => Ok(()),
            fewer => Err(format!("{fewer} of {ANSWERS}")),
        }
    });
}
