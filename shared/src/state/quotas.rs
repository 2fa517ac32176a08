//! What keys have used of their quotas, counted once for all relays.

use super::{State, StateError};
use crate::id::PublicKey;
use crate::metrics::StateOperation;
use crate::quota::{Charge, Demand, Exceeded, QuotaUse, Quotas};

/// Whether an upload is within its key's quotas.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum QuotaVerdict {
    /// It is, and was counted. Reversed, the charge gives back what it took.
    Granted(Charge),
    /// A limit has no room for it; nothing was taken from any.
    Exceeded(Exceeded),
}

impl State {
    /// Takes `demand` from all of the key's limits, or from none, in the windows of the store's clock. Answers
    /// within [`crate::limits::STATE_SOON_TIMEOUT`].
    ///
    /// # Errors
    /// [`StateError`]: whether it was counted is not known.
    pub async fn take_quota(
        &self,
        key: &PublicKey,
        quotas: &Quotas,
        demand: Demand,
    ) -> Result<QuotaVerdict, StateError> {
        let taken = self.0.store.take_quota(key, quotas, demand);
        self.soon(StateOperation::Quota, taken).await
    }

    /// Gives a charge back (reversed), or counts one that the store has missed. Counts only in windows that are not over.
    /// Answers within [`crate::limits::STATE_SOON_TIMEOUT`].
    ///
    /// # Errors
    /// [`StateError`]: whether it was counted is not known.
    pub async fn charge_quota(&self, key: &PublicKey, charge: Charge) -> Result<(), StateError> {
        let charged = self.0.store.charge_quota(key, charge);
        self.soon(StateOperation::Quota, charged).await
    }

    /// What each key has used in the current windows, in the same order.
    ///
    /// # Errors
    /// [`StateError`]
    pub async fn quota_use(&self, keys: &[PublicKey]) -> Result<Vec<QuotaUse>, StateError> {
        let used = self.0.store.quota_use(keys.to_vec()).await;
        self.counted(StateOperation::Quota, used)
    }
}
