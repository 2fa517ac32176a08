//! The strict reader: serde_json's, under the same bounds, and with the same answer to a name that comes twice.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::{Limits, Reading, Repairs};
use crate::event::fill_value;

/// Reads a sound document; `None` when it is none, or is over a limit.
pub(super) fn json(bytes: &[u8], limits: Limits) -> Option<Reading> {
    if bytes.len() > limits.bytes {
        return None;
    }
    let mut values_left = limits.values;
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let bounded = Bounded {
        values_left: &mut values_left,
        levels_left: limits.levels,
    };
    let value = bounded.deserialize(&mut json).ok()?;
    json.end().ok()?;
    Some(Reading {
        value,
        repairs: Repairs::default(),
        values: limits.values - values_left,
    })
}

/// One value and what is in it.
struct Bounded<'v> {
    values_left: &'v mut usize,
    levels_left: usize,
}

impl Bounded<'_> {
    fn within<E: Error>(&mut self) -> Result<Bounded<'_>, E> {
        let levels_left = self.levels_left.checked_sub(1);
        Ok(Bounded {
            values_left: self.values_left,
            levels_left: levels_left.ok_or_else(|| E::custom("too many levels"))?,
        })
    }
}

impl<'de> DeserializeSeed<'de> for Bounded<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let values_left = self.values_left.checked_sub(1);
        *self.values_left = values_left.ok_or_else(|| D::Error::custom("too many values"))?;
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

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
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
        while let Some(name) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(self.within()?)?;
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
