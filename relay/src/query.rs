//! The parameters behind a path's question mark. Pure.

use axum::http::Uri;
use percent_encoding::percent_decode_str;

/// A parameter's value, decoded; the first one when there are several. `None` when it is absent or empty.
pub(crate) fn value(uri: &Uri, name: &str) -> Option<String> {
    let pairs = uri.query()?.split('&');
    let mut values = pairs.filter_map(|pair| {
        let (found, value) = pair.split_once('=')?;
        (decoded(found) == name).then(|| decoded(value))
    });
    values.find(|value| !value.is_empty())
}

/// All parameters in their order, names and values decoded. Those without a name or a value are none.
pub(crate) fn pairs(uri: &Uri) -> impl Iterator<Item = (String, Vec<u8>)> {
    let pairs = uri.query().unwrap_or_default().split('&');
    pairs.filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        (!name.is_empty() && !value.is_empty()).then(|| {
            let value = value.replace('+', " ");
            (decoded(name), percent_decode_str(&value).collect())
        })
    })
}

fn decoded(text: &str) -> String {
    let text = text.replace('+', " ");
    percent_decode_str(&text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parameters_are_told_in_their_order() {
        let uri = "/x?sentry%5Brelease%5D=0.1&prod=My+App&ver=&=x&lone&b=%FF&prod=%2B";
        let uri: Uri = uri.parse().expect("a path");
        let found: Vec<_> = pairs(&uri).collect();
        let expected: [(&str, &[u8]); 4] = [
            ("sentry[release]", b"0.1"),
            ("prod", b"My App"),
            ("b", b"\xFF"),
            ("prod", b"+"),
        ];
        let found: Vec<(&str, &[u8])> = found
            .iter()
            .map(|(name, value)| (name.as_str(), &value[..]))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_value_is_found_and_decoded() {
        let uri: Uri = "/submit?id=%7Bec8030f7%7D&version=&a+b=c%20d+e&version=141.0"
            .parse()
            .expect("a path");
        let value = |name| value(&uri, name);
        assert_eq!(value("id").as_deref(), Some("{ec8030f7}"));
        assert_eq!(value("version").as_deref(), Some("141.0"));
        assert_eq!(value("a b").as_deref(), Some("c d e"));
        assert_eq!(value("key"), None);
        assert_eq!(super::value(&"/x".parse().expect("a path"), "id"), None);
    }
}
