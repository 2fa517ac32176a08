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

fn decoded(text: &str) -> String {
    let text = text.replace('+', " ");
    percent_decode_str(&text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

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
