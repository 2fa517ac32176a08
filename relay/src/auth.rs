//! Who may send to which project: the key in the query or in a header, checked against the configuration.

use std::borrow::Cow;
use std::collections::HashMap;

use axum::http::{HeaderMap, HeaderName, StatusCode, Uri, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use shared::config::ProjectConfig;
use shared::id::{ProjectId, PublicKey};

const SENTRY_AUTH: HeaderName = HeaderName::from_static("x-sentry-auth");

/// Why a request may not do what it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefusal {
    /// There is none.
    #[error("expected a key in ?sentry_key=, X-Sentry-Auth or Authorization, found none")]
    Missing,
    /// There are two different ones.
    #[error("expected one key, found two different ones in the query and the headers")]
    Several,
    /// There is no such project.
    #[error("expected a project of this relay, found project {0}, for which no key is known")]
    UnknownProject(ProjectId),
    /// No project has it.
    #[error("expected a key of project {0}, found one that no project has")]
    UnknownKey(ProjectId),
    /// Another project has it.
    #[error("expected a key of project {0}, found one of another project")]
    OtherProject(ProjectId),
}

impl KeyRefusal {
    /// 401 when the request does not say who asks, 403 when that one may not.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::Missing | Self::Several => StatusCode::UNAUTHORIZED,
            Self::UnknownProject(_) | Self::UnknownKey(_) | Self::OtherProject(_) => {
                StatusCode::FORBIDDEN
            }
        }
    }

    /// The reason's name, part of the interface.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Missing => "missing_key",
            Self::Several => "several_keys",
            Self::UnknownProject(_) => "unknown_project",
            Self::UnknownKey(_) => "unknown_key",
            Self::OtherProject(_) => "key_of_another_project",
        }
    }
}

/// The projects and their keys.
#[derive(Debug, Clone, Default)]
pub struct KeyRing {
    projects: HashMap<ProjectId, Vec<PublicKey>>,
}

impl KeyRing {
    /// The keys of the configuration.
    #[must_use]
    pub fn new(projects: &[ProjectConfig]) -> Self {
        let projects = projects
            .iter()
            .map(|project| (project.id, project.keys.clone()));
        Self {
            projects: projects.collect(),
        }
    }

    /// Whether the request carries one key, of this project.
    ///
    /// # Errors
    /// [`KeyRefusal`].
    pub fn check(
        &self,
        project: ProjectId,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<(), KeyRefusal> {
        let key = sent_key(uri, headers)?;
        let has = |keys: &Vec<PublicKey>| keys.iter().any(|known| known.as_str() == key);
        let keys = self
            .projects
            .get(&project)
            .ok_or(KeyRefusal::UnknownProject(project))?;
        if has(keys) {
            Ok(())
        } else if self.projects.values().any(has) {
            Err(KeyRefusal::OtherProject(project))
        } else {
            Err(KeyRefusal::UnknownKey(project))
        }
    }
}

/// The one key that a request carries, wherever it stands.
fn sent_key<'r>(uri: &'r Uri, headers: &'r HeaderMap) -> Result<Cow<'r, str>, KeyRefusal> {
    let in_query = query_keys(uri.query().unwrap_or_default());
    let in_sentry_auth = texts(headers, SENTRY_AUTH).flat_map(sentry_keys);
    let in_authorization = texts(headers, header::AUTHORIZATION).flat_map(authorization_keys);
    let mut keys = in_query.chain(in_sentry_auth).chain(in_authorization);
    let key = keys.next().ok_or(KeyRefusal::Missing)?;
    if keys.all(|other| other == key) {
        Ok(key)
    } else {
        Err(KeyRefusal::Several)
    }
}

fn texts(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
}

fn query_keys(query: &str) -> impl Iterator<Item = Cow<'_, str>> {
    query
        .split('&')
        .filter_map(|pair| pair.strip_prefix("sentry_key="))
        .filter(|key| !key.is_empty())
        .map(|key| percent_decode_str(key).decode_utf8_lossy())
}

/// `Sentry sentry_version=7, sentry_key=…`, the parameters in any order.
fn sentry_keys(value: &str) -> impl Iterator<Item = Cow<'_, str>> {
    let scheme = value
        .get(..6)
        .filter(|scheme| scheme.eq_ignore_ascii_case("sentry"));
    let parameters = scheme.map_or("", |_| &value[6..]);
    parameters
        .split([',', ' '])
        .filter_map(|parameter| parameter.trim().strip_prefix("sentry_key="))
        .map(|key| key.trim_matches('"'))
        .filter(|key| !key.is_empty())
        .map(Cow::Borrowed)
}

/// `Sentry …` as above, or `Basic` with the key as the user.
fn authorization_keys(value: &str) -> impl Iterator<Item = Cow<'_, str>> {
    sentry_keys(value).chain(basic_user(value).map(Cow::Owned))
}

fn basic_user(value: &str) -> Option<String> {
    let (scheme, credentials) = value.trim().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = STANDARD.decode(credentials.trim()).ok()?;
    let (user, _) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    (!user.is_empty()).then(|| user.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef";
    const OTHER: &str = "fedcba9876543210";

    fn project(number: u64) -> ProjectId {
        ProjectId::new(number).expect("not zero")
    }

    fn check(query: &str, headers: &[(&'static str, &str)]) -> Result<(), KeyRefusal> {
        let of = |number, key: &str| ProjectConfig {
            id: project(number),
            keys: vec![key.parse().expect("a key")],
        };
        let ring = KeyRing::new(&[of(1, KEY), of(2, OTHER)]);
        let uri = format!("/api/1/minidump{query}").parse().expect("a path");
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().expect("a value"));
        }
        ring.check(project(1), &uri, &map)
    }

    #[test]
    fn the_key_may_stand_in_any_of_its_places() {
        let basic = format!("Basic {}", STANDARD.encode(format!("{KEY}:")));
        let sentry = format!("Sentry sentry_key={KEY}");
        let reordered = format!("Sentry sentry_version=7,sentry_client=x/1, sentry_key={KEY},a=b");
        for (query, headers) in [
            (format!("?sentry_key={KEY}"), vec![]),
            (
                format!("?sentry_client=native/0&sentry_key={KEY}&guid=g"),
                vec![],
            ),
            (String::new(), vec![("x-sentry-auth", sentry.as_str())]),
            (String::new(), vec![("x-sentry-auth", reordered.as_str())]),
            (String::new(), vec![("authorization", reordered.as_str())]),
            (String::new(), vec![("authorization", basic.as_str())]),
            (
                format!("?sentry_key={KEY}"),
                vec![("x-sentry-auth", sentry.as_str())],
            ),
        ] {
            assert_eq!(check(&query, &headers), Ok(()), "{query} {headers:?}");
        }
    }

    #[test]
    fn every_refusal_has_its_own_reason() {
        let other = format!("Sentry sentry_key={OTHER}");
        for (query, headers, refusal) in [
            ("", vec![], KeyRefusal::Missing),
            (
                "?sentry_key=",
                vec![("x-sentry-auth", "Basic x")],
                KeyRefusal::Missing,
            ),
            (
                "?sentry_key=0123456789abcdef",
                vec![("x-sentry-auth", other.as_str())],
                KeyRefusal::Several,
            ),
            ("?sentry_key=a&sentry_key=b", vec![], KeyRefusal::Several),
            (
                "?sentry_key=nobody",
                vec![],
                KeyRefusal::UnknownKey(project(1)),
            ),
            (
                "",
                vec![("authorization", other.as_str())],
                KeyRefusal::OtherProject(project(1)),
            ),
        ] {
            assert_eq!(check(query, &headers), Err(refusal));
        }
    }

    #[test]
    fn a_project_nobody_configured_is_unknown() {
        let uri = "/?sentry_key=a".parse().expect("a path");
        let refusal = KeyRing::default().check(project(77), &uri, &HeaderMap::new());
        assert_eq!(refusal, Err(KeyRefusal::UnknownProject(project(77))));
    }
}
