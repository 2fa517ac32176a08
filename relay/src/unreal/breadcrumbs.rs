//! The tail of the engine's log as breadcrumbs. Pure.
//!
//! A line is `[2018.12.13-15.54.53:944][  0]LogWindows: Error: text`, times in UTC; every part but the text may be absent.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde_json::{Map, Value};

use super::text::{shortened, tail};
use crate::limits::{BREADCRUMB_BYTES_MAX, BREADCRUMBS_MAX, UNREAL_LOG_TAIL_BYTES};

/// The last lines of a log, oldest first, in Sentry's shape.
pub(super) fn breadcrumbs(log: &[u8]) -> Vec<Value> {
    let log = tail(log, UNREAL_LOG_TAIL_BYTES);
    let lines = log.lines().rev().filter(|line| !line.trim().is_empty());
    let mut breadcrumbs: Vec<Value> = lines.take(BREADCRUMBS_MAX).map(breadcrumb).collect();
    breadcrumbs.reverse();
    breadcrumbs
}

fn breadcrumb(line: &str) -> Value {
    let (time, rest) = bracketed(line);
    let timestamp = time.and_then(timestamp);
    // What is in brackets and is no time belongs to the text, as in `[AppleController] …`.
    let rest = if timestamp.is_some() {
        bracketed(rest).1
    } else {
        line
    };
    let (category, rest) = labelled(rest, |label| {
        label
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    });
    let (verbosity, message) = labelled(rest, |label| level(label).is_some());
    let mut breadcrumb = Map::new();
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            breadcrumb.insert(name.to_owned(), Value::String(value));
        }
    };
    add("timestamp", timestamp.map(|time| time.to_string()));
    add("category", category.map(str::to_owned));
    add("level", verbosity.and_then(level).map(str::to_owned));
    let message = shortened(message.trim(), BREADCRUMB_BYTES_MAX);
    add("message", Some(message.to_owned()));
    Value::Object(breadcrumb)
}

/// What stands in brackets at the start, and what follows.
fn bracketed(line: &str) -> (Option<&str>, &str) {
    match line.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((inside, rest)) => (Some(inside), rest),
        None => (None, line),
    }
}

/// A label before `: `, when it is one.
fn labelled(text: &str, is_label: impl Fn(&str) -> bool) -> (Option<&str>, &str) {
    match text.split_once(": ") {
        Some((label, rest)) if !label.is_empty() && is_label(label) => (Some(label), rest),
        Some(_) | None => (None, text),
    }
}

/// The engine's verbosity in Sentry's words.
fn level(verbosity: &str) -> Option<&'static str> {
    match verbosity {
        "Fatal" => Some("fatal"),
        "Error" => Some("error"),
        "Warning" => Some("warning"),
        "Display" | "Log" => Some("info"),
        "Verbose" | "VeryVerbose" => Some("debug"),
        _ => None,
    }
}

fn timestamp(written: &str) -> Option<Timestamp> {
    let (seconds, milliseconds) = written.split_once(':')?;
    let milliseconds: i32 = milliseconds
        .parse()
        .ok()
        .filter(|number| (0..1000).contains(number))?;
    let time = DateTime::strptime("%Y.%m.%d-%H.%M.%S", seconds).ok()?;
    let time = time
        .with()
        .subsec_nanosecond(milliseconds * 1_000_000)
        .build()
        .ok()?;
    TimeZone::UTC.to_timestamp(time).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lines_of_the_engine_are_taken_apart() {
        for (line, expected) in [
            (
                "[2018.12.13-15.54.53:944][  0]LogWindows: Error: begin: stack",
                json!({"timestamp": "2018-12-13T15:54:53.944Z", "category": "LogWindows", "level": "error", "message": "begin: stack"}),
            ),
            (
                "LogInit: Build: ++UE4+Release-4.20-CL-4369336",
                json!({"category": "LogInit", "message": "Build: ++UE4+Release-4.20-CL-4369336"}),
            ),
            (
                "Log file open, 12/13/18 15:54:53",
                json!({"message": "Log file open, 12/13/18 15:54:53"}),
            ),
            (
                "[Callstack] 0x00007ff6: x",
                json!({"message": "[Callstack] 0x00007ff6: x"}),
            ),
            (
                "[2018.13.13-15.54.53:944][0]x",
                json!({"message": "[2018.13.13-15.54.53:944][0]x"}),
            ),
            (
                "[2018.12.13-15.54.53:944",
                json!({"message": "[2018.12.13-15.54.53:944"}),
            ),
            (": x", json!({"message": ": x"})),
        ] {
            assert_eq!(breadcrumbs(line.as_bytes()), [expected], "{line}");
        }
    }

    #[test]
    fn only_the_last_lines_are_taken_and_long_ones_cut() {
        let line = "LogX: ".to_owned() + &"y".repeat(BREADCRUMB_BYTES_MAX + 5) + "\r\n\n";
        let log = format!("{}LogLast: z", line.repeat(BREADCRUMBS_MAX + 20));
        let found = breadcrumbs(log.as_bytes());
        assert!((2..=BREADCRUMBS_MAX).contains(&found.len()));
        assert_eq!(found[found.len() - 1]["category"], "LogLast");
        let message = found[0]["message"].as_str().expect("a text");
        assert_eq!(message.len(), BREADCRUMB_BYTES_MAX);
        let many = "LogX: y\n".repeat(BREADCRUMBS_MAX + 20);
        assert_eq!(breadcrumbs(many.as_bytes()).len(), BREADCRUMBS_MAX);
        assert!(breadcrumbs(b"").is_empty());
    }
}
