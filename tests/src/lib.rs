//! The harness of the black-box tests: it starts Kafka, Redis and the built `crashferry`, sends what clients and
//! foreign producers send, and reads back what arrived. Everything here panics with a sentence: a test has no caller
//! that could handle an error.

pub mod attackers;
pub mod broken;
pub mod captures;
pub mod chromium;
pub mod conservation;
pub mod crashing;
pub mod crashpad;
pub mod drippers;
pub mod dumps;
pub mod encodings;
pub mod environment;
pub mod faults;
pub mod hostile;
pub mod http;
pub mod kafka;
pub mod metrics;
pub mod multipart;
pub mod ports;
pub mod process;
pub mod raw_http;
pub mod redis;
pub mod s3;
pub mod settings;
pub mod stack;
pub mod volume;
pub mod wait;
pub mod wire;
