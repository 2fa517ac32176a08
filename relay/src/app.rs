//! From any request to its endpoint: paths as clients write them, CORS, request ids, and what all endpoints share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
};
use axum::http::request::Parts;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, HeaderValue, Method, Request, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch, post};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use shared::config::{Config, Network, OtherItems, UploadLimits};
use shared::id::ProjectId;
use shared::services::Services;
use tokio_util::task::TaskTracker;
use tracing::field::Empty;
use tracing::{Instrument, Level};

use crate::admission::{Admission, Bounds};
use crate::caller::{Caller, Connected, Terms};
use crate::claims::Claims;
use crate::client_address::client_address;
use crate::crowd::Crowd;
use crate::dedupe::Dedupe;
use crate::delivery::Delivery;
use crate::endpoints;
use crate::error::Rejection;
use crate::key_ring::KeyRing;
use crate::limits::{DEDUPE_SHARD_MARKS_MAX, DEDUPE_SHARDS, KEYS_REFRESH};
use crate::places::Shortage;
use crate::quota_desk::QuotaDesk;
use crate::readers::Readers;
use crate::receive::Intake;
use crate::refusal_log::{LeftOut, RefusalLog};
use crate::refusals::{Claimed, REFUSALS};
use crate::refused_body;
use crate::request_id::{REQUEST_ID, request_id};
use crate::request_target;
use crate::resumable::{ResumableBounds, Uploads};
use crate::wire::REFUSED_HEAD;

/// What Sentry's clients are told to send and to read.
const ALLOWED_HEADERS: HeaderValue = HeaderValue::from_static(
    "x-sentry-auth,x-requested-with,x-forwarded-for,origin,referer,accept,content-type,authentication,authorization,content-encoding,transfer-encoding,tus-resumable,upload-length,upload-offset,upload-metadata",
);
const EXPOSED_HEADERS: HeaderValue = HeaderValue::from_static(
    "x-sentry-error,x-sentry-rate-limits,retry-after,location,tus-resumable,upload-offset,upload-length",
);
const ANY_ORIGIN: HeaderValue = HeaderValue::from_static("*");
const ALLOWED_METHODS: HeaderValue =
    HeaderValue::from_static("DELETE, GET, HEAD, OPTIONS, PATCH, POST");
const PREFLIGHT_SECONDS: HeaderValue = HeaderValue::from_static("3600");

/// What every endpoint works with.
pub(crate) struct App {
    pub(crate) admission: Admission,
    /// Connections that have a place.
    pub(crate) crowd: Crowd,
    pub(crate) keys: KeyRing,
    pub(crate) intake: Intake,
    pub(crate) uploads: Uploads,
    pub(crate) readers: Readers,
    pub(crate) limits: UploadLimits,
    /// `relay.trusted_proxies`
    pub(crate) trusted_proxies: Vec<Network>,
    /// `envelope.other_items`
    pub(crate) keep_other_items: bool,
    pub(crate) quotas: QuotaDesk,
    pub(crate) dedupe: Dedupe,
    pub(crate) claims: Claims,
    pub(crate) delivery: Delivery,
    pub(crate) services: Services,
    pub(crate) refusal_log: RefusalLog,
    /// Publishing and draining, which outlive their requests.
    pub(crate) tasks: TaskTracker,
}

/// The address a request came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// The endpoints, and the way to them.
#[derive(Clone)]
pub(crate) struct Routes {
    app: Arc<App>,
    router: TowerToHyperService<Router>,
}

impl App {
    pub(crate) fn new(
        config: &Config,
        bounds: Bounds,
        services: Services,
        delivery: Delivery,
    ) -> Self {
        let resumable = ResumableBounds::of(config, bounds.uploads);
        let memory_bytes = config.relay.max_inflight_bytes.get() / 2;
        let memory_bytes = usize::try_from(memory_bytes).unwrap_or(usize::MAX);
        let readers = Readers::new(memory_bytes, &services.metrics);
        let read_bytes = readers.memory_bytes() as u64;
        let admission = Admission::new(Bounds {
            uploads: bounds.uploads.saturating_sub(resumable.files).max(1),
            memory_bytes: bounds.memory_bytes.saturating_sub(read_bytes),
            ..bounds
        });
        let uploads = Uploads::new(services.storage.clone(), resumable, &services.metrics);
        Self {
            keys: KeyRing::new(&config.projects),
            intake: Intake::new(
                config.limits,
                admission.clone(),
                &services.metrics,
                uploads.clone(),
            )
            .with_projects(&config.projects),
            uploads,
            readers,
            limits: config.limits,
            trusted_proxies: config.relay.trusted_proxies.clone(),
            keep_other_items: config.envelope.other_items == OtherItems::Store,
            admission,
            crowd: Crowd::default(),
            quotas: QuotaDesk::new(services.state.clone()),
            dedupe: Dedupe::new(config.dedupe.window.get()),
            claims: Claims::new(services.state.clone(), config.relay.ack_deadline.get()),
            delivery,
            services,
            refusal_log: RefusalLog::default(),
            tasks: TaskTracker::new(),
        }
    }

    /// Reads what the state store knows from before. Without it the relay begins with what is configured.
    pub(crate) async fn remember(&self) {
        if let Err(error) = self.keys.refresh(&self.services.state).await {
            tracing::warn!(%error, "operators' keys are not known yet");
        }
        self.show_refusals();
        if self.dedupe.is_off() {
            return;
        }
        let marks_max = DEDUPE_SHARDS * DEDUPE_SHARD_MARKS_MAX;
        match self.services.state.remembered_uploads(marks_max).await {
            Ok(uploads) => self.dedupe.restore(uploads),
            Err(error) => tracing::warn!(%error, "repeats of earlier uploads will not be known"),
        }
    }

    /// Keeps up with what operators do to keys, and tells the store what it has missed; never ends.
    pub(crate) async fn follow_state(&self) {
        let state = &self.services.state;
        let mut told = None;
        loop {
            tokio::time::sleep(KEYS_REFRESH).await;
            let followed = match self.keys.refresh(state).await {
                Ok(()) => self.quotas.catch_up().await,
                Err(error) => Err(error),
            };
            self.show_refusals();
            self.log_left_out(Instant::now());
            let problem = followed.err().map(|error| error.to_string());
            if let Some(error) = &problem
                && told != problem
            {
                tracing::warn!(error, "the last known keys stay in force");
            }
            told = problem;
        }
    }

    /// The answer to an upload that is refused, counted and logged; the rest of its body is seen to.
    pub(crate) fn refuse(&self, rejection: Rejection, head: &Parts, body: Body) -> Response {
        self.refuse_sender(rejection, Claimed::of(head), &head.headers, body)
    }

    /// The same for a sender of whom more is known than its request's head says.
    pub(crate) fn refuse_sender(
        &self,
        rejection: Rejection,
        sender: Claimed<'_>,
        headers: &HeaderMap,
        mut body: Body,
    ) -> Response {
        let (status, reason) = (rejection.status().as_u16(), rejection.reason());
        let (project, key) = self.keys.labels(sender.project, sender.key.as_deref());
        self.log_refusal(&rejection, &sender);
        let metrics = &self.services.metrics;
        metrics.count_rejected(status, reason, project, key);
        if !refused_body::is_held_back(headers) {
            let scarce = self.admission.is_scarce() || self.admission.requests.is_half_used();
            self.tasks
                .spawn(async move { refused_body::drain(&mut body, scarce).await });
        }
        rejection.into_response()
    }

    /// Logs a refusal, unless there are too many of its kind.
    pub(crate) fn log_refusal(&self, rejection: &Rejection, sender: &Claimed<'_>) {
        if self.refusal_log.admits(rejection.reason(), Instant::now()) {
            log(rejection, sender);
        }
    }

    /// Shows the counters of refusals of all projects and keys, be there none yet.
    fn show_refusals(&self) {
        for (project, key) in self.keys.all_labels() {
            let metrics = &self.services.metrics;
            metrics.show_rejections(REFUSALS, &project, &key);
        }
    }

    fn log_left_out(&self, now: Instant) {
        for LeftOut {
            reason,
            count,
            within,
        } in self.refusal_log.left_out(now)
        {
            let seconds = within.as_secs();
            tracing::warn!(
                reason,
                count,
                seconds,
                "more refusals, which are not logged one by one"
            );
        }
    }

    /// Waits for what is still being received or published; false when it takes longer.
    pub(crate) async fn finish_within(&self, at_most: Duration) -> bool {
        self.tasks.close();
        let finished = tokio::time::timeout(at_most, self.tasks.wait());
        finished.await.is_ok()
    }
}

/// Logs a refusal and whom it is for; of the key no more than operators need to know which it is. A client's fault without
/// its detail, which quotes what the client sent.
fn log(rejection: &Rejection, sender: &Claimed<'_>) {
    let (status, reason) = (rejection.status().as_u16(), rejection.reason());
    let error = rejection as &dyn std::error::Error;
    let (project, key) = (sender.project.map(ProjectId::get), sender.key_prefix());
    match rejection.level() {
        Level::ERROR => tracing::error!(status, reason, project, key, error, "refused"),
        Level::WARN => tracing::warn!(status, reason, project, key, error, "refused"),
        Level::INFO => tracing::info!(status, reason, project, key, "refused"),
        Level::DEBUG | Level::TRACE => {
            tracing::debug!(status, reason, project, key, "refused");
        }
    }
}

impl Routes {
    pub(crate) fn new(app: Arc<App>) -> Self {
        // Paths come here without a slash at their end, see `plain_path`.
        let router = Router::new()
            .route("/api/{project}/minidump", post(endpoints::minidump::upload))
            .route("/api/{project}/envelope", post(endpoints::envelope::upload))
            .route(
                "/api/{project}/unreal/{key}",
                post(endpoints::unreal::upload),
            )
            .route(
                "/api/{project}/events/{event}",
                get(endpoints::event::status),
            )
            .route(
                "/api/{project}/events/{event}/attachments",
                post(endpoints::attachments::upload),
            )
            .route("/api/{project}/upload", post(endpoints::resumable::create))
            .route(
                "/api/{project}/upload/{id}",
                patch(endpoints::resumable::append)
                    .head(endpoints::resumable::progress)
                    .delete(endpoints::resumable::remove),
            )
            .route("/submit", post(endpoints::submit::upload))
            .route("/api/relay/healthcheck/live", get(endpoints::health::live))
            .route(
                "/api/relay/healthcheck/ready",
                get(endpoints::health::ready),
            )
            .fallback(endpoints::nowhere::unknown_path)
            .method_not_allowed_fallback(endpoints::nowhere::wrong_method)
            .with_state(Arc::clone(&app));
        Self {
            app,
            router: TowerToHyperService::new(router),
        }
    }

    /// Answers a request, whatever it is.
    pub(crate) async fn answer(
        self,
        request: Request<Incoming>,
        connected: Arc<Connected>,
    ) -> Response {
        let id = request_id(request.headers());
        let span = tracing::info_span!(
            "request",
            request_id = id.to_str().unwrap_or_default(),
            project_id = Empty,
            event_id = Empty,
        );
        let mut response = match self.admit(&request, &connected) {
            Ok(_) if request.method() == Method::OPTIONS => preflight(),
            Ok(caller) => {
                let (head, body) = request.into_parts();
                let mut request = Request::from_parts(head, caller.holding(body));
                plain_path(request.uri_mut());
                request.extensions_mut().insert(Peer(connected.peer));
                request.extensions_mut().insert(caller);
                let Ok(response) = self.router.call(request).instrument(span).await;
                response
            }
            Err(rejection) => {
                // What is read of a refused body is bounded as all requests are.
                let caller = self.caller(&request, &connected);
                let (head, body) = request.into_parts();
                let body = caller.map_or_else(|_| Body::empty(), |caller| caller.holding(body));
                let _entered = span.enter();
                self.app.refuse(rejection, &head, body)
            }
        };
        let headers = response.headers_mut();
        headers.insert(REQUEST_ID, id);
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, ANY_ORIGIN);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED_HEADERS);
        response
    }

    /// Whether a request is looked at: it can be read in one way only, and there is room for it.
    fn admit(
        &self,
        request: &Request<Incoming>,
        connected: &Connected,
    ) -> Result<Caller, Rejection> {
        let headers = request.headers();
        if headers.contains_key(REFUSED_HEAD)
            && let Some(error) = connected.refused.take()
        {
            return Err(error.into());
        }
        request_target::check(request.version(), request.uri(), headers)?;
        if connected.terms == Terms::Refused {
            return Err(Rejection::Overloaded);
        }
        let caller = self.caller(request, connected);
        caller.map_err(|_| Rejection::Overloaded)
    }

    fn caller(
        &self,
        request: &Request<Incoming>,
        connected: &Connected,
    ) -> Result<Caller, Shortage> {
        let (direct, proxies) = (connected.peer.ip(), &self.app.trusted_proxies);
        let client = client_address(direct, request.headers(), proxies);
        Caller::new(&self.app.admission, connected, request, client)
    }
}

fn preflight() -> Response {
    let mut response = ().into_response();
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, ALLOWED_METHODS);
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS);
    headers.insert(ACCESS_CONTROL_MAX_AGE, PREFLIGHT_SECONDS);
    response
}

/// Folds `//` into `/` and drops a slash at the end: DSNs are pasted together in every way.
fn plain_path(uri: &mut Uri) {
    let path = uri.path();
    if !path.contains("//") && !path.ends_with('/') {
        return;
    }
    let mut plain = String::with_capacity(path.len());
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        plain.push('/');
        plain.push_str(segment);
    }
    if plain.is_empty() {
        plain.push('/');
    }
    if let Some(query) = uri.query() {
        plain.push('?');
        plain.push_str(query);
    }
    let mut parts = std::mem::take(uri).into_parts();
    // INVARIANT: what was valid in the path stays so without some of its slashes.
    let plain = PathAndQuery::try_from(plain).expect("a path");
    parts.path_and_query = Some(plain);
    *uri = Uri::from_parts(parts).expect("the same parts");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_may_have_slashes_to_spare() {
        for (written, plain) in [
            ("/api/1/minidump", "/api/1/minidump"),
            ("/api/1/minidump/", "/api/1/minidump"),
            (
                "//api//1/minidump//?sentry_key=a//b",
                "/api/1/minidump?sentry_key=a//b",
            ),
            ("http://host//api/1/minidump/", "http://host/api/1/minidump"),
            ("/", "/"),
            ("//?a", "/?a"),
        ] {
            let mut uri: Uri = written.parse().expect("a path");
            plain_path(&mut uri);
            assert_eq!(uri.to_string(), plain, "{written}");
        }
    }
}
