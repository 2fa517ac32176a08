//! The broker is away for minutes under steady load: every upload is answered with 200, the first ones too, and the relay
//! stays ready and small. When the broker is back all of it arrives, oldest first, and live uploads stay quick.

use std::collections::BTreeMap;
use std::time::Duration;

use harness::conservation::{Load, Scale, Shape, Tally, Verdict};
use harness::kafka::{self, Broker, Isolation};
use harness::stack::{Plan, Role, Stack};
use harness::{environment, wait};

const SHAPE: Shape = Shape {
    clients: 8,
    per_second: 10,
};
/// `relay.ack_deadline`, and a second of grace.
const LATENCY_MAX: Duration = Duration::from_secs(21);
/// For all but one of a hundred uploads while the spool is drained, with the machine to ourselves.
const LIVE_LATENCY_MAX: Duration = Duration::from_secs(1);
/// The same beside other tests: still far less than the drain takes, so nobody waits for that.
const CROWDED_LATENCY_MAX: Duration = Duration::from_secs(10);
/// So much larger may the relay get by an outage.
const GROWTH_BYTES_MAX: u64 = 64 << 20;
/// The spool of ten minutes is empty again within this time.
const DRAINED_WITHIN: Duration = Duration::from_secs(600);
/// A part that does not work is named within this time.
const NOTICED_WITHIN: Duration = Duration::from_secs(30);
/// The drain sends several uploads at once: so many places may one of them stand from where its age would put it.
const PLACES_MAX: usize = 32;

/// When what happened, since the load began.
struct Outage {
    from: Duration,
    until: Duration,
    back: Duration,
    drained: Duration,
}

#[test]
fn oldest_first_and_beside_live_uploads() {
    let scale = Scale::of("an_outage_is_spooled_and_drained");
    let mut broker = Broker::start(&environment::kafka_libs());
    let mut stack = Plan::split().broker(&broker.address()).start();
    let load = Load::start(&scale, &stack, SHAPE);
    load.more_promises(50);
    let before = stack.relay().memory_peak_bytes();
    let outage = break_down(&scale, &mut broker, &mut stack, &load);
    let growth = stack.relay().memory_peak_bytes() - before;
    load.more_promises(20);
    let tally = load.stop();
    let verdict = Verdict::reach(&scale, &mut stack, &tally);
    let places = displacement(&stack, &tally, &outage);
    let away = tally.latencies(outage.from..outage.back);
    let live = tally.latencies(outage.back..outage.drained);
    let drained = stack.relay().metric("crashferry_drained_uploads_total");
    println!(
        "outage: away {:?} with {away}; drained {drained} in {:?} with {live} beside it; {places} places out of order; \
         relay grew by {} MB",
        outage.back - outage.from,
        outage.drained - outage.back,
        growth / 1_000_000
    );
    verdict.is_conserved();
    tally.only_promises();
    assert!(away.max < LATENCY_MAX, "while the broker was away: {away}");
    let live_max = scale.pick(CROWDED_LATENCY_MAX, LIVE_LATENCY_MAX);
    assert!(live.p99 < live_max, "while it drained: {live}");
    assert!(growth < GROWTH_BYTES_MAX, "the relay grew by {growth}");
    assert!(places <= PLACES_MAX, "{places} places out of order");
    stack.stop();
}

fn break_down(scale: &Scale, broker: &mut Broker, stack: &mut Stack, load: &Load) -> Outage {
    let relay = stack.relay();
    let from = load.now();
    let end = from + Duration::from_secs(scale.pick(120, 600));
    broker.kill();
    wait::until("the outage to be named", NOTICED_WITHIN, || is_named(relay));
    while load.now() < end {
        wait::lasting(Duration::from_secs(1));
        is_named(relay).expect("the outage stays named");
    }
    assert!(relay.metric("crashferry_spool_files") > 0.0);
    let until = load.now();
    broker.restart();
    let back = load.now();
    wait::until("the spool to be drained", DRAINED_WITHIN, || {
        match relay.metric("crashferry_spool_files") + relay.metric("crashferry_breaker_open") {
            0.0 => Ok(()),
            _ => Err(format!("{} files", relay.metric("crashferry_spool_files"))),
        }
    });
    let drained = load.now();
    Outage {
        from,
        until,
        back,
        drained,
    }
}

/// The relay is ready all the same, and says that broker or producer is not.
fn is_named(relay: &Role) -> Result<(), String> {
    let (ready, answer) = relay.readiness();
    assert!(ready, "the spool takes uploads, and yet: {answer}");
    match [relay.part("broker"), relay.part("producer")] {
        [broker, producer] if broker == "ready" && producer == "ready" => Err(answer.to_string()),
        _ => Ok(()),
    }
}

/// The longest way of any upload of the outage between its place in a partition and the one its age would give it.
fn displacement(stack: &Stack, tally: &Tally, outage: &Outage) -> usize {
    let sent: BTreeMap<&str, Duration> = tally
        .promises
        .iter()
        .filter(|promise| (outage.from..outage.until).contains(&promise.at))
        .map(|promise| (promise.id.as_str(), promise.at))
        .collect();
    let mut seen = BTreeMap::new();
    let mut partitions: BTreeMap<i32, Vec<Duration>> = BTreeMap::new();
    let topic = &stack.topics().attachments;
    for record in kafka::read_all(stack.broker(), topic, Isolation::Uncommitted) {
        // Only event messages have it. The first of an upload counts: it may have been sent twice.
        let is_event = record.header("blake3").is_some();
        let id = uuid::Uuid::from_slice(&record.key[..16]).expect("a key begins with an event id");
        let id = id.hyphenated().to_string();
        if let Some(at) = sent.get(id.as_str()).filter(|_| is_event)
            && seen.insert(id, ()).is_none()
        {
            partitions.entry(record.partition).or_default().push(*at);
        }
    }
    let ways = partitions.values().flat_map(|found| {
        let mut sorted = found.clone();
        sorted.sort();
        let ways = found.iter().enumerate().map(move |(place, at)| {
            let rank = sorted.partition_point(|other| other < at);
            place.abs_diff(rank)
        });
        ways.collect::<Vec<_>>()
    });
    ways.max().expect("uploads of the outage are in the topic")
}
