//! `/api/{project}/upload/`: a large file before its crash, by the TUS protocol 1.0.0 (core and creation), as sentry-native
//! speaks it: `POST` names it, `PATCH` brings bytes, `HEAD` says how many are here.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::header::{CACHE_CONTROL, HeaderName, HeaderValue, LOCATION};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use shared::id::ProjectId;
use uuid::Uuid;

use crate::app::App;
use crate::auth::sent_keys;
use crate::decode::Encoding;
use crate::error::{Rejection, TooLarge};
use crate::resumable::{Progress, UploadRefusal};

const TUS_RESUMABLE: HeaderName = HeaderName::from_static("tus-resumable");
const UPLOAD_LENGTH: HeaderName = HeaderName::from_static("upload-length");
const UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");
const TUS_VERSION: &str = "1.0.0";
const VERSION: HeaderValue = HeaderValue::from_static(TUS_VERSION);
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Path(project): Path<String>,
    request: Request,
) -> Response {
    let (head, body) = request.into_parts();
    let created = begin(&app, &project, &head);
    created.unwrap_or_else(|rejection| app.refuse(rejection, &head.headers, body))
}

pub(crate) async fn append(
    State(app): State<Arc<App>>,
    Path((project, id)): Path<(String, String)>,
    request: Request,
) -> Response {
    let (head, mut body) = request.into_parts();
    match bring(&app, &project, &id, &head, &mut body).await {
        Ok(progress) => (StatusCode::NO_CONTENT, told(progress)).into_response(),
        Err(rejection) => app.refuse(rejection, &head.headers, body),
    }
}

pub(crate) async fn progress(
    State(app): State<Arc<App>>,
    Path((project, id)): Path<(String, String)>,
    request: Request,
) -> Response {
    let (head, body) = request.into_parts();
    match look(&app, &project, &id, &head).await {
        Ok(progress) => ([(CACHE_CONTROL, NO_STORE)], told(progress)).into_response(),
        Err(rejection) => app.refuse(rejection, &head.headers, body),
    }
}

fn begin(app: &App, project: &str, head: &Parts) -> Result<Response, Rejection> {
    let project: ProjectId = project.parse()?;
    let grant = app.keys.check_request(project, &head.uri, &head.headers)?;
    app.quotas.check_early(&grant)?;
    check_version(&head.headers)?;
    let length = text(&head.headers, &UPLOAD_LENGTH);
    let bytes = length.parse().map_err(|_| UploadRefusal::Length {
        found: length.chars().take(40).collect(),
    })?;
    let limit = app.limits.attachment;
    if bytes > limit.get() {
        return Err(TooLarge::Attachment(limit).into());
    }
    let draft = app.delivery.reserve(bytes).map_err(Rejection::Spool)?;
    let id = app.uploads.create(project, bytes, draft)?;
    let location = format!("/api/{project}/upload/{id}/");
    let headers = [
        (TUS_RESUMABLE, VERSION),
        (LOCATION, header_value(&location)),
        (UPLOAD_OFFSET, HeaderValue::from(0)),
    ];
    Ok((StatusCode::CREATED, headers).into_response())
}

async fn bring(
    app: &App,
    project: &str,
    id: &str,
    head: &Parts,
    body: &mut Body,
) -> Result<Progress, Rejection> {
    let name = name(app, project, id, head)?;
    check_version(&head.headers)?;
    let _turn = app.admission.upload().await?;
    let encoding = Encoding::of(&head.headers)?;
    let (mut reader, _slot) = app.intake.reader(body, encoding).await?;
    let offset = text(&head.headers, &UPLOAD_OFFSET);
    app.uploads.append(name, offset, &mut reader).await
}

async fn look(app: &App, project: &str, id: &str, head: &Parts) -> Result<Progress, Rejection> {
    let (project, id) = name(app, project, id, head)?;
    app.uploads.progress(project, id).await
}

/// The id is random and told to nobody but who began the upload: it needs no key beside it. One that is sent must fit.
fn name(app: &App, project: &str, id: &str, head: &Parts) -> Result<(ProjectId, Uuid), Rejection> {
    let project: ProjectId = project.parse()?;
    if let Some(key) = sent_keys(&head.uri, &head.headers)? {
        app.keys.check(project, &key)?;
    }
    let id = Uuid::try_parse(id).map_err(|_| UploadRefusal::Unknown)?;
    Ok((project, id))
}

fn check_version(headers: &HeaderMap) -> Result<(), UploadRefusal> {
    match text(headers, &TUS_RESUMABLE) {
        TUS_VERSION => Ok(()),
        found => Err(UploadRefusal::Version {
            found: found.chars().take(40).collect(),
        }),
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> &'h str {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().trim()
}

fn told(progress: Progress) -> [(HeaderName, HeaderValue); 3] {
    [
        (TUS_RESUMABLE, VERSION),
        (UPLOAD_OFFSET, progress.offset.into()),
        (UPLOAD_LENGTH, progress.length.into()),
    ]
}

fn header_value(text: &str) -> HeaderValue {
    // INVARIANT: a path of numbers and hexadecimal digits is a valid header value.
    HeaderValue::from_str(text).expect("visible ASCII")
}
