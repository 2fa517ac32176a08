//! `POST /api/{project}/envelope/`: what Sentry's SDKs send.

use std::sync::{Arc, OnceLock};

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use shared::id::ProjectId;
use shared::metrics::Endpoint;

use crate::app::App;
use crate::auth::KeyRefusal;
use crate::error::Rejection;
use crate::items::EnvelopeHeader;
use crate::receive::Format;
use crate::sdk;
use crate::seal::Told;
use crate::visit::{Arrival, Visit};

/// The answer that SDKs read.
#[derive(Serialize)]
struct Accepted {
    /// 32 hexadecimal digits; absent when the envelope was about no event.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
}

pub(crate) async fn upload(
    State(app): State<Arc<App>>,
    Path(project): Path<String>,
    request: Request,
) -> Response {
    let mut visit = Visit::begin(&app, request);
    let answer = take(&app, &mut visit, &project).await;
    visit.answer(answer)
}

async fn take(app: &App, visit: &mut Visit, project: &str) -> Result<Response, Rejection> {
    let project: ProjectId = project.parse()?;
    let grant = match visit.check_key(project) {
        // It may stand in the envelope itself.
        Err(Rejection::Key(KeyRefusal::Missing)) => OnceLock::new(),
        checked => checked?.into(),
    };
    let mut admit = |header: &EnvelopeHeader| {
        if grant.get().is_none() {
            let dsn = header.dsn.as_deref().and_then(sdk::project_and_key);
            let (owner, key) = dsn.ok_or(KeyRefusal::Missing)?;
            if owner != project {
                return Err(KeyRefusal::OtherProject(project).into());
            }
            let in_dsn = app.keys.check(project, key)?;
            app.quotas.check_early(&in_dsn)?;
            grant.get_or_init(|| in_dsn);
        }
        Ok(())
    };
    let format = Format::Envelope {
        keep_others: app.keep_other_items,
        admit: &mut admit,
    };
    let told = Told::default();
    let arrival = visit.take(Endpoint::Envelope, project, &grant, format, told);
    let id = match arrival.await? {
        Arrival::Durable(receipt, about) => Some(about.unwrap_or(receipt.event_id())),
        Arrival::Nothing(event_id) => event_id,
    };
    let id = id.map(|id| id.simple());
    Ok(Json(Accepted { id }).into_response())
}
