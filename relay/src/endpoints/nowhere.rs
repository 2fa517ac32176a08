//! Paths that are none, and methods that a path does not answer. An upload to one of them is a crash that is lost.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::Method;
use axum::response::{IntoResponse, Response};

use crate::app::App;
use crate::error::Rejection;

pub(crate) async fn unknown_path(State(app): State<Arc<App>>, request: Request) -> Response {
    refuse(&app, request, Rejection::UnknownPath)
}

pub(crate) async fn wrong_method(State(app): State<Arc<App>>, request: Request) -> Response {
    refuse(&app, request, Rejection::WrongMethod)
}

/// Whoever only looks is answered and not counted.
fn refuse(app: &App, request: Request, rejection: Rejection) -> Response {
    let (head, body) = request.into_parts();
    match head.method {
        Method::POST | Method::PUT | Method::PATCH => app.refuse(rejection, &head, body),
        _ => rejection.into_response(),
    }
}
