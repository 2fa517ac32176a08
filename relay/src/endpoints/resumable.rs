//! `/api/{project}/upload/`: a large file before its crash, by the TUS protocol 1.0.0 (core, creation and termination), as
//! sentry-native speaks it: `POST` names it, `PATCH` brings bytes, `HEAD` says how many are here, `DELETE` forgets it.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_ENCODING, HeaderName, HeaderValue, LOCATION};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use shared::id::ProjectId;
use shared::quota::Demand;

use crate::app::App;
use crate::auth::sent_keys;
use crate::caller::Caller;
use crate::error::{Rejection, TooLarge};
use crate::key_ring::KeyGrant;
use crate::limits::{RESUMABLE_CHARGE_BYTES, UPLOAD_OWN_BYTES};
use crate::resumable::{Address, AtWork, Progress, UploadRefusal};

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
    let created = begin(&app, &project, &head).await;
    created.unwrap_or_else(|rejection| app.refuse(rejection, &head, body))
}

pub(crate) async fn append(
    State(app): State<Arc<App>>,
    Path((project, id)): Path<(String, String)>,
    request: Request,
) -> Response {
    let (head, mut body) = request.into_parts();
    match bring(&app, &project, &id, &head, &mut body).await {
        Ok(progress) => (StatusCode::NO_CONTENT, told(progress)).into_response(),
        Err(rejection) => app.refuse(rejection, &head, body),
    }
}

pub(crate) async fn progress(
    State(app): State<Arc<App>>,
    Path((project, id)): Path<(String, String)>,
    request: Request,
) -> Response {
    let (head, body) = request.into_parts();
    let looked = async {
        app.uploads
            .progress(&address(&app, &project, &id, &head)?)
            .await
    };
    match looked.await {
        Ok(progress) => ([(CACHE_CONTROL, NO_STORE)], told(progress)).into_response(),
        Err(rejection) => app.refuse(rejection, &head, body),
    }
}

pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    Path((project, id)): Path<(String, String)>,
    request: Request,
) -> Response {
    let (head, body) = request.into_parts();
    let removed = async {
        let address = address(&app, &project, &id, &head)?;
        check_version(&head.headers)?;
        app.uploads.remove(&address).await
    };
    match removed.await {
        Ok(()) => (StatusCode::NO_CONTENT, [(TUS_RESUMABLE, VERSION)]).into_response(),
        Err(rejection) => app.refuse(rejection, &head, body),
    }
}

async fn begin(app: &App, project: &str, head: &Parts) -> Result<Response, Rejection> {
    let project: ProjectId = project.parse()?;
    let grant = app.keys.check_request(project, &head.uri, &head.headers)?;
    app.quotas.check_early(&grant)?;
    check_version(&head.headers)?;
    check_encoding(&head.headers)?;
    let length = text(&head.headers, &UPLOAD_LENGTH);
    let bytes = length.parse().map_err(|_| UploadRefusal::Length {
        found: length.chars().take(40).collect(),
    })?;
    let limit = app.limits.attachment;
    if bytes > limit.get() {
        return Err(TooLarge::Attachment(limit).into());
    }
    if let Some((limit, value)) = grant.quotas().never_admits(bytes) {
        return Err(TooLarge::Quota { limit, value }.into());
    }
    let place = (app.delivery.draft(), app.delivery.room_bytes());
    let created = app.uploads.create(project, grant.key(), bytes, place);
    let location = created.await?.location();
    // INVARIANT: a path of numbers and hexadecimal digits is a valid header value.
    let location = HeaderValue::from_str(&location).expect("visible ASCII");
    let headers = [
        (TUS_RESUMABLE, VERSION),
        (LOCATION, location),
        (UPLOAD_OFFSET, HeaderValue::from(0)),
        (CACHE_CONTROL, NO_STORE),
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
    let address = address(app, project, id, head)?;
    check_version(&head.headers)?;
    check_encoding(&head.headers)?;
    let partial = app.uploads.find(&address)?;
    let grant = app.keys.check(address.project, partial.key().as_str())?;
    app.quotas.check_early(&grant)?;
    let mut at_work = AtWork::begin(partial, text(&head.headers, &UPLOAD_OFFSET))?;
    // The unfinished files are bounded, and each has one such request.
    // INVARIANT: `Routes::answer` adds it to every request.
    let caller = head
        .extensions
        .get::<Caller>()
        .expect("a request has a caller");
    let party = app.admission.with_key(&caller.party, &grant);
    let _request = app.admission.charge_request(&party, caller.request_bytes)?;
    let mut memory = app.intake.budget().permit(&party);
    if !memory.grow(UPLOAD_OWN_BYTES as usize) {
        return Err(Rejection::Overloaded);
    }
    let mut frames = app.intake.frames(body, &party);
    while let Some(piece) = frames.next().await {
        let piece = piece.map_err(Rejection::of_frames)?;
        charge(app, &grant, &mut at_work, piece.len() as u64).await?;
        let room = app.delivery.room_bytes();
        at_work = app.uploads.write(at_work, piece, room).await?;
    }
    drop((frames, memory));
    app.uploads.finish(at_work).await
}

/// Charges the key for bytes as they come, some at a time.
async fn charge(
    app: &App,
    grant: &KeyGrant,
    at_work: &mut AtWork,
    piece: u64,
) -> Result<(), Rejection> {
    let owed = at_work.uncharged(piece)?;
    if owed == 0 || !grant.quotas().is_limited() {
        return Ok(());
    }
    let bytes = owed.max(RESUMABLE_CHARGE_BYTES.min(at_work.chargeable()));
    // What is charged for is not given back: it has been received, and stored or thrown away.
    let taken = app.quotas.take(grant, Demand::bytes(bytes)).await?;
    drop(taken);
    at_work.note_charged(bytes);
    Ok(())
}

/// The address, whose token was told to nobody but who began the upload: it needs no key beside it. One that is sent must
/// fit.
fn address(app: &App, project: &str, id: &str, head: &Parts) -> Result<Address, Rejection> {
    let project: ProjectId = project.parse()?;
    if let Some(key) = sent_keys(&head.uri, &head.headers)? {
        app.keys.check(project, &key)?;
    }
    Ok(Address::of_request(project, id, &head.uri)?)
}

fn check_version(headers: &HeaderMap) -> Result<(), UploadRefusal> {
    match text(headers, &TUS_RESUMABLE) {
        TUS_VERSION => Ok(()),
        found => Err(UploadRefusal::Version {
            found: found.chars().take(40).collect(),
        }),
    }
}

fn check_encoding(headers: &HeaderMap) -> Result<(), UploadRefusal> {
    let mut encodings = headers.get_all(CONTENT_ENCODING).into_iter();
    let plain = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    match encodings.find(|value| !plain(value)) {
        None => Ok(()),
        Some(found) => Err(UploadRefusal::Encoding {
            found: String::from_utf8_lossy(found.as_bytes())
                .chars()
                .take(40)
                .collect(),
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
