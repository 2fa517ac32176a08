//! The store that configuration chose, and what either kind can do.

use jiff::Timestamp;

use super::redis::Redis;
use super::sqlite::Sqlite;
use super::{AcceptedNote, EventStatus, Finished, StateError};
use crate::id::{EventId, ProjectId, PublicKey};
use crate::ledger::Ledger;
use crate::outcome::Outcome;

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

    pub(super) async fn ledger(&self) -> Result<Ledger, StateError> {
        on_store!(self, ledger())
    }

    pub(super) async fn begin_attempt(&self, event: EventId) -> Result<u32, StateError> {
        on_store!(self, begin_attempt(event))
    }

    pub(super) async fn project_key(&self, project: ProjectId) -> Result<PublicKey, StateError> {
        on_store!(self, project_key(project))
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
