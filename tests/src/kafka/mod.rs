//! Kafka as the tests need it: a broker of their own, topics with stated limits, and every record read back.

mod broker;
mod records;
mod topics;
mod trouble;

pub use broker::Broker;
pub use records::{Isolation, Outgoing, Producer, Record, produce, produce_all, read_all};
pub use topics::{Topics, alter_limit, create, delete_records, limit, ping};
pub use trouble::{OpenTransaction, alter, delete_group, is_empty_group, reset_offset};
