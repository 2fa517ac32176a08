//! A minidump, repaired and parsed: nothing panics, what is told has a bound, and a signature can be shown anywhere.
#![no_main]

use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use processor::parser::{parse, symbol_provider};

/// What a dump may become.
const TOLD_BYTES_MAX: usize = 16 << 20;
const TIME_MAX: Duration = Duration::from_secs(10);

fuzz_target!(|input: &[u8]| {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.expect("a runtime");
    let parsed = runtime.block_on(parse(input, &symbol_provider(), Instant::now() + TIME_MAX));
    let Ok(parsed) = parsed else {
        return;
    };
    let details = serde_json::to_vec(&parsed.details).expect("details are JSON");
    assert!(details.len() + parsed.json.len() <= TOLD_BYTES_MAX);
    let signature = parsed.details.signature.expect("there is always one");
    assert!(!signature.chars().any(char::is_control));
});
