//! One connection: its place among all, its requests, and its end when it makes no use of its place.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::http::header::{CONNECTION, HeaderValue};
use axum::http::{Request, StatusCode, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use shared::metrics::{Closed, Raised};
use tokio::net::TcpStream;
use tokio::time::{Duration, sleep};
use tokio_util::sync::CancellationToken;

use crate::activity::Activity;
use crate::app::{App, Routes};
use crate::caller::{Connected, Terms, Windows};
use crate::limits::{
    CONNECTION_CLOSE_TIMEOUT, CONNECTION_WAIT, EVICTION_INTERVAL, REQUEST_HEAD_TIMEOUT,
    REQUEST_HEAD_TIMEOUT_SCARCE,
};
use crate::places::{Holder, HolderName, Party, Permit};
use crate::server::TrackedExecutor;
use crate::wire::{RefusedHead, Wire};

const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// What every connection is served with.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) http: Arc<auto::Builder<TrackedExecutor>>,
    pub(crate) routes: Routes,
    pub(crate) app: Arc<App>,
    pub(crate) shutdown: CancellationToken,
}

impl Server {
    /// Serves one connection to its end; at shutdown, to the end of the requests it is at.
    pub(crate) async fn connection(self, stream: TcpStream, peer: SocketAddr, waiting: Permit) {
        let _counted = Raised::by(&self.app.services.metrics.connections, 1);
        let holder = self.app.admission.holders.of(HolderName::peer(peer.ip()));
        let (_place, terms) = self
            .place(&Party::of_peer(Arc::clone(&holder)), waiting)
            .await;
        // Answers are small and complete: waiting to fill a packet only delays them.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY");
        }
        let activity = Activity::new();
        let _member = self.app.crowd.enter(&activity);
        let refused = RefusedHead::default();
        let connected = Arc::new(Connected {
            peer,
            party: Party::new(Holder::connection(), holder),
            terms,
            refused: refused.clone(),
            windows: Windows::default(),
        });
        let service = service_fn(|mut request: Request<Incoming>| {
            request.extensions_mut().insert(activity.clone());
            let version = request.version();
            let under_way = activity.begin();
            let answer = self.routes.clone().answer(request, Arc::clone(&connected));
            let (app, activity) = (Arc::clone(&self.app), activity.clone());
            async move {
                let mut answer = answer.await;
                if ends(&app, terms, answer.status()) {
                    activity.end();
                    // HTTP/2 has no such header: its connections are told otherwise.
                    if version < Version::HTTP_2 {
                        answer.headers_mut().insert(CONNECTION, CLOSE);
                    }
                }
                drop(under_way);
                Ok::<_, Infallible>(answer)
            }
        });
        let stream = TokioIo::new(Wire::new(stream, refused));
        let connection = self.http.serve_connection(stream, service);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            biased;
            ended = connection.as_mut() => return log(ended),
            () = self.shutdown.cancelled() => {}
            () = activity.ended() => {}
            () = activity.evicted() => return self.count_closed(&activity),
            () = activity.rests(|| self.rest_max(terms)) => self.count_closed(&activity),
        }
        connection.as_mut().graceful_shutdown();
        let unused = async {
            sleep(CONNECTION_CLOSE_TIMEOUT).await;
            activity.rests(|| CONNECTION_CLOSE_TIMEOUT).await;
        };
        tokio::select! {
            biased;
            ended = connection => log(ended),
            () = activity.evicted() => {}
            () = unused => {}
        }
    }

    /// A place; where there is none, those that make no use of theirs have to leave.
    async fn place(&self, party: &Party, waiting: Permit) -> (Permit, Terms) {
        let admission = &self.app.admission;
        if let Ok(place) = admission.connections.try_take(party, 1) {
            return (place, Terms::Served);
        }
        let place = admission.connections.take(party, 1, CONNECTION_WAIT);
        let evicting = async {
            loop {
                let waiting = admission.waiting.usage().used;
                self.app.crowd.make_room(waiting as usize);
                sleep(EVICTION_INTERVAL).await;
            }
        };
        let place = async {
            tokio::select! {
                place = place => place.ok(),
                never = evicting => never,
            }
        };
        match self.shutdown.run_until_cancelled(place).await.flatten() {
            Some(place) => (place, Terms::Served),
            None => (waiting, Terms::Refused),
        }
    }

    /// How long a connection may be without a request.
    fn rest_max(&self, terms: Terms) -> Duration {
        match terms {
            Terms::Served if self.app.admission.connections.is_scarce() => {
                REQUEST_HEAD_TIMEOUT_SCARCE
            }
            Terms::Served => REQUEST_HEAD_TIMEOUT,
            Terms::Refused => REQUEST_HEAD_TIMEOUT_SCARCE,
        }
    }

    fn count_closed(&self, activity: &Activity) {
        let reason = if activity.was_used() {
            Closed::Idle
        } else {
            Closed::NoRequest
        };
        self.app.services.metrics.count_closed(reason);
    }
}

/// Whether the connection ends after this answer. Where connections are scarce, the next request stands in line with those
/// of others.
fn ends(app: &App, terms: Terms, status: StatusCode) -> bool {
    terms == Terms::Refused
        || status == StatusCode::REQUEST_TIMEOUT
        || app.admission.connections.is_scarce()
}

fn log(ended: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    if let Err(error) = ended {
        // Clients come and go; their requests, if any, were counted on their own.
        tracing::debug!(error, "a connection broke");
    }
}
