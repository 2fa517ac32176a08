//! Dumps compressed inside their part, by whatever the first bytes say they are.
#![no_main]

use std::io::Read;

use libfuzzer_sys::fuzz_target;
use relay::container::{cause, open, sniff};

/// What a caller would let out.
const OUT_BYTES_MAX: u64 = 1 << 20;

fuzz_target!(|input: &[u8]| {
    let Some(container) = sniff(input) else {
        return;
    };
    let Ok(reader) = open(container, input.to_vec().into()) else {
        return;
    };
    if let Err(error) = reader.take(OUT_BYTES_MAX).read_to_end(&mut Vec::new()) {
        assert!(!cause(container, error).is_ours());
    }
});
