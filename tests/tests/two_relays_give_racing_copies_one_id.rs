//! Copies of one dump that race to two relays get one id and make one report; a relay that is killed while it has the dump
//! leaves it to the other; and a standalone process knows after a restart what it had before.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use harness::faults::Fault;
use harness::http::Response;
use harness::kafka::Broker;
use harness::multipart::Form;
use harness::redis::Redis;
use harness::stack::{Plan, Stack, accepted_id};
use harness::{dumps, environment, wait};

const COPIES: usize = 8;
/// `relay.ack_deadline`, on which depends for how long a dead relay is waited for.
const ACK_DEADLINE: &str = "2s";
const NOTICED: Duration = Duration::from_secs(20);

#[test]
fn in_front_of_kafka() {
    let mut stack = Plan::split().two_relays().start();
    let relays = stack.relays();
    let mut ids = Vec::new();
    for (seed, bytes) in [(1, 20_000), (2, 3_000_000)] {
        let dump = dumps::sized(bytes, seed);
        let mut same: BTreeSet<String> = thread::scope(|scope| {
            let copies: Vec<_> = (0..COPIES)
                .map(|copy| &relays[copy % relays.len()])
                .map(|relay| scope.spawn(|| accepted_id(&Stack::post_to(relay, &dump))))
                .collect();
            let answers = copies.into_iter().map(|copy| copy.join());
            answers.map(|id| id.expect("an answer")).collect()
        });
        same.extend(
            relays
                .iter()
                .map(|relay| accepted_id(&Stack::post_to(relay, &dump))),
        );
        assert_eq!(same.len(), 1, "{same:?}");
        ids.extend(same);
    }
    for id in &ids {
        stack.report(id);
    }
    stack.one_report_each(ids.iter().map(String::as_str));
    let repeats = stack.relay().metric("crashferry_uploads_repeated_total")
        + stack
            .second_relay()
            .metric("crashferry_uploads_repeated_total");
    assert_eq!(repeats, (2 * (COPIES + 2) - 2) as f64);
    stack.finish(2, 0);
}

#[test]
fn and_what_a_killed_relay_had_is_taken_over() {
    let redis = Redis::start();
    let (broker, proxy) = Broker::start_behind_proxy(&environment::kafka_libs());
    let plan = Plan::split()
        .broker(&broker.address())
        .redis(&redis.address());
    let plan = plan
        .two_relays()
        .text("relay", "ack_deadline", ACK_DEADLINE);
    let mut stack = plan.relay_broker(&proxy.address()).start();
    let dump = dumps::sized(300_000, 3);
    proxy.set(Fault::BlackHole);
    let [first, second] = &stack.relays()[..] else {
        panic!("two relays")
    };
    let (first, second) = (first.clone(), second.clone());
    let id = thread::scope(|scope| {
        let killed = scope.spawn(|| {
            let request = Form::minidump(&dump).finish();
            harness::http::Request::post(Stack::minidump_path(), request)
                .header("Content-Type", &Form::content_type())
                .try_send(&first)
        });
        wait::until_true("the first relay's claim", NOTICED, || {
            redis.keys("crashferry:upload:*") == 1
        });
        let taken_over = scope.spawn(|| accepted_id(&Stack::post_to(&second, &dump)));
        stack.relay().kill();
        assert!(killed.join().expect("no panic").is_err(), "it was killed");
        taken_over.join().expect("an answer")
    });
    proxy.set(Fault::None);
    stack.relay().start();
    let again = accepted_id(&Stack::post_to(&first, &dump));
    assert_eq!(again, id);
    stack.report(&id);
    stack.one_report_each([id.as_str()]);
    stack.stop();
}

#[test]
fn and_a_standalone_process_remembers_over_a_restart() {
    let mut stack = Plan::standalone().start();
    let name = format!("{}.dmp", uuid::Uuid::new_v4());
    let send = |stack: &Stack, name: &str, dump: &[u8]| -> Response {
        stack.post_form(Form::new().file("upload_file_minidump", name, dump))
    };
    let dump = dumps::unique();
    let id = accepted_id(&send(&stack, &name, &dump));
    stack.report(&id);
    stack.relay().stop();
    stack.relay().start();
    assert_eq!(stack.upload(&dump), id, "the same content");
    stack.relay().kill();
    stack.relay().start();
    let named = accepted_id(&send(&stack, &name, &dumps::unique()));
    assert_ne!(
        named, id,
        "another content is another crash, whatever its file's name"
    );
    stack.report(&named);
    let other = stack.upload(&dumps::unique());
    assert_ne!(other, id);
    stack.report(&other);
    stack.finish(3, 0);
}
