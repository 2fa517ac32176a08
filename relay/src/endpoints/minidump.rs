//! `POST /api/{project}/minidump/`: a minidump with its form fields and files, as Crashpad and Breakpad send it.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::response::{IntoResponse, Response};
use shared::id::ProjectId;
use shared::metrics::Endpoint;

use crate::app::App;
use crate::delivery::Receipt;
use crate::error::Rejection;
use crate::receive::Format;
use crate::seal::Told;
use crate::visit::{Arrival, Visit};

/// Crashpad keeps the body of a 200 as the crash's id, byte for byte.
pub(super) const TEXT: HeaderValue = HeaderValue::from_static("text/plain");

pub(crate) async fn upload(
    State(app): State<Arc<App>>,
    Path(project): Path<String>,
    request: Request,
) -> Response {
    let mut visit = Visit::begin(&app, request);
    let answer = take(&mut visit, &project).await;
    visit.answer(answer)
}

async fn take(visit: &mut Visit, project: &str) -> Result<Response, Rejection> {
    let project: ProjectId = project.parse()?;
    let grant = visit.check_key(project)?.into();
    let told = Told::default();
    let arrival = visit.take(Endpoint::Minidump, project, &grant, Format::Crash, told);
    let receipt = upload_of(arrival.await?)?;
    Ok(accepted(visit, project, &receipt))
}

/// The upload of a format that always holds one.
pub(super) fn upload_of(arrival: Arrival) -> Result<Receipt, Rejection> {
    match arrival {
        Arrival::Durable(receipt, _) => Ok(receipt),
        Arrival::Nothing(_) => Err(Rejection::NothingToKeep),
    }
}

/// The id and nothing else.
pub(super) fn accepted(visit: &Visit, project: ProjectId, receipt: &Receipt) -> Response {
    let id = visit.id_text(project, receipt);
    ([(CONTENT_TYPE, TEXT)], id).into_response()
}
