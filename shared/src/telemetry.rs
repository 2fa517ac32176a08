//! Log output, to standard error: readable lines, or one flat JSON object a line.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, IsTerminal, Write};

use jiff::Timestamp;
use serde::ser::{SerializeMap, Serializer};
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Registry, fmt as text};

use crate::config::{LogConfig, LogFormat};

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The level is none.
    #[error("log.level: expected a level or a filter such as \"info,relay=debug\": {0}")]
    Level(#[from] tracing_subscriber::filter::ParseError),
    /// There is a log already.
    #[error("log: {0}")]
    Already(#[from] tracing::subscriber::SetGlobalDefaultError),
}

/// Sends this process's log where `config` says, from now on.
///
/// # Errors
/// [`TelemetryError`]
pub fn start(config: &LogConfig) -> Result<(), TelemetryError> {
    let filter = EnvFilter::try_new(&config.level)?;
    let log = Registry::default().with(filter);
    match config.format {
        LogFormat::Text => {
            let lines = text::layer()
                .with_writer(io::stderr)
                .with_ansi(io::stderr().is_terminal());
            tracing::subscriber::set_global_default(log.with(lines))?;
        }
        LogFormat::Json => {
            tracing::subscriber::set_global_default(log.with(FlatJson::new(io::stderr)))?;
        }
    }
    Ok(())
}

/// One JSON object a line: `timestamp`, `level`, `target`, `message`, then the fields of the event and of the spans
/// around it, all at the top level, so that `grep event_id` finds everything of an event. The innermost value of a name
/// wins.
struct FlatJson<W> {
    output: W,
}

/// The names that the line itself has.
const RESERVED: [&str; 4] = ["timestamp", "level", "target", "message"];

type Fields = BTreeMap<&'static str, Value>;

/// A span's fields, kept with it.
struct SpanFields(Fields);

impl<W> FlatJson<W> {
    fn new(output: W) -> Self {
        Self { output }
    }
}

impl<S, O, W> Layer<S> for FlatJson<O>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    O: Fn() -> W + 'static,
    W: Write,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::new();
            attributes.record(&mut Collect(&mut fields));
            span.extensions_mut().insert(SpanFields(fields));
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(SpanFields(fields)) = span.extensions_mut().get_mut()
        {
            values.record(&mut Collect(fields));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::new();
        for span in context.event_scope(event).into_iter().flatten() {
            // From the inside out.
            if let Some(SpanFields(outer)) = span.extensions().get() {
                for (name, value) in outer {
                    fields.entry(name).or_insert_with(|| value.clone());
                }
            }
        }
        event.record(&mut Collect(&mut fields));
        // A log that cannot be written cannot be complained about either.
        if let Ok(line) = line(event, &fields) {
            drop((self.output)().write_all(&line));
        }
    }
}

fn line(event: &Event<'_>, fields: &Fields) -> serde_json::Result<Vec<u8>> {
    let mut line = Vec::with_capacity(256);
    let mut serializer = serde_json::Serializer::new(&mut line);
    let mut object = serializer.serialize_map(None)?;
    let metadata = event.metadata();
    object.serialize_entry("timestamp", &format_args!("{:.6}", Timestamp::now()))?;
    object.serialize_entry("level", metadata.level().as_str())?;
    object.serialize_entry("target", metadata.target())?;
    if let Some(message) = fields.get("message") {
        object.serialize_entry("message", message)?;
    }
    for (name, value) in fields {
        if !RESERVED.contains(name) {
            object.serialize_entry(name, value)?;
        }
    }
    object.end()?;
    line.push(b'\n');
    Ok(line)
}

/// Gathers fields as JSON values.
struct Collect<'f>(&'f mut Fields);

impl Visit for Collect<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name(), value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.insert(field.name(), value.into());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, PoisonError};

    use super::*;

    #[derive(Clone, Default)]
    struct Output(Arc<Mutex<Vec<u8>>>);

    impl Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(act: impl FnOnce()) -> Vec<Value> {
        let output = Output::default();
        let writer = output.clone();
        let log = Registry::default().with(FlatJson::new(move || writer.clone()));
        tracing::subscriber::with_default(log, act);
        let bytes = output.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = bytes
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty());
        lines
            .map(|line| serde_json::from_slice(line).expect("a JSON object a line"))
            .collect()
    }

    #[test]
    fn span_fields_stand_beside_the_events_own() {
        let lines = logged(|| {
            let outer = tracing::info_span!(
                "upload",
                event_id = "outer",
                project_id = 7,
                topic = tracing::field::Empty
            );
            let _outer = outer.enter();
            outer.record("topic", "ingest");
            let _inner = tracing::info_span!("event", event_id = %"inner").entered();
            tracing::warn!(offset = -1_i64, whole = true, error = ?Some("x"), "two\nlines \"quoted\"");
        });
        let [line] = &lines[..] else {
            panic!("expected one line, found {lines:?}");
        };
        assert_eq!(line["level"], "WARN");
        assert_eq!(line["message"], "two\nlines \"quoted\"");
        assert_eq!(line["event_id"], "inner");
        assert_eq!(line["project_id"], 7);
        assert_eq!(line["topic"], "ingest");
        assert_eq!(line["offset"], -1);
        assert_eq!(line["whole"], true);
        assert_eq!(line["error"], "Some(\"x\")");
        let timestamp = line["timestamp"].as_str().expect("a time");
        assert!(
            timestamp.parse::<Timestamp>().is_ok() && timestamp.len() == 27,
            "{timestamp}"
        );
    }

    #[test]
    fn a_field_never_hides_what_the_line_itself_says() {
        let lines = logged(|| tracing::info!(level = "none", target = "elsewhere", "said"));
        assert_eq!(lines[0]["level"], "INFO");
        assert_eq!(lines[0]["target"], "shared::telemetry::tests");
        assert_eq!(lines[0]["message"], "said");
    }

    #[test]
    fn a_level_that_is_none_is_named_with_its_key() {
        let level = "info,relay=loud".to_owned();
        let error = start(&LogConfig {
            format: LogFormat::Json,
            level,
        })
        .expect_err("no level");
        assert!(
            error.to_string().starts_with("log.level: expected"),
            "{error}"
        );
    }
}
