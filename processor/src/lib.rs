//! The processor: a delivered envelope becomes a report and an outcome.
//!
//! `intake` brings deliveries, `pipeline` takes each to its outcome, `publish` tells it. `parser` is the way to
//! rust-minidump, in processes of their own.

mod cluster;
mod dead_letter;
mod files;
mod identity;
mod intake;
mod late;
pub mod parser;
mod pipeline;
mod publish;
pub mod report;
pub mod reprocess;
mod retention;
mod run;
pub mod signature;
mod topics;
mod untold;
mod user_reports;

pub use run::{ProcessorError, Source, run};
