//! `[[projects]]`: who may send, and how much.

use std::collections::HashSet;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{ByteSize, KeepConfig, PrivacyConfig, UploadLimits};
use crate::id::{ProjectId, PublicKey};
use crate::quota::Quotas;

/// `[[projects]]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectConfig {
    /// Its number.
    pub id: ProjectId,
    /// Who may send to it.
    pub keys: Vec<KeyConfig>,
    /// Bounds of its uploads, in place of those for everyone.
    #[serde(default)]
    pub limits: ProjectLimits,
    /// The largest minidump it takes; none: `limits.attachment`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minidump_max: Option<ByteSize>,
    /// Host names whose `/submit` is this project's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// What of the users' own is kept.
    #[serde(default)]
    pub privacy: PrivacyConfig,
    /// How long its events are kept, in place of all of `storage.keep`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<KeepConfig>,
}

/// `[projects.limits]`: what is not set is as for everyone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProjectLimits {
    /// As [`UploadLimits::inflation`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inflation: Option<u32>,
}

impl ProjectConfig {
    /// A project with these keys and nothing else set.
    #[must_use]
    pub fn new(id: ProjectId, keys: impl IntoIterator<Item = PublicKey>) -> Self {
        Self {
            id,
            keys: keys.into_iter().map(KeyConfig::from).collect(),
            limits: ProjectLimits::default(),
            minidump_max: None,
            hosts: Vec::new(),
            privacy: PrivacyConfig::default(),
            keep: None,
        }
    }
}

/// A key of a project: `"abc"`, or `{ key = "abc", disabled = true, uploads_per_minute = 100, … }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyConfig {
    /// What clients send.
    pub key: PublicKey,
    /// Nobody may send with it for now.
    pub disabled: bool,
    /// What may be sent with it.
    pub quotas: Quotas,
}

impl From<PublicKey> for KeyConfig {
    fn from(key: PublicKey) -> Self {
        Self {
            key,
            disabled: false,
            quotas: Quotas::default(),
        }
    }
}

/// The long form.
#[derive(Serialize, Deserialize)]
struct KeyTable {
    key: PublicKey,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    disabled: bool,
    #[serde(flatten)]
    quotas: Quotas,
}

impl Serialize for KeyConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !self.disabled && !self.quotas.is_limited() {
            return self.key.serialize(serializer);
        }
        let table = KeyTable {
            key: self.key.clone(),
            disabled: self.disabled,
            quotas: self.quotas,
        };
        table.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for KeyConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KeyVisitor)
    }
}

struct KeyVisitor;

impl<'de> Visitor<'de> for KeyVisitor {
    type Value = KeyConfig;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key like \"abc\" or { key = \"abc\", uploads_per_minute = 100 }")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<KeyConfig, E> {
        let key: PublicKey = text.parse().map_err(E::custom)?;
        Ok(key.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<KeyConfig, A::Error> {
        let table = KeyTable::deserialize(MapAccessDeserializer::new(map))?;
        Ok(KeyConfig {
            key: table.key,
            disabled: table.disabled,
            quotas: table.quotas,
        })
    }
}

/// What is wrong with the projects.
pub(super) fn problems(projects: &[ProjectConfig], limits: &UploadLimits) -> Vec<String> {
    let mut problems = Vec::new();
    let (mut ids, mut keys, mut hosts) = (HashSet::new(), HashSet::new(), HashSet::new());
    for project in projects {
        let id = project.id;
        if !ids.insert(id) {
            problems.push(format!("projects: expected each id once, found {id} twice"));
        }
        if project.keys.is_empty() {
            problems.push(format!(
                "projects: expected at least one key for project {id}"
            ));
        }
        for key in &project.keys {
            // The key alone has to say which project it is of.
            if !keys.insert(&key.key) {
                let key = &key.key;
                problems.push(format!(
                    "projects.keys: expected each key once, found {key:?} again in project {id}"
                ));
            }
            if let Some(problem) = key.quotas.problem() {
                problems.push(format!("projects.keys.{problem}"));
            }
        }
        if let Some(max) = project.minidump_max
            && (max > limits.attachment || max.get() == 0)
        {
            problems.push(format!(
                "projects.minidump_max: expected 1B to limits.attachment ({}), found {max}",
                limits.attachment
            ));
        }
        if project.limits.inflation == Some(0) {
            problems.push(format!(
                "projects.limits.inflation: expected at least 1, found 0 in project {id}"
            ));
        }
        problems.extend(project.keep.and_then(|keep| keep.problem("projects.keep")));
        for host in &project.hosts {
            if !is_host_name(host) {
                problems.push(format!(
                    "projects.hosts: expected a host name without port, found {host:?}"
                ));
            }
            if !hosts.insert(host.to_ascii_lowercase()) {
                problems.push(format!(
                    "projects.hosts: expected each host once, found {host:?} again in project {id}"
                ));
            }
        }
    }
    problems
}

fn is_host_name(text: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    !text.is_empty() && text.bytes().all(known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Role};

    fn read(projects: &str) -> Result<Config, toml::de::Error> {
        toml::from_str(projects)
    }

    #[test]
    fn a_key_is_a_text_or_a_table_and_is_shown_as_short_as_it_can_be() {
        let written = "[[projects]]\nid = 1\nhosts = [\"crash.example.org\"]\nminidump_max = \"50MiB\"\n\
             keys = [\"abc\", { key = \"def\", disabled = true, uploads_per_minute = 100, bytes_per_hour = \"1GiB\" }, \
             { key = \"ghi\" }]";
        let config = read(written).expect("reads");
        let [short, long, plain] = &config.projects[0].keys[..] else {
            panic!("{config:?}")
        };
        assert_eq!((short.disabled, short.quotas), (false, Quotas::default()));
        assert!(long.disabled && !plain.disabled);
        assert_eq!(long.quotas.uploads_per_minute, Some(100));
        assert_eq!(long.quotas.bytes_per_hour, Some(ByteSize::mib(1024)));
        let shown = config.to_toml().expect("shows");
        assert!(
            shown.contains("\"abc\"") && shown.contains("\"ghi\""),
            "{shown}"
        );
        assert!(!shown.contains("key = \"ghi\""), "{shown}");
        let again = read(&shown).expect("reads again");
        assert_eq!(again.projects, config.projects, "{shown}");
        config.check(Role::Standalone).expect("nothing is wrong");
    }

    #[test]
    fn a_key_that_is_neither_says_what_was_expected() {
        for (keys, expected) in [
            ("7", "expected a key like"),
            ("\"a b\"", "a key of 1 to 64 letters"),
            ("{ disabled = true }", "missing field `key`"),
            (
                "{ key = \"a\", bytes_per_hour = \"much\" }",
                "expected a size like",
            ),
            ("{ key = \"a\", uploads_per_hour = -1 }", "-1"),
        ] {
            let error = read(&format!("[[projects]]\nid = 1\nkeys = [{keys}]"));
            let error = error.expect_err(keys).to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn projects_that_cannot_be_told_apart_and_limits_that_cannot_be_are_named() {
        let written = "[[projects]]\nid = 1\nhosts = [\"a.example\", \"b:80\"]\nminidump_max = \"201MiB\"\n\
             keys = [\"abcd\", { key = \"def\", uploads_per_minute = 0 }]\n\
             [[projects]]\nid = 2\nhosts = [\"A.example\"]\nkeys = [\"abcd\"]\n[[projects]]\nid = 2\nkeys = []";
        let config = read(written).expect("reads");
        let error = config
            .check(Role::Standalone)
            .expect_err("refused")
            .to_string();
        for problem in [
            "projects.keys.uploads_per_minute: expected at least 1",
            "projects.minidump_max: expected 1B to limits.attachment (200MiB), found 201MiB",
            "projects.hosts: expected a host name without port, found \"b:80\"",
            "projects.hosts: expected each host once, found \"A.example\" again in project 2",
            "projects.keys: expected each key once, found abcd… again in project 2",
            "projects: expected each id once, found 2 twice",
            "projects: expected at least one key for project 2",
        ] {
            assert!(error.contains(problem), "no {problem} in:\n{error}");
        }
    }
}
