//! The projects and their keys: those of the configuration, and what operators added or changed in the state store. Looked
//! up without waiting for anybody; a store that is away leaves the last known keys in force.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use axum::http::{HeaderMap, Uri};
use shared::config::{ByteSize, ProjectConfig};
use shared::id::{ProjectId, PublicKey};
use shared::metrics::Known;
use shared::quota::Quotas;
use shared::state::{KeyRecord, State, StateError};

use crate::auth::{KeyRefusal, sent_keys};
use crate::limits::REFUSAL_LABELS_MAX;

/// The keys in force. Cloning shares them.
#[derive(Debug, Clone)]
pub struct KeyRing(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    configured: Vec<ProjectConfig>,
    /// Replaced whole, so that nobody holds the lock for longer than it takes to copy a pointer.
    in_force: RwLock<Arc<Keys>>,
}

#[derive(Debug, Default, PartialEq)]
struct Keys {
    keys: HashMap<Box<str>, Arc<KeyRecord>>,
    projects: HashMap<ProjectId, Project>,
    hosts: HashMap<String, ProjectId>,
    named: Named,
}

/// What is counted by name.
#[derive(Debug, Default, PartialEq)]
struct Named {
    projects: HashMap<ProjectId, Known>,
    /// By project and the key's first characters, which several keys may share.
    keys: HashMap<(ProjectId, Box<str>), Known>,
}

#[derive(Debug, Default, PartialEq)]
struct Project {
    minidump_max: Option<ByteSize>,
    public_report: bool,
}

/// What a key allows: it is in use, and of this project.
#[derive(Debug, Clone)]
pub struct KeyGrant {
    record: Arc<KeyRecord>,
    minidump_max: Option<ByteSize>,
    public_report: bool,
}

impl KeyGrant {
    /// The project.
    #[must_use]
    pub fn project_id(&self) -> ProjectId {
        self.record.project_id
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &PublicKey {
        &self.record.key
    }

    /// What may be sent with it.
    #[must_use]
    pub fn quotas(&self) -> &Quotas {
        &self.record.quotas
    }

    /// The largest minidump that the project takes, when that is less than any may be.
    #[must_use]
    pub fn minidump_max(&self) -> Option<ByteSize> {
        self.minidump_max
    }

    /// Whether it reads reports: [`shared::config::PrivacyConfig::public_report`].
    #[must_use]
    pub fn reads_reports(&self) -> bool {
        self.public_report
    }
}

impl KeyRing {
    /// The keys of the configuration alone.
    #[must_use]
    pub fn new(projects: &[ProjectConfig]) -> Self {
        Self(Arc::new(Shared {
            configured: projects.to_vec(),
            in_force: RwLock::new(Arc::new(Keys::of(projects, Vec::new()))),
        }))
    }

    /// Reads what operators added and changed.
    ///
    /// # Errors
    /// [`StateError`]: the last known keys stay in force.
    pub async fn refresh(&self, state: &State) -> Result<(), StateError> {
        let records = state.keys().await?;
        self.put(Keys::of(&self.0.configured, records));
        Ok(())
    }

    fn put(&self, keys: Keys) {
        if *self.in_force() == keys {
            return;
        }
        let mut in_force = self
            .0
            .in_force
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *in_force = Arc::new(keys);
    }

    fn in_force(&self) -> Arc<Keys> {
        let in_force = self.0.in_force.read();
        Arc::clone(&in_force.unwrap_or_else(PoisonError::into_inner))
    }

    /// What `key` allows in `project`.
    ///
    /// # Errors
    /// [`KeyRefusal`]
    pub fn check(&self, project: ProjectId, key: &str) -> Result<KeyGrant, KeyRefusal> {
        let keys = self.in_force();
        let known = keys
            .projects
            .get(&project)
            .ok_or(KeyRefusal::UnknownProject(project))?;
        match keys.keys.get(key) {
            None => Err(KeyRefusal::UnknownKey(project)),
            Some(record) if record.project_id != project => Err(KeyRefusal::OtherProject(project)),
            Some(record) if record.disabled => Err(KeyRefusal::Disabled(project)),
            Some(record) => Ok(KeyGrant {
                record: Arc::clone(record),
                minidump_max: known.minidump_max,
                public_report: known.public_report,
            }),
        }
    }

    /// As [`KeyRing::check`], with the one key that the request's query or headers carry.
    ///
    /// # Errors
    /// [`KeyRefusal`]
    pub fn check_request(
        &self,
        project: ProjectId,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<KeyGrant, KeyRefusal> {
        let key: Cow<'_, str> = sent_keys(uri, headers)?.ok_or(KeyRefusal::Missing)?;
        self.check(project, &key)
    }

    /// What a key allows in the project that it belongs to.
    ///
    /// # Errors
    /// [`KeyRefusal`]
    pub fn check_anywhere(&self, key: &str) -> Result<KeyGrant, KeyRefusal> {
        let project = self.project_of_key(key).ok_or(KeyRefusal::NobodysKey)?;
        self.check(project, key)
    }

    /// What the first key in use allows in the project that has a host: for clients that have no key.
    ///
    /// # Errors
    /// [`KeyRefusal::UnknownHost`], [`KeyRefusal::Disabled`]
    pub fn check_host(&self, host: &str) -> Result<KeyGrant, KeyRefusal> {
        let project = self.project_of_host(host).ok_or(KeyRefusal::UnknownHost)?;
        let keys = self.in_force();
        let of_project = keys
            .keys
            .values()
            .filter(|record| record.project_id == project);
        let usable = of_project.filter(|record| !record.disabled);
        // Always the same one: its quotas are what the host may send.
        let first = usable.min_by(|a, b| a.key.cmp(&b.key));
        let first = first.ok_or(KeyRefusal::Disabled(project))?;
        self.check(project, first.key.as_str())
    }

    /// What a request is counted for that claims to be of a project and a key: the names of those that are known, and not
    /// too many of them.
    #[must_use]
    pub fn labels(&self, project: Option<ProjectId>, key: Option<&str>) -> (Known, Known) {
        let keys = self.in_force();
        let record = key.and_then(|key| keys.keys.get(key));
        let project = project.or_else(|| record.map(|record| record.project_id));
        let Some(known) = project.and_then(|project| keys.named.projects.get(&project)) else {
            return (Known::OTHER, Known::OTHER);
        };
        let record = record.filter(|record| Some(record.project_id) == project);
        let key = record.and_then(|record| keys.named.keys.get(&named_key(record)));
        (known.clone(), key.cloned().unwrap_or(Known::OTHER))
    }

    /// Everything that [`KeyRing::labels`] returns, whatever requests claim.
    #[must_use]
    pub fn all_labels(&self) -> Vec<(Known, Known)> {
        let in_force = self.in_force();
        let Named { projects, keys } = &in_force.named;
        let of_keys = keys.iter().filter_map(|((project, _), key)| {
            let project = projects.get(project)?;
            Some((project.clone(), key.clone()))
        });
        let of_projects = projects
            .values()
            .map(|project| (project.clone(), Known::OTHER));
        let others = [(Known::OTHER, Known::OTHER)];
        of_keys.chain(of_projects).chain(others).collect()
    }

    /// The project that a key belongs to, disabled or not.
    #[must_use]
    pub fn project_of_key(&self, key: &str) -> Option<ProjectId> {
        let keys = self.in_force();
        keys.keys.get(key).map(|record| record.project_id)
    }

    /// The project that has a host, which may be written as in a `Host` header.
    #[must_use]
    pub fn project_of_host(&self, host: &str) -> Option<ProjectId> {
        let name = host.split_once(':').map_or(host, |(name, _port)| name);
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        self.in_force().hosts.get(&name).copied()
    }
}

impl Keys {
    /// What operators put wins over what is configured, but for whose key it is.
    fn of(projects: &[ProjectConfig], records: Vec<KeyRecord>) -> Self {
        let mut keys = Self::default();
        let mut all: HashMap<Box<str>, KeyRecord> = HashMap::new();
        for project in projects {
            let minidump_max = project.minidump_max;
            let public_report = project.privacy.public_report;
            let known = Project {
                minidump_max,
                public_report,
            };
            keys.projects.insert(project.id, known);
            for host in &project.hosts {
                keys.hosts.insert(host.to_ascii_lowercase(), project.id);
            }
            for configured in &project.keys {
                let record = KeyRecord {
                    key: configured.key.clone(),
                    project_id: project.id,
                    disabled: configured.disabled,
                    quotas: configured.quotas,
                };
                all.insert(record.key.as_str().into(), record);
            }
        }
        for mut record in records {
            if let Some(configured) = all.get(record.key.as_str()) {
                record.project_id = configured.project_id;
            }
            keys.projects.entry(record.project_id).or_default();
            all.insert(record.key.as_str().into(), record);
        }
        let shared = all.into_iter().map(|(key, record)| (key, Arc::new(record)));
        keys.keys = shared.collect();
        keys.named = Named::of(&keys);
        keys
    }
}

impl Named {
    /// The first ones in their order: what is named does not depend on which request comes first.
    fn of(keys: &Keys) -> Self {
        let projects: BTreeSet<ProjectId> = keys.projects.keys().copied().collect();
        let named = projects.into_iter().take(REFUSAL_LABELS_MAX);
        let projects = named.map(|project| (project, Known::new(&project.to_string())));
        let all: BTreeSet<_> = keys.keys.values().map(|record| named_key(record)).collect();
        let named = all.into_iter().take(REFUSAL_LABELS_MAX);
        let keys = named.map(|(project, prefix)| {
            let key = Known::new(&prefix);
            ((project, prefix), key)
        });
        Self {
            projects: projects.collect(),
            keys: keys.collect(),
        }
    }
}

fn named_key(record: &KeyRecord) -> (ProjectId, Box<str>) {
    (record.project_id, record.key.prefix().into())
}

#[cfg(test)]
mod tests {
    use shared::config::KeyConfig;

    use super::*;

    fn project(number: u64) -> ProjectId {
        ProjectId::new(number)
    }

    fn key(text: &str) -> PublicKey {
        text.parse().expect("a key")
    }

    fn record(text: &str, number: u64) -> KeyRecord {
        KeyRecord {
            key: key(text),
            project_id: project(number),
            disabled: false,
            quotas: Quotas::default(),
        }
    }

    fn configured() -> Vec<ProjectConfig> {
        let mut second = ProjectConfig::new(project(2), [key("two")]);
        second.minidump_max = Some(ByteSize::mib(50));
        second.hosts = vec!["Crash.Example.org".into()];
        second.keys.push(KeyConfig {
            disabled: true,
            ..key("old").into()
        });
        vec![ProjectConfig::new(project(1), [key("one")]), second]
    }

    fn refusal(ring: &KeyRing, number: u64, key: &str) -> KeyRefusal {
        ring.check(project(number), key)
            .map(|grant| grant.project_id())
            .expect_err("refused")
    }

    #[test]
    fn every_refusal_has_its_own_reason() {
        let ring = KeyRing::new(&configured());
        let granted = ring.check(project(2), "two").expect("granted");
        assert_eq!(granted.project_id(), project(2));
        assert_eq!(granted.minidump_max(), Some(ByteSize::mib(50)));
        for (number, key, expected) in [
            (77, "one", KeyRefusal::UnknownProject(project(77))),
            (1, "nobody", KeyRefusal::UnknownKey(project(1))),
            (1, "two", KeyRefusal::OtherProject(project(1))),
            (2, "old", KeyRefusal::Disabled(project(2))),
        ] {
            assert_eq!(refusal(&ring, number, key), expected);
        }
        let uri = "/?a".parse().expect("a path");
        let missing = ring.check_request(project(1), &uri, &HeaderMap::new());
        assert_eq!(missing.map(|_| ()), Err(KeyRefusal::Missing));
    }

    #[test]
    fn a_stranger_makes_no_label() {
        let ring = KeyRing::new(&configured());
        let labels = |number: Option<u64>, key: Option<&str>| {
            let (project, key) = ring.labels(number.map(project), key);
            format!("{} {}", project.as_str(), key.as_str())
        };
        for (number, key, expected) in [
            (Some(2), Some("two"), "2 two"),
            (None, Some("two"), "2 two"),
            (Some(2), Some("old"), "2 old"),
            (Some(1), Some("two"), "1 other"),
            (Some(2), Some("twofold"), "2 other"),
            (Some(2), None, "2 other"),
            (Some(77), Some("two"), "other other"),
            (Some(77), Some("stranger"), "other other"),
            (None, None, "other other"),
        ] {
            assert_eq!(labels(number, key), expected, "{number:?} {key:?}");
        }
        let all = ring.all_labels();
        assert_eq!(
            all.len(),
            6,
            "three keys, two projects and the others: {all:?}"
        );
        let many = |projects: u64| (0..projects).flat_map(|n| (0..3).map(move |k| (n, k)));
        let records = many(100)
            .map(|(n, k)| record(&format!("{n:03}{k}"), n))
            .collect();
        ring.put(Keys::of(&configured(), records));
        let all = ring.all_labels();
        assert!(all.len() <= 2 * REFUSAL_LABELS_MAX + 1, "{}", all.len());
        for (number, key) in many(100) {
            let labels = ring.labels(Some(project(number)), Some(&format!("{number:03}{key}")));
            assert!(all.contains(&labels), "{labels:?} was not shown at 0");
        }
    }

    #[test]
    fn what_operators_put_wins_over_what_is_configured() {
        let ring = KeyRing::new(&configured());
        let quotas = Quotas {
            uploads_per_hour: Some(7),
            ..Quotas::default()
        };
        let records = vec![
            KeyRecord {
                disabled: true,
                ..record("one", 1)
            },
            KeyRecord {
                quotas,
                ..record("old", 9)
            },
            record("more", 1),
            record("third", 3),
        ];
        ring.put(Keys::of(&configured(), records));
        assert_eq!(refusal(&ring, 1, "one"), KeyRefusal::Disabled(project(1)));
        let old = ring.check(project(2), "old").expect("in use again");
        assert_eq!(*old.quotas(), quotas);
        ring.check(project(1), "more").expect("added");
        ring.check(project(3), "third")
            .expect("a project by its key");
        assert_eq!(ring.project_of_key("more"), Some(project(1)));
        ring.put(Keys::of(&configured(), Vec::new()));
        ring.check(project(1), "one").expect("as configured");
        assert_eq!(ring.project_of_key("more"), None);
    }

    #[test]
    fn a_host_is_known_with_its_port_and_in_any_case() {
        let ring = KeyRing::new(&configured());
        for host in [
            "crash.example.org",
            "CRASH.example.org:443",
            "crash.example.org.",
        ] {
            assert_eq!(ring.project_of_host(host), Some(project(2)), "{host}");
        }
        for host in ["example.org", "", ":80", "[::1]:80"] {
            assert_eq!(ring.project_of_host(host), None, "{host}");
        }
    }
}
