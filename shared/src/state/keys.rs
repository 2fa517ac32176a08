//! Keys that operators added, and what they changed about configured ones.

use serde::{Deserialize, Serialize};

use super::{State, StateError};
use crate::id::{ProjectId, PublicKey};
use crate::metrics::StateOperation;
use crate::quota::Quotas;

/// A key as the store knows it. For a configured key it overrides the configuration's flag and quotas.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeyRecord {
    /// What clients send.
    pub key: PublicKey,
    /// Whose it is.
    pub project_id: ProjectId,
    /// Nobody may send with it for now.
    #[serde(default)]
    pub disabled: bool,
    /// What may be sent with it.
    #[serde(default)]
    pub quotas: Quotas,
}

/// What putting a key came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyPut {
    /// It is as it was put.
    Done,
    /// There is one of that name already, which stays as it is.
    Known,
    /// There are [`crate::limits::STATE_KEYS_MAX`] keys already.
    Full,
}

/// Whether a key may be there before it is put.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum PutMode {
    Add,
    Replace,
}

impl State {
    /// All keys of the store, at most [`crate::limits::STATE_KEYS_MAX`], sorted.
    ///
    /// # Errors
    /// [`StateError`]
    pub async fn keys(&self) -> Result<Vec<KeyRecord>, StateError> {
        let keys = self.0.store.keys().await;
        let mut keys = self.counted(StateOperation::Keys, keys)?;
        keys.sort_by(|a, b| (a.project_id, &a.key).cmp(&(b.project_id, &b.key)));
        Ok(keys)
    }

    /// Adds a key that the store does not know yet.
    ///
    /// # Errors
    /// [`StateError`]
    pub async fn add_key(&self, record: KeyRecord) -> Result<KeyPut, StateError> {
        let put = self.0.store.put_key(record, PutMode::Add).await;
        self.counted(StateOperation::Keys, put)
    }

    /// Adds a key, or replaces what the store knows about it.
    ///
    /// # Errors
    /// [`StateError`]
    pub async fn put_key(&self, record: KeyRecord) -> Result<KeyPut, StateError> {
        let put = self.0.store.put_key(record, PutMode::Replace).await;
        self.counted(StateOperation::Keys, put)
    }
}
