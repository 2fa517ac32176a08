//! `[storage]`: where dumps and reports are kept, and for how long.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use super::{ByteSize, Secret, Span, load};

/// `[storage]`
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StorageConfig {
    /// A directory or the URL of a bucket; none: `data.dir/storage`.
    pub url: Option<String>,
    /// object_store's settings for the bucket, by its own names. They are shown to nobody.
    #[serde(deserialize_with = "option_secrets")]
    pub options: BTreeMap<String, Secret>,
    /// How long events are kept.
    pub keep: KeepConfig,
}

/// `[storage.keep]` and `[[projects]] keep`: an event goes when it is older, or the oldest of more, than this.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeepConfig {
    /// Days are removed as a whole, when the last of their events is older; none: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age: Option<Span>,
    /// Of all files of one project; none: no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<ByteSize>,
}

impl KeepConfig {
    /// Whether nothing is ever removed.
    #[must_use]
    pub fn is_for_ever(self) -> bool {
        self == Self::default()
    }

    /// What cannot be, under the key `key`.
    pub(super) fn problem(self, key: &str) -> Option<String> {
        let zero = |field: &str| {
            format!("{key}.{field}: expected more than none; leave it out to keep for ever")
        };
        if self.age.is_some_and(|age| age.get().is_zero()) {
            return Some(zero("age"));
        }
        let empty = self.bytes.is_some_and(|bytes| bytes.get() == 0);
        empty.then(|| zero("bytes"))
    }

    /// What is probably not meant: a repeat of an upload would get the id of an event that is gone.
    pub(super) fn warning(self, key: &str, window: Span) -> Option<String> {
        let age = self.age.filter(|age| *age < window)?;
        Some(format!(
            "{key}.age ({age}) is shorter than dedupe.window ({window}): a repeat of an upload can get the id of an event that \
             is kept no longer"
        ))
    }
}

fn option_secrets<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, Secret>, D::Error> {
    let texts = load::option_texts(deserializer)?;
    let secrets = texts.into_iter();
    Ok(secrets
        .map(|(name, text)| (name, Secret::new(text)))
        .collect())
}
