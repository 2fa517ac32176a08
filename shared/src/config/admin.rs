//! `[admin]`: the operators' listener, and by which names it may be asked.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::Secret;

/// `[admin]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct AdminConfig {
    /// Where health, readiness and metrics are served.
    pub listen: SocketAddr,
    /// Who has it may ask, from wherever; none: only this machine may.
    pub token: Option<Secret>,
    /// Names and addresses, without ports, that a request's `Host` may have besides those of this machine's loopback.
    pub hosts: Vec<String>,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 3001).into(),
            token: None,
            hosts: Vec::new(),
        }
    }
}

impl AdminConfig {
    /// Whether a `Host` header's value names this machine's loopback or one of [`AdminConfig::hosts`]. A browser that a
    /// stranger's page made to ask (DNS rebinding) says the stranger's name.
    #[must_use]
    pub fn answers_to(&self, host: &str) -> bool {
        let Some(name) = without_port(host) else {
            return false;
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        is_loopback(name)
            || self
                .hosts
                .iter()
                .any(|known| known.eq_ignore_ascii_case(name))
    }

    /// What cannot be among the hosts.
    pub(super) fn problems(&self) -> impl Iterator<Item = String> {
        let wrong = self.hosts.iter().filter(|host| !is_name(host));
        wrong.map(|host| {
            format!("admin.hosts: expected a host name or an address without port, found {host:?}")
        })
    }
}

/// `name:port`, `[address]:port`, or either without port; `None` when it is none of them.
fn without_port(host: &str) -> Option<&str> {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => match host.split_once(':') {
            Some((name, port)) => (name, &host[host.len() - port.len() - 1..]),
            None => (host, ""),
        },
    };
    let is_port = |port: &str| port.parse::<u16>().is_ok();
    (port.is_empty() || port.strip_prefix(':').is_some_and(is_port)).then_some(name)
}

fn is_loopback(name: &str) -> bool {
    match name.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => name.eq_ignore_ascii_case("localhost"),
    }
}

fn is_name(host: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    host.parse::<IpAddr>().is_ok() || !host.is_empty() && host.bytes().all(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_of_the_loopback_or_configured() {
        let admin = AdminConfig {
            hosts: vec!["Relay".into(), "10.0.0.7".into(), "fd00::7".into()],
            ..AdminConfig::default()
        };
        assert_eq!(admin.problems().count(), 0);
        for host in [
            "localhost",
            "LOCALHOST:3001",
            "localhost.",
            "127.0.0.1:3001",
            "127.9.9.9",
            "[::1]",
            "[::1]:3001",
            "[::ffff:127.0.0.1]:1",
            "relay:3001",
            "relay.",
            "10.0.0.7:3001",
            "[fd00::7]:3001",
        ] {
            assert!(admin.answers_to(host), "{host}");
        }
        for host in [
            "",
            ":3001",
            "evil.example",
            "localhost.evil.example",
            "evil.localhost",
            "127.0.0.1.evil.example",
            "127.0.0.1@evil.example",
            "localhost:",
            "localhost:99999",
            "localhost:80:80",
            "::1",
            "[::1",
            "[::1]x",
            "10.0.0.8",
            "0.0.0.0",
            "2130706433",
        ] {
            assert!(!admin.answers_to(host), "{host}");
        }
    }

    #[test]
    fn a_host_that_is_none_is_named() {
        let admin = AdminConfig {
            hosts: vec!["a:1".into(), String::new(), "a b".into(), "fine".into()],
            ..AdminConfig::default()
        };
        let problems: Vec<String> = admin.problems().collect();
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(problems[0].contains("found \"a:1\""), "{problems:?}");
    }
}
