//! The lines of an envelope: what they say about it and about an item. Pure.

use serde_json::{Map, Value};
use shared::id::EventId;

use super::{ItemsError, Place};
use crate::part_head::media_type;

/// Fields of an envelope's header that SDKs write.
const KNOWN_FIELDS: [&str; 5] = ["event_id", "dsn", "sdk", "sent_at", "trace"];
/// Unknown fields that are named in the warning.
const FIELDS_NAMED_MAX: usize = 5;

/// What an envelope says about itself.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct EnvelopeHeader {
    /// The event that its items belong to.
    pub event_id: Option<EventId>,
    /// Where it is meant to go, as written: it may be the only place that has the key.
    pub dsn: Option<String>,
    /// The sending SDK, as `name/version`, or its name.
    pub sdk: Option<String>,
    /// What was damaged or unknown, and accepted.
    pub warnings: Vec<String>,
}

impl EnvelopeHeader {
    pub(super) fn read(mut fields: Map<String, Value>) -> Self {
        let mut warnings = Vec::new();
        let event_id = text(&mut fields, "event_id", &mut warnings).and_then(|id| {
            let parsed = id.parse();
            parsed
                .map_err(|error| {
                    warnings.push(format!("the envelope's event_id was not used: {error}"));
                })
                .ok()
        });
        let dsn = text(&mut fields, "dsn", &mut warnings);
        let sdk = fields.remove("sdk").and_then(|sdk| sdk_name(&sdk));
        let mut unknown = fields
            .keys()
            .filter(|name| !KNOWN_FIELDS.contains(&name.as_str()))
            .map(|name| shortened(name))
            .peekable();
        if unknown.peek().is_some() {
            let names: Vec<String> = unknown.take(FIELDS_NAMED_MAX).collect();
            let names = names.join(", ");
            warnings.push(format!("the envelope's header has unknown fields: {names}"));
        }
        Self {
            event_id,
            dsn,
            sdk,
            warnings,
        }
    }
}

/// What an item's head says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemHead {
    /// What it is.
    pub kind: ItemKind,
    /// Its bytes; without one it goes to the end of its line.
    pub length: Option<u64>,
    /// Sentry's `attachment_type`.
    pub attachment_type: Option<String>,
    /// The file name as the client wrote it.
    pub file_name: Option<String>,
    /// The media type.
    pub content_type: Option<String>,
    /// Bytes of what a reference stands for (`application/vnd.sentry.attachment-ref+json`).
    pub attachment_length: Option<u64>,
    /// What was damaged, and accepted.
    pub warnings: Vec<String>,
}

impl ItemHead {
    pub(super) fn read(mut fields: Map<String, Value>, place: Place) -> Result<Self, ItemsError> {
        let kind = match fields.get("type") {
            Some(Value::String(name)) => ItemKind::from(name.as_str()),
            None => {
                return Err(ItemsError::MissingType {
                    place,
                    found: "none",
                });
            }
            Some(other) => {
                let found = what(other);
                return Err(ItemsError::MissingType { place, found });
            }
        };
        let length = match fields.get("length") {
            None | Some(Value::Null) => None,
            Some(written) => Some(written.as_u64().ok_or_else(|| ItemsError::BrokenLength {
                place,
                found: shortened(&written.to_string()),
            })?),
        };
        let mut warnings = Vec::new();
        let content_type = text(&mut fields, "content_type", &mut warnings);
        Ok(Self {
            kind,
            length,
            attachment_type: text(&mut fields, "attachment_type", &mut warnings),
            file_name: text(&mut fields, "filename", &mut warnings),
            content_type: content_type.as_deref().and_then(media_type),
            attachment_length: fields.get("attachment_length").and_then(Value::as_u64),
            warnings,
        })
    }
}

/// What an item is, as far as a crash relay tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ItemKind {
    /// The event as JSON.
    Event,
    /// A file that belongs to it.
    Attachment,
    /// What the user says about it, as SDKs used to send it.
    UserReport,
    /// The same as they send it now.
    Feedback,
    /// Anything that is no part of a crash.
    Other(OtherItem),
}

impl From<&str> for ItemKind {
    fn from(name: &str) -> Self {
        match name {
            "event" => Self::Event,
            "attachment" => Self::Attachment,
            "user_report" => Self::UserReport,
            "feedback" | "user_report_v2" => Self::Feedback,
            name => Self::Other(OtherItem::of(name)),
        }
    }
}

macro_rules! other_items {
    ($($variant:ident = $name:literal,)*) => {
        /// An item that is no part of a crash, by its name on the wire. Closed, so that it can label a metric.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum OtherItem {
            $(#[doc = concat!("`", $name, "`")] $variant,)*
            /// One that we do not know.
            Unknown,
        }

        impl OtherItem {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)* Self::Unknown];

            /// The name on the wire; `unknown` for those that we do not know.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                    Self::Unknown => "unknown",
                }
            }

            fn of(name: &str) -> Self {
                match name {
                    $($name => Self::$variant,)*
                    _ => Self::Unknown,
                }
            }
        }
    };
}

other_items! {
    Session = "session",
    Sessions = "sessions",
    ClientReport = "client_report",
    Transaction = "transaction",
    Span = "span",
    Profile = "profile",
    ProfileChunk = "profile_chunk",
    ReplayEvent = "replay_event",
    ReplayRecording = "replay_recording",
    ReplayVideo = "replay_video",
    CheckIn = "check_in",
    Statsd = "statsd",
    MetricBuckets = "metric_buckets",
    TraceMetric = "trace_metric",
    Log = "log",
    FormData = "form_data",
    Security = "security",
    RawSecurity = "raw_security",
    Nel = "nel",
    UnrealReport = "unreal_report",
}

/// The fields of a line, or what it is instead of a JSON object.
pub(super) fn fields(line: &[u8]) -> Result<Map<String, Value>, String> {
    match serde_json::from_slice(line) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(other) => Err(what(&other).to_owned()),
        // `Value` takes any JSON, so this is about syntax and repeats nothing of the line.
        Err(error) => Err(format!("{} bytes that are no JSON ({error})", line.len())),
    }
}

/// Takes a text out of the fields; anything else costs a warning.
fn text(fields: &mut Map<String, Value>, name: &str, warnings: &mut Vec<String>) -> Option<String> {
    match fields.remove(name)? {
        Value::String(text) => Some(text),
        Value::Null => None,
        other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            let found = what(&other);
            warnings.push(format!("expected {name} to be a text, found {found}"));
            None
        }
    }
}

fn sdk_name(sdk: &Value) -> Option<String> {
    let name = sdk.get("name")?.as_str()?;
    Some(match sdk.get("version").and_then(Value::as_str) {
        Some(version) => format!("{name}/{version}"),
        None => name.to_owned(),
    })
}

fn what(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}
