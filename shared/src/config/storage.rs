//! `[storage]`: where dumps and reports are kept, and for how long.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use super::{ByteSize, Secret, Span, load, secret_url};

/// `[storage]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct StorageConfig {
    /// A directory or the URL of a bucket; none: `data.dir/storage`.
    #[serde(serialize_with = "secret_url::serialize")]
    pub url: Option<String>,
    /// object_store's settings for the bucket, by its own names. They are shown to nobody.
    #[serde(deserialize_with = "option_secrets")]
    pub options: BTreeMap<String, Secret>,
    /// A directory's volume always keeps this much free: what would go below it waits.
    pub min_free_bytes: ByteSize,
    /// How long events are kept.
    pub keep: KeepConfig,
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self {
            url: None,
            options: BTreeMap::new(),
            // Less than the spool's: on one volume, uploads are refused before what was accepted has no room.
            min_free_bytes: ByteSize::mib(512),
            keep: KeepConfig::default(),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Role};

    fn read(text: &str) -> Config {
        toml::from_str(text).expect(text)
    }

    #[test]
    fn options_may_be_written_as_they_are_meant_and_are_not_shown() {
        let config = read(
            "[storage]\nurl = \"s3://b\"\n[storage.options]\nallow_http = true\naws_secret_access_key = \"abc\"",
        );
        let options = &config.storage.options;
        assert_eq!(options["allow_http"].expose(), "true");
        assert_eq!(options["aws_secret_access_key"].expose(), "abc");
        let shown = config.to_toml().expect("shows");
        assert!(!shown.contains("abc"), "{shown}");
        assert!(
            shown.contains("aws_secret_access_key = \"[redacted]\""),
            "{shown}"
        );
        config.check(Role::Standalone).expect("nothing is wrong");
    }

    #[test]
    fn a_project_keeps_in_its_own_way_or_as_everyone() {
        let config = read(
            "[storage.keep]\nage = \"90d\"\nbytes = \"50GiB\"\n[[projects]]\nid = 1\nkeys = [\"a\"]\n\
             [[projects]]\nid = 2\nkeys = [\"b\"]\nkeep = { age = \"6h\" }\n\
             [[projects]]\nid = 3\nkeys = [\"c\"]\nkeep = {}",
        );
        let keep = config.projects.iter().map(|project| project.keep);
        let [usual, short, for_ever] = keep.collect::<Vec<_>>()[..] else {
            panic!("{config:?}")
        };
        assert_eq!(usual, None);
        assert_eq!(short.and_then(|keep| keep.bytes), None);
        assert!(for_ever.is_some_and(KeepConfig::is_for_ever));
        let warnings = config.warnings();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(
            warnings[0].contains("project 2: projects.keep.age (6h) is shorter"),
            "{warnings:?}"
        );
        let again = read(&config.to_toml().expect("shows"));
        assert_eq!(again.projects, config.projects);
    }

    #[test]
    fn what_cannot_be_kept_to_is_refused() {
        let config = read(
            "[storage]\nurl = \"s3://b\"\n[storage.options]\naws_regoin = \"x\"\n[storage.keep]\nage = \"0s\"\n\
             [[projects]]\nid = 1\nkeys = [\"a\"]\nkeep = { bytes = 0 }",
        );
        let error = config
            .check(Role::Standalone)
            .expect_err("refused")
            .to_string();
        for problem in [
            "unknown key storage.options.aws_regoin; the nearest known one is storage.options.aws_region",
            "storage.keep.age: expected more than none",
            "projects.keep.bytes: expected more than none",
        ] {
            assert!(error.contains(problem), "no {problem} in:\n{error}");
        }
    }
}
