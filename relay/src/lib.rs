//! Crashferry's relay: takes crash uploads over HTTP and answers 200 once they are durable.
//!
//! The way of one upload, file by file: `server` accepts the connection (within [`admission`]'s bounds), `app` finds the
//! endpoint, `endpoints` say in which format it comes and `visit` checks the key ([`auth`]) and hands the body to
//! [`receive`]. There it is read through [`frames`] and [`decode`] by the reader of its format (`read`, on top of
//! [`multipart`], [`items`], [`unreal`] and [`container`]) into [`upload`], its bytes through [`body`] into memory or the
//! spool. [`seal`] checks it ([`validate`]), puts together what was said about the crash (`sources`, [`event_data`]) and makes it an
//! envelope, which goes through `publish` to [`delivery`]; the receipt makes the 200. Whatever goes wrong on the way is
//! an [`error`].

pub mod activity;
pub mod admission;
mod app;
pub mod auth;
pub mod body;
pub mod budget;
mod caller;
mod claims;
pub mod client_address;
mod connection;
pub mod container;
mod crowd;
pub mod decode;
mod dedupe;
pub mod delivery;
mod descriptors;
mod endpoints;
pub mod error;
pub mod event_data;
pub mod file_name;
pub mod frames;
pub mod inflation;
pub mod items;
pub mod key_ring;
mod limits;
pub mod multipart;
pub mod pace;
pub mod part_head;
pub mod places;
mod pools;
mod publish;
mod query;
mod quota_desk;
mod read;
mod readers;
pub mod receive;
mod refusal_log;
mod refusals;
mod refused_body;
mod request_id;
pub mod request_target;
pub mod resumable;
mod sdk;
pub mod seal;
mod server;
mod shares;
mod slots;
mod sources;
pub mod unreal;
pub mod upload;
pub mod validate;
mod visit;
pub mod window;
pub mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use shared::config::Config;
use shared::kafka::KafkaError;
use shared::readiness::{Part, PartState};
use shared::services::Services;
use shared::spool::SpoolDirectory;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::Bounds;
use crate::app::App;
use crate::delivery::Delivery;

/// Of `shutdown_timeout`, what uploads may still wait for Kafka.
const WAITING_SHARE: f64 = 0.5;
/// Of `shutdown_timeout`, what uploads may take altogether; the rest is for the queue to close.
const FINISHING_SHARE: f64 = 0.8;

/// Why the relay does not run.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// Its address cannot be had.
    #[error("relay.listen: expected to listen on {address}, found: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: std::io::Error,
    },
    /// Its queue cannot be used as it is configured.
    #[error(transparent)]
    Queue(#[from] KafkaError),
}

/// Takes uploads until `shutdown`; then finishes those under way, for at most `shutdown_timeout`.
///
/// # Errors
/// [`RelayError`] when it cannot begin.
pub async fn run(
    config: Arc<Config>,
    services: Services,
    spool: SpoolDirectory,
    shutdown: CancellationToken,
) -> Result<(), RelayError> {
    let descriptors = descriptors::raise();
    let bounds = Bounds::of(descriptors, config.relay.max_inflight_bytes.get());
    let address = config.relay.listen;
    let listener =
        server::listen(address).map_err(|error| RelayError::Listen { address, error })?;
    let delivery = Delivery::open(&config, &services, spool).await?;
    let readiness = services.readiness.clone();
    let app = Arc::new(App::new(&config, bounds, services, delivery.clone()));
    app.remember().await;
    let following = TaskTracker::new();
    following.spawn({
        let (app, shutdown) = (Arc::clone(&app), shutdown.clone());
        async move { shutdown.run_until_cancelled(app.follow_state()).await }
    });
    following.spawn({
        let (uploads, shutdown) = (app.uploads.clone(), shutdown.clone());
        async move { shutdown.run_until_cancelled(uploads.sweep()).await }
    });
    following.spawn({
        let (app, shutdown) = (Arc::clone(&app), shutdown.clone());
        async move { shutdown.run_until_cancelled(pools::watch(&app)).await }
    });
    following.close();
    readiness.set(Part::Listener, PartState::Ready);
    tracing::info!(%address, descriptors, ?bounds, "taking uploads");
    server::serve(listener, Arc::clone(&app), shutdown).await;
    following.wait().await;
    stop(&app, &delivery, config.shutdown_timeout.get()).await;
    Ok(())
}

/// Finishes what was received, or spools it, in time. The queue outlives the listener: uploads under way at the end still
/// go through it.
async fn stop(app: &App, delivery: &Delivery, shutdown_timeout: Duration) {
    let finished = app
        .finish_within(shutdown_timeout.mul_f64(WAITING_SHARE))
        .await;
    if !finished {
        delivery.hurry();
        let rest = (FINISHING_SHARE - WAITING_SHARE) * shutdown_timeout.as_secs_f64();
        if !app.finish_within(Duration::from_secs_f64(rest)).await {
            let tasks = app.tasks.len();
            tracing::warn!(
                tasks,
                "uploads without an answer are cut off at the end of shutdown_timeout"
            );
        }
    }
    delivery.close().await;
}
