//! The broker is killed (-9) again and again under load, and comes back each time: every upload is answered with 200,
//! has exactly one outcome, and its dump is whole.

use harness::conservation::{Load, Scale, Shape, Verdict};
use harness::environment;
use harness::kafka::Broker;
use harness::stack::Plan;

/// Answers between two kills.
const ANSWERS: usize = 25;

#[test]
fn under_load() {
    let scale = Scale::of("a_killed_broker_loses_nothing");
    let mut broker = Broker::start(&environment::kafka_libs());
    let mut stack = Plan::split().broker(&broker.address()).start();
    let load = Load::start(&scale, &stack, Shape::default());
    for _ in 0..scale.pick(4, 20) {
        load.more_promises(ANSWERS);
        broker.kill();
        broker.restart();
    }
    load.more_promises(ANSWERS);
    let tally = load.stop();
    let verdict = Verdict::reach(&scale, &mut stack, &tally);
    verdict.is_conserved();
    tally.only_promises();
    stack.stop();
}
