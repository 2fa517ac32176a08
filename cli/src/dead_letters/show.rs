//! `crashferry dead-letters show`: one letter, as far as it can be read.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use rmpv::Value;
use shared::config::Config;
use shared::dead_letter::{Entry, Place};
use shared::kafka::{PartitionRange, TopicReader, TopicRecord};

use super::kafka_error;
use super::survey::{Filter, Reading, Survey};
use crate::CommandError;
use crate::moment;
use crate::output::{counted, print, write};

/// Nesting of a message that is shown.
const DEPTH_MAX: usize = 16;
/// Characters of a message's text that are shown.
const TEXT_CHARS_MAX: usize = 200;
/// Entries of a list or a map that are shown.
const ENTRIES_MAX: usize = 100;
/// Bytes of what is no message that are shown.
const HEX_BYTES_MAX: usize = 256;
const HEX_LINE_BYTES: usize = 16;

/// Prints the letter, or writes its message's bytes to `raw`.
pub(super) fn run(config: &Config, place: Place, raw: Option<&Path>) -> Result<(), CommandError> {
    let record = read(config, place)?;
    match raw {
        Some(path) if path == Path::new("-") => write(&record.value),
        Some(path) => {
            let written = std::fs::write(path, &record.value);
            written.with_context(|| format!("writing {}", path.display()))?;
            print(&format!("{}: {}", path.display(), bytes(&record.value)))
        }
        None => print(&describe(config, place, &record)?),
    }
}

/// The one record at a place.
fn read(config: &Config, place: Place) -> Result<TopicRecord, CommandError> {
    let topic = &config.kafka.topics.dead_letters;
    let mut reader = TopicReader::open(&config.kafka, topic).map_err(kafka_error)?;
    let absent = || {
        CommandError::Failed(anyhow!(
            "expected a record at {place} of {topic}, found none"
        ))
    };
    if !reader.partitions().contains(&place.partition) {
        return Err(absent());
    }
    let whole = reader.whole(place.partition).map_err(kafka_error)?;
    if !(whole.start..whole.end).contains(&place.offset) {
        return Err(absent());
    }
    let range = PartitionRange {
        partition: place.partition,
        start: place.offset,
        end: place.offset + 1,
    };
    reader.read(&[range]).map_err(kafka_error)?;
    reader
        .next_record()
        .map_err(kafka_error)?
        .ok_or_else(absent)
}

fn describe(config: &Config, place: Place, record: &TopicRecord) -> Result<String, CommandError> {
    let mut lines = Vec::new();
    let topic = &config.kafka.topics.dead_letters;
    let kept = record.timestamp.map(moment::show).unwrap_or_default();
    lines.push(format!("{place} of {topic}, kept {kept}"));
    for (name, value) in &record.headers {
        // A foreign name may hold anything, too.
        let name = name.escape_debug();
        lines.push(format!("  {name}: {}", header(value)));
    }
    let key = match record.key.is_empty() {
        true => "none".to_owned(),
        false => header(&record.key),
    };
    lines.push(format!("key: {key}"));
    lines.push(format!("message: {}", bytes(&record.value)));
    lines.push(message(&record.value));
    lines.push(String::new());
    match Entry::read(record) {
        Entry::Letter(letter) => {
            let filter = Filter {
                places: vec![place],
                ..Filter::default()
            };
            let survey = Survey::take(config, &filter)?;
            let replayed = survey.rows.first().and_then(|row| row.replayed_at);
            if let Some(at) = replayed {
                lines.push(format!("It was sent again at {}.", moment::show(at)));
            }
            if let Some(cut) = &letter.cut {
                lines.push(format!(
                    "The letter has only {cut}: its topic's max.message.bytes is too small for all of it. Replay leaves it."
                ));
            }
            lines.push(advice(&letter.reason, &Reading::of(record), place));
        }
        Entry::Replayed(letter) => lines.push(format!(
            "This is no letter but the note that {letter} was sent again."
        )),
        Entry::Foreign => lines.push("This is no letter of ours.".to_owned()),
    }
    Ok(lines.join("\n"))
}

fn advice(reason: &str, reading: &Reading, place: Place) -> String {
    match reading {
        Reading::Chunk(_) | Reading::Event(..) => {
            return format!(
                "This version reads it. Send it again: crashferry dead-letters replay --offset {place}"
            );
        }
        Reading::Refused(_) => {}
    }
    let cause = match reason {
        "not_a_message" => {
            "It is not one of our messages at all: find out who else writes to the ingest topic."
        }
        "unknown_type" => {
            "It is a message of another kind: of a newer relay than this processor, or of another consumer's topic."
        }
        "malformed" => {
            "It claims to be one of our messages and is not: look for a producer of another version."
        }
        "no_crash" => "It is a user report that does not say which crash it is about.",
        "oversized" => {
            "It announces more than any crash needs: look for a producer that writes nonsense."
        }
        _ => "The error above says what was expected.",
    };
    format!("{cause} This version does not read it either; once one does, replay it.")
}

/// A header's or key's value: text where it is, else hexadecimal.
fn header(value: &[u8]) -> String {
    match std::str::from_utf8(value) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        Ok(_) | Err(_) => {
            let shown = &value[..value.len().min(HEX_BYTES_MAX)];
            let hex: String = shown.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{}, {hex}", bytes(value))
        }
    }
}

fn bytes(value: &[u8]) -> String {
    counted(value.len(), "byte", "bytes")
}

/// What the message looks like: JSON-like text, or its first bytes.
fn message(bytes: &[u8]) -> String {
    let mut rest = bytes;
    let value = rmpv::decode::read_value_with_max_depth(&mut rest, DEPTH_MAX);
    match value {
        Ok(value @ (Value::Map(_) | Value::Array(_))) if rest.is_empty() => {
            let mut text = String::new();
            put(&mut text, &value, 0);
            text
        }
        Ok(_) | Err(_) => hex_dump(bytes),
    }
}

fn put(text: &mut String, value: &Value, depth: usize) {
    let line = |depth: usize| format!("\n{}", "  ".repeat(depth));
    match value {
        Value::Map(entries) => {
            text.push('{');
            for (name, value) in entries.iter().take(ENTRIES_MAX) {
                text.push_str(&line(depth + 1));
                put(text, name, depth + 1);
                text.push_str(": ");
                put(text, value, depth + 1);
            }
            put_left_out(text, entries.len(), &line(depth + 1));
            text.push_str(&line(depth));
            text.push('}');
        }
        Value::Array(values) => {
            text.push('[');
            for value in values.iter().take(ENTRIES_MAX) {
                text.push_str(&line(depth + 1));
                put(text, value, depth + 1);
            }
            put_left_out(text, values.len(), &line(depth + 1));
            text.push_str(&line(depth));
            text.push(']');
        }
        Value::Binary(binary) => text.push_str(&format!("<{}>", bytes(binary))),
        Value::Ext(kind, binary) => {
            text.push_str(&format!("<extension {kind}, {}>", bytes(binary)));
        }
        Value::String(string) => {
            let string = String::from_utf8_lossy(string.as_bytes());
            let shown: String = string.chars().take(TEXT_CHARS_MAX).collect();
            let more = if shown.len() < string.len() {
                "…"
            } else {
                ""
            };
            text.push_str(&format!("{shown:?}{more}"));
        }
        Value::Nil => text.push_str("null"),
        plain @ (Value::Boolean(_) | Value::Integer(_) | Value::F32(_) | Value::F64(_)) => {
            text.push_str(&plain.to_string());
        }
    }
}

fn put_left_out(text: &mut String, entries: usize, line: &str) {
    if entries > ENTRIES_MAX {
        text.push_str(&format!("{line}… {} more", entries - ENTRIES_MAX));
    }
}

fn hex_dump(bytes: &[u8]) -> String {
    let mut text = String::new();
    let shown = &bytes[..bytes.len().min(HEX_BYTES_MAX)];
    for (number, line) in shown.chunks(HEX_LINE_BYTES).enumerate() {
        let hex: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        let printable = |byte: &u8| match byte {
            b' '..=b'~' => char::from(*byte),
            _ => '.',
        };
        let ascii: String = line.iter().map(printable).collect();
        // INVARIANT: writing to a `String` does not fail.
        writeln!(
            text,
            "{:08x}  {:47}  {ascii}",
            number * HEX_LINE_BYTES,
            hex.join(" ")
        )
        .expect("a string takes every line");
    }
    if bytes.len() > shown.len() {
        let more = counted(bytes.len() - shown.len(), "more byte", "more bytes");
        text.push_str(&format!("… {more}"));
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_shown_with_its_binaries_as_lengths() {
        let map = Value::Map(vec![
            ("type".into(), "event".into()),
            ("payload".into(), Value::Binary(vec![1; 70])),
            ("attachments".into(), Value::Array(vec![7.into()])),
        ]);
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, &map).expect("encodes");
        let shown = message(&bytes);
        assert_eq!(
            shown,
            "{\n  \"type\": \"event\"\n  \"payload\": <70 bytes>\n  \"attachments\": [\n    7\n  ]\n}"
        );
    }

    #[test]
    fn what_is_no_message_is_shown_as_bytes() {
        let shown = message(b"\xc1 this is none");
        assert!(shown.starts_with("00000000  c1 20 74 68"), "{shown}");
        assert!(shown.ends_with(". this is none"), "{shown}");
        assert!(message(&[0xc1; 1000]).ends_with("… 744 more bytes"));
        assert_eq!(message(b""), "");
        // A list that claims to have four thousand million entries.
        assert!(message(b"\xdd\xff\xff\xff\xff").starts_with("00000000"));
    }
}
