//! `[envelope]`: what becomes of what Sentry's SDKs send besides crashes.

use serde::{Deserialize, Serialize};

/// `[envelope]`
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct EnvelopeConfig {
    /// Sessions, client reports, transactions and the like.
    pub other_items: OtherItems,
}

/// See [`EnvelopeConfig::other_items`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OtherItems {
    /// They are accepted and counted by type.
    #[default]
    Count,
    /// They are kept as files of the event that they come with, too.
    Store,
}
