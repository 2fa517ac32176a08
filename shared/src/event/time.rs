//! Times as Sentry's SDKs write them.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde_json::Value;

/// No time is written longer.
const TEXT_BYTES_MAX: usize = 64;

/// A time: seconds since 1970 as a number, or a text of RFC 3339, whose zone is UTC when it is left out
/// (<https://develop.sentry.dev/sdk/foundations/transport/event-payloads/>).
#[must_use]
pub fn moment(value: &Value) -> Option<Timestamp> {
    match value {
        Value::Number(number) => seconds(number.as_f64()?),
        Value::String(text) if text.len() <= TEXT_BYTES_MAX => text
            .parse()
            .ok()
            .or_else(|| utc(text))
            .or_else(|| seconds(text.parse().ok()?)),
        Value::Null | Value::Bool(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
            None
        }
    }
}

/// To the microsecond: a double holds no more of today's times.
fn seconds(seconds: f64) -> Option<Timestamp> {
    let micros = (seconds * 1e6).round();
    // A cast alone would make a time of what is none.
    if !micros.is_finite() {
        return None;
    }
    Timestamp::from_microsecond(micros as i64).ok()
}

fn utc(text: &str) -> Option<Timestamp> {
    let civil: DateTime = text.parse().ok()?;
    TimeZone::UTC.to_timestamp(civil).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_and_texts_say_the_same_time() {
        let at: Timestamp = "2026-11-21T10:19:24.5Z".parse().expect("a time");
        for written in [
            json!("2026-11-21T10:19:24.5Z"),
            json!("2026-11-21T10:19:24.500000"),
            json!("2026-11-21T11:19:24.5+01:00"),
            json!(at.as_second() as f64 + 0.5),
            json!(format!("{}.5", at.as_second())),
        ] {
            assert_eq!(moment(&written), Some(at), "{written}");
        }
        for odd in [
            json!("yesterday"),
            json!(1e300),
            json!("inf"),
            json!(null),
            json!([1]),
            json!("9".repeat(500)),
        ] {
            assert_eq!(moment(&odd), None, "{odd}");
        }
    }
}
