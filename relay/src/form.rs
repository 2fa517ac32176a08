//! Form fields to the event payload: every field is kept, and the obvious ones say who sent it. Pure.

use serde_json::{Map, Value};
use shared::report::{Client, EventPayload};

/// Names under which clients send the product: Crashpad and Breakpad, Breakpad on macOS, Electron.
const PRODUCT_FIELDS: [&str; 3] = ["prod", "product", "_productName"];
/// The same for its version.
const VERSION_FIELDS: [&str; 3] = ["ver", "version", "_version"];
/// What Electron adds about the program built on it, for which `prod` and `ver` say only Electron.
const PROGRAM_FIELDS: (&str, &str) = ("_productName", "_version");
/// The installation's id.
const GUID_FIELD: &str = "guid";

/// A form field: its name and its value's bytes.
pub type Field = (String, Vec<u8>);

/// The payload that fields make.
#[must_use]
pub fn event_payload(fields: Vec<Field>, mut warnings: Vec<String>) -> EventPayload {
    let mut extra = Map::new();
    for (name, value) in fields {
        if name.is_empty() {
            warnings.push("a form field without a name was left out".into());
            continue;
        }
        add(&mut extra, name, Value::String(text(value)));
    }
    let client = Client {
        name: first(&extra, &PRODUCT_FIELDS),
        version: first(&extra, &VERSION_FIELDS),
        guid: first(&extra, &[GUID_FIELD]),
    };
    let release = release(&extra, PROGRAM_FIELDS.0, PROGRAM_FIELDS.1).or_else(|| {
        let (name, version) = (client.name.as_ref()?, client.version.as_ref()?);
        Some(format!("{name}@{version}"))
    });
    EventPayload {
        platform: Some("native".into()),
        release,
        client,
        extra,
        warnings,
        ..EventPayload::default()
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// A name that comes again makes a list.
fn add(extra: &mut Map<String, Value>, name: String, value: Value) {
    match extra.get_mut(&name) {
        None => {
            extra.insert(name, value);
        }
        Some(Value::Array(values)) => values.push(value),
        Some(first) => *first = Value::Array(vec![first.take(), value]),
    }
}

fn first(extra: &Map<String, Value>, names: &[&str]) -> Option<String> {
    let values = names.iter().filter_map(|name| extra.get(*name)?.as_str());
    values
        .map(str::trim)
        .find(|value| !value.is_empty())
        .map(str::to_owned)
}

fn release(extra: &Map<String, Value>, name: &str, version: &str) -> Option<String> {
    let (name, version) = (first(extra, &[name])?, first(extra, &[version])?);
    Some(format!("{name}@{version}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(fields: &[(&str, &str)]) -> EventPayload {
        let fields = fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()));
        event_payload(fields.collect(), Vec::new())
    }

    #[test]
    fn a_crashpad_form_says_who_sent_it() {
        let payload = payload(&[
            ("prod", "TestProd"),
            ("ver", "1.2.3"),
            ("guid", "g"),
            ("x", ""),
        ]);
        assert_eq!(payload.client.name.as_deref(), Some("TestProd"));
        assert_eq!(payload.client.version.as_deref(), Some("1.2.3"));
        assert_eq!(payload.client.guid.as_deref(), Some("g"));
        assert_eq!(payload.release.as_deref(), Some("TestProd@1.2.3"));
        assert_eq!(payload.extra.len(), 4);
    }

    #[test]
    fn electron_names_itself_as_the_client_and_the_program_as_the_release() {
        let payload = payload(&[
            ("_productName", "Notes"),
            ("_version", "4.1"),
            ("prod", "Electron"),
            ("ver", "39.0.0"),
        ]);
        assert_eq!(payload.client.name.as_deref(), Some("Electron"));
        assert_eq!(payload.release.as_deref(), Some("Notes@4.1"));
    }

    #[test]
    fn repeated_nameless_and_undecodable_fields_lose_nothing_silently() {
        let mut fields = vec![
            ("a".to_owned(), b"1".to_vec()),
            ("a".to_owned(), b"2".to_vec()),
            ("a".to_owned(), b"3".to_vec()),
        ];
        fields.push(("latin".to_owned(), b"gr\xfc\xdfe".to_vec()));
        fields.push((String::new(), b"?".to_vec()));
        let payload = event_payload(fields, Vec::new());
        assert_eq!(payload.extra["a"], serde_json::json!(["1", "2", "3"]));
        assert_eq!(payload.extra["latin"], "gr\u{fffd}\u{fffd}e");
        assert_eq!(payload.warnings.len(), 1);
    }
}
