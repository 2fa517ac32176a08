//! `[kafka.options]`: librdkafka's settings, shown only where they cannot be secrets.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Secret, load};

/// Settings whose values may be shown. librdkafka has passwords, keys, tokens and free texts that may hold any of these,
/// and will have more: what is not named here is a secret.
const HARMLESS: [&str; 38] = [
    "acks",
    "api.version.request",
    "api.version.request.timeout.ms",
    "broker.address.family",
    "broker.address.ttl",
    "client.dns.lookup",
    "client.rack",
    "connections.max.idle.ms",
    "enable.ssl.certificate.verification",
    "fetch.error.backoff.ms",
    "heartbeat.interval.ms",
    "linger.ms",
    "log.connection.close",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "metadata.max.age.ms",
    "metadata.recovery.strategy",
    "queue.buffering.max.ms",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "request.timeout.ms",
    "retry.backoff.max.ms",
    "retry.backoff.ms",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.oauthbearer.method",
    "security.protocol",
    "session.timeout.ms",
    "socket.connection.setup.timeout.ms",
    "socket.keepalive.enable",
    "socket.max.fails",
    "socket.nagle.disable",
    "socket.receive.buffer.bytes",
    "socket.send.buffer.bytes",
    "socket.timeout.ms",
    "ssl.endpoint.identification.algorithm",
    "statistics.interval.ms",
    "topic.metadata.refresh.interval.ms",
];

/// librdkafka settings by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KafkaOptions(BTreeMap<String, Secret>);

impl KafkaOptions {
    /// Whether a setting is there.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// A setting's value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(Secret::expose)
    }

    /// Every setting with its value, for the client that needs it.
    pub fn exposed(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.0.iter();
        all.map(|(name, value)| (name.as_str(), value.expose()))
    }

    /// The text without the values of those settings that may be secrets: librdkafka's complaints quote them.
    #[must_use]
    pub fn redact(&self, text: &str) -> String {
        let secrets = self.exposed().filter(|(name, _)| !is_harmless(name));
        let mut values: Vec<&str> = secrets.map(|(_, value)| value).collect();
        // The longest first: one may be a part of another.
        values.sort_unstable_by_key(|value| std::cmp::Reverse(value.len()));
        values
            .into_iter()
            .filter(|value| !value.is_empty())
            .fold(text.to_owned(), |text, value| {
                text.replace(value, Secret::SHOWN)
            })
    }
}

fn is_harmless(name: &str) -> bool {
    HARMLESS.binary_search(&name).is_ok()
}

impl Serialize for KafkaOptions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let shown = self.exposed().map(|(name, value)| {
            let value = if is_harmless(name) {
                value
            } else {
                Secret::SHOWN
            };
            (name, value)
        });
        serializer.collect_map(shown)
    }
}

impl<'de> Deserialize<'de> for KafkaOptions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = load::option_texts(deserializer)?.into_iter();
        let secrets = texts.map(|(name, text)| (name, Secret::new(text)));
        Ok(Self(secrets.collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> KafkaOptions {
        toml::from_str(
            "\"linger.ms\" = 1\n\"security.protocol\" = \"sasl_ssl\"\n\"sasl.password\" = \"hunter2\"\n\
             \"ssl.key.pem\" = \"-----BEGIN\"\n\"sasl.oauthbearer.config\" = \"secret=abc\"\n\"of.the.future\" = \"xyzzy\"",
        )
        .expect("reads")
    }

    #[test]
    fn the_harmless_ones_are_sorted_for_their_search() {
        assert!(HARMLESS.is_sorted());
    }

    #[test]
    fn only_what_is_known_to_be_harmless_is_shown() {
        let options = options();
        assert_eq!(options.get("sasl.password"), Some("hunter2"));
        assert_eq!(options.get("linger.ms"), Some("1"));
        let shown = format!(
            "{}{options:?}",
            toml::to_string(&options).expect("makes TOML")
        );
        for secret in ["hunter2", "BEGIN", "abc", "xyzzy"] {
            assert!(!shown.contains(secret), "{shown}");
        }
        assert!(shown.contains("\"linger.ms\" = \"1\""), "{shown}");
        assert!(shown.contains("sasl_ssl"), "{shown}");
    }

    #[test]
    fn a_complaint_of_the_client_loses_the_values_it_quotes() {
        let told = options().redact("Invalid value \"hunter2\" (sasl_ssl): secret=abc, abc");
        assert_eq!(
            told,
            "Invalid value \"[redacted]\" (sasl_ssl): [redacted], abc"
        );
    }
}
