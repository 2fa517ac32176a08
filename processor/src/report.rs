//! The report: what the client said and what the dump told, put together, and cut down where a message must be small.
//! Pure.

mod fit;

use bytes::Bytes;
use serde_json::{Map, Value};
use shared::envelope::Envelope;
use shared::report::{
    Client, CrashDetails, EventPayload, Processing, REPORT_SCHEMA, Report, ReportAttachment,
};

pub use fit::{REPORT_BYTES_MIN, fit};

/// Form fields that name the kind of process, when the dump's annotations do not: Chromium's and Electron's.
const PROCESS_TYPE_FIELDS: [&str; 2] = ["ptype", "process_type"];

/// Puts a report together. Whatever the event's JSON is, there is a report; what cannot be used of it is a warning.
#[must_use]
pub fn build(
    envelope: &Envelope,
    details: CrashDetails,
    attachments: Vec<ReportAttachment>,
    processing: Processing,
) -> Report {
    let (payload, warnings) = read_payload(&envelope.event);
    let mut report = Report {
        schema: REPORT_SCHEMA.into(),
        event_id: envelope.event_id,
        project_id: envelope.project_id,
        received_at: envelope.received_at,
        release: payload.release,
        environment: payload.environment,
        user: payload.user,
        tags: payload.tags,
        extra: payload.extra,
        client: payload.client,
        crash: details,
        attachments,
        processing,
    };
    let noted = payload.warnings.into_iter().chain(warnings);
    report.processing.warnings.splice(0..0, noted);
    if report.crash.process.kind.is_none() {
        let field = |name| report.extra.get(name).and_then(Value::as_str);
        report.crash.process.kind = PROCESS_TYPE_FIELDS
            .into_iter()
            .find_map(field)
            .map(str::to_owned);
    }
    report
}

/// The report as JSON, whole, as it goes to the storage.
#[must_use]
pub fn encode(report: &Report) -> Bytes {
    // INVARIANT: a report is texts, numbers and JSON under text keys, which always make JSON.
    let json = serde_json::to_vec(report).expect("reports encode");
    json.into()
}

/// Reads an event's JSON: whole where it has our shape, else field by field, with a warning for each that is odd.
fn read_payload(event: &[u8]) -> (EventPayload, Vec<String>) {
    // serde would take `[]` for a struct whose fields may all be absent.
    let is_object = event.trim_ascii_start().starts_with(b"{");
    if is_object && let Ok(payload) = serde_json::from_slice(event) {
        return (payload, Vec::new());
    }
    let warning = match serde_json::from_slice(event) {
        Ok(Value::Object(fields)) => return read_fields(fields),
        Ok(
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_),
        ) => "the event is not used: expected a JSON object, found another value".into(),
        Err(error) => format!("the event is not used: expected a JSON object: {error}"),
    };
    (EventPayload::default(), vec![warning])
}

fn read_fields(mut fields: Map<String, Value>) -> (EventPayload, Vec<String>) {
    let mut warnings = Vec::new();
    let mut odd = |name: &str, expected: &str| {
        warnings.push(format!(
            "the event's {name} is not used: expected {expected}"
        ));
    };
    let mut take = |name: &str| fields.remove(name).filter(|value| !value.is_null());
    let mut text = |name: &str, value: Option<Value>| match value {
        Some(Value::String(text)) => Some(text),
        Some(Value::Number(number)) => Some(number.to_string()),
        Some(Value::Bool(_) | Value::Array(_) | Value::Object(_) | Value::Null) => {
            odd(name, "a text");
            None
        }
        None => None,
    };
    let platform = text("platform", take("platform"));
    let release = text("release", take("release"));
    let environment = text("environment", take("environment"));
    let tags = take("tags").map(pairs).unwrap_or(Some(Map::new()));
    let extra = match take("extra") {
        Some(Value::Object(extra)) => Some(extra),
        None => Some(Map::new()),
        Some(_) => None,
    };
    let client = take("client").map(serde_json::from_value::<Client>);
    let noted = take("warnings").map(serde_json::from_value::<Vec<String>>);
    if tags.is_none() {
        odd("tags", "an object, or a list of pairs");
    }
    if extra.is_none() {
        odd("extra", "an object");
    }
    if matches!(client, Some(Err(_))) {
        odd("client", "an object with name, version and guid");
    }
    let payload = EventPayload {
        platform,
        release,
        environment,
        user: take("user"),
        tags: tags.unwrap_or_default(),
        extra: extra.unwrap_or_default(),
        client: client.and_then(Result::ok).unwrap_or_default(),
        warnings: noted.and_then(Result::ok).unwrap_or_default(),
    };
    (payload, warnings)
}

/// Tags: an object, or Sentry's other way to write one, `[["name", "value"], …]`.
fn pairs(value: Value) -> Option<Map<String, Value>> {
    match value {
        Value::Object(tags) => Some(tags),
        Value::Array(pairs) => pairs
            .into_iter()
            .map(|pair| serde_json::from_value::<(String, Value)>(pair).ok())
            .collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

#[cfg(test)]
mod tests;
