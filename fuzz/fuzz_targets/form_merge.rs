//! Form fields of event data: whole, in pieces, nested, and annotations, with JSON sources beside them.
//!
//! The input is cut at zero bytes: names and values by turns, the last ones an event item and Mozilla's `extra`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use relay::event_data::{Field, Source, merge};
use shared::config::{Keep, KeepMinidump, PrivacyConfig};
use shared::event::read_payload;
use shared::privacy::scrub_payload;

/// Takes out all that can be.
const PRIVACY: PrivacyConfig = PrivacyConfig {
    command_lines: Keep::Drop,
    home_paths: Keep::Drop,
    client_address: Keep::Drop,
    minidump: KeepMinidump::Never,
    public_report: false,
};

fuzz_target!(|input: &[u8]| {
    let texts: Vec<&[u8]> = input.split(|byte| *byte == 0).collect();
    let (pairs, rest) = texts.as_chunks::<2>();
    let field = |[name, value]: &[&[u8]; 2]| -> Field {
        (String::from_utf8_lossy(name).into_owned(), value.to_vec())
    };
    let fields = pairs.iter().map(field).collect();
    let last = rest.first().map(|bytes| bytes.to_vec());
    let sources = last.into_iter().flat_map(|bytes| {
        [Source::EventJson(bytes.clone().into()), Source::Extra(bytes.into())]
    });
    let mut payload = merge(sources.collect(), fields, None, Vec::new()).payload;
    let written = serde_json::to_value(&payload).expect("a payload is JSON");
    if let serde_json::Value::Object(written) = written {
        assert_eq!(read_payload(written), payload, "what is written is read back");
    }
    scrub_payload(&mut payload, &PRIVACY);
    let once = payload.clone();
    scrub_payload(&mut payload, &PRIVACY);
    assert_eq!(payload, once, "a second time there is nothing left");
});
