//! The store that configuration chose, and what either kind can do.

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::keys::PutMode;
use super::redis::Redis;
use super::sqlite::Sqlite;
use super::{
    AcceptedNote, AttemptId, Claim, Claimed, EventStatus, Finished, KeyPut, KeyRecord, LogPart,
    LogPlace, OutcomePage, OutcomesAfter, QuotaVerdict, RememberedUpload, StateError,
};
use crate::id::{EventId, ProjectId, PublicKey};
use crate::ledger::Ledger;
use crate::outcome::Outcome;
use crate::quota::{Charge, Demand, QuotaUse, Quotas};

/// The two implementations.
#[derive(Clone, Debug)]
pub(super) enum Store {
    Sqlite(Sqlite),
    Redis(Redis),
}

/// The same call on whichever store there is.
macro_rules! on_store {
    ($store:expr, $method:ident($($argument:expr),*)) => {
        match $store {
            Store::Sqlite(store) => store.$method($($argument),*).await,
            Store::Redis(store) => store.$method($($argument),*).await,
        }
    };
}

impl Store {
    /// Records notes of events that have no status yet. At most [`crate::limits::STATE_BATCH_RECORDS_MAX`].
    pub(super) async fn accept(&self, notes: Vec<AcceptedNote>) -> Result<(), StateError> {
        on_store!(self, accept(notes))
    }

    /// As [`super::State::finish`]. At most [`crate::limits::STATE_BATCH_RECORDS_MAX`].
    pub(super) async fn finish(&self, outcomes: Vec<Outcome>) -> Result<Vec<Finished>, StateError> {
        on_store!(self, finish(outcomes))
    }

    /// The status of each of `events`, and whose it is.
    pub(super) async fn statuses(
        &self,
        events: Vec<EventId>,
    ) -> Result<Vec<Option<(ProjectId, EventStatus)>>, StateError> {
        on_store!(self, statuses(events))
    }

    /// As [`super::State::outcomes`], with some that finished earlier.
    pub(super) async fn outcomes(
        &self,
        since: Timestamp,
        after: Option<OutcomesAfter>,
    ) -> Result<OutcomePage, StateError> {
        match self {
            Self::Sqlite(store) => store.outcomes(since, after).await,
            Self::Redis(store) => store.outcomes(after).await,
        }
    }

    pub(super) async fn ledger(&self) -> Result<Ledger, StateError> {
        on_store!(self, ledger())
    }

    /// As [`super::State::untold`], without the statuses.
    pub(super) async fn untold(
        &self,
        parts: Vec<LogPart>,
    ) -> Result<Vec<(EventId, LogPlace)>, StateError> {
        on_store!(self, untold(parts))
    }

    pub(super) async fn is_untold(
        &self,
        event: EventId,
        partition: i32,
    ) -> Result<bool, StateError> {
        on_store!(self, is_untold(event, partition))
    }

    /// As [`super::State::note_told`]. At most [`crate::limits::STATE_BATCH_RECORDS_MAX`].
    pub(super) async fn note_told(&self, events: Vec<(EventId, i32)>) -> Result<(), StateError> {
        on_store!(self, note_told(events))
    }

    /// Brings events that an earlier version accepted into the index of those in flight, from `cursor` on; where to go on,
    /// `None` when all are in it. SQLite does that when it is opened.
    pub(super) async fn index_open(&self, cursor: u64) -> Result<Option<u64>, StateError> {
        match self {
            Self::Sqlite(_) => Ok(None),
            Self::Redis(store) => store.index_open(cursor).await,
        }
    }

    pub(super) async fn begin_attempt(
        &self,
        event: EventId,
        attempt: AttemptId,
    ) -> Result<u32, StateError> {
        on_store!(self, begin_attempt(event, attempt))
    }

    pub(super) async fn project_key(&self, project: ProjectId) -> Result<PublicKey, StateError> {
        on_store!(self, project_key(project))
    }

    pub(super) async fn keys(&self) -> Result<Vec<KeyRecord>, StateError> {
        on_store!(self, keys())
    }

    pub(super) async fn put_key(
        &self,
        record: KeyRecord,
        mode: PutMode,
    ) -> Result<KeyPut, StateError> {
        on_store!(self, put_key(record, mode))
    }

    pub(super) async fn take_quota(
        &self,
        key: &PublicKey,
        quotas: &Quotas,
        demand: Demand,
    ) -> Result<QuotaVerdict, StateError> {
        on_store!(self, take_quota(key, quotas, demand))
    }

    pub(super) async fn charge_quota(
        &self,
        key: &PublicKey,
        charge: Charge,
    ) -> Result<(), StateError> {
        on_store!(self, charge_quota(key, charge))
    }

    pub(super) async fn quota_use(
        &self,
        keys: Vec<PublicKey>,
    ) -> Result<Vec<QuotaUse>, StateError> {
        on_store!(self, quota_use(keys))
    }

    /// As [`super::State::claim_upload`]: one relay has SQLite for itself, and its memory has decided already.
    pub(super) async fn claim_upload(
        &self,
        claim: &Claim,
        lasts: Duration,
    ) -> Result<Claimed, StateError> {
        match self {
            Self::Sqlite(_) => Ok(Claimed::First),
            Self::Redis(store) => store.claim_upload(claim, lasts).await,
        }
    }

    pub(super) async fn release_upload(&self, claim: &Claim) -> Result<(), StateError> {
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Redis(store) => store.release_upload(claim).await,
        }
    }

    /// As [`super::State::remembered_uploads`].
    pub(super) async fn remembered_uploads(
        &self,
        marks_max: usize,
    ) -> Result<Vec<RememberedUpload>, StateError> {
        match self {
            Self::Sqlite(store) => store.remembered_uploads(marks_max).await,
            Self::Redis(_) => Ok(Vec::new()),
        }
    }

    pub(super) async fn claim_event_id(
        &self,
        event: EventId,
        fingerprint: blake3::Hash,
    ) -> Result<bool, StateError> {
        on_store!(self, claim_event_id(event, fingerprint))
    }

    pub(super) async fn mark_deleted(
        &self,
        event: EventId,
        at: Timestamp,
    ) -> Result<(), StateError> {
        on_store!(self, mark_deleted(event, at))
    }

    /// As [`super::State::lease`].
    pub(super) async fn lease(
        &self,
        name: &'static str,
        holder: Uuid,
        lasts: Duration,
    ) -> Result<bool, StateError> {
        match self {
            Self::Sqlite(_) => Ok(true),
            Self::Redis(store) => store.lease(name, holder, lasts).await,
        }
    }

    /// Forgets what finished before `oldest`. Redis does so by itself.
    pub(super) async fn prune(&self, oldest: Timestamp) -> Result<(), StateError> {
        match self {
            Self::Sqlite(store) => store.prune(oldest).await,
            Self::Redis(_) => Ok(()),
        }
    }

    pub(super) async fn close(&self) {
        match self {
            Self::Sqlite(store) => store.close().await,
            Self::Redis(_) => {}
        }
    }
}
