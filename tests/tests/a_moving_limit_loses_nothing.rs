//! The topic's `max.message.bytes` goes down and up under load: clients see nothing but 200, and every dump arrives.

use std::time::Duration;

use harness::conservation::{Load, Scale, Shape, Verdict};
use harness::dumps;
use harness::kafka;
use harness::multipart::Form;
use harness::stack::{Plan, accepted_id};
use harness::wait;

const LIMITS: [u32; 4] = [1_048_588, 300_000, 100_000, 2_000_000];

#[test]
fn down_and_up_under_load() {
    let scale = Scale::of("a_moving_limit_loses_nothing");
    let mut stack = Plan::split().limit(LIMITS[0]).start();
    let load = Load::start(&scale, &stack, Shape::default());
    for _ in 0..scale.pick(1, 5) {
        for limit in LIMITS {
            kafka::alter_limit(stack.broker(), &stack.topics().attachments, limit);
            wait::lasting(Duration::from_secs(scale.pick(4, 15)));
        }
    }
    let tally = load.stop();
    let verdict = Verdict::reach(&scale, &mut stack, &tally);
    verdict.is_conserved();
    tally.only_promises();
    stack.stop();
}

/// What the processor has cut for a limit that is lower by now is cut again.
#[test]
fn of_the_topic_of_reports() {
    let stack = Plan::split().start();
    let first = stack.upload(&dumps::unique());
    stack.report(&first);
    kafka::alter_limit(stack.broker(), &stack.topics().reports, 100_000);
    let form = Form::minidump(&dumps::unique()).field("notes", &"a long story; ".repeat(20_000));
    let large = accepted_id(&stack.post_form(form));
    let last = stack.upload(&dumps::unique());
    stack.report(&large);
    stack.report(&last);
    stack.one_report_each([first.as_str(), &large, &last]);
    // The refusal is an error of its own in the log, so the stack is not asked to have had none.
    stack.stop();
}
