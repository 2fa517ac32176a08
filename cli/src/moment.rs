//! Points in time as operators write them.

use std::str::FromStr;

use jiff::Timestamp;
use shared::config::Span;

/// A point in time: RFC 3339, or how long ago.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Moment(pub(crate) Timestamp);

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(time) = text.parse() {
            return Ok(Self(time));
        }
        let span: Option<Span> = text.parse().ok();
        span.and_then(|span| Timestamp::now().checked_sub(span.get()).ok())
            .map(Self)
            .ok_or_else(|| {
                format!(
                    "expected a time such as 2026-01-31T12:00:00Z, or how long ago such as 2h or 7d, found {text:?}"
                )
            })
    }
}

/// A time to the second.
pub(crate) fn show(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_time_or_a_span_back() {
        let named: Moment = "2026-01-31T12:00:00.5Z".parse().expect("a time");
        assert_eq!(show(named.0), "2026-01-31T12:00:00Z");
        let ago: Moment = "2h".parse().expect("a span");
        let seconds = Timestamp::now().as_second() - ago.0.as_second();
        assert!((7199..=7201).contains(&seconds), "{seconds}");
        for wrong in ["", "yesterday", "2", "2026-01-31"] {
            assert!(wrong.parse::<Moment>().is_err(), "{wrong:?}");
        }
    }
}
