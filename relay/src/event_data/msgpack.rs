//! Msgpack of Sentry's native SDK: one map, or maps one after another. Pure.
//!
//! A declared length costs nothing by itself: the reader takes what is there and no more.

use serde::de::DeserializeSeed;
use serde_json::Value;

use super::value::Bounded;

/// Reads exactly one value.
pub(super) fn read_one(bytes: &[u8], values_left: &mut usize) -> Result<Value, String> {
    let mut reader = rmp_serde::Deserializer::new(bytes);
    let read = Bounded::new(values_left).deserialize(&mut reader);
    let value = read.map_err(|error| error.to_string())?;
    match reader.get_ref().len() {
        0 => Ok(value),
        more => Err(format!("{more} more bytes behind it")),
    }
}

/// Reads one value after another, up to the end or to the first that is damaged.
pub(super) fn read_all(bytes: &[u8], values_left: &mut usize) -> (Vec<Value>, Option<String>) {
    let mut reader = rmp_serde::Deserializer::new(bytes);
    let mut values = Vec::new();
    while !reader.get_ref().is_empty() {
        match Bounded::new(values_left).deserialize(&mut reader) {
            Ok(value) => values.push(value),
            Err(error) => return (values, Some(error.to_string())),
        }
    }
    (values, None)
}
