//! Parsing: a dump goes to a worker process of this same program, so that a hostile one takes nothing with it but itself.
//!
//! [`ParserPool`] keeps the processes and gives a dump its attempts; `child` is one process seen from here; `worker` is
//! what runs in it, and `confine` what it is kept from; `minidump` is the only place that knows rust-minidump; `attempts`
//! is how often a dump was tried.

mod attempts;
mod child;
mod confine;
mod minidump;
mod pool;
mod worker;

pub use attempts::{Attempt, AttemptError, Attempts, Parsed, Told};
pub use confine::{Confinement, Protection};
pub use minidump::{ParsedDump, Unreadable, parse, symbol_provider};
pub use pool::{ParserPool, ParserSettings, ParserUnavailable};
pub use worker::{WORKER_SUBCOMMAND, serve, worker_main};
