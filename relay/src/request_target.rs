//! Where a request says that it goes: its host, once and the same everywhere, and its path in one spelling. Pure.

use axum::http::{HeaderMap, Uri, Version, header};

use crate::wire::Found;

/// The port that is meant where none is named.
const DEFAULT_PORT: &str = ":80";

/// Why a request's target is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// More than one host.
    #[error("expected one Host, found {0} of them")]
    Hosts(usize),
    /// A host that is none.
    #[error("expected Host: NAME or NAME:PORT, found {0}")]
    Host(Found),
    /// Two different hosts.
    #[error("expected the Host of the target, {target}, found {host}")]
    OtherHost {
        /// That of `:authority`, or of a target that is a whole URL.
        target: Found,
        /// That of the header.
        host: Found,
    },
    /// A path that could be spelled in another way.
    #[error("expected a path without percent escapes, found {0}")]
    EscapedPath(Found),
    /// HTTP/2 has frames for it.
    #[error("expected no Transfer-Encoding in HTTP/2, found one")]
    Encoding,
    /// More than one length.
    #[error("expected one Content-Length, found {0} of them")]
    Lengths(usize),
}

/// Checks what every endpoint relies on.
///
/// # Errors
/// [`TargetError`]
pub fn check(version: Version, uri: &Uri, headers: &HeaderMap) -> Result<(), TargetError> {
    let mut hosts = headers.get_all(header::HOST).into_iter();
    let host = hosts.next();
    if host.is_some() && hosts.next().is_some() {
        return Err(TargetError::Hosts(2 + hosts.count()));
    }
    let target = uri.authority().map(|authority| authority.as_str());
    for name in [host.map(|host| host.as_bytes()), target.map(str::as_bytes)] {
        match name {
            Some(name) if !is_host(name) => return Err(TargetError::Host(Found::new(name))),
            Some(_) | None => {}
        }
    }
    if let (Some(host), Some(target)) = (host, target)
        && !is_same(host.as_bytes(), target.as_bytes())
    {
        return Err(TargetError::OtherHost {
            target: Found::new(target.as_bytes()),
            host: Found::new(host.as_bytes()),
        });
    }
    if version == Version::HTTP_2 {
        // Those of HTTP/1 are checked on the wire.
        if headers.contains_key(header::TRANSFER_ENCODING) {
            return Err(TargetError::Encoding);
        }
        let lengths = headers.get_all(header::CONTENT_LENGTH).iter().count();
        if lengths > 1 {
            return Err(TargetError::Lengths(lengths));
        }
    }
    if uri.path().contains('%') {
        return Err(TargetError::EscapedPath(Found::new(uri.path().as_bytes())));
    }
    Ok(())
}

/// RFC 9110, 7.2 and RFC 3986, 3.2.2: a name, or an address in brackets, and maybe a port. One that is empty is a client
/// that has none to name.
fn is_host(host: &[u8]) -> bool {
    let (name, port) = match host.strip_prefix(b"[") {
        Some(rest) => {
            let Some(end) = rest.iter().position(|byte| *byte == b']') else {
                return false;
            };
            let (address, port) = rest.split_at(end);
            let is_address = std::str::from_utf8(address)
                .is_ok_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok());
            if !is_address {
                return false;
            }
            (&b"x"[..], &port[1..])
        }
        None => {
            let colon = host.iter().position(|byte| *byte == b':');
            host.split_at(colon.unwrap_or(host.len()))
        }
    };
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    let is_port = match port {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        [_, ..] => false,
    };
    name.iter().all(is_name) && is_port && (!name.is_empty() || port.is_empty())
}

fn is_same(one: &[u8], other: &[u8]) -> bool {
    let plain = |host: &[u8]| {
        let host = host.strip_suffix(DEFAULT_PORT.as_bytes()).unwrap_or(host);
        host.strip_suffix(b":").unwrap_or(host).to_ascii_lowercase()
    };
    plain(one) == plain(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(
        version: Version,
        uri: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<(), TargetError> {
        let uri = uri.parse().expect("a target");
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().expect("a value"));
        }
        check(version, &uri, &map)
    }

    fn shown(text: &str) -> Found {
        Found::new(text.as_bytes())
    }

    #[test]
    fn hosts_as_clients_write_them_pass() {
        for host in [
            "h",
            "crash.example.org",
            "crash.example.org:443",
            "127.0.0.1:3000",
            "[::1]",
            "[::1]:80",
            "a_b",
            "x--y.example.",
            "",
            "h:",
        ] {
            let passed = checked(Version::HTTP_11, "/api/1/minidump/", &[("host", host)]);
            assert_eq!(passed, Ok(()), "{host:?}");
        }
        assert_eq!(checked(Version::HTTP_10, "/", &[]), Ok(()));
        assert_eq!(checked(Version::HTTP_11, "/", &[]), Ok(()));
    }

    #[test]
    fn hosts_that_are_none_or_several_are_refused() {
        for host in [
            "a b", "a,b", "a, b", "a/b", "user@h", "h:x", "h:80:80", "h:123456", "[::1", "::1",
            "[x]", "[::1]x", "h#", "h?", "h\\", "\"h\"", ":80", "h;", "*",
        ] {
            let refused = checked(Version::HTTP_11, "/", &[("host", host)]);
            assert_eq!(refused, Err(TargetError::Host(shown(host))));
        }
        let twice = [("host", "a"), ("host", "a")];
        assert_eq!(
            checked(Version::HTTP_11, "/", &twice),
            Err(TargetError::Hosts(2))
        );
        let thrice = [("host", "a"), ("host", "b"), ("host", "a")];
        assert_eq!(
            checked(Version::HTTP_2, "/", &thrice),
            Err(TargetError::Hosts(3))
        );
    }

    #[test]
    fn the_host_of_the_target_is_that_of_the_header() {
        for (uri, host) in [
            ("http://h/", "h"),
            ("http://H:80/", "h"),
            ("http://h/", "H:80"),
            ("http://h:81/", "h:81"),
        ] {
            assert_eq!(
                checked(Version::HTTP_2, uri, &[("host", host)]),
                Ok(()),
                "{uri} {host}"
            );
        }
        for (uri, target, host) in [
            ("http://h/", "h", "i"),
            ("http://h:81/", "h:81", "h"),
            ("http://h.i/", "h.i", "h"),
            ("http://h/", "h", ""),
        ] {
            let (target, found) = (shown(target), shown(host));
            let refused = checked(Version::HTTP_11, uri, &[("host", host)]);
            assert_eq!(
                refused,
                Err(TargetError::OtherHost {
                    target,
                    host: found
                })
            );
        }
        let user = checked(Version::HTTP_2, "http://user@h/", &[]);
        assert_eq!(user, Err(TargetError::Host(shown("user@h"))));
    }

    #[test]
    fn http_2_states_a_length_once_and_no_encoding() {
        let lengths = [("content-length", "1"), ("content-length", "1")];
        assert_eq!(
            checked(Version::HTTP_2, "/", &lengths),
            Err(TargetError::Lengths(2))
        );
        let encoding = [("transfer-encoding", "chunked")];
        assert_eq!(
            checked(Version::HTTP_2, "/", &encoding),
            Err(TargetError::Encoding)
        );
        assert_eq!(checked(Version::HTTP_11, "/", &encoding), Ok(()));
    }

    #[test]
    fn a_path_has_one_spelling_and_a_query_any() {
        for path in [
            "/api/%31/minidump/",
            "/api/1%2Fminidump/",
            "/%61pi/1/minidump/",
            "/api/1/minidump/%00",
        ] {
            let refused = checked(Version::HTTP_11, path, &[]);
            assert_eq!(refused, Err(TargetError::EscapedPath(shown(path))));
        }
        assert_eq!(
            checked(Version::HTTP_11, "/api/1/minidump/?a=%20b", &[]),
            Ok(())
        );
    }
}
