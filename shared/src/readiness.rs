//! Whether this process can keep its promise now, part by part and since when. Ready means: an upload now would get a
//! 200, a delivery now would get its outcome.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::{Serialize, Serializer};

/// Why a part is not ready that nothing is known of.
const UNKNOWN: &str = "not known yet";

/// What readiness is made of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Part {
    /// The relay takes connections.
    Listener,
    /// A broker answers.
    Broker,
    /// The topics exist.
    Topic,
    /// The ingest topic's settings keep what is written to it.
    TopicSettings,
    /// Those of the topics of reports, outcomes and dead letters do.
    OutputTopicSettings,
    /// The ingest topic's limit is known and large enough.
    Limit,
    /// The producer confirms what it is given.
    Producer,
    /// The consumer has partitions and moves.
    Consumer,
    /// No other program's transaction holds up the ingest topic.
    OpenTransactions,
    /// There are places for connections and uploads.
    Places,
    /// The spool can take an upload.
    Spool,
    /// The state store answers.
    State,
    /// The storage takes files.
    Storage,
    /// Parser processes start and answer.
    Parser,
    /// There is room for the chunks of unfinished events.
    Scratch,
}

impl Part {
    /// Its name in `/readyz` and in logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Listener => "listener",
            Self::Broker => "broker",
            Self::Topic => "topic",
            Self::TopicSettings => "topic_settings",
            Self::OutputTopicSettings => "output_topic_settings",
            Self::Limit => "limit",
            Self::Producer => "producer",
            Self::Consumer => "consumer",
            Self::OpenTransactions => "open_transactions",
            Self::Places => "places",
            Self::Spool => "spool",
            Self::State => "state",
            Self::Storage => "storage",
            Self::Parser => "parser",
            Self::Scratch => "scratch",
        }
    }
}

impl Serialize for Part {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Whether a part works.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PartState {
    /// It does.
    Ready,
    /// It does not.
    NotReady {
        /// What was expected and what was found, for operators.
        why: String,
    },
}

impl PartState {
    /// It does not work, because of `why`.
    pub fn not_ready(why: impl Into<String>) -> Self {
        Self::NotReady { why: why.into() }
    }
}

/// Whether the process is ready without a part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Need {
    /// It is not.
    Required,
    /// It is: the part is only shown.
    Informative,
}

/// The parts of this process; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<Part, Entry>>>);

#[derive(Clone, Debug)]
struct Entry {
    need: Need,
    state: PartState,
    since: Timestamp,
}

impl Readiness {
    /// Adds a part, not ready until it is [`set`](Readiness::set). A part that was added before gets the new need.
    pub fn register(&self, part: Part, need: Need) {
        self.parts()
            .entry(part)
            .and_modify(|entry| entry.need = need)
            .or_insert_with(|| Entry {
                need,
                state: PartState::not_ready(UNKNOWN),
                since: Timestamp::now(),
            });
    }

    /// Says whose first answer a part waits for, by product and address, as long as nothing else is known of it.
    pub fn wait_for(&self, part: Part, address: &str) {
        if let Some(entry) = self.parts().get_mut(&part)
            && entry.state == PartState::not_ready(UNKNOWN)
        {
            entry.state = PartState::not_ready(format!("waits for the first answer of {address}"));
        }
    }

    /// Says how a part is. Nothing happens when that is no news; a part that was never registered is ignored.
    pub fn set(&self, part: Part, state: PartState) {
        let mut parts = self.parts();
        let Some(entry) = parts.get_mut(&part) else {
            return;
        };
        if entry.state == state {
            return;
        }
        let turned = matches!(entry.state, PartState::Ready) != matches!(state, PartState::Ready);
        if turned {
            entry.since = Timestamp::now();
        }
        entry.state = state;
        let entry = entry.clone();
        drop(parts);
        if turned {
            log(part, &entry);
        }
    }

    /// The process takes no more work: `parts` are not ready from now on. No trouble, so not logged as such.
    pub fn stop(&self, parts: &[Part]) {
        let mut entries = self.parts();
        for part in parts {
            if let Some(entry) = entries.get_mut(part) {
                entry.state = PartState::not_ready("stopping");
                entry.since = Timestamp::now();
            }
        }
    }

    /// Whether every required part is ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.parts().values().all(Entry::allows)
    }

    /// The answer of `/readyz`.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let parts = self.parts();
        Snapshot {
            ready: parts.values().all(Entry::allows),
            degraded: parts.values().any(|entry| entry.state != PartState::Ready),
            parts: parts.iter().map(PartSnapshot::new).collect(),
        }
    }

    fn parts(&self) -> MutexGuard<'_, BTreeMap<Part, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn allows(&self) -> bool {
        match (self.need, &self.state) {
            (Need::Informative, _) | (Need::Required, PartState::Ready) => true,
            (Need::Required, PartState::NotReady { .. }) => false,
        }
    }
}

fn log(part: Part, entry: &Entry) {
    let part = part.as_str();
    match (&entry.state, entry.need) {
        (PartState::Ready, _) => tracing::info!(part, "ready"),
        (PartState::NotReady { why }, Need::Required) => tracing::error!(part, why, "not ready"),
        (PartState::NotReady { why }, Need::Informative) => {
            tracing::warn!(part, why, "not ready");
        }
    }
}

/// One look at all parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// Whether every required part is ready.
    pub ready: bool,
    /// Whether any part is not ready, required or not.
    pub degraded: bool,
    /// All parts, in the order of [`Part`].
    pub parts: Vec<PartSnapshot>,
}

/// One look at a part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartSnapshot {
    /// Which one.
    pub part: Part,
    /// `ready` or `not_ready`.
    pub state: &'static str,
    /// Since when it is in that state.
    pub since: Timestamp,
    /// Why it is not ready; absent when it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Whether the process needs it to be ready.
    pub required: bool,
}

impl PartSnapshot {
    /// Whether it is ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.why.is_none()
    }

    fn new((part, entry): (&Part, &Entry)) -> Self {
        let (state, why) = match &entry.state {
            PartState::Ready => ("ready", None),
            PartState::NotReady { why } => ("not_ready", Some(why.clone())),
        };
        Self {
            part: *part,
            state,
            since: entry.since,
            why,
            required: entry.need == Need::Required,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_required_part_decides_and_an_informative_one_does_not() {
        let readiness = Readiness::default();
        readiness.register(Part::Broker, Need::Required);
        readiness.register(Part::State, Need::Informative);
        assert!(!readiness.is_ready());
        readiness.set(Part::Broker, PartState::Ready);
        assert!(readiness.is_ready());
        readiness.set(Part::Broker, PartState::not_ready("no broker answers"));
        assert!(!readiness.is_ready());
    }

    #[test]
    fn since_is_the_last_turn_not_the_last_word() {
        let readiness = Readiness::default();
        readiness.register(Part::Spool, Need::Required);
        readiness.set(Part::Spool, PartState::Ready);
        let ready_since = readiness.snapshot().parts[0].since;
        readiness.set(Part::Spool, PartState::Ready);
        assert_eq!(readiness.snapshot().parts[0].since, ready_since);
        readiness.set(Part::Spool, PartState::not_ready("1 byte free"));
        let full_since = readiness.snapshot().parts[0].since;
        readiness.set(Part::Spool, PartState::not_ready("0 bytes free"));
        let part = readiness.snapshot().parts.swap_remove(0);
        assert_eq!(
            (part.since, part.why.as_deref()),
            (full_since, Some("0 bytes free"))
        );
    }

    #[test]
    fn the_json_names_each_part_its_state_and_since_when() {
        let readiness = Readiness::default();
        readiness.register(Part::Broker, Need::Required);
        readiness.register(Part::State, Need::Informative);
        readiness.set(Part::State, PartState::Ready);
        let json = serde_json::to_value(readiness.snapshot()).expect("encodes");
        assert_eq!(
            (&json["ready"], &json["degraded"]),
            (&false.into(), &true.into())
        );
        assert_eq!(json["parts"][0]["part"], "broker");
        assert_eq!(json["parts"][0]["state"], "not_ready");
        assert_eq!(json["parts"][0]["why"], "not known yet");
        assert_eq!(json["parts"][1]["part"], "state");
        assert_eq!(json["parts"][1]["required"], false);
        assert!(
            json["parts"][1]["since"]
                .as_str()
                .is_some_and(|text| text.ends_with('Z'))
        );
        assert!(json["parts"][1].get("why").is_none());
    }
}
