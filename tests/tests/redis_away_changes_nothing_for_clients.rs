//! Redis is away for a while under load: clients notice nothing, and when it is back every event's status appears and
//! the ledger balances.

use std::time::Duration;

use harness::conservation::{Load, Scale, Shape, Verdict};
use harness::redis::Redis;
use harness::stack::{FATE_DEADLINE, Plan};
use harness::wait;

/// For all but one of a hundred uploads, with the machine to ourselves.
const LATENCY_MAX: Duration = Duration::from_secs(1);
/// The same beside other tests: still far less than Redis is away, so nobody waits for it.
const CROWDED_LATENCY_MAX: Duration = Duration::from_secs(5);

#[test]
fn every_upload_gets_its_200_and_its_status() {
    let scale = Scale::of("redis_away_changes_nothing_for_clients");
    let mut redis = Redis::start();
    let mut stack = Plan::split().redis(&redis.address()).start();
    let load = Load::start(&scale, &stack, Shape::default());
    load.more_promises(20);
    let from = load.now();
    redis.kill();
    wait::lasting(Duration::from_secs(scale.pick(15, 120)));
    let until = load.now();
    redis.restart();
    load.more_promises(20);
    let tally = load.stop();
    let away = tally.latencies(from..until);
    println!("while redis was away: {away}");
    let verdict = Verdict::reach(&scale, &mut stack, &tally);
    verdict.is_conserved();
    tally.only_promises();
    let away_max = scale.pick(CROWDED_LATENCY_MAX, LATENCY_MAX);
    assert!(away.p99 < away_max, "{away}");
    for promise in &tally.promises {
        stack.fate(&promise.id, "processed", FATE_DEADLINE);
    }
    stack.stop();
}
