//! The one connection to Redis: one task makes it and makes it again, everyone else is told at once how it is.
//!
//! redis-rs's `ConnectionManager` (1.8) is not used: it gives up for good when the handshake fails with anything but an
//! input/output error (a refused password, say), and while Redis is away every request waits for its tries.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Instant;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisResult};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::backoff::Backoff;
use crate::config::Secret;
use crate::limits;
use crate::state::StateError;
use crate::state::redis::recent::Recorder;

/// How the connection is.
#[derive(Clone, Debug)]
enum Status {
    Up(MultiplexedConnection),
    Down(String),
}

/// A handle on the connection.
#[derive(Clone, Debug)]
pub(super) struct Link {
    /// Product and address, for messages.
    address: Arc<str>,
    status: watch::Receiver<Status>,
    broken: Arc<Notify>,
}

impl Link {
    /// Starts the task that connects to `url` until `stop`, and waits for its first try.
    pub(super) async fn start(
        url: &Secret,
        address: &str,
        recorder: Recorder,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Result<Self, StateError> {
        let client = Client::open(url.expose()).map_err(|error| StateError::Unusable {
            key: "redis.url",
            problem: format!("expected redis://HOST:PORT/DATABASE: {error}"),
        })?;
        let (sender, mut status) = watch::channel(Status::Down("not tried yet".into()));
        let broken = Arc::new(Notify::new());
        let address: Arc<str> = address.into();
        let keeper = Keeper {
            client,
            address: Arc::clone(&address),
            recorder,
            status: sender,
            broken: broken.clone(),
        };
        tasks.spawn(async move { stop.run_until_cancelled(keeper.run()).await });
        status
            .changed()
            .await
            .map_err(|_| StateError::Away("stopped".into()))?;
        Ok(Self {
            address,
            status,
            broken,
        })
    }

    /// The connection, when there is one now.
    pub(super) fn connection(&self) -> Result<MultiplexedConnection, StateError> {
        match &*self.status.borrow() {
            Status::Up(connection) => Ok(connection.clone()),
            Status::Down(why) => Err(self.away(why)),
        }
    }

    /// Turns redis-rs's errors into ours, and has the connection made anew when it is to blame.
    pub(super) fn judge<T>(&self, answer: RedisResult<T>) -> Result<T, StateError> {
        answer.map_err(|error| {
            if error.is_io_error() || error.is_unrecoverable_error() {
                self.broken.notify_waiters();
            }
            self.away(&error)
        })
    }

    fn away(&self, why: &dyn Display) -> StateError {
        StateError::Away(format!("{}: {why}", self.address))
    }
}

/// The task that makes the connection.
struct Keeper {
    client: Client,
    address: Arc<str>,
    recorder: Recorder,
    status: watch::Sender<Status>,
    broken: Arc<Notify>,
}

impl Keeper {
    async fn run(self) {
        let timeout = Some(limits::STATE_REQUEST_TIMEOUT);
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(timeout)
            .set_response_timeout(timeout);
        let mut backoff = backoff();
        loop {
            match self.connect(&config).await {
                Ok(connection) => {
                    // Listens before anyone can use the connection, so that no break goes unheard.
                    let broken = self.broken.notified();
                    self.status.send_replace(Status::Up(connection));
                    tracing::info!(address = &*self.address, "connected to Redis");
                    broken.await;
                    backoff = self::backoff();
                    self.say_down("the connection broke".into());
                }
                Err(error) => {
                    self.say_down(error.to_string());
                    let wait = backoff.next_wait(Instant::now());
                    tokio::time::sleep(wait.unwrap_or(limits::STATE_RETRY_WAIT_MAX)).await;
                }
            }
        }
    }

    /// A connection to a Redis that knows again what it confirmed last.
    async fn connect(&self, config: &AsyncConnectionConfig) -> RedisResult<MultiplexedConnection> {
        let made = self
            .client
            .get_multiplexed_async_connection_with_config(config);
        let mut connection = made.await?;
        self.recorder.replay(&mut connection).await?;
        Ok(connection)
    }

    fn say_down(&self, why: String) {
        let told = match &*self.status.borrow() {
            Status::Up(_) => false,
            Status::Down(known) => *known == why,
        };
        if !told {
            let address = &*self.address;
            tracing::warn!(address, why, "Redis is away");
        }
        self.status.send_replace(Status::Down(why));
    }
}

fn backoff() -> Backoff {
    Backoff::forever(limits::STATE_FLUSH_INTERVAL, limits::STATE_RETRY_WAIT_MAX)
}
