//! `GET /api/{project}/events/{event}/`: what became of an accepted crash.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use shared::id::{EventId, ProjectId};
use shared::outcome::{Outcome, Verdict};
use shared::report::{REPORT_GONE, ReportAttachment};
use shared::state::EventStatus;
use shared::storage::EventFolder;

use crate::app::{App, log};
use crate::error::Rejection;

/// The answer. What does not apply is left out.
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
    #[serde(skip_serializing_if = "Option::is_none")]
    report: Option<Box<RawValue>>,
    /// Why there is no report of a crash that had one.
    #[serde(skip_serializing_if = "Option::is_none")]
    report_gone: Option<&'static str>,
    /// Files that came after the crash, as reports list them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    late_attachments: Vec<ReportAttachment>,
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
    detail: Value,
}

pub(crate) async fn status(
    State(app): State<Arc<App>>,
    Path((project, event)): Path<(String, String)>,
    request: Request,
) -> Response {
    let (head, _) = request.into_parts();
    match look_up(&app, &project, &event, &head).await {
        Ok(body) => Json(body).into_response(),
        Err(rejection) => {
            log(&rejection);
            rejection.into_response()
        }
    }
}

async fn look_up(
    app: &App,
    project: &str,
    event: &str,
    head: &Parts,
) -> Result<StatusBody, Rejection> {
    let project_id: ProjectId = project.parse()?;
    app.keys
        .check_request(project_id, &head.uri, &head.headers)?;
    let event_id = EventId::in_any_form(project_id, event)?;
    let status = app.services.state.status(project_id, event_id).await;
    let status = status.map_err(|error| Rejection::StatusUnavailable(error.into()))?;
    let mut body = match status.ok_or(Rejection::UnknownEvent)? {
        EventStatus::Accepted { received_at } => StatusBody {
            event_id,
            project_id,
            status: Status::Accepted,
            received_at,
            outcome: None,
            failure: None,
            report: None,
            report_gone: None,
            late_attachments: Vec::new(),
        },
        EventStatus::Finished(outcome) => finished(app, outcome).await?,
        EventStatus::Deleted { deleted_at, .. } => {
            return Err(Rejection::DeletedEvent { deleted_at });
        }
    };
    body.late_attachments = late(app, &body).await?;
    Ok(body)
}

async fn late(app: &App, body: &StatusBody) -> Result<Vec<ReportAttachment>, Rejection> {
    let folder = EventFolder {
        project_id: body.project_id,
        received_at: body.received_at,
        event_id: body.event_id,
    };
    let lists = app.services.storage.late_files(folder).await;
    let lists = lists.map_err(|error| Rejection::StatusUnavailable(error.into()))?;
    let mut files = Vec::new();
    for list in lists {
        let list: Vec<ReportAttachment> = serde_json::from_slice(&list)
            .map_err(|error| Rejection::StatusUnavailable(error.into()))?;
        files.extend(list);
    }
    Ok(files)
}

async fn finished(app: &App, outcome: Outcome) -> Result<StatusBody, Rejection> {
    // A crash that failed has a report when its stored dump was processed again; its outcome stays as it was told.
    let report = report(app, &outcome).await?;
    let (status, failure) = match &outcome.verdict {
        Verdict::Processed => (Status::Processed, None),
        Verdict::Failed(failure) => {
            // INVARIANT: a failure is texts and numbers under text keys, which always make JSON.
            let mut tagged = serde_json::to_value(failure).expect("failures encode");
            let fields = FailureFields {
                reason: failure.reason().as_str(),
                detail: tagged["detail"].take(),
            };
            (Status::Failed, Some(fields))
        }
    };
    let report_gone = (outcome.had_report() && report.is_none()).then_some(REPORT_GONE);
    Ok(StatusBody {
        event_id: outcome.event_id,
        project_id: outcome.project_id,
        status,
        received_at: outcome.received_at,
        failure,
        outcome: Some(outcome),
        report,
        report_gone,
        late_attachments: Vec::new(),
    })
}

/// The stored report as it is. `None` when it was removed: that changes nothing about the outcome.
async fn report(app: &App, outcome: &Outcome) -> Result<Option<Box<RawValue>>, Rejection> {
    let folder = EventFolder {
        project_id: outcome.project_id,
        received_at: outcome.received_at,
        event_id: outcome.event_id,
    };
    let report = app.services.storage.report(folder).await;
    let report = report.map_err(|error| Rejection::StatusUnavailable(error.into()))?;
    report
        .map(|json| serde_json::from_slice(&json))
        .transpose()
        .map_err(|error| Rejection::StatusUnavailable(error.into()))
}
