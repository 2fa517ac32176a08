//! `POST /api/{project}/events/{event}/attachments/`: files of a crash that was sent before, or soon will be.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use shared::id::{EventId, ProjectId};
use shared::metrics::Endpoint;

use super::minidump::upload_of;
use crate::app::App;
use crate::error::Rejection;
use crate::receive::Format;
use crate::seal::Told;
use crate::visit::Visit;

pub(crate) async fn upload(
    State(app): State<Arc<App>>,
    Path((project, event)): Path<(String, String)>,
    request: Request,
) -> Response {
    let mut visit = Visit::begin(&app, request);
    let answer = take(&mut visit, &project, &event).await;
    visit.answer(answer)
}

async fn take(visit: &mut Visit, project: &str, event: &str) -> Result<Response, Rejection> {
    let project: ProjectId = project.parse()?;
    let grant = visit.check_key(project)?.into();
    let event = EventId::in_any_form(project, event)?;
    let format = Format::Late(event);
    let told = Told::default();
    let arrival = visit.take(Endpoint::Attachments, project, &grant, format, told);
    upload_of(arrival.await?).map(drop)?;
    Ok(StatusCode::CREATED.into_response())
}
