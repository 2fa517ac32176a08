//! What every role has: state, storage, metrics, readiness.

use crate::config::{Config, Role};
use crate::metrics::Metrics;
use crate::readiness::{Need, Part, Readiness};
use crate::state::{State, StateError};
use crate::storage::{Storage, StorageError};

/// Handles on all of it; clones share it.
#[derive(Clone, Debug)]
pub struct Services {
    /// What became of each event.
    pub state: State,
    /// Dumps, attachments, reports.
    pub storage: Storage,
    /// All metrics.
    pub metrics: Metrics,
    /// All parts of this process.
    pub readiness: Readiness,
}

/// Why a role cannot have what it needs.
#[derive(Debug, thiserror::Error)]
pub enum ServicesError {
    /// The state store.
    #[error(transparent)]
    State(#[from] StateError),
    /// The storage.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Services {
    /// Opens what `config` names. A relay answers 200 without state and storage, so they do not decide its readiness.
    ///
    /// # Errors
    /// [`ServicesError`] when something cannot be used as configured. A Redis or a bucket that is away is no error.
    pub async fn open(config: &Config, role: Role) -> Result<Self, ServicesError> {
        let metrics = Metrics::default();
        let readiness = Readiness::default();
        let need = match role {
            Role::Processor => Need::Required,
            Role::Relay | Role::Standalone => Need::Informative,
        };
        readiness.register(Part::State, need);
        readiness.register(Part::Storage, need);
        Ok(Self {
            state: State::open(config, metrics.clone(), readiness.clone()).await?,
            storage: Storage::open(config, readiness.clone()).await?,
            metrics,
            readiness,
        })
    }
}
