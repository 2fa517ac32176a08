//! Parsing: a dump goes to a worker process of this same program, so that a hostile one takes nothing with it but itself.
//!
//! [`ParserPool`] keeps the processes and gives a dump its attempts; `child` is one process seen from here; `worker` is
//! what runs in it; `minidump` is the only place that knows rust-minidump.

mod child;
mod minidump;
mod pool;
mod worker;

pub use minidump::{ParsedDump, Unreadable, parse, symbol_provider};
pub use pool::{Attempt, AttemptError, Parsed, ParserPool, ParserSettings, ParserUnavailable};
pub use worker::{WORKER_SUBCOMMAND, serve, worker_main};
