//! JSON and msgpack that clients wrote, read leaf by leaf: what a strict reader refuses costs its own leaf and a warning
//! that names it. Pure, without recursion on what is read, in linear time, under bounds whatever comes.
//!
//! Own code because no crate does this: serde's readers end at the first fault, JSON5 readers accept more syntax and end all
//! the same, and repairers of JSON texts need them whole in memory, are not linear, and do not say which leaf they changed.
//!
//! [`json()`] tries the strict reader first, so that sound documents cost no more than before. [`json_stream`] reads
//! documents of any size out of pieces and keeps only so much of them; what is too much is shed, the largest first.

mod build;
mod input;
mod json;
mod msgpack;
mod repairs;
mod scan;
mod shed;
mod strict;
mod text;
mod word;

use serde_json::{Map, Value};

use crate::event::kind;
use crate::limits::{EVENT_DATA_BYTES_MAX, EVENT_DEPTH_MAX, EVENT_VALUES_MAX};

pub use input::Input;
pub use repairs::{Fault, Repairs, quoted};

/// What is kept of one document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of names and texts.
    pub bytes: usize,
    /// Values, containers among them.
    pub values: usize,
    /// Containers within one another.
    pub levels: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: EVENT_DATA_BYTES_MAX,
            values: EVENT_VALUES_MAX,
            levels: EVENT_DEPTH_MAX,
        }
    }
}

/// A document as it was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// What it says; null when nothing in it could be read.
    pub value: Value,
    /// What was repaired or left out.
    pub repairs: Repairs,
    /// Values that it holds.
    pub values: usize,
}

impl Reading {
    /// The document as an object; an empty one that was damaged is none.
    ///
    /// # Errors
    /// What was found in its place.
    pub fn into_object(self) -> Result<(Map<String, Value>, Repairs), String> {
        match self.value {
            Value::Object(fields) if !fields.is_empty() || self.repairs.is_empty() => {
                Ok((fields, self.repairs))
            }
            Value::Object(_) => Err("an object of which nothing could be read".to_owned()),
            other @ (Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_)) => Err(kind(&other).to_owned()),
        }
    }
}

/// One JSON document. What stands behind its end is a fault; further objects add what the first lacks.
#[must_use]
pub fn json(bytes: &[u8], limits: Limits) -> Reading {
    let text = bytes.strip_prefix(input::UTF_8_MARK).unwrap_or(bytes);
    match strict::json(text, limits) {
        Some(reading) => reading,
        None => json_stream(&mut Input::from(bytes), limits),
    }
}

/// The same of any length.
#[must_use]
pub fn json_stream(input: &mut Input<'_>, limits: Limits) -> Reading {
    input.decode_utf_16();
    json::Reader::new(input, limits).read()
}

/// One msgpack value. What stands behind it is a fault; further maps add what the first lacks.
#[must_use]
pub fn msgpack(input: &mut Input<'_>, limits: Limits) -> Reading {
    msgpack::Reader::new(input, limits).read()
}

/// Msgpack maps one after another, perhaps none: an object with them as the list `name`.
#[must_use]
pub fn msgpack_list(input: &mut Input<'_>, name: &str, limits: Limits) -> Reading {
    msgpack::Reader::new(input, limits).read_list(name)
}

#[cfg(test)]
mod tests;
