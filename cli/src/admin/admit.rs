//! Who is answered: by the name that the request was sent to, and by the token; without one, this machine alone.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{AUTHORIZATION, HOST, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use shared::config::{AdminConfig, Secret};
use subtle::ConstantTimeEq;

/// Lets in who says a name of ours and the token. A token that is set is asked from this machine as well: what comes from
/// a proxy comes from this machine.
pub(super) async fn admit(
    State(config): State<AdminConfig>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    if !names_us(&config, &request) {
        let remedy = "expected a Host of this machine's loopback or of admin.hosts\n";
        return (StatusCode::MISDIRECTED_REQUEST, remedy).into_response();
    }
    match &config.token {
        Some(token) if has(token, request.headers()) => next.run(request).await,
        Some(_) => {
            let challenge = [(WWW_AUTHENTICATE, "Bearer")];
            let remedy = "expected `Authorization: Bearer TOKEN` with the value of admin.token\n";
            (StatusCode::UNAUTHORIZED, challenge, remedy).into_response()
        }
        // A listener for both families sees IPv4 peers as ::ffff:a.b.c.d.
        None if peer.ip().to_canonical().is_loopback() => next.run(request).await,
        None => {
            let remedy = "only this machine may ask: set admin.token and send it as `Authorization: Bearer TOKEN`\n";
            (StatusCode::FORBIDDEN, remedy).into_response()
        }
    }
}

/// Whether every name that the request gives is one of ours, and there is one: the authority of HTTP/2 or of an absolute
/// URL, and the one `Host`.
fn names_us(config: &AdminConfig, request: &Request) -> bool {
    let authority = request.uri().authority().map(|name| name.as_str());
    let mut hosts = request.headers().get_all(HOST).into_iter();
    let host = hosts.next().map(|host| host.to_str().unwrap_or_default());
    let mut names = authority.into_iter().chain(host).peekable();
    names.peek().is_some() && hosts.next().is_none() && names.all(|name| config.answers_to(name))
}

fn has(token: &Secret, headers: &HeaderMap) -> bool {
    let given = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.as_bytes().split_at_checked(7))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"Bearer "))
        .map(|(_, given)| given.trim_ascii());
    given.is_some_and(|given| given.ct_eq(token.expose().as_bytes()).into())
}
