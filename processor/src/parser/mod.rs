//! Parsing: a dump goes to a worker process of this same program, so that a hostile one takes nothing with it but itself.
//!
//! [`ParserPool`] keeps the processes, each for one project (`idle`), and gives a dump its attempts; `child` is one process
//! seen from here; `worker` is what runs in it, and `confine` what it is kept from; `minidump` is the only place that knows
//! rust-minidump; `attempts` is how often a dump was tried, and whether it is worth another try by what it used of the
//! machine (`resources`).

mod attempts;
mod child;
mod confine;
mod idle;
mod minidump;
mod pool;
mod resources;
mod worker;

pub use attempts::{Attempt, AttemptError, Attempts, Parsed, Told};
pub use confine::{Confinement, Protection};
pub use minidump::{ParsedDump, Unreadable, parse, symbol_provider};
pub use pool::{ParserPool, ParserSettings, ParserUnavailable};
pub use worker::{WORKER_SUBCOMMAND, serve, worker_main};
