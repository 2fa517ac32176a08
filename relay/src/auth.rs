//! The key that a request carries, in the query or in a header, and why it may not do.

use std::borrow::Cow;

use axum::http::{HeaderMap, HeaderName, StatusCode, Uri, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use shared::id::ProjectId;

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
    /// No project has it, and the request names none.
    #[error("expected a key of a project, found one that no project has")]
    NobodysKey,
    /// There is no key, and no project has the host that the request was sent to.
    #[error("expected ?key= or a host of a project, found neither")]
    UnknownHost,
    /// An operator has taken it out of use.
    #[error("expected a key of project {0} that is in use, found one that is disabled")]
    Disabled(ProjectId),
}

impl KeyRefusal {
    /// 401 when the request does not say who asks, 403 when that one may not.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::Missing | Self::Several | Self::UnknownHost => StatusCode::UNAUTHORIZED,
            Self::UnknownProject(_)
            | Self::UnknownKey(_)
            | Self::NobodysKey
            | Self::OtherProject(_)
            | Self::Disabled(_) => StatusCode::FORBIDDEN,
        }
    }

    /// The reason's name, part of the interface.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Missing | Self::UnknownHost => "missing_key",
            Self::Several => "several_keys",
            Self::UnknownProject(_) => "unknown_project",
            Self::UnknownKey(_) | Self::NobodysKey => "unknown_key",
            Self::OtherProject(_) => "key_of_another_project",
            Self::Disabled(_) => "disabled_key",
        }
    }
}

/// The one key that a request's query and headers carry, wherever it stands; `None` when they carry none.
///
/// # Errors
/// [`KeyRefusal::Several`]
pub fn sent_keys<'r>(
    uri: &'r Uri,
    headers: &'r HeaderMap,
) -> Result<Option<Cow<'r, str>>, KeyRefusal> {
    let in_query = query_keys(uri.query().unwrap_or_default());
    let in_sentry_auth = texts(headers, SENTRY_AUTH).flat_map(sentry_keys);
    let in_authorization = texts(headers, header::AUTHORIZATION).flat_map(authorization_keys);
    let mut keys = in_query.chain(in_sentry_auth).chain(in_authorization);
    let Some(key) = keys.next() else {
        return Ok(None);
    };
    if keys.all(|other| other == key) {
        Ok(Some(key))
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
    let (scheme, parameters) = value.trim().split_once([' ', ',']).unwrap_or((value, ""));
    let parameters = if scheme.eq_ignore_ascii_case("sentry") {
        parameters
    } else {
        // Some write the parameters alone.
        value
    };
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

    fn sent(query: &str, headers: &[(&'static str, &str)]) -> Result<Option<String>, KeyRefusal> {
        let uri = format!("/api/1/minidump{query}").parse().expect("a path");
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().expect("a value"));
        }
        Ok(sent_keys(&uri, &map)?.map(Cow::into_owned))
    }

    #[test]
    fn the_key_may_stand_in_any_of_its_places() {
        let basic = format!("Basic {}", STANDARD.encode(format!("{KEY}:")));
        let sentry = format!("Sentry sentry_key={KEY}");
        let bare = format!("sentry_version=7,sentry_key={KEY}");
        let reordered = format!("Sentry sentry_version=7,sentry_client=x/1, sentry_key={KEY},a=b");
        for (query, headers) in [
            (format!("?sentry_key={KEY}"), vec![]),
            (format!("?sentry_key=%30{}", &KEY[1..]), vec![]),
            (
                format!("?sentry_client=native/0&sentry_key={KEY}&guid=g"),
                vec![],
            ),
            (String::new(), vec![("x-sentry-auth", sentry.as_str())]),
            (String::new(), vec![("x-sentry-auth", bare.as_str())]),
            (String::new(), vec![("x-sentry-auth", reordered.as_str())]),
            (String::new(), vec![("authorization", reordered.as_str())]),
            (String::new(), vec![("authorization", basic.as_str())]),
            (
                format!("?sentry_key={KEY}"),
                vec![("x-sentry-auth", sentry.as_str())],
            ),
        ] {
            let key = sent(&query, &headers);
            assert_eq!(key, Ok(Some(KEY.to_owned())), "{query} {headers:?}");
        }
    }

    #[test]
    fn two_different_keys_are_none_and_an_empty_one_is_not_there() {
        let other = format!("Sentry sentry_key={OTHER}");
        for (query, headers, expected) in [
            ("", vec![], Ok(None)),
            ("?sentry_key=", vec![("x-sentry-auth", "Basic x")], Ok(None)),
            ("", vec![("authorization", "Bearer x")], Ok(None)),
            (
                "?sentry_key=0123456789abcdef",
                vec![("x-sentry-auth", other.as_str())],
                Err(KeyRefusal::Several),
            ),
            (
                "?sentry_key=a&sentry_key=b",
                vec![],
                Err(KeyRefusal::Several),
            ),
        ] {
            assert_eq!(sent(query, &headers), expected, "{query} {headers:?}");
        }
    }
}
