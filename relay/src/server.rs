//! The listener: HTTP/1.1 and HTTP/2 (prior knowledge) on one port, bounded in connections, time and memory.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use hyper_util::rt::TokioTimer;
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{Duration, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::{App, Routes};
use crate::connection::Server;
use crate::limits::{
    CONNECTION_READ_BYTES_MAX, CONNECTION_STREAMS_MAX, CONNECTION_WAIT, CONNECTION_WINDOW_BYTES,
    LISTEN_BACKLOG, REQUEST_HEAD_TIMEOUT, STREAM_HEAD_BYTES_MAX, STREAM_SEND_BYTES_MAX,
    STREAM_WINDOW_BYTES,
};
use crate::places::Party;

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
    let server = Server {
        http: Arc::new(http(&app.tasks)),
        routes: Routes::new(Arc::clone(&app)),
        app: Arc::clone(&app),
        shutdown: shutdown.clone(),
    };
    // Where there is not even room to wait, connections stay with the kernel: there they cost no descriptor, and this is
    // soon over, because whoever waits gets a place or is refused.
    let nobody = Party::default();
    let next = async || {
        let waiting = loop {
            let waiting = app.admission.waiting.take(&nobody, 1, CONNECTION_WAIT);
            if let Ok(waiting) = waiting.await {
                break waiting;
            }
        };
        let (stream, peer) = accept(&listener).await;
        (waiting, stream, peer)
    };
    while let Some((waiting, stream, peer)) = shutdown.run_until_cancelled(next()).await {
        let server = server.clone();
        app.tasks.spawn(server.connection(stream, peer, waiting));
    }
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
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
        // A client that has sent everything and hung up has done its part: hyper must not drop its upload.
        .half_close(true)
        // Crashpad's socket transport looks for `Content-Length` in exactly these letters.
        .title_case_headers(true)
        // `connection` has one clock for every protocol, and for finding out which it is.
        .header_read_timeout(None)
        .max_buf_size(CONNECTION_READ_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(CONNECTION_STREAMS_MAX)
        .max_header_list_size(STREAM_HEAD_BYTES_MAX)
        .max_send_buf_size(STREAM_SEND_BYTES_MAX)
        .keep_alive_interval(REQUEST_HEAD_TIMEOUT);
    builder
}

/// Runs hyper's own tasks (HTTP/2 streams) where shutdown waits for them.
#[derive(Clone)]
pub(crate) struct TrackedExecutor(TaskTracker);

impl<F> hyper::rt::Executor<F> for TrackedExecutor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}
