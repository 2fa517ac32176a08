//! The lines of an envelope: what they say about it and about an item. Pure.

use memchr::memmem;
use serde_json::{Map, Value};
use shared::id::EventId;

use super::{ItemsError, Place, tolerant};
use crate::part_head::media_type;
use crate::validate::is_minidump_start;

/// Fields of an envelope's header that SDKs write.
const KNOWN_FIELDS: [&str; 5] = ["event_id", "dsn", "sdk", "sent_at", "trace"];
/// Fields of an item's head that SDKs write.
const HEAD_FIELDS: [&str; 12] = [
    "type",
    "length",
    "attachment_type",
    "attachment_length",
    "content_type",
    "filename",
    "item_count",
    "platform",
    "parent_id",
    "meta",
    "sample_rates",
    "routing_hint",
];
/// Those that an event or a line of a log does not have by chance.
const TELLING_FIELDS: [&str; 5] = [
    "type",
    "length",
    "attachment_type",
    "content_type",
    "filename",
];
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
    /// Why it could not be read.
    pub fault: Option<ItemsError>,
}

impl EnvelopeHeader {
    /// There is none, or it cannot be read.
    pub(super) fn missing(error: ItemsError) -> Self {
        Self {
            fault: Some(error),
            ..Self::default()
        }
    }

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
            fault: None,
        }
    }
}

/// What an item's head says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemHead {
    /// What it is.
    pub kind: ItemKind,
    /// Where it ends.
    pub extent: Extent,
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
    /// Why it could not be read; then it is no item's.
    pub fault: Option<ItemsError>,
}

/// Where an item ends, by its head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// After so many bytes.
    Bytes(u64),
    /// At the end of its line.
    Line,
    /// Where the next item begins: its length is none.
    Unknown,
}

impl ItemHead {
    /// What stands at the place of an item's head.
    fn read(mut fields: Map<String, Value>, place: Place) -> Result<Self, ItemsError> {
        let mut warnings = Vec::new();
        let kind = item_kind(&fields, place, &mut warnings)?;
        let extent = extent(fields.get("length"), place, &mut warnings);
        let content_type = text(&mut fields, "content_type", &mut warnings);
        Ok(Self {
            kind,
            extent,
            attachment_type: text(&mut fields, "attachment_type", &mut warnings),
            file_name: text(&mut fields, "filename", &mut warnings),
            content_type: content_type.as_deref().and_then(media_type),
            attachment_length: fields.get("attachment_length").and_then(Value::as_u64),
            warnings,
            fault: None,
        })
    }

    /// What a line that was read says, and what had to be repaired for it.
    pub(super) fn of_line(line: Line, place: Place) -> Result<Self, ItemsError> {
        let mut head = Self::read(line.fields, place)?;
        let repaired = line
            .repaired
            .map(|found| ItemsError::BrokenLine { place, found });
        head.warnings
            .extend(repaired.map(|error| error.to_string()));
        Ok(head)
    }

    /// Bytes that belong to no item, up to the next head.
    pub(super) fn stray(error: ItemsError) -> Self {
        Self {
            kind: ItemKind::Stray,
            extent: Extent::Unknown,
            attachment_type: None,
            file_name: None,
            content_type: None,
            attachment_length: None,
            warnings: Vec::new(),
            fault: Some(error),
        }
    }

    /// Whether the item can have line ends in it even where its head states no length.
    pub(super) fn is_binary(&self) -> bool {
        match self.kind {
            ItemKind::Attachment | ItemKind::Stray => true,
            ItemKind::Event | ItemKind::UserReport | ItemKind::Feedback | ItemKind::Other(_) => {
                false
            }
        }
    }
}

/// Whether a line that was met among an item's bytes is the head of another: it says more than a line of a log would.
fn is_plain_head(fields: &Map<String, Value>) -> bool {
    let Some(Value::String(name)) = fields.get("type") else {
        return false;
    };
    let has_length = match fields.get("length") {
        Some(Value::Number(_) | Value::String(_)) => true,
        Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) | None => false,
    };
    let is_known = ItemKind::from(name.as_str()) != ItemKind::Other(OtherItem::Unknown);
    let of_heads = || fields.keys().all(|key| HEAD_FIELDS.contains(&key.as_str()));
    has_length || is_known && of_heads()
}

/// Whether some fields of a line show that it is meant to be an item's head.
pub(super) fn has_head_field(fields: &Map<String, Value>) -> bool {
    TELLING_FIELDS.iter().any(|name| fields.contains_key(*name))
}

/// Whether a line is an item's head at the place of the envelope's header, which is missing.
pub(super) fn is_head_for_header(fields: &Map<String, Value>) -> bool {
    let is_header = KNOWN_FIELDS.iter().any(|name| fields.contains_key(*name));
    !is_header && is_plain_head(fields)
}

fn item_kind(
    fields: &Map<String, Value>,
    place: Place,
    warnings: &mut Vec<String>,
) -> Result<ItemKind, ItemsError> {
    let found = match fields.get("type") {
        Some(Value::String(name)) => return Ok(ItemKind::from(name.as_str())),
        Some(other) => what(other),
        None => "none",
    };
    let error = ItemsError::MissingType { place, found };
    let is_file = ["attachment_type", "filename", "content_type"];
    if is_file.iter().any(|name| fields.contains_key(*name)) {
        warnings.push(format!("an item was taken for an attachment: {error}"));
        Ok(ItemKind::Attachment)
    } else if has_head_field(fields) {
        warnings.push(error.to_string());
        Ok(ItemKind::Stray)
    } else {
        Err(error)
    }
}

/// A length is a number of bytes; as a text or with a fraction of zero it is understood.
fn extent(written: Option<&Value>, place: Place, warnings: &mut Vec<String>) -> Extent {
    let whole = |number: f64| {
        let fits = number.fract() == 0.0 && (0.0..=9e15).contains(&number);
        fits.then_some(number as u64)
    };
    let Some(written) = written else {
        return Extent::Line;
    };
    let understood = match written {
        Value::Null => return Extent::Line,
        Value::Number(number) => match number.as_u64() {
            Some(bytes) => return Extent::Bytes(bytes),
            None => number.as_f64().and_then(whole),
        },
        Value::String(text) => {
            let bytes = text.trim().parse().ok();
            bytes.or_else(|| text.trim().parse().ok().and_then(whole))
        }
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    let found = shortened(&written.to_string());
    let error = ItemsError::BrokenLength { place, found };
    warnings.push(error.to_string());
    understood.map_or(Extent::Unknown, Extent::Bytes)
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
    /// Bytes that belong to no item.
    Stray,
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

/// What a line says, and what of it was damaged.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) fields: Map<String, Value>,
    /// Bytes of the line that are not part of it, at its end: its line end was missing.
    pub(super) rest: usize,
    /// Whether these are a minidump.
    pub(super) rest_is_dump: bool,
    /// What was repaired.
    pub(super) repaired: Option<String>,
}

/// Reads a line that should be a JSON object.
///
/// # Errors
/// What it is instead. Nothing of the line is repeated: it may hold a key.
pub(super) fn read_line(line: &[u8]) -> Result<Line, String> {
    let error = match serde_json::from_slice(line) {
        Ok(Value::Object(fields)) => {
            return Ok(Line {
                fields,
                rest: 0,
                rest_is_dump: false,
                repaired: None,
            });
        }
        Ok(other) => return Err(what(&other).to_owned()),
        // `Value` takes any JSON, so this is about syntax.
        Err(error) => format!("{} bytes that are no JSON ({error})", line.len()),
    };
    // A minidump is never part of a head, be its end damaged.
    let dump = dump_start(line);
    let Some(object) = tolerant::read_object(&line[..dump.unwrap_or(line.len())]) else {
        return Err(error);
    };
    let rest = match dump {
        Some(at) => line.len() - at,
        None => line[object.used..].trim_ascii_start().len(),
    };
    Ok(Line {
        fields: object.members,
        rest,
        rest_is_dump: dump.is_some(),
        repaired: Some(if rest == 0 {
            error
        } else {
            "no line end behind it".to_owned()
        }),
    })
}

/// Where a minidump begins within a line.
pub(super) fn dump_start(line: &[u8]) -> Option<usize> {
    let starts = |magic: &'static [u8]| {
        memmem::find_iter(line, magic).find(|at| is_minidump_start(&line[*at..]))
    };
    starts(b"MDMP").into_iter().chain(starts(b"PMDM")).min()
}

/// Whether a line that was read is the head of another item than the one whose bytes it was met among.
pub(super) fn is_plain(line: &Line) -> bool {
    (line.rest == 0 || line.rest_is_dump) && is_plain_head(&line.fields)
}

/// The head that a line among an item's bytes is, if it is one.
pub(super) fn read_plain_head(line: &[u8]) -> Option<Line> {
    read_line(line).ok().filter(is_plain)
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
