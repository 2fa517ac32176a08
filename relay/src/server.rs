//! The listener: HTTP/1.1 and HTTP/2 (prior knowledge) on one port, bounded in connections, time and memory.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Duration, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::{App, Routes};
use crate::limits::{
    CONNECTION_READ_BYTES_MAX, CONNECTION_STREAMS_MAX, CONNECTION_WINDOW_BYTES, CONNECTIONS_MAX,
    LISTEN_BACKLOG, REQUEST_HEAD_TIMEOUT, STREAM_WINDOW_BYTES,
};

/// How long accepting rests when the system has no file descriptors left.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// Listens with a backlog for the crowd that comes when a release crashes everywhere at once.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(LISTEN_BACKLOG)
}

/// Accepts connections until `shutdown`. The connections run among the app's tasks and then finish what they are at.
pub(crate) async fn serve(listener: TcpListener, app: Arc<App>, shutdown: CancellationToken) {
    let tasks = app.tasks.clone();
    let server = Server {
        http: Arc::new(http(&tasks)),
        routes: Routes::new(app),
        shutdown: shutdown.clone(),
    };
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = shutdown
            .run_until_cancelled(accept(&listener, &slots))
            .await;
        let Some(Some((stream, peer, slot))) = accepted else {
            return;
        };
        let server = server.clone();
        tasks.spawn(async move {
            server.connection(stream, peer).await;
            drop(slot);
        });
    }
}

/// The next connection, when there is a slot for it.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return Some((stream, peer, slot)),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_REST).await;
            }
        }
    }
}

fn http(tasks: &TaskTracker) -> auto::Builder<TrackedExecutor> {
    let mut builder = auto::Builder::new(TrackedExecutor(tasks.clone()));
    builder
        .http1()
        .timer(TokioTimer::new())
        // A client that has sent everything and hung up has done its part: hyper must not drop its upload.
        .half_close(true)
        .header_read_timeout(REQUEST_HEAD_TIMEOUT)
        .max_buf_size(CONNECTION_READ_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(CONNECTION_STREAMS_MAX)
        .keep_alive_interval(REQUEST_HEAD_TIMEOUT);
    builder
}

/// Runs hyper's own tasks (HTTP/2 streams) where shutdown waits for them.
#[derive(Clone)]
struct TrackedExecutor(TaskTracker);

impl<F> hyper::rt::Executor<F> for TrackedExecutor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

#[derive(Clone)]
struct Server {
    http: Arc<auto::Builder<TrackedExecutor>>,
    routes: Routes,
    shutdown: CancellationToken,
}

impl Server {
    /// Serves one connection to its end; at shutdown, to the end of the requests it is at.
    async fn connection(self, stream: TcpStream, peer: SocketAddr) {
        // Answers are small and complete: waiting to fill a packet only delays them.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY");
        }
        let routes = self.routes;
        let service = service_fn(move |request| routes.clone().answer(request, peer));
        let connection = self.http.serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            // Clients come and go; their requests, if any, were counted on their own.
            tracing::debug!(error, "a connection broke");
        }
    }
}
