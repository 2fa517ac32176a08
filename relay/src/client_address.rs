//! The address that a request was sent from: the peer's, or the one that trusted proxies say they forward for. Pure.
//!
//! Each proxy writes down whom it was asked by. So the lists are read from their end, as long as the one who wrote is trusted;
//! what stands before the first that is not may be anything.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::http::HeaderMap;
use axum::http::header::{FORWARDED, HeaderName};
use shared::config::Network;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// The client's address, canonical; `None` when a trusted proxy does not know it, or does not say it.
///
/// Where a request has both lists, `X-Forwarded-For` counts: more proxies write it, and those that do let a client's
/// `Forwarded` pass. `X-Real-IP` counts where there is neither.
#[must_use]
pub fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> Option<IpAddr> {
    let peer = peer.to_canonical();
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    if !is_trusted(peer) {
        return Some(peer);
    }
    let Some(hops) = hops(headers) else {
        return Some(peer);
    };
    let mut client = Some(peer);
    for hop in hops.into_iter().rev() {
        client = hop;
        if !hop.is_some_and(is_trusted) {
            break;
        }
    }
    client
}

/// Whom the request was forwarded for, the first hop first; `None` for one that is not named by its address. `None` when no
/// header says anything.
fn hops(headers: &HeaderMap) -> Option<Vec<Option<IpAddr>>> {
    let lists = [
        read(headers, &X_FORWARDED_FOR, |text, hops| {
            hops.extend(
                text.split(',')
                    .map(str::trim)
                    .filter(|hop| !hop.is_empty())
                    .map(node),
            );
        }),
        read(headers, &FORWARDED, |text, hops| {
            hops.extend(forwarded(text))
        }),
        read(headers, &X_REAL_IP, |text, hops| hops.push(node(text))),
    ];
    lists.into_iter().find(|hops| !hops.is_empty())
}

/// Reads all headers of a name, which are one list.
fn read(
    headers: &HeaderMap,
    name: &HeaderName,
    hops_of: impl Fn(&str, &mut Vec<Option<IpAddr>>),
) -> Vec<Option<IpAddr>> {
    let mut hops = Vec::new();
    for value in headers.get_all(name) {
        match value.to_str() {
            Ok(text) if text.trim().is_empty() => {}
            Ok(text) => hops_of(text, &mut hops),
            Err(_) => hops.push(None),
        }
    }
    hops
}

/// The elements of a `Forwarded` header (RFC 7239, section 4): pairs such as `for="[2001:db8::1]:4711";proto=https`.
fn forwarded(text: &str) -> Vec<Option<IpAddr>> {
    let elements = split_outside_quotes(text, ',');
    let elements = elements
        .into_iter()
        .filter(|element| !element.trim().is_empty());
    let hop = |element: &str| {
        let pairs = split_outside_quotes(element, ';');
        let mut nodes = pairs.into_iter().filter_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            name.trim().eq_ignore_ascii_case("for").then_some(value)
        });
        node(&unquoted(nodes.next()?.trim()))
    };
    elements.map(hop).collect()
}

/// A quote that is never closed quotes nothing: otherwise a client that opens one would hide what proxies write behind it.
fn split_outside_quotes(text: &str, separator: char) -> Vec<&str> {
    let (mut quoted, mut escaped) = (false, false);
    let (mut parts, mut begin) = (Vec::new(), 0);
    for (at, letter) in text.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if letter == separator && !quoted => {
                parts.push(&text[begin..at]);
                begin = at + letter.len_utf8();
            }
            _ => {}
        }
    }
    if quoted {
        return text.split(separator).collect();
    }
    parts.push(&text[begin..]);
    parts
}

/// A token, or what a quoted string says.
fn unquoted(value: &str) -> String {
    let Some(quoted) = value
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
    else {
        return value.to_owned();
    };
    let mut letters = quoted.chars();
    let mut plain = String::with_capacity(quoted.len());
    while let Some(letter) = letters.next() {
        plain.extend(if letter == '\\' {
            letters.next()
        } else {
            Some(letter)
        });
    }
    plain
}

/// An address with or without port; `None` for `unknown`, for a name such as `_hidden`, and for what is neither.
fn node(text: &str) -> Option<IpAddr> {
    let text = text.trim().trim_matches('"');
    let with_port = text.parse::<SocketAddr>().map(|address| address.ip());
    let bare = || {
        let address = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        let address = address.unwrap_or(text);
        // A zone is of meaning to the proxy alone.
        let address = address
            .split_once('%')
            .map_or(address, |(address, _)| address);
        address.parse::<IpAddr>()
    };
    // RFC 7239 allows names for ports, too: `[2001:db8::1]:_web`.
    let named_port = || {
        let (address, _) = text.strip_prefix('[')?.split_once("]:")?;
        address.parse::<Ipv6Addr>().ok().map(IpAddr::from)
    };
    let address = with_port.or_else(|_| bare()).ok().or_else(named_port);
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PROXY: &str = "10.0.0.2";

    fn networks(texts: &[&str]) -> Vec<Network> {
        texts.iter().map(|text| text.parse().expect(text)).collect()
    }

    fn told(peer: &str, headers: &[(&'static str, &str)]) -> Option<String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().expect("a value"));
        }
        let trusted = networks(&["10.0.0.0/8", "::1", "2001:db8:ffff::/48"]);
        let address = client_address(peer.parse().expect(peer), &map, &trusted);
        address.map(|address| address.to_string())
    }

    #[test]
    fn a_peer_that_is_not_trusted_is_the_client_whatever_it_says() {
        for name in ["x-forwarded-for", "forwarded", "x-real-ip"] {
            for value in ["203.0.113.9", "for=203.0.113.9", "10.0.0.1", "unknown"] {
                let client = told("198.51.100.7", &[(name, value)]);
                assert_eq!(client.as_deref(), Some("198.51.100.7"), "{name}: {value}");
            }
        }
        assert_eq!(
            told("::ffff:198.51.100.7", &[]).as_deref(),
            Some("198.51.100.7")
        );
    }

    #[test]
    fn the_right_most_hop_that_is_not_trusted_is_the_client() {
        for (value, client) in [
            ("203.0.113.9", Some("203.0.113.9")),
            ("203.0.113.9, 10.0.0.2", Some("203.0.113.9")),
            (
                "6.6.6.6, 203.0.113.9, 10.0.0.3,10.0.0.2",
                Some("203.0.113.9"),
            ),
            ("10.6.6.6, 203.0.113.9", Some("203.0.113.9")),
            ("203.0.113.9:4711", Some("203.0.113.9")),
            ("::ffff:203.0.113.9, ::ffff:10.0.0.2", Some("203.0.113.9")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("[2001:db8::1]:443, 2001:db8:ffff::2", Some("2001:db8::1")),
            ("fe80::1%eth0", Some("fe80::1")),
            // Who asked from within: nobody outside is named.
            ("10.0.0.9, 10.0.0.3", Some("10.0.0.9")),
            ("", Some(PROXY)),
            (" , ,", Some(PROXY)),
            ("unknown", None),
            ("203.0.113.9, unknown", None),
            ("203.0.113.9, _hidden, 10.0.0.3", None),
            ("203.0.113.9, not an address", None),
        ] {
            let told = told(PROXY, &[("x-forwarded-for", value)]);
            assert_eq!(told.as_deref(), client, "{value:?}");
        }
    }

    #[test]
    fn a_forwarded_header_is_read_as_rfc_7239_has_it() {
        for (value, client) in [
            ("for=203.0.113.9", Some("203.0.113.9")),
            ("For=\"203.0.113.9:4711\"", Some("203.0.113.9")),
            ("for=\"[2001:db8::1]:1234\"", Some("2001:db8::1")),
            (
                "for=\"[2001:db8::1]\";proto=https;by=10.0.0.2",
                Some("2001:db8::1"),
            ),
            ("for=[2001:db8::1]:1234", Some("2001:db8::1")),
            (
                "proto=http;host=\"a,b;c\";for=203.0.113.9",
                Some("203.0.113.9"),
            ),
            (
                "for=6.6.6.6, for=203.0.113.9;by=10.0.0.3, for=10.0.0.3",
                Some("203.0.113.9"),
            ),
            ("for=\"\\203.0.113.9\"", Some("203.0.113.9")),
            ("for=\"[2001:db8::1]:_web\"", Some("2001:db8::1")),
            ("for=\"[::ffff:203.0.113.9]\"", Some("203.0.113.9")),
            ("for=unknown", None),
            ("for=\"_gazonk\"", None),
            ("for=203.0.113.9, for=unknown, for=10.0.0.3", None),
            ("for=203.0.113.9, proto=https", None),
            ("for=6.6.6.6;by=\", for=203.0.113.9", Some("203.0.113.9")),
            (
                "for=6.6.6.6;by=\"\\, for=\"[2001:db8::1]\"",
                Some("2001:db8::1"),
            ),
        ] {
            let told = told(PROXY, &[("forwarded", value)]);
            assert_eq!(told.as_deref(), client, "{value:?}");
        }
    }

    #[test]
    fn lines_of_one_header_are_one_list_and_the_headers_have_an_order() {
        let several = [
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-for", "203.0.113.9"),
        ];
        assert_eq!(told(PROXY, &several).as_deref(), Some("203.0.113.9"));
        let all = [
            ("x-real-ip", "6.6.6.3"),
            ("forwarded", "for=6.6.6.2"),
            ("x-forwarded-for", "203.0.113.9"),
        ];
        assert_eq!(told(PROXY, &all).as_deref(), Some("203.0.113.9"));
        assert_eq!(told(PROXY, &all[..2]).as_deref(), Some("6.6.6.2"));
        assert_eq!(told(PROXY, &all[..1]).as_deref(), Some("6.6.6.3"));
        assert_eq!(told(PROXY, &[]).as_deref(), Some(PROXY));
        assert_eq!(told("::1", &all[2..]).as_deref(), Some("203.0.113.9"));
    }

    proptest! {
        #[test]
        fn what_a_client_writes_itself_never_names_another(
            spoofed in "[ -~]{0,60}",
            name in prop::sample::select(vec!["x-forwarded-for", "forwarded"]),
        ) {
            // The proxy appends whom it was asked by, on a line of its own or behind a comma.
            let real = if name == "forwarded" { "for=203.0.113.9" } else { "203.0.113.9" };
            let client = told(PROXY, &[(name, &spoofed), (name, real)]);
            prop_assert_eq!(client.as_deref(), Some("203.0.113.9"));
            let joined = format!("{spoofed}, {real}");
            let client = told(PROXY, &[(name, &joined)]);
            prop_assert_eq!(client.as_deref(), Some("203.0.113.9"));
        }
    }
}
