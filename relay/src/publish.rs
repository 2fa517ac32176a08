//! A validated upload to its receipt. Runs on its own: a client that hangs up after sending everything has done its
//! part, and its crash is delivered all the same.

use shared::metrics::Endpoint;
use shared::state::AcceptedNote;
use tracing::{Instrument, Span};

use crate::app::App;
use crate::dedupe::Turn;
use crate::delivery::Receipt;
use crate::error::Rejection;
use crate::receive::Validated;

/// Makes the upload durable and notes that it is.
///
/// # Errors
/// [`Rejection::Undelivered`]
pub(crate) async fn publish(
    app: &App,
    endpoint: Endpoint,
    upload: Validated,
) -> Result<Receipt, Rejection> {
    let delivery = app.delivery.clone();
    let services = app.services.clone();
    let dedupe = app.dedupe.clone();
    let span = Span::current();
    span.record(
        "event_id",
        tracing::field::display(upload.envelope.event_id),
    );
    let publishing = async move {
        let Validated {
            envelope,
            draft,
            permit,
        } = upload;
        let (project_id, received_at) = (envelope.project_id, envelope.received_at);
        let first = match envelope.minidump().and_then(|minidump| minidump.blake3) {
            None => None,
            Some(hash) => match dedupe.turn(project_id, hash).await {
                Turn::First(first) => Some(first),
                Turn::Repeat(receipt) => {
                    services.metrics.uploads_repeated.inc();
                    tracing::info!(first = %receipt.event_id(), "a repeat");
                    return Ok(receipt);
                }
            },
        };
        let receipt = delivery.publish(envelope, draft).await?;
        if let Some(first) = first {
            first.keep(&receipt);
        }
        drop(permit);
        let event_id = receipt.event_id();
        services.state.note_accepted(AcceptedNote {
            event_id,
            project_id,
            received_at,
        });
        services.metrics.count_accepted(endpoint, receipt.durable());
        tracing::info!("accepted");
        Ok(receipt)
    };
    match app.tasks.spawn(publishing.instrument(span)).await {
        Ok(receipt) => receipt.map_err(Rejection::Undelivered),
        // The runtime is going down, or the task has panicked, which was told already.
        Err(_) => Err(Rejection::Stopping),
    }
}
