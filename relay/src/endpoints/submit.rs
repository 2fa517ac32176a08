//! `POST /submit`: crashes as Mozilla's crash reporter sends them, answered in lines as it reads them.

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, HOST};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use shared::metrics::Endpoint;

use super::minidump::{TEXT, upload_of};
use crate::app::App;
use crate::auth::{KeyRefusal, sent_keys};
use crate::error::{Reason, Rejection};
use crate::key_ring::KeyGrant;
use crate::query;
use crate::receive::Format;
use crate::seal::Told;
use crate::visit::Visit;

/// The parameter for the key, beside those of Sentry's clients.
const KEY_PARAMETER: &str = "key";

pub(crate) async fn upload(State(app): State<Arc<App>>, request: Request) -> Response {
    let mut visit = Visit::begin(&app, request);
    let answer = take(&app, &mut visit).await;
    visit.answer_as(answer, discarded)
}

async fn take(app: &App, visit: &mut Visit) -> Result<Response, Rejection> {
    let grant = visit.admit(grant(app, &visit.head)?)?;
    let project = grant.project_id();
    let (grant, told) = (grant.into(), Told::default());
    let arrival = visit.take(Endpoint::Submit, project, &grant, Format::Crash, told);
    let receipt = upload_of(arrival.await?)?;
    let lines = format!("CrashID=bp-{}\n", receipt.event_id());
    Ok(([(CONTENT_TYPE, TEXT)], lines).into_response())
}

/// By the key when there is one, else by the host that the client was told to send to.
fn grant(app: &App, head: &Parts) -> Result<KeyGrant, KeyRefusal> {
    let sent = sent_keys(&head.uri, &head.headers)?;
    let key = match (query::value(&head.uri, KEY_PARAMETER), sent) {
        (Some(key), Some(other)) if key != other => return Err(KeyRefusal::Several),
        (Some(key), _) => Some(Cow::Owned(key)),
        (None, sent) => sent,
    };
    match key {
        Some(key) => app.keys.check_anywhere(&key),
        None => {
            let host = head.headers.get(HOST).and_then(|host| host.to_str().ok());
            let host = host.or_else(|| head.uri.host()).unwrap_or_default();
            app.keys.check_host(host)
        }
    }
}

/// A refusal in the lines that Mozilla's client reads; the rest of the answer stays.
fn discarded(refusal: Response) -> Response {
    let reason = refusal.extensions().get::<Reason>();
    let line = format!(
        "Discarded={}\n",
        reason.map_or("internal", |reason| reason.0)
    );
    let (mut head, _) = refusal.into_parts();
    head.headers.remove(axum::http::header::CONTENT_LENGTH);
    head.headers.insert(CONTENT_TYPE, TEXT);
    Response::from_parts(head, line.into())
}
