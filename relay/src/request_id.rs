//! The id of one request, the same in its answer and in the log.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const REQUEST_ID_BYTES_MAX: usize = 64;

/// The id that a proxy gave the request, when it is one; a new one otherwise.
pub(crate) fn request_id(headers: &HeaderMap) -> HeaderValue {
    let given = headers.get(REQUEST_ID).filter(|value| {
        let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
        (1..=REQUEST_ID_BYTES_MAX).contains(&value.len()) && value.as_bytes().iter().all(allowed)
    });
    given.cloned().unwrap_or_else(|| {
        let mut text = [0; 32];
        let text: &str = Uuid::new_v4().simple().encode_lower(&mut text);
        // INVARIANT: hexadecimal digits are a valid header value.
        HeaderValue::from_str(text).expect("hexadecimal digits")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxys_id_is_kept_and_nonsense_is_not() {
        let with = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_static(value));
            request_id(&headers)
        };
        assert_eq!(with("Root-1.a_b"), "Root-1.a_b");
        assert_eq!(with("a b").len(), 32);
        assert_eq!(request_id(&HeaderMap::new()).len(), 32);
    }
}
