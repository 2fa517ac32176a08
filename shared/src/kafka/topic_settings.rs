//! Topic settings that destroy crashes, or let Kafka lose them: a table of rules over what the cluster says. Pure.

use std::fmt;
use std::time::Duration;

use super::admin::TopicDescription;
use super::error::KafkaError;
use crate::config::Config;

/// The shortest retention of any topic.
const RETENTION_MIN: Duration = Duration::from_secs(3600);
/// Dead letters are the only copy of what they keep, and wait for an operator.
const LETTERS_RETENTION_MIN: Duration = Duration::from_secs(24 * 3600);
/// What a remedy sets where more than the minimum is better: seven days, Kafka's default.
const RETENTION_REMEDY: Duration = Duration::from_secs(7 * 24 * 3600);
/// Brokers from which on more than one copy can be had, and copies from which on two must confirm.
const CLUSTER_BROKERS: usize = 3;

/// What a topic is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TopicUse {
    /// Chunks and events, from relays to processors.
    Ingest,
    /// Reports. A later one of the same crash replaces the earlier one, so it may be compacted.
    Reports,
    /// Outcomes, one for each crash: it may be compacted.
    Outcomes,
    /// Dead letters, which keep the keys of what they were, or none.
    DeadLetters,
}

/// What is done about a finding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Weight {
    /// No role starts with it.
    Refuse,
    /// It is shown.
    Warn,
}

/// What the settings are judged by.
#[derive(Clone, Debug)]
pub struct Expectations {
    brokers: String,
    incomplete_after: Duration,
    upload_bytes_max: u64,
}

/// A setting that is not as it has to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicFinding {
    /// What is done about it.
    pub weight: Weight,
    /// The topic's name.
    pub topic: String,
    /// The setting's name.
    pub setting: &'static str,
    /// Values that are right.
    pub expected: String,
    /// The value.
    pub found: String,
    /// What it does to crashes.
    pub means: &'static str,
    /// The command that sets it right.
    pub command: String,
}

impl fmt::Display for TopicFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            weight: _,
            topic,
            setting,
            expected,
            found,
            means,
            command,
        } = self;
        write!(
            f,
            "{setting} of topic {topic}: expected {expected}, found {found}: {means}; run: {command}"
        )
    }
}

impl Expectations {
    /// Those of a configuration.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self {
            brokers: config.kafka.brokers.clone().unwrap_or_default(),
            incomplete_after: config.processor.incomplete_after.get(),
            upload_bytes_max: config.limits.upload.get(),
        }
    }

    fn retention_min(&self, topic_use: TopicUse) -> Duration {
        match topic_use {
            TopicUse::Ingest => (self.incomplete_after * 2).max(RETENTION_MIN),
            TopicUse::Reports | TopicUse::Outcomes => RETENTION_MIN,
            TopicUse::DeadLetters => LETTERS_RETENTION_MIN,
        }
    }

    /// What is wrong with a topic, the worst first.
    #[must_use]
    pub fn judge(
        &self,
        topic_use: TopicUse,
        topic: &str,
        is: &TopicDescription,
    ) -> Vec<TopicFinding> {
        let found = RULES.iter().filter_map(|rule| {
            let wrong = (rule.judge)(is, topic_use, self)?;
            Some(TopicFinding {
                weight: rule.weight,
                topic: topic.to_owned(),
                setting: rule.setting,
                expected: wrong.expected,
                found: wrong.found,
                means: rule.means,
                command: self.command(topic, rule.setting, wrong.remedy),
            })
        });
        found.collect()
    }

    fn command(&self, topic: &str, setting: &str, remedy: Remedy) -> String {
        let brokers = &self.brokers;
        match remedy {
            Remedy::Set(value) => format!(
                "kafka-configs.sh --bootstrap-server {brokers} --alter --entity-type topics --entity-name {topic} \
                 --add-config {setting}={value}"
            ),
            Remedy::Reassign => format!(
                "kafka-reassign-partitions.sh --bootstrap-server {brokers} --reassignment-json-file FILE --execute, with \
                 three brokers for each partition of {topic} in FILE"
            ),
        }
    }
}

/// What `/readyz` says of findings; `None` when there are none.
#[must_use]
pub fn complaint(findings: &[TopicFinding]) -> Option<String> {
    let texts: Vec<String> = findings.iter().map(ToString::to_string).collect();
    (!texts.is_empty()).then(|| texts.join("\n"))
}

/// An error when a role is not to be started with these findings.
///
/// # Errors
/// [`KafkaError::Unsuitable`]
pub fn refuse(findings: &[TopicFinding]) -> Result<(), KafkaError> {
    let refused = findings
        .iter()
        .find(|finding| finding.weight == Weight::Refuse);
    refused.map_or(Ok(()), |finding| {
        Err(KafkaError::Unsuitable(Box::new(finding.clone())))
    })
}

struct Rule {
    setting: &'static str,
    weight: Weight,
    means: &'static str,
    judge: fn(&TopicDescription, TopicUse, &Expectations) -> Option<Wrong>,
}

struct Wrong {
    expected: String,
    found: String,
    remedy: Remedy,
}

enum Remedy {
    /// The setting gets this value.
    Set(String),
    /// The partitions get other copies.
    Reassign,
}

const RULES: [Rule; 8] = [
    Rule {
        setting: "cleanup.policy",
        weight: Weight::Refuse,
        means: "compaction removes all but the last record of a key, and refuses records without one",
        judge: |is, topic_use, _| {
            let compacts = is
                .cleanup_policy
                .split(',')
                .any(|policy| policy.trim() == "compact");
            match topic_use {
                TopicUse::Ingest | TopicUse::DeadLetters if compacts => {
                    Some(Wrong::set("delete", &is.cleanup_policy, "delete"))
                }
                TopicUse::Ingest
                | TopicUse::DeadLetters
                | TopicUse::Reports
                | TopicUse::Outcomes => None,
            }
        },
    },
    Rule {
        setting: "retention.ms",
        weight: Weight::Warn,
        means: "records are removed before they are read",
        judge: |is, topic_use, expected| {
            let (least, found) = (expected.retention_min(topic_use), is.retention?);
            (found < least).then(|| Wrong {
                expected: format!("at least {}", least.as_millis()),
                found: found.as_millis().to_string(),
                remedy: Remedy::Set(least.max(RETENTION_REMEDY).as_millis().to_string()),
            })
        },
    },
    Rule {
        setting: "retention.bytes",
        weight: Weight::Warn,
        means: "a large upload removes its own first chunks before it is whole",
        judge: |is, topic_use, expected| {
            let (least, found) = (
                expected.upload_bytes_max.saturating_mul(2),
                is.retention_bytes?,
            );
            (topic_use == TopicUse::Ingest && found < least).then(|| Wrong::at_least(least, found))
        },
    },
    Rule {
        setting: "segment.bytes",
        weight: Weight::Warn,
        means: "the broker refuses records that max.message.bytes allows, so uploads are cut for the smaller of both",
        judge: |is, _, _| {
            let (least, found) = (u64::from(is.own_limit_bytes), is.segment_bytes?);
            (found < least).then(|| Wrong {
                expected: format!("at least max.message.bytes, {least}"),
                found: found.to_string(),
                remedy: Remedy::Set((100 << 20).max(least).to_string()),
            })
        },
    },
    Rule {
        setting: "unclean.leader.election.enable",
        weight: Weight::Warn,
        means: "a copy that lags behind may become the leader, and confirmed records are gone",
        judge: |is, _, _| {
            is.elects_unclean_leaders
                .then(|| Wrong::set("false", "true", "false"))
        },
    },
    Rule {
        setting: "min.insync.replicas",
        weight: Weight::Warn,
        means: "a record is confirmed that is on one disk only",
        judge: |is, _, _| {
            let found = is.insync_replicas_min?;
            (is.copies >= CLUSTER_BROKERS && found < 2)
                .then(|| Wrong::at_least(2, u64::from(found)))
        },
    },
    Rule {
        setting: "replication",
        weight: Weight::Warn,
        means: "each record is on one disk, though there are others",
        judge: |is, _, _| {
            (is.copies == 1 && is.brokers >= CLUSTER_BROKERS).then(|| Wrong {
                expected: "3 copies".to_owned(),
                found: format!("1 copy on a cluster of {} brokers", is.brokers),
                remedy: Remedy::Reassign,
            })
        },
    },
    Rule {
        setting: "compression.type",
        weight: Weight::Warn,
        means: "the broker compresses records again, and what was cut to fit may not fit",
        judge: |is, _, _| {
            let kept = matches!(is.compression.as_str(), "producer" | "uncompressed");
            (!kept).then(|| Wrong::set("producer", &is.compression, "producer"))
        },
    },
];

impl Wrong {
    fn set(expected: &str, found: &str, value: &str) -> Self {
        Self {
            expected: expected.to_owned(),
            found: found.to_owned(),
            remedy: Remedy::Set(value.to_owned()),
        }
    }

    fn at_least(least: u64, found: u64) -> Self {
        Self {
            expected: format!("at least {least}"),
            found: found.to_string(),
            remedy: Remedy::Set(least.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USES: [TopicUse; 4] = [
        TopicUse::Ingest,
        TopicUse::Reports,
        TopicUse::Outcomes,
        TopicUse::DeadLetters,
    ];

    fn expectations() -> Expectations {
        Expectations {
            brokers: "kafka-1:9092".into(),
            incomplete_after: Duration::from_secs(600),
            upload_bytes_max: 200 << 20,
        }
    }

    /// Three copies in good order.
    fn good() -> TopicDescription {
        TopicDescription {
            partitions: 12,
            max_message_bytes: 1_048_588,
            own_limit_bytes: 1_048_588,
            cleanup_policy: "delete".into(),
            retention: Some(RETENTION_REMEDY),
            retention_bytes: None,
            segment_bytes: Some(1 << 30),
            compression: "producer".into(),
            elects_unclean_leaders: false,
            insync_replicas_min: Some(2),
            copies: 3,
            brokers: 3,
        }
    }

    /// Setting and weight of each finding.
    fn judged(topic_use: TopicUse, is: &TopicDescription) -> Vec<(&'static str, Weight)> {
        let found = expectations().judge(topic_use, "t", is);
        let named = found.iter();
        named
            .map(|finding| (finding.setting, finding.weight))
            .collect()
    }

    #[test]
    fn a_topic_in_good_order_has_no_findings() {
        let unlimited = TopicDescription {
            retention: None,
            retention_bytes: None,
            ..good()
        };
        let alone = TopicDescription {
            copies: 1,
            brokers: 1,
            insync_replicas_min: Some(1),
            ..good()
        };
        for is in [good(), unlimited, alone] {
            for topic_use in USES {
                assert_eq!(judged(topic_use, &is), [], "{topic_use:?} {is:?}");
            }
        }
    }

    #[test]
    fn compaction_is_refused_where_keys_repeat_or_are_absent() {
        for policy in [
            "compact",
            "compact,delete",
            "delete,compact",
            "delete, compact",
        ] {
            let is = TopicDescription {
                cleanup_policy: policy.into(),
                ..good()
            };
            for topic_use in [TopicUse::Ingest, TopicUse::DeadLetters] {
                assert_eq!(judged(topic_use, &is), [("cleanup.policy", Weight::Refuse)]);
            }
            for topic_use in [TopicUse::Reports, TopicUse::Outcomes] {
                assert_eq!(judged(topic_use, &is), []);
            }
        }
    }

    #[test]
    fn retention_is_an_hour_or_twice_the_wait_for_chunks_and_a_day_for_letters() {
        let of = |is: &TopicDescription, waits: u64, topic_use| {
            let expected = Expectations {
                incomplete_after: Duration::from_secs(waits),
                ..expectations()
            };
            !expected.judge(topic_use, "t", is).is_empty()
        };
        for (topic_use, seconds, waits, is_short) in [
            (TopicUse::Ingest, 3599, 600, true),
            (TopicUse::Ingest, 3600, 600, false),
            (TopicUse::Ingest, 3600, 1801, true),
            (TopicUse::Ingest, 3602, 1801, false),
            (TopicUse::Reports, 3600, 1801, false),
            (TopicUse::Outcomes, 3599, 600, true),
            (TopicUse::DeadLetters, 86_399, 600, true),
            (TopicUse::DeadLetters, 86_400, 600, false),
        ] {
            let is = TopicDescription {
                retention: Some(Duration::from_secs(seconds)),
                ..good()
            };
            assert_eq!(
                of(&is, waits, topic_use),
                is_short,
                "{topic_use:?} {seconds} {waits}"
            );
        }
    }

    #[test]
    fn every_other_setting_is_a_warning_for_every_topic_it_matters_to() {
        type Change = fn(&mut TopicDescription);
        let changes: [(&str, Change); 5] = [
            ("segment.bytes", |is| is.segment_bytes = Some(1 << 20)),
            ("unclean.leader.election.enable", |is| {
                is.elects_unclean_leaders = true
            }),
            ("min.insync.replicas", |is| is.insync_replicas_min = Some(1)),
            ("replication", |is| {
                (is.copies, is.insync_replicas_min) = (1, Some(1))
            }),
            ("compression.type", |is| is.compression = "gzip".into()),
        ];
        for (setting, change) in changes {
            let mut is = good();
            change(&mut is);
            for topic_use in USES {
                assert_eq!(judged(topic_use, &is), [(setting, Weight::Warn)]);
            }
        }
        let small = TopicDescription {
            retention_bytes: Some((400 << 20) - 1),
            ..good()
        };
        assert_eq!(
            judged(TopicUse::Ingest, &small),
            [("retention.bytes", Weight::Warn)]
        );
        assert_eq!(judged(TopicUse::Reports, &small), []);
    }

    #[test]
    fn a_finding_names_expected_found_and_the_command() {
        let is = TopicDescription {
            cleanup_policy: "compact".into(),
            retention: Some(Duration::from_secs(60)),
            ..good()
        };
        let found = expectations().judge(TopicUse::Ingest, "ingest", &is);
        let text = complaint(&found).expect("findings");
        let [compact, retention] = text.lines().collect::<Vec<_>>()[..] else {
            panic!("two findings: {text}")
        };
        for part in [
            "expected delete, found compact",
            "run: kafka-configs.sh --bootstrap-server kafka-1:9092 --alter --entity-type topics --entity-name ingest \
             --add-config cleanup.policy=delete",
        ] {
            assert!(compact.contains(part), "{compact}");
        }
        assert!(
            retention.contains("expected at least 3600000, found 60000"),
            "{retention}"
        );
        assert!(
            retention.ends_with("--add-config retention.ms=604800000"),
            "{retention}"
        );
        assert_eq!(complaint(&[]), None);
    }
}
