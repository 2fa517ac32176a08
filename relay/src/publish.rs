//! A validated upload to its receipt: whether it is a repeat, under which id and within which quotas. Runs on its own: a
//! client that hangs up after sending everything has done its part, and its crash is delivered all the same.

use std::pin::pin;

use bytes::Bytes;
use shared::envelope::Envelope;
use shared::id::{EventId, ProjectId};
use shared::metrics::Endpoint;
use shared::quota::Demand;
use shared::repeat::RepeatMarks;
use shared::report::EventPayload;
use shared::services::Services;
use shared::spool::Draft;
use shared::state::{AcceptedNote, Claim, DurableElsewhere};
use tracing::{Instrument, Span};

use crate::app::App;
use crate::claims::{Claims, Standing};
use crate::dedupe::{Dedupe, Turn};
use crate::delivery::{Delivery, Gate, Receipt};
use crate::error::{Rejection, TooLarge};
use crate::key_ring::KeyGrant;
use crate::places::Permit;
use crate::quota_desk::{QuotaDesk, Taken};
use crate::resumable::Credit;
use crate::seal::Validated;

/// Makes the upload durable and notes that it is; a repeat gets the first one's receipt.
///
/// # Errors
/// [`Rejection::Undelivered`]; [`Rejection::QuotaExceeded`] and [`Rejection::TooLarge`] by what the key allows.
pub(crate) async fn publish(
    app: &App,
    endpoint: Endpoint,
    grant: KeyGrant,
    upload: Validated,
    place: Permit,
) -> Result<Receipt, Rejection> {
    let publishing = Publishing {
        delivery: app.delivery.clone(),
        services: app.services.clone(),
        dedupe: app.dedupe.clone(),
        claims: app.claims.clone(),
        quotas: app.quotas.clone(),
        endpoint,
        grant,
    };
    let published = async move {
        // A client that hangs up leaves its upload, and with it the upload's place.
        let _place = place;
        publishing.run(upload).await
    };
    let published = published.instrument(Span::current());
    match app.tasks.spawn(published).await {
        Ok(receipt) => receipt,
        // The runtime is going down, or the task has panicked, which was told already.
        Err(_) => Err(Rejection::Stopping),
    }
}

/// What the way of one upload needs.
struct Publishing {
    delivery: Delivery,
    services: Services,
    dedupe: Dedupe,
    claims: Claims,
    quotas: QuotaDesk,
    endpoint: Endpoint,
    grant: KeyGrant,
}

/// What an upload has come to.
enum Fate {
    Durable(Receipt),
    /// Another relay had it first.
    Repeat(DurableElsewhere),
}

/// Whether an upload is to be made durable.
enum Decision {
    Send(Option<Taken>),
    Repeat(DurableElsewhere),
}

impl Publishing {
    async fn run(self, upload: Validated) -> Result<Receipt, Rejection> {
        self.check_minidump_size(&upload.envelope)?;
        let marks = marks(&upload);
        let project_id = upload.envelope.project_id;
        let first = match self.dedupe.turn(project_id, &marks).await {
            Turn::First(first) => first,
            Turn::Repeat(receipt) => return Ok(self.repeat(receipt)),
        };
        let Validated {
            mut envelope,
            payload,
            draft,
            permit,
            client_event_id,
            fingerprint,
            credits,
        } = upload;
        let payload = match client_event_id {
            Some(chosen) => {
                self.choose_id(&mut envelope, payload, chosen, fingerprint)
                    .await
            }
            None => payload,
        };
        envelope.event = event_json(&payload);
        Span::current().record("event_id", tracing::field::display(envelope.event_id));
        let received_at = envelope.received_at;
        let marks = if self.dedupe.is_off() {
            RepeatMarks::default()
        } else {
            marks
        };
        let claim = Claim::new(project_id, marks);
        let paid = credits.iter().map(Credit::bytes).sum();
        let receipt = match self.deliver(&claim, envelope, draft, paid).await? {
            Fate::Durable(receipt) => receipt,
            Fate::Repeat(proof) => {
                let receipt = Receipt::elsewhere(&proof);
                first.keep_for(&receipt, proof.left());
                return Ok(self.repeat(receipt));
            }
        };
        first.keep(&receipt);
        credits.into_iter().for_each(Credit::spend);
        drop(permit);
        self.services.state.note_accepted(AcceptedNote {
            event_id: receipt.event_id(),
            project_id,
            received_at,
            place: receipt.place(),
            claim: (!marks.is_empty()).then_some(claim),
        });
        if let Some(durable) = receipt.durable() {
            self.services.metrics.count_accepted(self.endpoint, durable);
        }
        tracing::info!("accepted");
        Ok(receipt)
    }

    fn check_minidump_size(&self, envelope: &Envelope) -> Result<(), Rejection> {
        match (envelope.minidump(), self.grant.minidump_max()) {
            (Some(minidump), Some(max)) if minidump.content.len() > max.get() => {
                Err(TooLarge::Minidump(max).into())
            }
            (_, _) => Ok(()),
        }
    }

    fn repeat(&self, receipt: Receipt) -> Receipt {
        self.services.metrics.uploads_repeated.inc();
        tracing::info!(first = %receipt.event_id(), "a repeat");
        receipt
    }

    /// Gives the envelope the id that its client chose, when no other upload has it.
    async fn choose_id(
        &self,
        envelope: &mut Envelope,
        mut payload: EventPayload,
        chosen: EventId,
        fingerprint: Option<blake3::Hash>,
    ) -> EventPayload {
        let fingerprint = of_project(envelope.project_id, fingerprint, envelope.event_id);
        let why_not = match self
            .services
            .state
            .claim_event_id(chosen, fingerprint)
            .await
        {
            Ok(true) => {
                envelope.event_id = chosen;
                return payload;
            }
            Ok(false) => "another upload has it",
            Err(error) => {
                tracing::debug!(%error, "a client's event id is not taken over");
                "it could not be looked up in time"
            }
        };
        payload.warnings.push(format!(
            "the client's event id {chosen} was not taken over: {why_not}"
        ));
        payload
    }

    /// Sends the envelope if it is to be sent; `paid` of its bytes were charged before. Chunks may go ahead of that decision, which nobody's 200 rests on; not
    /// those of a key with quotas, because a quota protects the queue from what it refuses.
    async fn deliver(
        &self,
        claim: &Claim,
        envelope: Envelope,
        draft: Draft,
        paid: u64,
    ) -> Result<Fate, Rejection> {
        let bytes = envelope.bytes().saturating_sub(paid);
        let (opener, gate) = Gate::closed();
        let mut sending = pin!(self.delivery.publish(envelope, draft, gate));
        let mut deciding = pin!(self.decide(claim, bytes));
        let goes_ahead = !self.grant.quotas().is_limited();
        let decision = tokio::select! {
            biased;
            decision = &mut deciding => decision,
            // It cannot be sent at all.
            sent = &mut sending, if goes_ahead => {
                self.claims.release(claim).await;
                return sent.map(Fate::Durable).map_err(Rejection::Undelivered);
            }
        };
        let taken = match decision {
            Ok(Decision::Send(taken)) => taken,
            Ok(Decision::Repeat(proof)) => return Ok(Fate::Repeat(proof)),
            Err(rejection) => {
                self.claims.release(claim).await;
                return Err(rejection);
            }
        };
        opener.open();
        match sending.await {
            Ok(receipt) => Ok(Fate::Durable(receipt)),
            Err(error) => {
                self.claims.release(claim).await;
                if let Some(taken) = taken {
                    self.quotas.give_back(taken).await;
                }
                Err(Rejection::Undelivered(error))
            }
        }
    }

    /// First whether it is a repeat: those are not charged.
    async fn decide(&self, claim: &Claim, bytes: u64) -> Result<Decision, Rejection> {
        match self.claims.stand(claim).await {
            Standing::Repeat(proof) => Ok(Decision::Repeat(proof)),
            Standing::First => {
                let taken = self.quotas.take(&self.grant, Demand::upload(bytes)).await?;
                Ok(Decision::Send(taken))
            }
        }
    }
}

/// By what repeats of the upload are known: its minidump's content, or what stands for it. A file name is no mark: all
/// dumps that one run of a program writes may have the same (getsentry/crashpad#144).
fn marks(upload: &Validated) -> RepeatMarks {
    let minidump = upload.envelope.minidump();
    RepeatMarks {
        content: minidump.map_or(upload.fingerprint, |minidump| minidump.blake3),
        report: None,
    }
}

/// The fingerprint by which an upload may have its event id again: in one project only. One that has none is like no
/// other.
fn of_project(
    project: ProjectId,
    fingerprint: Option<blake3::Hash>,
    fresh: EventId,
) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&project.get().to_le_bytes());
    match &fingerprint {
        Some(fingerprint) => hasher.update(fingerprint.as_bytes()),
        None => hasher.update(fresh.as_bytes()),
    };
    hasher.finalize()
}

fn event_json(payload: &EventPayload) -> Bytes {
    // INVARIANT: a payload is texts under text keys, which always make JSON.
    serde_json::to_vec(payload).expect("payloads encode").into()
}

#[cfg(test)]
mod tests;
