//! What a client says about a crash besides the dump, from all the places it says it in, made into one payload. Pure.
//!
//! The places are ranked, and a higher one wins where two disagree about the same leaf; none discards another. What cannot
//! be read costs itself and a warning. A merge holds a few times the bytes it is given, plus what `EVENT_VALUES_MAX` values take.

mod data;
mod fields;

use serde_json::{Map, Value};
use shared::annotations::{self, Annotations};
use shared::event::{self, fill_map};
use shared::id::EventId;
use shared::lenient::Reading;
use shared::limits::EVENT_VALUES_MAX;
use shared::report::EventPayload;

pub use data::{Data, Notation};
pub use fields::Field;

use fields::Form;

/// What the payload's platform is when the client does not say.
const PLATFORM: &str = "native";

/// Event data besides the form fields. Of [`Source::EventJson`], [`Source::EventMsgpack`] and [`Source::Event`] the
/// former win over the latter, and all of them over form fields; of two of a kind the earlier wins.
#[derive(Clone, Debug)]
pub enum Source {
    /// An envelope's event item: one JSON object.
    EventJson(Data),
    /// The file `__sentry-event`: one msgpack map.
    EventMsgpack(Data),
    /// The files `__sentry-breadcrumb1` and `2`: msgpack maps one after another, perhaps none.
    Breadcrumbs(Data),
    /// Mozilla's part `extra`: one JSON object of annotations.
    Extra(Data),
    /// The items `user_report` and `feedback`: one JSON object, kept with the event.
    UserReport(Data),
    /// An event that is read already, in Sentry's shape.
    Event(Value),
}

/// What all sources say together.
#[derive(Clone, Debug, PartialEq)]
pub struct Merged {
    /// What the event message carries.
    pub payload: EventPayload,
    /// The client's own id of the event. It stays in [`EventPayload::event`], too, as `event_id`.
    pub event_id: Option<EventId>,
    /// Of which of the sources something is not in the payload: their bytes are worth keeping.
    pub damaged: Vec<usize>,
}

/// Merges event data. `sdk` is the query's `sentry_client`, e.g. `sentry.native/0.4.9`; `warnings` are those of whoever
/// read the request.
#[must_use]
pub fn merge(
    sources: Vec<Source>,
    fields: Vec<Field>,
    sdk: Option<String>,
    warnings: Vec<String>,
) -> Merged {
    let mut merging = Merging {
        values_left: EVENT_VALUES_MAX,
        warnings,
        ..Merging::default()
    };
    for (at, source) in sources.into_iter().enumerate() {
        if !merging.read(source) {
            merging.damaged.push(at);
        }
    }
    let form = fields::sort(fields, &mut merging.values_left);
    merging.finish(form, sdk)
}

/// What has been read so far, each kind apart, because the order of sources is not their rank.
#[derive(Default)]
struct Merging {
    values_left: usize,
    json: Vec<Map<String, Value>>,
    msgpack: Vec<Map<String, Value>>,
    read: Vec<Map<String, Value>>,
    breadcrumbs: Vec<Value>,
    extra: Map<String, Value>,
    user_reports: Vec<Value>,
    damaged: Vec<usize>,
    warnings: Vec<String>,
}

impl Merging {
    /// Reads a source; false when not all of it is in what was read.
    fn read(&mut self, source: Source) -> bool {
        match source {
            Source::EventJson(data) => {
                let event = self.object("the event", Notation::Json, data);
                event.is_some_and(|(event, is_whole)| {
                    self.json.push(event);
                    is_whole
                })
            }
            Source::EventMsgpack(data) => {
                let event = self.object("__sentry-event", Notation::Msgpack, data);
                event.is_some_and(|(event, is_whole)| {
                    self.msgpack.push(event);
                    is_whole
                })
            }
            Source::Breadcrumbs(data) => self.read_breadcrumbs(data),
            Source::Extra(data) => {
                let extra = self.object("the part extra", Notation::Json, data);
                extra.is_some_and(|(extra, is_whole)| {
                    fill_map(&mut self.extra, extra);
                    is_whole
                })
            }
            Source::UserReport(data) => {
                let report = self.object("a user's report", Notation::Json, data);
                report.is_some_and(|(report, is_whole)| {
                    self.user_reports.push(report.into());
                    is_whole
                })
            }
            Source::Event(value) => {
                let reading = Reading {
                    value,
                    ..Reading::default()
                };
                let event = object("the event", reading, &mut self.warnings);
                event.is_some_and(|(event, is_whole)| {
                    self.read.push(event);
                    is_whole
                })
            }
        }
    }

    fn object(
        &mut self,
        what: &str,
        notation: Notation,
        data: Data,
    ) -> Option<(Map<String, Value>, bool)> {
        let reading = data.read(notation, &mut self.values_left);
        object(what, reading, &mut self.warnings)
    }

    fn read_breadcrumbs(&mut self, data: Data) -> bool {
        const WHAT: &str = "a breadcrumb file";
        let Some((mut read, is_whole)) = self.object(WHAT, Notation::Breadcrumbs, data) else {
            return false;
        };
        let Some(Value::Array(mut breadcrumbs)) = read.remove(data::BREADCRUMBS) else {
            return is_whole;
        };
        breadcrumbs.retain(|value| !value.is_null());
        let values = breadcrumbs.len();
        breadcrumbs.retain(Value::is_object);
        let odd = values - breadcrumbs.len();
        if odd > 0 {
            self.warnings.push(format!(
                "{WHAT}: {odd} values that are no breadcrumbs were left out"
            ));
        }
        self.breadcrumbs.extend(breadcrumbs);
        is_whole && odd == 0
    }

    fn finish(self, form: Form, sdk: Option<String>) -> Merged {
        let mut payload = EventPayload {
            warnings: self.warnings,
            user_reports: self.user_reports,
            ..EventPayload::default()
        };
        payload.warnings.extend(form.warnings);
        let mut event_id = None;
        let files = self.json.into_iter().chain(self.msgpack).chain(self.read);
        for event in files.chain(form.events) {
            event_id = event_id.or(client_id(&event, &mut payload.warnings));
            event::fill(&mut payload, event::read(event));
        }
        payload.breadcrumbs.extend(self.breadcrumbs);
        let mut named = form.annotations;
        annotate(&mut named, &self.extra);
        fill_map(&mut payload.extra, form.extra);
        fill_map(&mut payload.extra, self.extra);
        name_sdk(&mut payload, sdk);
        annotations::fill(&mut payload, &named);
        payload.platform.get_or_insert_with(|| PLATFORM.to_owned());
        event::flatten(&mut payload);
        event::order_breadcrumbs(&mut payload);
        Merged {
            payload,
            event_id,
            damaged: self.damaged,
        }
    }
}

/// An object that was read, and whether all of it was.
fn object(
    what: &str,
    reading: Reading,
    warnings: &mut Vec<String>,
) -> Option<(Map<String, Value>, bool)> {
    match reading.into_object() {
        Ok((fields, repairs)) => {
            warnings.extend(repairs.warnings(what));
            Some((fields, !repairs.is_lossy()))
        }
        Err(found) => {
            warnings.push(format!(
                "{what} is not used: expected an object, found {found}"
            ));
            None
        }
    }
}

/// The id that an event has from its client.
fn client_id(event: &Map<String, Value>, warnings: &mut Vec<String>) -> Option<EventId> {
    let id = event.get("event_id").filter(|id| !id.is_null())?;
    let why = match id.as_str().map(str::parse::<EventId>) {
        Some(Ok(id)) if id.as_bytes() != &[0; 16] => return Some(id),
        Some(Ok(_)) => "expected any id but zero".to_owned(),
        Some(Err(error)) => error.to_string(),
        None => format!("expected a text, found {}", event::kind(id)),
    };
    warnings.push(format!("the event's own id is not used: {why}"));
    None
}

/// Adds the texts among Mozilla's annotations to those of the form.
fn annotate(named: &mut Annotations, extra: &Map<String, Value>) {
    for (name, value) in extra {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => continue,
        };
        named.entry(name.clone()).or_insert(text);
    }
}

/// Writes the SDK of the request where an event names its own, when it does not.
fn name_sdk(payload: &mut EventPayload, sdk: Option<String>) {
    let Some(sdk) = sdk.filter(|sdk| !sdk.is_empty()) else {
        return;
    };
    if !payload.event.contains_key("sdk") {
        let (name, version) = match sdk.split_once('/') {
            Some((name, version)) => (name, Some(version)),
            None => (sdk.as_str(), None),
        };
        let sdk = serde_json::json!({"name": name, "version": version});
        payload.event.insert("sdk".into(), sdk);
    }
}

#[cfg(test)]
mod tests;
