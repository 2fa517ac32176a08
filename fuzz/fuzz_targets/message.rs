//! Records of the ingest topic, which anybody who may produce to it can write.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shared::message::Message;

fuzz_target!(|bytes: &[u8]| {
    drop(Message::decode(bytes));
});
