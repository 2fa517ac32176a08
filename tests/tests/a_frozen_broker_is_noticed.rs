//! The broker stops in place (SIGSTOP): its connections stay open and it answers nothing. Within half a minute the relay
//! says so; uploads go on with 200; and when the broker goes on everything is ready again, without a restart.

use std::time::{Duration, Instant};

use harness::conservation::{Load, Scale, Shape, Verdict};
use harness::kafka::Broker;
use harness::stack::{Plan, READY_DEADLINE, Role};
use harness::{environment, wait};

const SHAPE: Shape = Shape {
    clients: 8,
    per_second: 10,
};
const NOTICED_WITHIN: Duration = Duration::from_secs(30);
/// The relay's parts that speak of the broker.
const PARTS: [&str; 4] = ["broker", "topic", "limit", "producer"];

#[test]
fn and_everything_goes_on_when_it_does() {
    let scale = Scale::of("a_frozen_broker_is_noticed");
    let mut broker = Broker::start(&environment::kafka_libs());
    let mut stack = Plan::split().broker(&broker.address()).start();
    let load = Load::start(&scale, &stack, SHAPE);
    load.more_promises(20);
    let frozen = Instant::now();
    broker.freeze();
    let relay = stack.relay();
    let named = wait::until("a part to be named", NOTICED_WITHIN, || not_ready(relay));
    println!("noticed after {:?}: {named}", frozen.elapsed());
    assert!(relay.readiness().0, "the spool takes uploads");
    wait::lasting_until(frozen + Duration::from_secs(scale.pick(20, 60)));
    broker.thaw();
    wait::until("the relay's parts to be ready", READY_DEADLINE, || {
        not_ready(relay)
            .err()
            .map_or(Ok(()), |_| Err(named.clone()))
    });
    let processor = stack.processor();
    wait::until("the processor to be ready", READY_DEADLINE, || {
        let (ready, answer) = processor.readiness();
        if ready {
            Ok(())
        } else {
            Err(answer.to_string())
        }
    });
    load.more_promises(20);
    let tally = load.stop();
    let verdict = Verdict::reach(&scale, &mut stack, &tally);
    verdict.is_conserved();
    tally.only_promises();
    stack.stop();
}

/// The first part that is not ready.
fn not_ready(relay: &Role) -> Result<String, String> {
    let parts = PARTS.iter().map(|part| relay.part(part));
    let mut broken = parts.filter(|state| state != "ready");
    broken
        .next()
        .ok_or_else(|| "every part is ready".to_owned())
}
