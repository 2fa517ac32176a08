//! `POST /api/{project}/minidump/`: a minidump with its form fields and files, as Crashpad and Breakpad send it.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use shared::id::ProjectId;
use shared::metrics::{Endpoint, Raised};
use tokio::time::Instant;
use tracing::Span;

use crate::app::{App, Peer};
use crate::delivery::Receipt;
use crate::error::Rejection;
use crate::publish::publish;
use crate::receive::Sender;

/// Crashpad keeps the body of a 200 as the crash's id, byte for byte.
const TEXT: HeaderValue = HeaderValue::from_static("text/plain");

pub(crate) async fn upload(
    State(app): State<Arc<App>>,
    Path(project): Path<String>,
    request: Request,
) -> Response {
    let begun = Instant::now();
    let metrics = &app.services.metrics;
    let _in_flight = Raised::by(&metrics.uploads_in_flight, 1);
    let (head, mut body) = request.into_parts();
    let answer = match take(&app, &project, &head, &mut body).await {
        Ok(receipt) => accepted(&receipt),
        Err(rejection) => app.refuse(rejection, &head.headers, body),
    };
    metrics
        .upload_duration_seconds
        .observe(begun.elapsed().as_secs_f64());
    answer
}

async fn take(
    app: &App,
    project: &str,
    head: &Parts,
    body: &mut Body,
) -> Result<Receipt, Rejection> {
    let project_id: ProjectId = project.parse()?;
    Span::current().record("project_id", project_id.get());
    app.keys.check(project_id, &head.uri, &head.headers)?;
    let _turn = app.admission.upload().await?;
    let peer = head.extensions.get::<Peer>();
    let sender = Sender {
        event_id: app.delivery.fresh_event_id(),
        project_id,
        remote_addr: peer.map(|peer| peer.0.ip().to_canonical().to_string()),
    };
    let length = app.intake.check_head(&head.headers)?;
    let draft = app.delivery.reserve(length.unwrap_or_default());
    let draft = draft.map_err(Rejection::Spool)?;
    let upload = app
        .intake
        .receive_minidump(sender, &head.headers, body, draft)
        .await?;
    publish(app, Endpoint::Minidump, upload).await
}

fn accepted(receipt: &Receipt) -> Response {
    let id = receipt.event_id().to_string();
    ([(CONTENT_TYPE, TEXT)], id).into_response()
}
