//! The harness itself: topics get the limits they are asked for, what is produced is read back byte by byte, a killed
//! broker keeps what it confirmed, dumps have the size they are asked for, and a real crash leaves a real dump.

use std::path::Path;
use std::time::Duration;

use harness::faults::Fault;
use harness::kafka::{self, Broker, Isolation, Topics};
use harness::{crashing, dumps, environment, wire};

#[test]
fn a_topic_has_the_limit_it_was_given_and_the_limit_moves() {
    let broker = environment::kafka();
    let topics = Topics::unique();
    topics.create(&broker, 2, Some(100_000));
    assert_eq!(kafka::limit(&broker, &topics.attachments), 100_000);
    kafka::alter_limit(&broker, &topics.attachments, 2_000_000);
    assert_eq!(kafka::limit(&broker, &topics.attachments), 2_000_000);
    topics.delete(&broker);
}

#[test]
fn a_topic_without_a_limit_of_its_own_has_kafkas_default() {
    let broker = environment::kafka();
    let topics = Topics::unique();
    topics.create(&broker, 1, None);
    assert_eq!(kafka::limit(&broker, &topics.attachments), 1_048_588);
    topics.delete(&broker);
}

#[test]
fn a_killed_broker_keeps_what_it_confirmed() {
    let mut broker = Broker::start(&environment::kafka_libs());
    let address = broker.address();
    kafka::create(&address, "kept", 1, None);
    let event = wire::Event::new(vec![wire::Attachment::minidump(&dumps::small(), 700)]);
    let sent = event.chunks();
    for value in &sent {
        let headers = [("chunk_count", "2")];
        kafka::produce(&address, "kept", 0, &event.key(), value, &headers);
    }
    broker.kill();
    assert!(!environment::answers(&address));
    broker.restart();
    let read = kafka::read_all(&address, "kept", Isolation::Committed);
    let values: Vec<Vec<u8>> = read.iter().map(|record| record.value.clone()).collect();
    assert_eq!(values, sent);
    assert_eq!(read[0].key, event.key());
    assert_eq!(read[0].header("chunk_count").as_deref(), Some("2"));
    broker.stop();
}

#[test]
fn dumps_have_the_exact_size_and_differ() {
    for bytes in [100_000, 1_048_577] {
        let one = dumps::sized(bytes, 1);
        let other = dumps::sized(bytes, 2);
        assert_eq!((one.len(), other.len()), (bytes, bytes));
        assert_ne!(one, other);
        assert!(one.starts_with(b"MDMP"));
    }
}

#[test]
fn a_crashing_child_leaves_a_dump() {
    let dump = crashing::dump(Path::new(env!("CARGO_BIN_EXE_crashing-child")));
    assert!(dump.starts_with(b"MDMP"));
    assert!(dump.len() > 10_000, "{} bytes", dump.len());
}

#[test]
fn a_proxy_cuts_the_answer_after_the_request_went_through() {
    let (mut broker, proxy) = Broker::start_behind_proxy(&environment::kafka_libs());
    let address = proxy.address();
    kafka::create(&address, "proxied", 1, None);
    kafka::produce(&address, "proxied", 0, b"key", b"value", &[]);
    proxy.set(Fault::CutAnswers);
    assert!(kafka::ping(&address).is_err(), "no answer comes through");
    proxy.set(Fault::BlackHole);
    assert!(kafka::ping(&address).is_err(), "nothing comes through");
    proxy.set(Fault::Reset);
    assert!(kafka::ping(&address).is_err(), "every connection is reset");
    let straight = kafka::ping(&broker.address());
    assert_eq!(straight, Ok(()), "without the proxy there is no fault");
    proxy.set(Fault::Delay(Duration::from_millis(50)));
    let read = kafka::read_all(&address, "proxied", Isolation::Committed);
    assert_eq!(read.len(), 1);
    broker.stop();
}
