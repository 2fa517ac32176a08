//! Files of the spool are torn or changed by a bit while nobody looks: each is put aside with its reason and its event
//! fails, once; every other upload is processed.

use std::fs;
use std::path::{Path, PathBuf};

use harness::conservation::{Scale, Tally, Upload, Verdict};
use harness::kafka::Broker;
use harness::stack::{FATE_DEADLINE, Plan, Role, Stack};
use harness::{environment, wait};

const UPLOADS: u64 = 8;
/// Larger than a relay answers from memory alone, smaller than a chunk.
const DUMP_BYTES: usize = 200_000;
/// Bytes after the manifest: its length, its hash, and the last eight.
const TRAILER_BYTES: usize = 48;

#[test]
fn between_relay_and_kafka() {
    let scale = Scale::of("damaged_spool_files_are_kept_aside/between_relay_and_kafka");
    let mut broker = Broker::start(&environment::kafka_libs());
    let mut stack = Plan::split().broker(&broker.address()).start();
    let mut tally = Tally::default();
    broker.kill();
    upload(&scale, &stack, &mut tally, UPLOADS);
    stack.relay().kill();
    let damaged = damage(stack.relay(), &tally);
    broker.restart();
    stack.relay().start();
    check(&scale, stack, &tally, &damaged);
}

#[test]
fn standalone() {
    let scale = Scale::of("damaged_spool_files_are_kept_aside/standalone");
    let mut stack = Plan::standalone().raw("processor", "workers", "1").start();
    let mut tally = Tally::default();
    // The one parser starts with the first dump. While it is stopped, what comes in stays in the spool.
    upload(&scale, &stack, &mut tally, 1);
    stack.report(&tally.promises[0].id);
    let parsers = stack.relay().running().freeze_children();
    assert_eq!(parsers, 1, "the parser runs in a process of its own");
    upload(&scale, &stack, &mut tally, UPLOADS);
    stack.relay().kill();
    let damaged = damage(stack.relay(), &tally);
    stack.relay().start();
    check(&scale, stack, &tally, &damaged);
}

fn upload(scale: &Scale, stack: &Stack, tally: &mut Tally, count: u64) {
    for _ in 0..count {
        let seed = scale.seed() + 2 * tally.promises.len() as u64;
        let bytes = DUMP_BYTES;
        tally.upload(stack, Upload { seed, bytes });
    }
    tally.only_promises();
}

/// Damages three files, each in its way, and gives back their events.
fn damage(relay: &Role, tally: &Tally) -> Vec<String> {
    let files = relay.spool_files("ready");
    assert_eq!(files.len() as u64, UPLOADS, "every upload has its file");
    let ways: [fn(Vec<u8>) -> Vec<u8>; 3] = [tear, change_dump, change_manifest];
    let damaged = ways.iter().zip(tally.promises.iter().skip(3).step_by(2));
    let ids = damaged.map(|(way, promise)| {
        let file = file_of(&files, &promise.id);
        let bytes = fs::read(file).expect("a spool file can be read");
        fs::write(file, way(bytes)).expect("a spool file can be written");
        promise.id.clone()
    });
    ids.collect()
}

fn check(scale: &Scale, mut stack: Stack, tally: &Tally, damaged: &[String]) {
    let relay = stack.relay();
    wait::until("the files to be put aside", FATE_DEADLINE, || {
        match relay.metric("crashferry_spool_quarantined_files") {
            3.0 => Ok(()),
            count => Err(format!("{count} files")),
        }
    });
    let aside = relay.spool_files("quarantine");
    assert_eq!(aside.len(), 2 * damaged.len(), "{aside:?}");
    for id in damaged {
        let file = file_of(&aside, id);
        let reason = PathBuf::from(format!("{}.reason.txt", file.display()));
        let reason = fs::read_to_string(reason).expect("a reason beside the file");
        assert!(!reason.trim().is_empty(), "{}", file.display());
    }
    let verdict = Verdict::reach(scale, &mut stack, tally);
    verdict.is_conserved_but_for(damaged);
    for id in damaged {
        let outcome = verdict.outcomes.about(id).expect("it failed");
        assert_eq!(outcome["reason"], "corrupt_attachment", "{outcome}");
    }
    assert_eq!(stack.relay().spool_files("ready"), [] as [&Path; 0]);
    stack.stop();
}

/// The upload's file: its name holds the event's id.
fn file_of<'a>(files: &'a [PathBuf], id: &str) -> &'a Path {
    let simple = id.replace('-', "");
    let holds = |file: &&PathBuf| {
        let name = file.to_string_lossy();
        name.ends_with(".upload") && (name.contains(id) || name.contains(&simple))
    };
    files
        .iter()
        .find(holds)
        .unwrap_or_else(|| panic!("no file of {id} in {files:?}"))
}

fn tear(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.len() / 2);
    bytes
}

fn change_dump(mut bytes: Vec<u8>) -> Vec<u8> {
    let start = bytes.windows(4).position(|four| four == b"MDMP");
    bytes[start.expect("the dump is in the file as it is") + DUMP_BYTES / 2] ^= 1;
    bytes
}

fn change_manifest(mut bytes: Vec<u8>) -> Vec<u8> {
    let at = bytes.len() - TRAILER_BYTES - 20;
    bytes[at] ^= 1;
    bytes
}
