//! The words relay and processor both speak: ids, envelopes, the Kafka wire, outcomes, reports, configuration, and the
//! one home of every outside system (Kafka, Redis, SQLite, object storage).

pub mod annotations;
pub mod backoff;
pub mod chunk;
pub mod config;
pub mod content;
pub mod content_reader;
pub mod dead_letter;
pub mod envelope;
pub mod event;
pub mod id;
pub mod kafka;
pub mod ledger;
pub mod lenient;
pub mod limits;
pub mod message;
pub mod metrics;
pub mod outcome;
pub mod privacy;
pub mod quota;
pub mod readiness;
pub mod repeat;
pub mod report;
pub mod services;
pub mod size_limit;
pub mod spool;
pub mod state;
pub mod storage;
pub mod telemetry;
