//! Undecodable messages by the thousand among good uploads: each is in the dead letters once, with where it came from; every
//! good upload is processed; and nothing is fetched over and over on the way.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use harness::conservation::Scale;
use harness::kafka::{self, Isolation, Outgoing};
use harness::stack::{FATE_DEADLINE, Plan, Stack};
use harness::wire::{Attachment, Event};
use harness::{dumps, wait};

const PARTITIONS: i32 = 2;
/// Rounds of letters, one good upload and one foreign event each.
const ROUNDS: usize = 10;
/// Bytes of a message that is as large as the topic takes.
const HUGE_BYTES: usize = 900_000;
/// One in so many is huge.
const HUGE_EVERY: usize = 100;
/// What the processor may have in memory at its peak.
const HUGE_PEAK_MB_MAX: u64 = 500;
/// What may be received for what is in the topic.
const RECEIVED_RATIO_MAX: f64 = 1.1;
const DEADLINE: Duration = Duration::from_secs(180);

#[test]
fn each_is_kept_once_and_every_good_upload_is_processed() {
    let scale = Scale::of("thousands_of_dead_letters_stop_nobody");
    let letters = scale.pick(1_000, 10_000);
    let mut stack = Plan::split().partitions(PARTITIONS).start();
    let started = Instant::now();
    let mut expected: BTreeMap<(i32, i64), Outgoing> = BTreeMap::new();
    let mut good = Vec::new();
    for round in 0..ROUNDS {
        let from = round * letters / ROUNDS;
        let to = (round + 1) * letters / ROUNDS;
        let garbage: Vec<Outgoing> = (from..to).map(|number| garbage(&scale, number)).collect();
        let event = Event::new(vec![Attachment::minidump(&dumps::unique(), 2000)]);
        let (chunks, last) = foreign(&event);
        produce(&stack, &chunks);
        let offsets = produce(&stack, &garbage);
        produce(&stack, &[last]);
        let places = garbage.iter().map(|record| record.partition).zip(offsets);
        expected.extend(places.zip(garbage.iter().cloned()));
        good.push(event.hyphenated());
        good.push(stack.upload(&dumps::unique()));
    }
    for id in &good {
        stack.report_within(id, DEADLINE);
    }
    let processor = stack.processor();
    wait::until("the letters to be counted", DEADLINE, || {
        let counted = processor
            .metrics()
            .sum("crashferry_dead_letters_total", &[]);
        match counted {
            Some(counted) if counted == letters as f64 => Ok(()),
            counted => Err(format!("{counted:?} of {letters}")),
        }
    });
    check_letters(&stack, &expected);
    let seconds = started.elapsed().as_secs_f64();
    let in_topic = topic_bytes(&stack);
    let received = received_bytes(&mut stack, in_topic);
    let ratio = received / in_topic;
    let peak_mb = stack.processor().memory_peak_bytes() / 1_000_000;
    println!(
        "dead letters: {} letters={letters} good={} seconds={seconds:.1} topic_bytes={in_topic} \
         received_bytes={received} ratio={ratio:.4} processor_peak_mb={peak_mb}",
        scale.scenario(),
        good.len(),
    );
    assert!(ratio < RECEIVED_RATIO_MAX, "{received} for {in_topic}");
    let listed = stack.command(&["dead-letters", "list"]);
    let summary = listed.lines().last().unwrap_or_default();
    assert!(
        summary.starts_with(&format!("{letters} dead letters: ")),
        "{summary}"
    );
    stack.finish(good.len() as u64, 0);
}

/// More than one transaction, and librdkafka's queue, can hold.
#[test]
fn a_backlog_of_huge_ones_fits_in_little_memory() {
    let scale = Scale::of("a_backlog_of_huge_ones_fits_in_little_memory");
    let letters: usize = scale.pick(120, 1_000);
    let mut stack = Plan::split().partitions(PARTITIONS).start();
    stack.processor().kill();
    let mut expected = BTreeMap::new();
    for round in 0..letters / 20 {
        let numbers = (round * 20..(round + 1) * 20).map(|number| number * HUGE_EVERY);
        let garbage: Vec<Outgoing> = numbers.map(|number| garbage(&scale, number)).collect();
        let offsets = produce(&stack, &garbage);
        let places = garbage.iter().map(|record| record.partition).zip(offsets);
        expected.extend(places.zip(garbage.iter().cloned()));
    }
    let good = stack.upload(&dumps::unique());
    stack.processor().start();
    let started = Instant::now();
    stack.report_within(&good, DEADLINE);
    check_letters(&stack, &expected);
    let peak_mb = stack.processor().memory_peak_bytes() / 1_000_000;
    println!(
        "dead letters: {} letters={letters} seconds={:.1} processor_peak_mb={peak_mb}",
        scale.scenario(),
        started.elapsed().as_secs_f64()
    );
    assert!(peak_mb < HUGE_PEAK_MB_MAX, "{peak_mb} MB");
    stack.finish(1, 0);
}

/// A message that is none, each kind in its turn.
fn garbage(scale: &Scale, number: usize) -> Outgoing {
    let noise = dumps::sized(dumps::small().len() + 64, scale.seed() + number as u64);
    let text = |value: &str| rmpv::Value::from(value);
    let value = match number {
        number if number % HUGE_EVERY == 0 => [&[0xc1], &vec![7; HUGE_BYTES][..]].concat(),
        _ => match number % 6 {
            0 => [&[0xc1], &noise[..]].concat(),
            1 => Vec::new(),
            2 => message(vec![
                (text("type"), text("order")),
                (text("n"), number.into()),
            ]),
            3 => message(vec![(text("type"), text("event"))]),
            4 => message(vec![
                (text("type"), text("attachment_chunk")),
                (text("event_id"), text("no id")),
                (text("payload"), rmpv::Value::Binary(noise)),
            ]),
            _ => message(vec![(text("type"), 7.into())]),
        },
    };
    let key = match number % 3 {
        0 => Vec::new(),
        1 => number.to_be_bytes().to_vec(),
        _ => [number.to_be_bytes(), [0; 8]].concat(),
    };
    Outgoing {
        partition: (number % PARTITIONS as usize) as i32,
        key,
        value,
        headers: vec![("number".to_owned(), number.to_string().into_bytes())],
    }
}

fn message(fields: Vec<(rmpv::Value, rmpv::Value)>) -> Vec<u8> {
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, &rmpv::Value::Map(fields)).expect("encodes");
    bytes
}

/// A good event's chunks, and its last message.
fn foreign(event: &Event) -> (Vec<Outgoing>, Outgoing) {
    let record = |value| Outgoing {
        key: event.key(),
        value,
        ..Outgoing::default()
    };
    let chunks = event.chunks().into_iter().map(record).collect();
    (chunks, record(event.event()))
}

fn produce(stack: &Stack, records: &[Outgoing]) -> Vec<i64> {
    kafka::produce_all(stack.broker(), &stack.topics().attachments, records)
}

/// Every record that is none of ours is there once, with its bytes, its key and its headers.
fn check_letters(stack: &Stack, expected: &BTreeMap<(i32, i64), Outgoing>) {
    let topic = &stack.topics().dead_letters;
    let letters = wait::until("every letter", FATE_DEADLINE, || {
        let letters = kafka::read_all(stack.broker(), topic, Isolation::Committed);
        match letters.len() {
            count if count >= expected.len() => Ok(letters),
            count => Err(format!("{count} letters")),
        }
    });
    assert_eq!(letters.len(), expected.len(), "none is there twice");
    for letter in &letters {
        let header = |name: &str| letter.header(name).unwrap_or_default();
        assert_eq!(header("origin_topic"), stack.topics().attachments);
        let partition = header("origin_partition").parse().expect("a partition");
        let offset = header("origin_offset").parse().expect("an offset");
        let origin = expected.get(&(partition, offset));
        let origin = origin.unwrap_or_else(|| panic!("a letter from {partition}:{offset}"));
        assert!(letter.value == origin.value, "{partition}:{offset}");
        assert_eq!(letter.key, origin.key, "{partition}:{offset}");
        let number = String::from_utf8_lossy(&origin.headers[0].1).into_owned();
        assert_eq!(header("original_header.number"), number);
        for name in ["reason", "error", "attempts", "origin_timestamp"] {
            assert!(!header(name).is_empty(), "no {name}: {partition}:{offset}");
        }
    }
}

/// Keys, values and headers of all records: less than their log, which frames them.
fn topic_bytes(stack: &Stack) -> f64 {
    let topic = &stack.topics().attachments;
    let records = kafka::read_all(stack.broker(), topic, Isolation::Committed);
    let bytes: usize = records.iter().map(kafka::Record::content_bytes).sum();
    bytes as f64
}

/// What the consumer had received from the broker when it had been given everything, as it says itself every second.
fn received_bytes(stack: &mut Stack, at_least: f64) -> f64 {
    let processor = stack.processor();
    wait::until("the consumer's figures", FATE_DEADLINE, || {
        let received = processor.metric("crashferry_consumer_received_bytes_total");
        match received {
            received if received >= at_least => Ok(received),
            received => Err(format!("{received} of {at_least}")),
        }
    })
}
