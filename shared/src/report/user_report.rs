//! What users write about a crash apart from it: Sentry's `user_report` and `feedback`, listed at the crash.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::EventId;

/// What a user report is called among its crash's files.
pub const USER_REPORT_NAME: &str = "user_report.json";

/// What a user wrote, as it is listed at the crash.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LateUserReport {
    /// The upload that brought it: a feedback's own event, else the upload of late files.
    pub event_id: EventId,
    /// When the relay had it.
    pub received_at: Timestamp,
    /// It, as it came.
    pub report: Value,
}

/// The crash that a user's report says it is about: a feedback's associated event, or the event that a user report names.
/// All zeros name none.
#[must_use]
pub fn crash_of(report: &Value) -> Option<EventId> {
    let named = match report.pointer("/contexts/feedback") {
        Some(feedback) => feedback.get("associated_event_id"),
        None => report.get("event_id"),
    };
    let id: EventId = named?.as_str()?.parse().ok()?;
    (id.as_bytes() != &[0; 16]).then_some(id)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_report_names_the_crash_it_is_about() {
        const CRASH: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";
        const OWN: &str = "11111111111111111111111111111111";
        let feedback = |id| json!({"event_id": OWN, "contexts": {"feedback": {"message": "m", "associated_event_id": id}}});
        for (report, crash) in [
            (json!({"event_id": CRASH, "comments": "c"}), Some(CRASH)),
            (feedback(json!(CRASH)), Some(CRASH)),
            (
                feedback(json!("0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0")),
                Some(CRASH),
            ),
            (feedback(json!(null)), None),
            (feedback(json!("x")), None),
            (feedback(json!("0".repeat(32))), None),
            (
                json!({"event_id": OWN, "contexts": {"feedback": {"message": "m"}}}),
                None,
            ),
            (json!({"comments": "c"}), None),
            (json!("x"), None),
        ] {
            let found = crash_of(&report).map(|id| id.simple());
            assert_eq!(found.as_deref(), crash, "{report}");
        }
    }
}
