//! Addresses that may hold a password: shown without it.

use serde::Serializer;
use url::Url;

use super::Secret;

/// An address as it may be shown: user, password, parameters and fragment left out. One that cannot be read is shown only
/// when it is a path.
pub(super) fn shown(address: &str) -> String {
    if !address.contains("://") {
        let is_path = !address.contains('@');
        return if is_path { address } else { Secret::SHOWN }.to_owned();
    }
    let Ok(mut url) = Url::parse(address) else {
        return Secret::SHOWN.to_owned();
    };
    let azure_container = matches!(url.scheme(), "abfs" | "abfss") && url.password().is_none();
    let hidden = url.query().is_some()
        || url.fragment().is_some()
        || url.password().is_some()
        || !url.username().is_empty() && !azure_container;
    if !hidden {
        return address.to_owned();
    }
    url.set_query(None);
    url.set_fragment(None);
    // What has no host has no user either.
    let cleared = url.set_password(None).and_then(|()| url.set_username(""));
    match cleared {
        Ok(()) => format!("{url} ({} left out)", Secret::SHOWN),
        Err(()) => Secret::SHOWN.to_owned(),
    }
}

/// Shows an address, or none.
pub(super) fn serialize<S: Serializer>(
    address: &Option<String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match address {
        Some(address) => serializer.serialize_some(&shown(address)),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_what_lets_one_in() {
        for plain in [
            "/srv/crashes",
            "./storage",
            "",
            "file:///srv/crashes",
            "s3://crashes/prefix",
            "abfss://container@account.dfs.core.windows.net/a",
        ] {
            assert_eq!(shown(plain), plain);
        }
        for secret in [
            "s3://key:hunter2@crashes/a",
            "s3://hunter2@crashes/a",
            "az://container/a?sig=hunter2",
            "https://account.blob.core.windows.net/a#hunter2",
            "postgres://user:hunter2@db/index",
            "key:hunter2@crashes",
            "s3://crashes:hunter2/a",
            "s3 ://x:hunter2@b",
        ] {
            let shown = shown(secret);
            assert!(!shown.contains("hunter2"), "{shown}");
            assert!(shown.contains(Secret::SHOWN), "{shown}");
        }
    }
}
