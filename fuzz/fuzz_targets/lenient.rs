//! The tolerant readers: sound JSON is read as the strict reader reads it, in whatever pieces it comes; of everything else JSON is
//! made that is within bounds, and warnings without control characters.
//!
//! The first byte of the input says how it is cut into pieces.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use shared::lenient::{Input, Limits, Reading, json, json_stream, msgpack, msgpack_list};

const SMALL: Limits = Limits {
    bytes: 256,
    values: 50,
    levels: 8,
};

fuzz_target!(|input: &[u8]| {
    let [piece_bytes, document @ ..] = input else {
        return;
    };
    let pieces = || {
        let pieces = document.chunks(usize::from(*piece_bytes) + 1);
        Input::new(pieces.map(|piece| Ok(piece.to_vec().into())))
    };
    let streamed = json_stream(&mut pieces(), Limits::default());
    let whole = json(document, Limits::default());
    let is_utf_8_text = !document.starts_with(&[0xef, 0xbb, 0xbf]);
    if whole.repairs.is_empty() && is_utf_8_text {
        assert_eq!(streamed.value, whole.value);
    }
    check(&streamed);
    check(&whole);
    for limits in [Limits::default(), SMALL] {
        check(&json_stream(&mut pieces(), limits));
        check(&msgpack(&mut pieces(), limits));
        check(&msgpack_list(&mut pieces(), "breadcrumbs", limits));
    }
});

fn check(reading: &Reading) {
    let written = serde_json::to_vec(&reading.value).expect("a value is JSON");
    assert!(serde_json::from_slice::<Value>(&written).is_ok());
    let warnings = reading.repairs.warnings("the event");
    assert!(warnings.len() <= 20 && warnings.iter().all(|warning| !warning.contains(char::is_control)));
}
