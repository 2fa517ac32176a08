//! `relay.trusted_proxies`: addresses and networks, in `10.0.0.0/8` notation (RFC 4632, RFC 4291).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An address, or all addresses with a common prefix. An IPv4 address that is mapped into IPv6 (`::ffff:10.0.0.1`) is the
/// IPv4 address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network {
    /// The first address of it, canonical.
    first: IpAddr,
    prefix_bits: u8,
}

/// What was found where a network should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected an address or a network like \"10.0.0.0/8\", found {0:?}")]
pub struct InvalidNetwork(String);

/// The bits of the prefix that all mapped IPv4 addresses have in common.
const MAPPED_PREFIX_BITS: u8 = 96;

impl Network {
    /// Whether the address is in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let same_family = address.is_ipv4() == self.first.is_ipv4();
        same_family && masked(address, self.prefix_bits) == self.first
    }
}

/// The first address of the network that the address is in.
fn masked(address: IpAddr, prefix_bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let host_bits = u32::BITS - u32::from(prefix_bits).min(u32::BITS);
            let mask = u32::MAX.checked_shl(host_bits).unwrap_or(0);
            Ipv4Addr::from_bits(address.to_bits() & mask).into()
        }
        IpAddr::V6(address) => {
            let host_bits = u128::BITS - u32::from(prefix_bits).min(u128::BITS);
            let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    }
}

fn width_bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let invalid = || InvalidNetwork(text.chars().take(80).collect());
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let written: IpAddr = address.trim().parse().map_err(|_| invalid())?;
        let width = width_bits(written);
        let bits = match bits {
            None => width,
            Some(bits) => bits.trim().parse().map_err(|_| invalid())?,
        };
        if bits > width {
            return Err(invalid());
        }
        let canonical = written.to_canonical();
        let (address, prefix_bits) = match (written.is_ipv6(), canonical.is_ipv4()) {
            (true, true) if bits >= MAPPED_PREFIX_BITS => (canonical, bits - MAPPED_PREFIX_BITS),
            // Wider than all of IPv4: a network of IPv6.
            (true, true) | (true, false) | (false, _) => (written, bits),
        };
        Ok(Self {
            first: masked(address, prefix_bits),
            prefix_bits,
        })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.prefix_bits == width_bits(self.first) {
            return self.first.fmt(f);
        }
        write!(f, "{}/{}", self.first, self.prefix_bits)
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// Reads a list of networks, or one text with commas between them, as an environment variable is easily written.
pub(super) fn networks<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<Network>, D::Error> {
    deserializer.deserialize_any(NetworksVisitor)
}

struct NetworksVisitor;

impl<'de> Visitor<'de> for NetworksVisitor {
    type Value = Vec<Network>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list like [\"10.0.0.0/8\", \"::1\"]")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Vec<Network>, E> {
        let texts = text.split(',').map(str::trim);
        let networks = texts.filter(|text| !text.is_empty()).map(str::parse);
        networks.collect::<Result<_, _>>().map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<Network>, A::Error> {
        let mut networks = Vec::new();
        while let Some(network) = list.next_element()? {
            networks.push(network);
        }
        Ok(networks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().expect(text)
    }

    #[test]
    fn a_network_holds_the_addresses_with_its_prefix_in_either_notation() {
        for (text, inside, outside) in [
            ("10.0.0.1", "10.0.0.1", "10.0.0.2"),
            ("10.0.0.1", "::ffff:10.0.0.1", "::10.0.0.1"),
            ("10.0.0.0/8", "10.255.0.9", "11.0.0.0"),
            ("10.9.9.9/8", "10.0.0.1", "9.255.255.255"),
            ("0.0.0.0/0", "203.0.113.9", "2001:db8::1"),
            ("192.168.1.0/31", "192.168.1.1", "192.168.1.2"),
            ("::1", "::1", "127.0.0.1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::1"),
            ("::/0", "2001:db8::1", "10.0.0.1"),
            ("::ffff:10.0.0.0/104", "10.1.2.3", "11.1.2.3"),
            ("::ffff:10.0.0.1", "10.0.0.1", "10.0.0.2"),
            ("fe80::/10", "febf::1", "fec0::1"),
        ] {
            let address = |text: &str| text.parse().expect("an address");
            assert!(
                network(text).contains(address(inside)),
                "{inside} in {text}"
            );
            assert!(
                !network(text).contains(address(outside)),
                "{outside} in {text}"
            );
        }
    }

    #[test]
    fn a_network_is_shown_as_it_can_be_read_again() {
        for (written, shown) in [
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("10.1.2.3/32", "10.1.2.3"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("2001:db8::/32", "2001:db8::/32"),
            (" ::1 ", "::1"),
        ] {
            assert_eq!(network(written).to_string(), shown);
            assert_eq!(network(shown), network(written));
        }
    }

    #[test]
    fn what_is_no_network_is_refused_as_it_was_found() {
        for text in [
            "",
            "proxy",
            "10.0.0.0/33",
            "::1/129",
            "10.0.0/8",
            "10.0.0.0/",
            "10.0.0.0/-1",
        ] {
            let refused = text.parse::<Network>().expect_err(text).to_string();
            assert!(refused.contains(&format!("found {text:?}")), "{refused}");
        }
    }
}
