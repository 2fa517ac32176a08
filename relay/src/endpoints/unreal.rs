//! `POST /api/{project}/unreal/{key}/`: archives of Unreal Engine's crash reporter.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::response::Response;
use shared::id::ProjectId;
use shared::metrics::Endpoint;

use super::minidump::{accepted, upload_of};
use crate::app::App;
use crate::auth::{KeyRefusal, sent_keys};
use crate::error::Rejection;
use crate::query;
use crate::receive::Format;
use crate::seal::Told;
use crate::visit::Visit;

/// Who was at the machine: `login|epic|os`.
const USER_PARAMETER: &str = "UserID";

pub(crate) async fn upload(
    State(app): State<Arc<App>>,
    Path((project, key)): Path<(String, String)>,
    request: Request,
) -> Response {
    let mut visit = Visit::begin(&app, request);
    let answer = take(&app, &mut visit, &project, &key).await;
    visit.answer(answer)
}

async fn take(
    app: &App,
    visit: &mut Visit,
    project: &str,
    key: &str,
) -> Result<Response, Rejection> {
    let project: ProjectId = project.parse()?;
    let sent = sent_keys(&visit.head.uri, &visit.head.headers)?;
    if sent.is_some_and(|sent| sent != key) {
        return Err(KeyRefusal::Several.into());
    }
    let grant = visit.admit(app.keys.check(project, key)?)?.into();
    let told = Told {
        unreal_user: query::value(&visit.head.uri, USER_PARAMETER),
        ..Told::default()
    };
    let arrival = visit.take(Endpoint::Unreal, project, &grant, Format::Unreal, told);
    let receipt = upload_of(arrival.await?)?;
    Ok(accepted(visit, project, &receipt))
}
