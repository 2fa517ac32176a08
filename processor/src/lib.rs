//! From a delivered envelope to a report and an outcome.

pub mod parser;
pub mod report;
pub mod signature;
