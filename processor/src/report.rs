//! The report: what the client said and what the dump told, put together, and cut down where a message must be small.
//! Pure.

mod fit;

use std::collections::HashSet;
use std::net::IpAddr;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;
use shared::config::{Keep, PrivacyConfig};
use shared::envelope::Envelope;
use shared::id::{EventId, ProjectId};
use shared::lenient::{self, Limits};
use shared::limits::EVENT_DATA_BYTES_MAX;
use shared::privacy::scrub_report;
use shared::report::{
    CrashDetails, EventPayload, Processing, REPORT_SCHEMA, Report, ReportAttachment,
};
use shared::{annotations, event};

pub use fit::{REPORT_BYTES_MIN, fit};

/// A dump's time is believed from here on, in seconds since 1970: no minidump is older than the year 2000, but clocks
/// without a battery begin at 1970.
const DUMP_TIME_MIN_SECONDS: i64 = 946_684_800;
/// How much later than its arrival a dump may say it was written: clocks differ.
const DUMP_TIME_AHEAD_MAX_SECONDS: i64 = 60;
/// What a report takes beside what its dump tells, mostly.
const LIKELY_CLIENT_BYTES: usize = 8 << 10;

/// Puts a report together: what the client said, then what the annotations in the dump add to it, without what its project
/// does not keep. Whatever the event's JSON is, there is a report; what cannot be used of it is a warning.
#[must_use]
pub fn build(
    envelope: &Envelope,
    dump: DumpDetails,
    attachments: Vec<ReportAttachment>,
    processing: Processing,
    privacy: &PrivacyConfig,
) -> Report {
    let crash = Identity {
        event_id: envelope.event_id,
        project_id: envelope.project_id,
        received_at: envelope.received_at,
        remote_addr: kept_address(envelope, privacy),
    };
    let mut payload = read_payload(&envelope.event);
    // Our relays have done so already.
    event::resolve_auto_addresses(&mut payload, crash.remote_addr.as_deref());
    put_together(crash, payload, dump, attachments, processing, privacy)
}

/// Puts a report together anew: what an earlier one says for the client, and what the dump tells now. The earlier one's
/// warnings stay.
#[must_use]
pub fn rebuild(
    earlier: Report,
    dump: DumpDetails,
    processing: Processing,
    privacy: &PrivacyConfig,
) -> Report {
    let crash = Identity {
        event_id: earlier.event_id,
        project_id: earlier.project_id,
        received_at: earlier.received_at,
        remote_addr: earlier.remote_addr,
    };
    let payload = EventPayload {
        platform: earlier.platform,
        level: earlier.level,
        timestamp: earlier.timestamp,
        release: earlier.release,
        environment: earlier.environment,
        process_type: earlier.crash.process.kind,
        user: earlier.user,
        tags: earlier.tags,
        extra: earlier.extra,
        contexts: earlier.contexts,
        breadcrumbs: earlier.breadcrumbs,
        user_reports: earlier.user_reports,
        event: earlier.event,
        client: earlier.client,
        attached_to: None,
        warnings: earlier.processing.warnings,
    };
    let attachments = earlier.attachments;
    let mut report = put_together(crash, payload, dump, attachments, processing, privacy);
    let mut told = HashSet::new();
    let warnings = &mut report.processing.warnings;
    warnings.retain(|warning| told.insert(warning.clone()));
    report
}

/// What the dump tells.
#[derive(Default)]
pub struct DumpDetails {
    /// For the report, as it is.
    pub details: CrashDetails,
    /// When it was written, by the clock of its machine.
    pub time: Option<Timestamp>,
}

/// Whether a dump may have been written at `time`, when it arrived at `received_at`.
fn is_believable(time: Timestamp, received_at: Timestamp) -> bool {
    let latest = received_at.as_second() + DUMP_TIME_AHEAD_MAX_SECONDS;
    (DUMP_TIME_MIN_SECONDS..=latest).contains(&time.as_second())
}

/// Which crash, when the relay had it, and from where.
struct Identity {
    event_id: EventId,
    project_id: ProjectId,
    received_at: Timestamp,
    remote_addr: Option<String>,
}

fn put_together(
    crash: Identity,
    mut payload: EventPayload,
    dump: DumpDetails,
    attachments: Vec<ReportAttachment>,
    mut processing: Processing,
    privacy: &PrivacyConfig,
) -> Report {
    let DumpDetails { details, time } = dump;
    annotations::fill(&mut payload, &details.annotations);
    if payload.timestamp.is_none() {
        payload.timestamp = time.filter(|time| is_believable(*time, crash.received_at));
        if let (Some(time), None) = (time, payload.timestamp) {
            let warning = format!("the time in the dump is not believed: {time}");
            processing.warnings.push(warning);
        }
    }
    let mut report = Report {
        schema: REPORT_SCHEMA.into(),
        event_id: crash.event_id,
        project_id: crash.project_id,
        received_at: crash.received_at,
        remote_addr: crash.remote_addr,
        platform: payload.platform,
        level: payload.level,
        timestamp: payload.timestamp,
        release: payload.release,
        environment: payload.environment,
        user: payload.user,
        tags: payload.tags,
        extra: payload.extra,
        contexts: payload.contexts,
        breadcrumbs: payload.breadcrumbs,
        user_reports: payload.user_reports,
        event: payload.event,
        client: payload.client,
        crash: details,
        attachments,
        processing,
    };
    report.processing.warnings.splice(0..0, payload.warnings);
    let kind = &mut report.crash.process.kind;
    *kind = payload.process_type.or_else(|| kind.take());
    scrub_report(&mut report, privacy);
    report
}

/// The report as JSON, whole, as it goes to the storage.
#[must_use]
pub fn encode(report: &Report) -> Bytes {
    let told = report.crash.minidump.as_ref();
    // The threads are in it twice, as the parser says them and in our words.
    let likely_bytes = 2 * told.map_or(0, |json| json.as_str().len()) + LIKELY_CLIENT_BYTES;
    let mut json = Vec::with_capacity(likely_bytes);
    // INVARIANT: a report is texts, numbers and JSON under text keys, which always make JSON.
    serde_json::to_writer(&mut json, report).expect("reports encode");
    json.into()
}

/// The address that the upload was sent from, where its project keeps it; a foreign producer may say anything.
pub(crate) fn kept_address(envelope: &Envelope, privacy: &PrivacyConfig) -> Option<String> {
    let address: IpAddr = envelope.remote_addr.as_deref()?.parse().ok()?;
    match privacy.client_address {
        Keep::Keep => Some(address.to_canonical().to_string()),
        Keep::Drop => None,
    }
}

/// Reads an event's JSON, ours or a foreign producer's: what in it no strict reader takes costs its own leaf.
pub(crate) fn read_payload(message: &[u8]) -> EventPayload {
    const WHAT: &str = "the event";
    if let Ok(Value::Object(fields)) = serde_json::from_slice(message) {
        return event::read_payload(fields);
    }
    let limits = Limits {
        bytes: message.len().max(EVENT_DATA_BYTES_MAX),
        ..Limits::default()
    };
    match lenient::json(message, limits).into_object() {
        Ok((fields, repairs)) => {
            let mut payload = event::read_payload(fields);
            payload.warnings.splice(0..0, repairs.warnings(WHAT));
            payload
        }
        Err(found) => EventPayload {
            warnings: vec![format!(
                "{WHAT} is not used: expected a JSON object, found {found}"
            )],
            ..EventPayload::default()
        },
    }
}

#[cfg(test)]
mod tests;
