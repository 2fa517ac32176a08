//! When an upload was received, in its producer's words.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::event;

/// Characters of it that are shown.
const SHOWN_CHARS_MAX: usize = 80;

/// Seconds since 1970. A foreign producer's may be anything, or nothing: that is no reason to refuse a crash.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StartTime(Value);

impl StartTime {
    /// The time, when it is one. Whether it can be true is another question.
    #[must_use]
    pub fn moment(&self) -> Option<Timestamp> {
        event::moment(&self.0)
    }
}

/// As our relays write it: whole seconds, none before 1970.
impl From<Timestamp> for StartTime {
    fn from(at: Timestamp) -> Self {
        Self(at.as_second().max(0).into())
    }
}

/// As JSON, and no more of it than a warning has room for.
impl fmt::Display for StartTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let json = self.0.to_string();
        let shown: String = json.chars().take(SHOWN_CHARS_MAX).collect();
        let more = if shown.len() < json.len() { "…" } else { "" };
        write!(f, "{shown}{more}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ours_is_a_whole_number_in_the_message() {
        let at: Timestamp = "2026-09-21T13:33:20.9Z".parse().expect("a time");
        let encode = |value: &StartTime| rmp_serde::to_vec_named(value).expect("encodes");
        // `uint 32`, as every other consumer of the schema expects it.
        assert_eq!(encode(&at.into())[0], 0xce);
        assert_eq!(encode(&Timestamp::MIN.into()), [0]);
    }

    #[test]
    fn whatever_a_producer_writes_is_read_and_shown() {
        for (value, shown) in [
            (json!(0), "0"),
            (json!(-5), "-5"),
            (json!(1_u64 << 62), "4611686018427387904"),
            (json!(1.5), "1.5"),
            (json!(null), "null"),
            (json!("now"), "\"now\""),
            (json!({"seconds": [1]}), "{\"seconds\":[1]}"),
        ] {
            let bytes = rmp_serde::to_vec_named(&value).expect("encodes");
            let read: StartTime = rmp_serde::from_slice(&bytes).expect("reads");
            assert_eq!(read, StartTime(value));
            assert_eq!(read.to_string(), shown);
        }
        let long = StartTime(json!("9".repeat(500)));
        assert_eq!(long.to_string().chars().count(), SHOWN_CHARS_MAX + 1);
    }
}
