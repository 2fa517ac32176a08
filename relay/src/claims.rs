//! Among all relays, whose upload is the first of its kind: by claims in the state store. While the store is away or slow,
//! every relay decides by its own memory alone.

use std::time::{Duration, Instant};

use shared::backoff::Backoff;
use shared::state::{Claim, Claimed, DurableElsewhere, State};
use tokio::time::sleep;

use crate::limits::{CLAIM_MARGIN, CLAIM_POLL};

/// Claims uploads. Cloning shares the store.
#[derive(Clone, Debug)]
pub(crate) struct Claims {
    state: State,
    /// A claim counts no more after this: whoever made it was killed.
    lasts: Duration,
}

/// How an upload stands to those at other relays.
#[derive(Debug)]
pub(crate) enum Standing {
    /// It is to be made durable here.
    First,
    /// It is a repeat of one that is durable.
    Repeat(DurableElsewhere),
}

impl Claims {
    /// Claims that last as long as an upload may wait for Kafka, and a little longer.
    pub(crate) fn new(state: State, ack_deadline: Duration) -> Self {
        let lasts = ack_deadline + CLAIM_MARGIN;
        Self { state, lasts }
    }

    /// Claims to be the first. Waits while another relay has the same upload under way: until that one is durable, has
    /// come to nothing, or has not been heard of for so long that its relay must be dead.
    pub(crate) async fn stand(&self, claim: &Claim) -> Standing {
        if claim.marks.is_empty() {
            return Standing::First;
        }
        let (first_wait, longest_wait) = CLAIM_POLL;
        // Another that waits may get the claim of a dead one before us: then it is waited for in turn, once.
        let deadline = Instant::now() + 2 * self.lasts;
        let mut backoff = Backoff::until(first_wait, longest_wait, deadline);
        let mut waiting = false;
        loop {
            match self.state.claim_upload(claim, self.lasts).await {
                Ok(Claimed::First) => return Standing::First,
                Ok(Claimed::Durable(proof)) => return Standing::Repeat(proof),
                Ok(Claimed::UnderWay) => waiting = true,
                Err(error) => {
                    tracing::debug!(%error, "repeats are known by this relay alone");
                    if !waiting {
                        return Standing::First;
                    }
                }
            }
            match backoff.next_wait(Instant::now()) {
                Some(wait) => sleep(wait).await,
                None => return Standing::First,
            }
        }
    }

    /// The upload came to nothing: another may be the first.
    pub(crate) async fn release(&self, claim: &Claim) {
        if claim.marks.is_empty() {
            return;
        }
        if let Err(error) = self.state.release_upload(claim).await {
            tracing::debug!(%error, "a claim stays until it ends by itself");
        }
    }
}
