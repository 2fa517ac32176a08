//! What Sentry's SDKs say about themselves and their project outside of the event. Pure.

use axum::http::{HeaderMap, Uri};
use shared::id::ProjectId;

use crate::query;

/// The parameter, in the query or in `X-Sentry-Auth`, that names the SDK.
const CLIENT_PARAMETER: &str = "sentry_client";
const SENTRY_AUTH: &str = "x-sentry-auth";

/// The sending SDK, `name/version`.
pub(crate) fn name(uri: &Uri, headers: &HeaderMap) -> Option<String> {
    query::value(uri, CLIENT_PARAMETER).or_else(|| {
        let header = headers.get(SENTRY_AUTH)?.to_str().ok()?;
        let parameters = header.split([',', ' ']);
        let mut clients = parameters.filter_map(|parameter| {
            let (name, value) = parameter.trim().split_once('=')?;
            (name == CLIENT_PARAMETER).then(|| value.trim_matches('"').to_owned())
        });
        clients.find(|client| !client.is_empty())
    })
}

/// The project and the key of a DSN, `https://<key>@<host>/<path>/<project>`.
pub(crate) fn project_and_key(dsn: &str) -> Option<(ProjectId, &str)> {
    let (_, rest) = dsn.split_once("://")?;
    let (user, place) = rest.split_once('@')?;
    let path = place.split(['?', '#']).next()?.trim_end_matches('/');
    let (_, project) = path.rsplit_once('/')?;
    // Old DSNs have a secret behind the key.
    let key = user.split(':').next()?;
    Some((project.parse().ok()?, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_sdk_names_itself_in_the_query_or_in_its_header() {
        let mut headers = HeaderMap::new();
        let uri = |text: &str| text.parse::<Uri>().expect("a path");
        assert_eq!(name(&uri("/x?sentry_key=k"), &headers), None);
        let header = "Sentry sentry_key=k, sentry_version=7, sentry_client=sentry.rust/0.49.5";
        headers.insert(SENTRY_AUTH, header.parse().expect("a value"));
        let named = name(&uri("/x"), &headers);
        assert_eq!(named.as_deref(), Some("sentry.rust/0.49.5"));
        let named = name(&uri("/x?sentry_client=sentry.native%2F0.4.9"), &headers);
        assert_eq!(named.as_deref(), Some("sentry.native/0.4.9"));
    }

    #[test]
    fn a_dsn_tells_project_and_key() {
        let project = |number| ProjectId::new(number);
        for (dsn, told) in [
            ("https://abc@o1.example.org/42", Some((project(42), "abc"))),
            (
                "http://abc:secret@localhost:3000/a/path/7/",
                Some((project(7), "abc")),
            ),
            ("https://o1.example.org/42", None),
            ("https://abc@o1.example.org/x", None),
            ("abc", None),
        ] {
            assert_eq!(project_and_key(dsn), told, "{dsn}");
        }
    }
}
