//! The oracle of the fault scenarios: deterministic uploads of which each 200 is an obligation; a fault; a quiet phase;
//! then every obligation has exactly one outcome and a byte-identical stored dump, nobody else's event was told, the
//! ledger balances, and a fresh upload passes.

mod load;
mod scale;
mod tally;
mod told;
mod verdict;

pub use load::{Load, Shape};
pub use scale::Scale;
pub use tally::{Latencies, Promise, Refusal, Tally, Upload};
pub use told::Told;
pub use verdict::Verdict;
