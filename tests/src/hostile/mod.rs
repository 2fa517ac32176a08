//! Attackers and bystanders: crowds that do harm at a stated rate, and clients of another key that must not feel it.

mod bystanders;
mod swarm;

use std::time::Duration;

pub use bystanders::{Bystanders, Felt};
pub use swarm::{Attack, Swarm};

/// What a relay under attack may need.
pub const MEMORY_BYTES_MAX: u64 = 400_000_000;

/// How long an attack lasts: seconds, or a minute with `CRASHFERRY_TEST_LONG=1`.
pub fn duration() -> Duration {
    let long = std::env::var("CRASHFERRY_TEST_LONG").is_ok_and(|value| value == "1");
    Duration::from_secs(if long { 60 } else { 8 })
}
