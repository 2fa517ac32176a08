//! The relay is stopped (SIGTERM) under load, with its broker there and away, and standalone: it ends in time and with
//! status 0, and after its next start every upload that was answered with 200 is processed.

use harness::conservation::{Load, Scale, Shape, Verdict};
use harness::environment;
use harness::kafka::Broker;
use harness::stack::{Plan, Stack};

const ANSWERS: usize = 20;
/// As fast as the relay answers, so that each stop meets uploads on their way.
const SHAPE: Shape = Shape {
    clients: 8,
    per_second: 200,
};
/// What a relay without a broker is given: what comes in is kept on this machine's disk.
const GENTLE: Shape = Shape {
    clients: 8,
    per_second: 20,
};

#[test]
fn in_front_of_kafka() {
    let scale = Scale::of("a_stop_under_load_keeps_every_promise/in_front_of_kafka");
    stop_under_load(&scale, Plan::split().start());
}

#[test]
fn standalone() {
    let scale = Scale::of("a_stop_under_load_keeps_every_promise/standalone");
    stop_under_load(&scale, Plan::standalone().start());
}

#[test]
fn while_the_broker_is_away() {
    let scale = Scale::of("a_stop_under_load_keeps_every_promise/while_the_broker_is_away");
    let mut broker = Broker::start(&environment::kafka_libs());
    let mut stack = Plan::split().broker(&broker.address()).start();
    let load = Load::start(&scale, &stack, GENTLE);
    load.more_promises(ANSWERS);
    broker.kill();
    // At once, while uploads still wait for a confirmation; and later, when the spool takes them.
    stack.relay().stop();
    stack.relay().start();
    load.more_promises(ANSWERS);
    stack.relay().stop();
    broker.restart();
    stack.relay().start();
    judge(&scale, stack, load);
}

fn stop_under_load(scale: &Scale, mut stack: Stack) {
    let load = Load::start(scale, &stack, SHAPE);
    for _ in 0..scale.pick(3, 20) {
        load.more_promises(ANSWERS);
        stack.relay().stop();
        stack.relay().start();
    }
    judge(scale, stack, load);
}

fn judge(scale: &Scale, mut stack: Stack, load: Load) {
    load.more_promises(ANSWERS);
    let tally = load.stop();
    let verdict = Verdict::reach(scale, &mut stack, &tally);
    verdict.is_conserved();
    // Who came while the relay was leaving may have been told to come again.
    let others = tally.refusals.iter().find(|one| one.status != 503);
    assert!(others.is_none(), "{others:?}");
    stack.stop();
}
