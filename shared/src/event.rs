//! Sentry's event JSON read into an [`EventPayload`], whatever shape its parts have, and two payloads made one. Pure.

mod auto_address;
mod merge;
mod time;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::limits::{BREADCRUMBS_MAX, EVENT_DEPTH_MAX};
use crate::report::{Client, EventPayload};

pub use auto_address::resolve_auto_addresses;
pub(crate) use merge::fill_client;
pub use merge::{fill, fill_map, fill_value};
pub use time::moment;

/// Reads an event as Sentry's SDKs and Relay write it: tags as an object or a list of pairs, breadcrumbs as a list or
/// under `values`. What has another shape than Sentry documents stays under its name in
/// [`EventPayload::event`], with a warning; so does, without one, what has no field of its own.
#[must_use]
pub fn read(event: Map<String, Value>) -> EventPayload {
    let mut fields = Fields {
        rest: event,
        warnings: Vec::new(),
    };
    let mut payload = EventPayload {
        platform: fields.text("platform"),
        level: fields.text("level"),
        timestamp: fields.timestamp(),
        release: fields.text("release"),
        environment: fields.text("environment"),
        user: fields.object("user").map(Value::Object),
        tags: fields.tags(),
        extra: fields.object("extra").unwrap_or_default(),
        contexts: fields.object("contexts").unwrap_or_default(),
        breadcrumbs: fields.breadcrumbs(),
        ..EventPayload::default()
    };
    payload.event = fields.rest;
    payload.event.retain(|_, value| !value.is_null());
    payload.warnings = fields.warnings;
    payload
}

/// Reads an event message's JSON: our relay's [`EventPayload`], or a foreign producer's event of Sentry's shape. Nothing
/// in the result is nested deeper than [`EVENT_DEPTH_MAX`], and the breadcrumbs are in order.
#[must_use]
pub fn read_payload(message: Map<String, Value>) -> EventPayload {
    let mut fields = Fields {
        rest: message,
        warnings: Vec::new(),
    };
    let client = fields.ours::<Client>("client", "an object with name, version and guid");
    let warnings = fields.ours::<Vec<String>>("warnings", "a list of texts");
    let user_reports = fields.ours::<Vec<Value>>("user_reports", "a list");
    let process_type = fields.text("process_type");
    let attached_to = fields.ours("attached_to", "an event id");
    let event = fields.object("event");
    let mut payload = EventPayload {
        client: client.unwrap_or_default(),
        warnings: warnings.unwrap_or_default(),
        user_reports: user_reports.unwrap_or_default(),
        process_type,
        attached_to,
        ..EventPayload::default()
    };
    payload.warnings.append(&mut fields.warnings);
    fill(&mut payload, read(fields.rest));
    fill_map(&mut payload.event, event.unwrap_or_default());
    flatten(&mut payload);
    order_breadcrumbs(&mut payload);
    payload
}

/// Names the SDK that made the event as the sending program, when nobody else is.
pub fn name_client_by_sdk(payload: &mut EventPayload) {
    if payload.client.name.is_some() {
        return;
    }
    let text = |name: &str| payload.event.get("sdk")?.get(name)?.as_str();
    if let Some(name) = text("name").filter(|name| !name.is_empty()) {
        let version = text("version").map(str::to_owned);
        payload.client.name = Some(name.to_owned());
        payload.client.version = version;
    }
}

/// Puts breadcrumbs in order, the oldest first; one without a time stays behind the one it came after. Past
/// [`BREADCRUMBS_MAX`] the oldest go, with a warning.
pub fn order_breadcrumbs(payload: &mut EventPayload) {
    let mut last = None;
    let timed = std::mem::take(&mut payload.breadcrumbs)
        .into_iter()
        .map(|breadcrumb| {
            last = breadcrumb.get("timestamp").and_then(moment).or(last);
            (last, breadcrumb)
        });
    let mut timed: Vec<_> = timed.collect();
    timed.sort_by_key(|(at, _)| *at);
    let excess = timed.len().saturating_sub(BREADCRUMBS_MAX);
    if excess > 0 {
        payload.warnings.push(format!(
            "{excess} breadcrumbs were left out: expected at most {BREADCRUMBS_MAX}, the newest are kept"
        ));
    }
    let kept = timed.into_iter().skip(excess);
    payload.breadcrumbs = kept.map(|(_, breadcrumb)| breadcrumb).collect();
}

/// Writes what lies deeper than [`EVENT_DEPTH_MAX`] as text, so that readers with a bound of their own can read it all.
pub fn flatten(payload: &mut EventPayload) {
    let EventPayload {
        platform: _,
        level: _,
        timestamp: _,
        release: _,
        environment: _,
        process_type: _,
        user,
        tags,
        extra,
        contexts,
        breadcrumbs,
        user_reports,
        event,
        client: _,
        attached_to: _,
        warnings: _,
    } = payload;
    let maps = [tags, extra, contexts, event];
    let values = maps.into_iter().flat_map(Map::values_mut);
    let lists = breadcrumbs.iter_mut().chain(user_reports);
    for value in values.chain(lists).chain(user) {
        flatten_value(value, EVENT_DEPTH_MAX);
    }
}

fn flatten_value(value: &mut Value, levels: usize) {
    let nested = matches!(value, Value::Array(_) | Value::Object(_));
    if nested && levels == 0 {
        *value = Value::String(value.to_string());
        return;
    }
    match value {
        Value::Array(values) => values
            .iter_mut()
            .for_each(|value| flatten_value(value, levels - 1)),
        Value::Object(fields) => fields
            .values_mut()
            .for_each(|value| flatten_value(value, levels - 1)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// An event's fields, of which one after the other is taken out.
struct Fields {
    rest: Map<String, Value>,
    warnings: Vec<String>,
}

impl Fields {
    fn take(&mut self, name: &str) -> Option<Value> {
        self.rest.remove(name).filter(|value| !value.is_null())
    }

    fn keep(&mut self, name: &str, value: Value, expected: &str) {
        let found = kind(&value);
        self.warnings.push(format!(
            "the event's {name} is kept as it came: expected {expected}, found {found}"
        ));
        self.rest.insert(name.to_owned(), value);
    }

    fn text(&mut self, name: &str) -> Option<String> {
        match self.take(name)? {
            Value::String(text) => Some(text),
            Value::Number(number) => Some(number.to_string()),
            odd @ (Value::Bool(_) | Value::Array(_) | Value::Object(_) | Value::Null) => {
                self.keep(name, odd, "a text");
                None
            }
        }
    }

    fn object(&mut self, name: &str) -> Option<Map<String, Value>> {
        match self.take(name)? {
            Value::Object(fields) => Some(fields),
            odd @ (Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_)) => {
                self.keep(name, odd, "an object");
                None
            }
        }
    }

    fn ours<T: DeserializeOwned>(&mut self, name: &str, expected: &str) -> Option<T> {
        let value = self.take(name)?;
        let read = T::deserialize(&value);
        if read.is_err() {
            self.keep(name, value, expected);
        }
        read.ok()
    }

    fn timestamp(&mut self) -> Option<jiff::Timestamp> {
        let value = self.take("timestamp")?;
        let at = moment(&value);
        if at.is_none() {
            self.keep(
                "timestamp",
                value,
                "seconds since 1970, or an RFC 3339 time",
            );
        }
        at
    }

    fn tags(&mut self) -> Map<String, Value> {
        match self.take("tags") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(tags)) => tags,
            Some(Value::Array(pairs)) => self.tag_pairs(pairs),
            Some(odd @ (Value::Bool(_) | Value::Number(_) | Value::String(_))) => {
                self.keep("tags", odd, "an object, or a list of pairs");
                Map::new()
            }
        }
    }

    /// Sentry's other way to write tags, `[["name", "value"], null, …]`; Relay leaves null where it took one out.
    fn tag_pairs(&mut self, pairs: Vec<Value>) -> Map<String, Value> {
        let mut tags = Map::new();
        let mut odd = Vec::new();
        for mut pair in pairs.into_iter().filter(|pair| !pair.is_null()) {
            match pair.as_array_mut().map(Vec::as_mut_slice) {
                Some([Value::String(name), value]) if !tags.contains_key(name) => {
                    if !value.is_null() {
                        tags.insert(std::mem::take(name), value.take());
                    }
                }
                Some(_) | None => odd.push(pair),
            }
        }
        if !odd.is_empty() {
            let expected = "pairs of a name and a value, each name once";
            self.keep("tags", Value::Array(odd), expected);
        }
        tags
    }

    fn breadcrumbs(&mut self) -> Vec<Value> {
        let mut breadcrumbs = match self.take("breadcrumbs") {
            None => Vec::new(),
            Some(Value::Array(breadcrumbs)) => breadcrumbs,
            Some(Value::Object(mut fields))
                if fields.get("values").is_some_and(Value::is_array) =>
            {
                let values = fields.remove("values").map(|mut values| values.take());
                if !fields.is_empty() {
                    self.rest.insert("breadcrumbs".into(), fields.into());
                }
                match values {
                    Some(Value::Array(values)) => values,
                    Some(_) | None => Vec::new(),
                }
            }
            Some(odd) => {
                self.keep(
                    "breadcrumbs",
                    odd,
                    "a list, or an object with the list `values`",
                );
                Vec::new()
            }
        };
        breadcrumbs.retain(|breadcrumb| !breadcrumb.is_null());
        breadcrumbs
    }
}

/// A JSON value's kind, for messages.
#[must_use]
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests;
