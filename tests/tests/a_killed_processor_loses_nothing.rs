//! The processor is killed (-9) in the middle of its work and started again: every upload that got a 200 has exactly
//! one outcome and one report, its dump is whole, and what was finished is not parsed again.

use std::sync::mpsc;
use std::thread;

use harness::conservation::{Load, Scale, Shape, Verdict};
use harness::dumps;
use harness::http::Request;
use harness::multipart::Form;
use harness::stack::{Plan, Stack, accepted_id};

const UPLOADS: usize = 60;
/// The processor dies after these many answers.
const KILLED_AFTER: [usize; 3] = [15, 30, 45];

#[test]
fn of_its_own_behind_kafka() {
    let mut stack = Plan::split().start();
    let uploaded = upload_and_kill(&mut stack);
    each_arrived(&stack, &uploaded);
    stack.one_report_each(uploaded.iter().map(|(id, _)| id.as_str()));
    stack.finish(UPLOADS as u64, 0);
}

#[test]
fn in_the_same_process_as_the_relay() {
    let mut stack = Plan::standalone().start();
    let mut uploaded = Vec::new();
    for round in 0..KILLED_AFTER.len() {
        for number in 0..10 {
            let dump = dumps::sized(200_000, (round * 100 + number) as u64);
            uploaded.push((stack.upload(&dump), dump));
        }
        stack.relay().kill();
        stack.relay().start();
    }
    each_arrived(&stack, &uploaded);
    stack.finish(uploaded.len() as u64, 0);
}

/// As fast as the relay answers, so that each kill meets events at every step.
const SHAPE: Shape = Shape {
    clients: 8,
    per_second: 200,
};
/// Answers between two kills.
const ANSWERS: usize = 40;

#[test]
fn again_and_again_under_load() {
    let scale = Scale::of("a_killed_processor_loses_nothing/again_and_again_under_load");
    let mut stack = Plan::split().partitions(4).start();
    let load = Load::start(&scale, &stack, SHAPE);
    for _ in 0..scale.pick(4, 100) {
        load.more_promises(ANSWERS);
        stack.processor().kill();
        stack.processor().start();
    }
    load.more_promises(ANSWERS);
    let tally = load.stop();
    assert_eq!(tally.refused(), "none");
    let verdict = Verdict::reach(&scale, &mut stack, &tally);
    verdict.is_conserved();
    stack.parsed_nothing_again(&scale);
    stack.stop();
}

/// Uploads one dump after the other, and kills and restarts the processor meanwhile.
fn upload_and_kill(stack: &mut Stack) -> Vec<(String, Vec<u8>)> {
    let listen = stack.listen().to_owned();
    let (sender, answers) = mpsc::sync_channel(UPLOADS);
    let client = thread::spawn(move || {
        for number in 0..UPLOADS {
            let dump = dumps::sized(300_000, number as u64);
            let response = Request::post(Stack::minidump_path(), Form::minidump(&dump).finish())
                .header("Content-Type", &Form::content_type())
                .send(&listen);
            sender
                .send((accepted_id(&response), dump))
                .expect("the test collects the answers");
        }
    });
    let mut uploaded = Vec::new();
    for answer in answers {
        uploaded.push(answer);
        if KILLED_AFTER.contains(&uploaded.len()) {
            stack.processor().kill();
            stack.processor().start();
        }
    }
    client.join().expect("every upload gets its 200");
    assert_eq!(uploaded.len(), UPLOADS);
    uploaded
}

fn each_arrived(stack: &Stack, uploaded: &[(String, Vec<u8>)]) {
    for (id, dump) in uploaded {
        dumps::check_report(&stack.report(id));
        assert!(stack.stored_dump(id) == *dump, "the dump of {id}");
    }
}
