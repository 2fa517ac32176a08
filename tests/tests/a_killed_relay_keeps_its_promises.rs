//! The relay is killed (-9) again and again under load: every upload that was answered with 200 has exactly one outcome
//! and its dump is whole; one that got no answer has one outcome or none.

use harness::conservation::{Load, Scale, Shape, Verdict};
use harness::stack::{Plan, Stack};

/// Answers between two kills.
const ANSWERS: usize = 25;
/// As fast as the relay answers, so that each kill meets uploads on their way.
const SHAPE: Shape = Shape {
    clients: 8,
    per_second: 400,
};

#[test]
fn in_front_of_kafka() {
    let scale = Scale::of("a_killed_relay_keeps_its_promises/in_front_of_kafka");
    kill_under_load(&scale, Plan::split().start());
}

#[test]
fn standalone() {
    let scale = Scale::of("a_killed_relay_keeps_its_promises/standalone");
    kill_under_load(&scale, Plan::standalone().start());
}

fn kill_under_load(scale: &Scale, mut stack: Stack) {
    let load = Load::start(scale, &stack, SHAPE);
    for _ in 0..scale.pick(8, 50) {
        load.more_promises(ANSWERS);
        stack.relay().kill();
        stack.relay().start();
    }
    load.more_promises(ANSWERS);
    let tally = load.stop();
    assert_eq!(tally.refused(), "none");
    let verdict = Verdict::reach(scale, &mut stack, &tally);
    verdict.is_conserved();
    stack.stop();
}
