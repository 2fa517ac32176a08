//! Processors join, leave and are killed (-9) while uploads come in: every upload that got a 200 has exactly one outcome and
//! one report, and what was finished is not parsed again.

use std::time::Duration;

use harness::conservation::{Load, Scale, Shape, Verdict};
use harness::stack::Plan;

const SHAPE: Shape = Shape {
    clients: 8,
    per_second: 60,
};
/// Answers between two changes.
const ANSWERS: usize = 30;

#[test]
fn three_of_them_share_twelve_partitions() {
    let scale = Scale::of("processors_come_and_go/three_of_them_share_twelve_partitions");
    let mut stack = Plan::split().partitions(12).three_processors().start();
    let load = Load::start(&scale, &stack, SHAPE);
    let until = scale.pick(Duration::from_secs(15), Duration::from_secs(600));
    let mut changes = 0;
    // Two changes of three are leavings in good order: a killed one keeps its partitions until its session ends, or until it
    // is back.
    while load.now() < until {
        load.more_promises(ANSWERS);
        let processors = stack.processors();
        let count = processors.len();
        let one = &mut processors[changes % count];
        if changes % 3 == 0 {
            one.kill();
        } else {
            one.stop();
        }
        load.more_promises(ANSWERS);
        stack.processors()[changes % count].start();
        changes += 1;
    }
    let tally = load.stop();
    assert_eq!(tally.refused(), "none");
    let verdict = Verdict::reach(&scale, &mut stack, &tally);
    verdict.is_conserved();
    println!(
        "conservation: {} joined and left {changes} times",
        scale.scenario()
    );
    stack.parsed_nothing_again(&scale);
    stack.stop();
}
