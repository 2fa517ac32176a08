//! `GET /api/{project}/events/{event}/`: what became of an accepted crash.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use shared::id::{EventId, ProjectId};
use shared::outcome::{Outcome, Verdict};
use shared::report::{LateUserReport, REPORT_GONE, ReportAttachment};
use shared::state::EventStatus;
use shared::storage::{EventFolder, StorageError, StoredFile};

use crate::activity::Activity;
use crate::app::App;
use crate::error::Rejection;
use crate::limits::LATE_AHEAD_MAX;
use crate::readers::{Reader, ReportAnswer};
use crate::refusals::Claimed;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const NO_SNIFF: HeaderValue = HeaderValue::from_static("nosniff");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// The answer, but for the report. What does not apply is left out.
#[derive(Serialize)]
struct StatusBody {
    event_id: EventId,
    project_id: ProjectId,
    status: Status,
    received_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<Outcome>,
    /// Of a failure, as in the outcome.
    #[serde(flatten)]
    failure: Option<FailureFields>,
    /// Why there is no report of a crash that had one.
    #[serde(skip_serializing_if = "Option::is_none")]
    report_gone: Option<&'static str>,
    /// Files that came after the crash, as reports list them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    late_attachments: Vec<ReportAttachment>,
    /// What users wrote about the crash apart from it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    late_user_reports: Vec<LateUserReport>,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Accepted,
    Processed,
    Failed,
}

#[derive(Serialize)]
struct FailureFields {
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<Value>,
}

/// What is known of an event.
struct Found {
    body: StatusBody,
    report: Option<StoredFile>,
}

pub(crate) async fn status(
    State(app): State<Arc<App>>,
    Path((project, event)): Path<(String, String)>,
    request: Request,
) -> Response {
    let (head, _) = request.into_parts();
    let mut response = match look_up(&app, &project, &event, &head).await {
        Ok((found, reader)) => answer(&app, found, reader, &head),
        Err(rejection) => {
            app.log_refusal(&rejection, &Claimed::of(&head));
            rejection.into_response()
        }
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, NO_STORE);
    headers.insert(X_CONTENT_TYPE_OPTIONS, NO_SNIFF);
    response
}

/// The status, with the stored report as its last field.
fn answer(app: &App, found: Found, reader: Reader, head: &Parts) -> Response {
    // INVARIANT: a status is texts and numbers under text keys, which always make JSON.
    let mut body = serde_json::to_vec(&found.body).expect("statuses encode");
    let Some(report) = found.report else {
        return ([(CONTENT_TYPE, JSON)], body).into_response();
    };
    let end = body.pop().into_iter().collect();
    body.extend_from_slice(b",\"report\":");
    let answer = ReportAnswer {
        before: body.into(),
        report,
        after: end,
    };
    let length = answer.bytes();
    let connection = head.extensions.get::<Activity>().cloned();
    let body = answer.into_body(reader, &app.tasks, connection);
    let headers = [
        (CONTENT_TYPE, JSON),
        (CONTENT_LENGTH, HeaderValue::from(length)),
    ];
    (headers, body).into_response()
}

async fn look_up(
    app: &App,
    project: &str,
    event: &str,
    head: &Parts,
) -> Result<(Found, Reader), Rejection> {
    let project_id: ProjectId = project.parse()?;
    let grant = app
        .keys
        .check_request(project_id, &head.uri, &head.headers)?;
    let event_id = EventId::in_any_form(project_id, event)?;
    let reader = app.readers.enter(grant.key())?;
    let status = app.services.state.status(project_id, event_id).await;
    let status = status.map_err(|error| Rejection::StatusUnavailable(error.into()))?;
    let mut found = match status.ok_or(Rejection::UnknownEvent)? {
        EventStatus::Accepted { received_at } => {
            let body = StatusBody {
                event_id,
                project_id,
                status: Status::Accepted,
                received_at,
                outcome: None,
                failure: None,
                report_gone: None,
                late_attachments: Vec::new(),
                late_user_reports: Vec::new(),
            };
            Found { body, report: None }
        }
        EventStatus::Finished(outcome) if grant.reads_reports() => finished(app, outcome).await?,
        EventStatus::Finished(outcome) => Found {
            body: reason_alone(&outcome),
            report: None,
        },
        EventStatus::Deleted { deleted_at, .. } => {
            return Err(Rejection::DeletedEvent { deleted_at });
        }
    };
    if grant.reads_reports() {
        add_late(app, &mut found.body).await?;
    }
    Ok((found, reader))
}

/// What came apart from the crash, in the order that it came in. What was ahead of a crash stands under its own day.
async fn add_late(app: &App, body: &mut StatusBody) -> Result<(), Rejection> {
    let folder = EventFolder {
        project_id: body.project_id,
        received_at: body.received_at,
        event_id: body.event_id,
    };
    let ahead = EventFolder {
        received_at: body.received_at - LATE_AHEAD_MAX,
        ..folder
    };
    let yesterday = (ahead.day() != folder.day()).then_some(ahead);
    let storage = &app.services.storage;
    for folder in yesterday.into_iter().chain([folder]) {
        let files = read_lists(storage.late_files(folder).await)?;
        body.late_attachments.extend(files);
        let reports = read_lists(storage.user_reports(folder).await)?;
        body.late_user_reports.extend(reports);
    }
    body.late_user_reports
        .sort_by_key(|report| report.received_at);
    Ok(())
}

/// The entries of all lists; each is JSON of our own.
fn read_lists<T: DeserializeOwned>(
    lists: Result<Vec<Bytes>, StorageError>,
) -> Result<Vec<T>, Rejection> {
    let unavailable =
        |error: Box<dyn std::error::Error + Send + Sync>| Rejection::StatusUnavailable(error);
    let mut entries = Vec::new();
    for list in lists.map_err(|error| unavailable(error.into()))? {
        let list: Vec<T> =
            serde_json::from_slice(&list).map_err(|error| unavailable(error.into()))?;
        entries.extend(list);
    }
    Ok(entries)
}

/// What a key that reads no reports learns.
fn reason_alone(outcome: &Outcome) -> StatusBody {
    let (status, failure) = match &outcome.verdict {
        Verdict::Processed => (Status::Processed, None),
        Verdict::Failed(failure) => {
            let fields = FailureFields {
                reason: failure.reason().as_str(),
                detail: None,
            };
            (Status::Failed, Some(fields))
        }
    };
    StatusBody {
        event_id: outcome.event_id,
        project_id: outcome.project_id,
        status,
        received_at: outcome.received_at,
        outcome: None,
        failure,
        report_gone: None,
        late_attachments: Vec::new(),
        late_user_reports: Vec::new(),
    }
}

async fn finished(app: &App, outcome: Outcome) -> Result<Found, Rejection> {
    // A crash that failed has a report when its stored dump was processed again; its outcome stays as it was told.
    let report = report(app, &outcome).await?;
    let mut body = reason_alone(&outcome);
    if let (Verdict::Failed(failure), Some(fields)) = (&outcome.verdict, &mut body.failure) {
        // INVARIANT: a failure is texts and numbers under text keys, which always make JSON.
        let mut tagged = serde_json::to_value(failure).expect("failures encode");
        fields.detail = Some(tagged["detail"].take());
    }
    body.report_gone = (outcome.had_report() && report.is_none()).then_some(REPORT_GONE);
    body.outcome = Some(outcome);
    Ok(Found { body, report })
}

/// The stored report as it is. `None` when it was removed: that changes nothing about the outcome.
async fn report(app: &App, outcome: &Outcome) -> Result<Option<StoredFile>, Rejection> {
    let folder = EventFolder {
        project_id: outcome.project_id,
        received_at: outcome.received_at,
        event_id: outcome.event_id,
    };
    let report = app.services.storage.read(folder.report()).await;
    report.map_err(|error| Rejection::StatusUnavailable(error.into()))
}
