//! A stranger's JSON or msgpack into a JSON value, under a bound on values and nesting. Pure.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use shared::event::fill_value;
use shared::limits::EVENT_DEPTH_MAX;

use crate::limits::{BINARY_SHOWN_BYTES_MAX, EVENT_VALUES_MAX};

/// The name of a value whose own is a list or a map.
const NESTED_NAME: &str = "(a name that is no text)";

/// Reads JSON; each value takes one of `values_left`.
pub(super) fn read_json(bytes: &[u8], values_left: &mut usize) -> Result<Value, String> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let read = Bounded::new(values_left).deserialize(&mut json);
    let value = read.map_err(|error| error.to_string())?;
    json.end().map_err(|error| error.to_string())?;
    Ok(value)
}

/// One value and what is in it.
pub(super) struct Bounded<'v> {
    values_left: &'v mut usize,
    levels_left: usize,
}

impl<'v> Bounded<'v> {
    pub(super) fn new(values_left: &'v mut usize) -> Self {
        Self {
            values_left,
            // The value itself lies one deeper in the payload.
            levels_left: EVENT_DEPTH_MAX,
        }
    }

    fn within<E: Error>(&mut self) -> Result<Bounded<'_>, E> {
        let levels_left = self.levels_left.checked_sub(1).ok_or_else(|| {
            E::custom(format_args!(
                "expected at most {EVENT_DEPTH_MAX} levels, found more"
            ))
        })?;
        Ok(Bounded {
            values_left: self.values_left,
            levels_left,
        })
    }
}

impl<'de> DeserializeSeed<'de> for Bounded<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        *self.values_left = self.values_left.checked_sub(1).ok_or_else(|| {
            D::Error::custom(format_args!(
                "expected at most {EVENT_VALUES_MAX} values, found more"
            ))
        })?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Bounded<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    /// JSON has neither infinity nor what is not a number.
    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_bytes<E>(self, value: &[u8]) -> Result<Value, E> {
        Ok(text_of(value).into())
    }

    /// Msgpack's extensions: a list of the type and the bytes.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, value: D) -> Result<Value, D::Error> {
        value.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut values: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = values.next_element_seed(self.within()?)? {
            list.push(value);
        }
        Ok(list.into())
    }

    /// A name that comes again adds what its first value lacks.
    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = entries.next_key_seed(self.within()?)? {
            let value = entries.next_value_seed(self.within()?)?;
            // Msgpack's keys may be anything. A map within a key within a key would be escaped twice as long each time.
            let name = match name {
                Value::String(name) => name,
                name @ (Value::Null | Value::Bool(_) | Value::Number(_)) => name.to_string(),
                Value::Array(_) | Value::Object(_) => NESTED_NAME.to_owned(),
            };
            match map.get_mut(&name) {
                Some(has) => fill_value(has, value),
                None => {
                    map.insert(name, value);
                }
            }
        }
        Ok(map.into())
    }
}

/// Bytes as a text: what in it is not UTF-8 is replaced. What has control characters is no text, and its beginning is
/// shown in hexadecimal.
fn text_of(bytes: &[u8]) -> String {
    let is_text = |byte: &u8| !byte.is_ascii_control() || b"\t\r\n".contains(byte);
    if bytes.iter().all(is_text) {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    let shown = &bytes[..bytes.len().min(BINARY_SHOWN_BYTES_MAX)];
    let hex: String = shown.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{} bytes: {hex}", bytes.len())
}
