//! The operators' connections: so many, each with seconds to say what it wants. When all places are taken, a new one takes
//! that of the one that has been without a request for the longest time, so that nobody keeps an operator out by silence.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use relay::activity::Activity;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections at once.
const CONNECTIONS_MAX: usize = 64;
/// Requests at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 32;
/// From a connection's begin, or its last answer, to the end of a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// What hyper reads ahead of a connection, and the most that a head may have.
const READ_BYTES_MAX: usize = 16 << 10;
/// How long accepting rests when the system has no file descriptors left.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// Accepts connections until `shutdown`, then lets them end what they are at.
pub(super) async fn serve(listener: TcpListener, app: Router, shutdown: CancellationToken) {
    let places = Places::default();
    let tasks = TaskTracker::new();
    while let Some((stream, peer)) = shutdown.run_until_cancelled(accept(&listener)).await {
        // Without one to give way, all are at a request: that is soon over, and this one is not waited with.
        if let Some(place) = places.enter(Instant::now()) {
            let (app, shutdown) = (app.clone(), shutdown.clone());
            tasks.spawn(connection(stream, peer, place, app, shutdown));
        }
    }
    tasks.close();
    tasks.wait().await;
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                tracing::warn!(%error, "an operator's connection could not be accepted");
                sleep(ACCEPT_REST).await;
            }
        }
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    place: Place,
    app: Router,
    shutdown: CancellationToken,
) {
    let activity = place.activity.clone();
    let app = TowerToHyperService::new(app);
    let service = service_fn(|mut request: Request<Incoming>| {
        let under_way = activity.begin();
        request.extensions_mut().insert(ConnectInfo(peer));
        let answer = app.call(request);
        async move {
            let Ok(answer) = answer.await;
            drop(under_way);
            Ok::<_, Infallible>(answer)
        }
    });
    let http = http();
    let connection = http.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => Some(ended),
        () = shutdown.cancelled() => None,
        () = place.taken.cancelled() => return,
        () = activity.rests(|| HEAD_TIMEOUT) => return,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                biased;
                ended = connection => ended,
                () = activity.rests(|| HEAD_TIMEOUT) => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error, "an operator's connection broke");
    }
}

fn http() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(READ_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .keep_alive_interval(HEAD_TIMEOUT);
    builder
}

/// The places of connections. Cloning shares them.
#[derive(Clone, Debug, Default)]
struct Places(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    number: u64,
    connections: Vec<Known>,
}

#[derive(Debug)]
struct Known {
    number: u64,
    activity: Activity,
    taken: CancellationToken,
}

/// A connection's place, until it ends or another takes it.
#[derive(Debug)]
struct Place {
    places: Places,
    number: u64,
    activity: Activity,
    /// Another has it now.
    taken: CancellationToken,
}

impl Places {
    fn enter(&self, now: Instant) -> Option<Place> {
        let mut open = self.open();
        if open.connections.len() >= CONNECTIONS_MAX {
            let known = open.connections.iter().enumerate();
            let idle = known.filter_map(|(at, known)| Some((known.activity.idle(now)?, at)));
            let (_, at) = idle.max_by_key(|(idle, _)| *idle)?;
            open.connections.swap_remove(at).taken.cancel();
        }
        open.number += 1;
        let known = Known {
            number: open.number,
            activity: Activity::new(),
            taken: CancellationToken::new(),
        };
        let place = Place {
            places: self.clone(),
            number: known.number,
            activity: known.activity.clone(),
            taken: known.taken.clone(),
        };
        open.connections.push(known);
        Some(place)
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.places.open();
        let others = |known: &Known| known.number != self.number;
        open.connections.retain(others);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_newcomer_takes_the_place_of_who_has_been_silent_longest() {
        let places = Places::default();
        let mut all = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            all.push(places.enter(Instant::now()).expect("a place"));
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        let under_way = all[0].activity.begin();
        let newcomer = places.enter(Instant::now()).expect("the second's place");
        assert!(!all[0].taken.is_cancelled() && all[1].taken.is_cancelled());
        assert_eq!(places.open().connections.len(), CONNECTIONS_MAX);
        drop((under_way, newcomer));
        all.remove(1);
        assert_eq!(places.open().connections.len(), CONNECTIONS_MAX - 1);
        all.clear();
        assert!(places.open().connections.is_empty());
    }

    #[tokio::test]
    async fn where_all_are_at_a_request_there_is_no_place() {
        let places = Places::default();
        let all: Vec<Place> = (0..CONNECTIONS_MAX)
            .map(|_| places.enter(Instant::now()).expect("a place"))
            .collect();
        let busy: Vec<_> = all.iter().map(|place| place.activity.begin()).collect();
        assert!(places.enter(Instant::now()).is_none());
        drop(busy);
        assert!(places.enter(Instant::now()).is_some());
    }
}
