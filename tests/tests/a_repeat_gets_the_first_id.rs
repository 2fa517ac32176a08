//! Eight copies of one dump race to the relay: all get one id, and there is one outcome. A copy that comes later gets it
//! too; another dump gets another.

use std::collections::BTreeSet;
use std::thread;

use harness::dumps;
use harness::stack::{Plan, Stack, accepted_id};

const COPIES: usize = 8;

#[test]
fn in_front_of_kafka() {
    let stack = Plan::split().start();
    let id = one_id(&stack);
    let other = stack.upload(&dumps::unique());
    stack.report(&id);
    stack.report(&other);
    stack.one_report_each([id.as_str(), other.as_str()]);
    stack.finish(2, 0);
}

#[test]
fn standalone() {
    let stack = Plan::standalone().start();
    let id = one_id(&stack);
    let other = stack.upload(&dumps::unique());
    assert_ne!(id, other);
    stack.report(&id);
    stack.report(&other);
    stack.finish(2, 0);
}

/// The id that all copies of a dump get.
fn one_id(stack: &Stack) -> String {
    let dump = dumps::sized(300_000, 7);
    let mut ids: BTreeSet<String> = thread::scope(|scope| {
        let copies: Vec<_> = (0..COPIES)
            .map(|_| scope.spawn(|| accepted_id(&stack.post(&dump))))
            .collect();
        let answers = copies.into_iter().map(|copy| copy.join());
        answers.map(|id| id.expect("an answer")).collect()
    });
    ids.insert(stack.upload(&dump));
    assert_eq!(ids.len(), 1, "{ids:?}");
    ids.pop_first().expect("there is one")
}
