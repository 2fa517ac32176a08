//! `GET /api/relay/healthcheck/live/` and `…/ready/`: health as whoever runs Sentry's Relay asks for it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::app::App;

#[derive(Serialize)]
struct Health {
    is_healthy: bool,
}

/// The process answers.
pub(crate) async fn live() -> Response {
    answer(true)
}

/// An upload now would get its 200.
pub(crate) async fn ready(State(app): State<Arc<App>>) -> Response {
    answer(app.services.readiness.snapshot().ready)
}

fn answer(is_healthy: bool) -> Response {
    let status = if is_healthy {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(Health { is_healthy })).into_response()
}
