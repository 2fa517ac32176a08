//! What only foreign producers send: files and user reports apart from their crash. Each becomes an upload of late files, as
//! our relays send them. Pure.

use bytes::Bytes;
use serde_json::Value;
use shared::envelope::AttachmentKind;
use shared::id::{AttachmentId, EventId};
use shared::lenient::{self, Limits};
use shared::message::{
    AttachmentEntry, AttachmentMessage, EventMessage, Headers, MessageError, UserReportMessage,
};
use shared::report::{EventPayload, USER_REPORT_NAME};

use super::assembly::Received;
use super::received_at::ReceivedAt;

/// A file as an upload of its own; its message says no time. Its id follows from the crash's and the file's, so that a copy is known.
pub(super) fn file(
    message: AttachmentMessage,
    received_at: ReceivedAt,
    headers: Headers,
    offset: i64,
) -> Received<'static> {
    let AttachmentMessage {
        event_id,
        project_id,
        attachment,
    } = message;
    let id = attachment.id.as_str().as_bytes();
    let late = EventMessage {
        event_id: EventId::derived(&[b"attachment", event_id.as_bytes(), id]),
        project_id,
        start_time: received_at.at.into(),
        remote_addr: None,
        payload: &[],
        attachments: vec![attachment],
    };
    received(late, event_id, Vec::new(), received_at, headers, offset)
}

/// A user report as a file, and as what it says.
///
/// # Errors
/// [`MessageError::NoCrash`] when it does not say which crash it is about.
pub(super) fn user_report(
    message: &UserReportMessage<'_>,
    received_at: ReceivedAt,
    headers: Headers,
    offset: i64,
) -> Result<Received<'static>, MessageError> {
    let crash = message.event_id()?;
    let file = AttachmentEntry {
        id: AttachmentId::from(USER_REPORT_NAME),
        name: USER_REPORT_NAME.into(),
        content_type: Some("application/json".into()),
        attachment_type: AttachmentKind::Plain,
        size: message.payload.len() as u64,
        data: Some(Bytes::copy_from_slice(message.payload)),
        ..AttachmentEntry::default()
    };
    let late = EventMessage {
        event_id: EventId::derived(&[b"user_report", crash.as_bytes(), message.payload]),
        project_id: message.project_id,
        start_time: received_at.at.into(),
        remote_addr: None,
        payload: &[],
        attachments: vec![file],
    };
    let (report, _) = lenient::json(message.payload, Limits::default())
        .into_object()
        .map_err(MessageError::NoCrash)?;
    Ok(received(
        late,
        crash,
        vec![report.into()],
        received_at,
        headers,
        offset,
    ))
}

fn received(
    message: EventMessage<'static>,
    crash: EventId,
    user_reports: Vec<Value>,
    received_at: ReceivedAt,
    headers: Headers,
    offset: i64,
) -> Received<'static> {
    let about = EventPayload {
        attached_to: Some(crash),
        user_reports,
        ..EventPayload::default()
    };
    // INVARIANT: a payload is plain values under text keys.
    let payload = serde_json::to_vec(&about).expect("payloads encode");
    Received {
        message,
        source: crash,
        received_at,
        payload: payload.into(),
        headers,
        offset,
    }
}
