//! The network between relay and broker is cut after a request and before its answer, again and again under load, and
//! is reset, late and silent now and then: every upload is answered with 200 and has exactly one outcome.

use std::time::Duration;

use harness::conservation::{Load, Scale, Shape, Verdict};
use harness::environment;
use harness::faults::{Fault, Proxy};
use harness::kafka::Broker;
use harness::stack::Plan;
use harness::wait;

/// How long a fault lasts: long enough for requests to meet it.
const PULSE: Duration = Duration::from_millis(300);
/// How long the network works in between, and how many answers at least come through.
const PAUSE: Duration = Duration::from_millis(700);
const ANSWERS: usize = 5;

#[test]
fn between_relay_and_broker() {
    let scale = Scale::of("cut_answers_lose_nothing");
    let (broker, proxy) = Broker::start_behind_proxy(&environment::kafka_libs());
    let plan = Plan::split().broker(&broker.address());
    let mut stack = plan.relay_broker(&proxy.address()).start();
    let load = Load::start(&scale, &stack, Shape::default());
    for _ in 0..scale.pick(8, 100) {
        pulse(&proxy, Fault::CutAnswers, &load);
    }
    for _ in 0..scale.pick(2, 20) {
        pulse(&proxy, Fault::Reset, &load);
        pulse(&proxy, Fault::Delay(PULSE / 3), &load);
        pulse(&proxy, Fault::BlackHole, &load);
    }
    let tally = load.stop();
    let verdict = Verdict::reach(&scale, &mut stack, &tally);
    verdict.is_conserved();
    tally.only_promises();
    stack.stop();
}

fn pulse(proxy: &Proxy, fault: Fault, load: &Load) {
    proxy.set(fault);
    wait::lasting(PULSE);
    proxy.set(Fault::None);
    load.more_promises(ANSWERS);
    wait::lasting(PAUSE);
}
