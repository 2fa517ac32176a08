//! `fsync` fails on the spool's volume: from then on nothing is promised on its word. Uploads are refused with 503 and
//! `Retry-After`, the relay is not ready and names the spool, and what was promised before is kept.

use harness::conservation::{Scale, Tally, Upload, Verdict};
use harness::kafka::Broker;
use harness::stack::{Plan, READY_DEADLINE, Role, Stack};
use harness::volume::FailingSync;
use harness::{environment, wait};

const UPLOADS: u64 = 5;
const DUMP_BYTES: usize = 100_000;

#[test]
fn of_a_relay_whose_broker_is_away() {
    let scale = Scale::of("an_untrusted_volume_is_not_ready/of_a_relay_whose_broker_is_away");
    let sync = FailingSync::compile();
    let mut broker = Broker::start(&environment::kafka_libs());
    let mut stack = spellbound(Plan::split().broker(&broker.address()), &sync);
    broker.kill();
    let mut tally = upload(&scale, &stack);
    refuses(&mut stack, &sync, &mut tally);
    stack.relay().kill();
    broker.restart();
    recovers(&scale, stack, &sync, &tally);
}

#[test]
fn standalone() {
    let scale = Scale::of("an_untrusted_volume_is_not_ready/standalone");
    let sync = FailingSync::compile();
    let mut stack = spellbound(Plan::standalone(), &sync);
    let mut tally = upload(&scale, &stack);
    refuses(&mut stack, &sync, &mut tally);
    stack.relay().kill();
    recovers(&scale, stack, &sync, &tally);
}

fn spellbound(plan: Plan, sync: &FailingSync) -> Stack {
    let variables = sync.variables().into_iter();
    let plan = variables.fold(plan, |plan, (name, value)| {
        plan.relay_variable(name, &value)
    });
    plan.start()
}

fn upload(scale: &Scale, stack: &Stack) -> Tally {
    let mut tally = Tally::default();
    for number in 0..UPLOADS {
        let seed = scale.seed() + number * 2;
        let bytes = DUMP_BYTES;
        tally.upload(stack, Upload { seed, bytes });
    }
    tally.only_promises();
    tally
}

fn refuses(stack: &mut Stack, sync: &FailingSync, tally: &mut Tally) {
    sync.raise();
    for seed in 0..2 {
        let bytes = DUMP_BYTES;
        tally.upload(stack, Upload { seed, bytes });
    }
    assert_eq!(tally.refusals.len(), 2, "uploads without a trusted volume");
    for refusal in &tally.refusals {
        refusal.says_try_again();
    }
    let relay = stack.relay();
    wait::until("the spool to be named", READY_DEADLINE, || is_named(relay));
}

/// The relay is not ready, because of its spool.
fn is_named(relay: &Role) -> Result<(), String> {
    let (ready, answer) = relay.readiness();
    match !ready && relay.part("spool") != "ready" {
        true => Ok(()),
        false => Err(answer.to_string()),
    }
}

/// With a volume that can be trusted again and a new start, every promise is kept.
fn recovers(scale: &Scale, mut stack: Stack, sync: &FailingSync, tally: &Tally) {
    sync.lower();
    stack.relay().start();
    let verdict = Verdict::reach(scale, &mut stack, tally);
    verdict.is_conserved();
    stack.stop();
}
