//! Event data in msgpack: `__sentry-event` and the breadcrumb files.
#![no_main]

use libfuzzer_sys::fuzz_target;
use relay::event_data::{Source, merge};

fuzz_target!(|input: &[u8]| {
    let bytes = input.to_vec();
    let sources = vec![
        Source::EventMsgpack(bytes.clone().into()),
        Source::Breadcrumbs(bytes.into()),
    ];
    let merged = merge(sources, Vec::new(), None, Vec::new());
    let written = serde_json::to_vec(&merged.payload).expect("a payload is JSON");
    let read: serde_json::Value = serde_json::from_slice(&written).expect("shallow enough to read");
    assert!(read.is_object());
});
