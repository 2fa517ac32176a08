//! What users wrote about crashes apart from them: listed at the crash, whichever of the two comes first.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use shared::config::PrivacyConfig;
use shared::envelope::Envelope;
use shared::event::resolve_auto_addresses;
use shared::id::EventId;
use shared::limits::{USER_REPORT_BYTES_MAX, USER_REPORT_TEXT_CHARS_MAX, USER_REPORTS_LISTED_MAX};
use shared::privacy::scrub_payload;
use shared::report::{EventPayload, LateUserReport, crash_of};

use crate::intake::Assembled;
use crate::pipeline::{Pipeline, again};
use crate::report::{kept_address, read_payload};

/// What an upload's users wrote, by the crash it is about. A crash's own report has what came with it.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct UserReports {
    of: BTreeMap<EventId, Vec<Value>>,
    /// Something that the project does not keep was taken out: the files of the same texts are not kept either.
    pub(crate) scrubbed: bool,
}

/// Where an event's JSON holds a user's words.
#[derive(Deserialize)]
struct Places {
    #[serde(default)]
    user_reports: Vec<IgnoredAny>,
    #[serde(default)]
    contexts: Contexts,
}

#[derive(Default, Deserialize)]
struct Contexts {
    feedback: Option<IgnoredAny>,
}

impl UserReports {
    /// Reads them from an upload's event. `attached_to`: the crash whose late files the upload is.
    pub(crate) fn of(
        envelope: &Envelope,
        attached_to: Option<EventId>,
        privacy: &PrivacyConfig,
    ) -> Self {
        // Most events have none: they are not read for it.
        let places: Result<Places, _> = serde_json::from_slice(&envelope.event);
        let has_some = places.map_or(true, |places| {
            !places.user_reports.is_empty() || places.contexts.feedback.is_some()
        });
        if !has_some {
            return Self::default();
        }
        let mut payload = read_payload(&envelope.event);
        payload.user_reports.extend(own_feedback(&payload));
        let sent = payload.user_reports.clone();
        resolve_auto_addresses(&mut payload, kept_address(envelope, privacy).as_deref());
        scrub_payload(&mut payload, privacy);
        let mut reports = Self {
            scrubbed: payload.user_reports != sent,
            ..Self::default()
        };
        for report in payload
            .user_reports
            .into_iter()
            .take(USER_REPORTS_LISTED_MAX)
        {
            let crash = crash_of(&report).or(attached_to);
            if let Some(crash) = crash.filter(|crash| *crash != envelope.event_id) {
                reports.of.entry(crash).or_default().push(listed(report));
            }
        }
        reports
    }
}

/// A foreign producer's feedback is an event whose own context it is.
fn own_feedback(payload: &EventPayload) -> Option<Value> {
    let feedback = payload.contexts.get("feedback")?;
    Some(json!({"contexts": {"feedback": feedback}, "user": payload.user}))
}

/// As it is listed: whole, or its texts when it is large.
fn listed(report: Value) -> Value {
    if report.to_string().len() <= USER_REPORT_BYTES_MAX {
        return report;
    }
    let texts = |from: &Value| -> Value {
        let fields = from.as_object().into_iter().flatten();
        let texts = fields.filter_map(|(name, value)| {
            let text: String = value
                .as_str()?
                .chars()
                .take(USER_REPORT_TEXT_CHARS_MAX)
                .collect();
            KNOWN_TEXTS
                .contains(&name.as_str())
                .then(|| (name.clone(), text.into()))
        });
        Value::Object(texts.collect())
    };
    match report.pointer("/contexts/feedback") {
        Some(feedback) => json!({"contexts": {"feedback": texts(feedback)}}),
        None => texts(&report),
    }
}

/// The texts of Sentry's user reports and feedback.
const KNOWN_TEXTS: [&str; 7] = [
    "event_id",
    "associated_event_id",
    "name",
    "email",
    "contact_email",
    "comments",
    "message",
];

impl Pipeline {
    /// Lists them at their crashes; what is about a deleted crash is not kept. The same again changes nothing.
    pub(crate) async fn list_user_reports(&self, assembled: &Assembled, reports: UserReports) {
        let (event_id, received_at) = (assembled.envelope.event_id, assembled.envelope.received_at);
        for (crash, reports) in reports.of {
            let Some(folder) = self.folder_of(assembled, crash).await else {
                continue;
            };
            let listed = reports.into_iter().map(|report| LateUserReport {
                event_id,
                received_at,
                report,
            });
            let listed: Vec<_> = listed.collect();
            // INVARIANT: JSON values and texts under text keys always make JSON.
            let list = Bytes::from(serde_json::to_vec(&listed).expect("lists encode"));
            let has_room = again("listing what users wrote", || {
                self.storage
                    .store_user_reports(folder, event_id, list.clone())
            })
            .await;
            if !has_room {
                self.metrics.user_reports_left_out.inc();
                tracing::warn!(%crash, "a crash has as many user reports as are listed; one is not");
            }
            // Deleted meanwhile: what was stored since its files were listed has to go as well.
            if self.folder_of(assembled, crash).await.is_none() {
                again("removing user reports of a deleted event", || async {
                    let stored = self.storage.event(folder).await?;
                    self.storage.remove(&[stored]).await
                })
                .await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use shared::config::Keep;
    use shared::id::ProjectId;

    use super::*;

    const CRASH: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";

    fn read(event: &Value, attached_to: Option<EventId>, privacy: &PrivacyConfig) -> UserReports {
        let envelope = Envelope {
            event_id: EventId::random(),
            project_id: ProjectId::new(0),
            received_at: Timestamp::UNIX_EPOCH,
            remote_addr: Some("192.0.2.1".into()),
            event: event.to_string().into(),
            attachments: vec![],
        };
        UserReports::of(&envelope, attached_to, privacy)
    }

    fn crash() -> EventId {
        CRASH.parse().expect("an id")
    }

    #[test]
    fn each_report_is_listed_at_the_crash_that_it_names() {
        let feedback =
            json!({"contexts": {"feedback": {"message": "m", "associated_event_id": CRASH}}});
        let report = json!({"event_id": CRASH, "comments": "c"});
        let nameless = json!({"comments": "d"});
        let event = json!({"user_reports": [feedback, report, nameless]});
        let keep = PrivacyConfig::default();
        let read_alone = read(&event, None, &keep);
        let alone = read_alone.of.get(&crash()).expect("its reports");
        assert_eq!(alone, &[feedback.clone(), report.clone()]);
        let late = read(&event, Some(crash()), &keep);
        assert_eq!(late.of[&crash()].len(), 3, "{late:?}");
        assert!(!late.scrubbed);
        // A foreign producer's.
        let own = json!({"type": "feedback", "contexts": feedback["contexts"]});
        let own = read(&own, None, &keep);
        assert_eq!(own.of[&crash()][0]["contexts"], feedback["contexts"]);
        let none = json!({"message": "user_reports and feedback", "contexts": {"os": {}}});
        assert_eq!(read(&none, Some(crash()), &keep), UserReports::default());
    }

    #[test]
    fn what_a_project_does_not_keep_is_not_listed() {
        let report = json!({"event_id": CRASH, "comments": "in /home/ada/x", "user": {"ip_address": "{{auto}}"}});
        let event = json!({"user_reports": [report]});
        let drop = PrivacyConfig {
            home_paths: Keep::Drop,
            client_address: Keep::Drop,
            ..PrivacyConfig::default()
        };
        let reports = read(&event, None, &drop);
        let expected = json!({"event_id": CRASH, "comments": "in /home/~/x", "user": {}});
        assert_eq!(reports.of[&crash()], [expected]);
        assert!(reports.scrubbed);
    }

    #[test]
    fn a_large_report_is_listed_by_its_texts() {
        let large = json!({"event_id": CRASH, "comments": "c".repeat(USER_REPORT_BYTES_MAX), "extra": [1, 2]});
        let reports = read(
            &json!({"user_reports": [large]}),
            None,
            &PrivacyConfig::default(),
        );
        let [listed] = &reports.of[&crash()][..] else {
            panic!("{reports:?}")
        };
        let comments = listed["comments"].as_str().map(str::len);
        assert_eq!(comments, Some(USER_REPORT_TEXT_CHARS_MAX));
        assert_eq!(listed.get("extra"), None);
    }
}
