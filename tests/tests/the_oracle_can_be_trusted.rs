//! The oracle of the fault scenarios itself: a lost, a doubled, a changed and a stranger's event, and one without its
//! dump, are each seen, and without one the verdict is clean.

use std::fs;
use std::time::Duration;

use harness::conservation::{Load, Scale, Shape, Verdict};
use harness::kafka;
use harness::stack::{Plan, Stack};

/// What the oracle waits for does not come here.
const PATIENCE: Duration = Duration::from_secs(2);

#[test]
fn every_kind_of_harm_is_seen() {
    let scale = Scale::of("the_oracle_can_be_trusted");
    let mut stack = Plan::split().start();
    let load = Load::start(&scale, &stack, Shape::default());
    load.more_promises(5);
    let mut tally = load.stop();
    let clean = Verdict::reach(&scale, &mut stack, &tally);
    clean.is_conserved();

    let doubled = tally.promises[0].id.clone();
    tell_again(&stack, &doubled, &clean);
    tally.promises[1].upload.seed += 2;
    let changed = tally.promises[1].id.clone();
    let dumpless = tally.promises[3].id.clone();
    fs::remove_file(&stack.stored_dumps()[&dumpless]).expect("a stored dump");
    let unpromised = tally.promises.swap_remove(2).id;
    let lost = uuid::Uuid::new_v4().to_string();
    let mut forgotten = tally.promises[0].clone();
    forgotten.id = lost.clone();
    tally.promises.push(forgotten);
    let seen = Verdict::reach_within(PATIENCE, &scale, &mut stack, &tally);
    assert_eq!(seen.doubled, [doubled]);
    assert_eq!(seen.changed, [changed]);
    assert_eq!(seen.lost, [lost]);
    assert_eq!(seen.dumpless, [dumpless]);
    assert!(seen.unpromised.contains(&unpromised), "{seen:?}");
    let harm = seen.harm(&[]);
    assert_eq!(harm.len(), 5, "{harm:?}");
}

fn tell_again(stack: &Stack, id: &str, verdict: &Verdict) {
    let outcome = verdict.outcomes.about(id).expect("an outcome").to_string();
    let topic = &stack.topics().outcomes;
    kafka::produce(
        stack.broker(),
        topic,
        0,
        id.as_bytes(),
        outcome.as_bytes(),
        &[],
    );
}
