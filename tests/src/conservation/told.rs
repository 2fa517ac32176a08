//! What the world was told about events: the committed records of a results topic, or the embedded stores.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::kafka::{self, Isolation};
use crate::stack::Stack;

/// The records of one topic, by event.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// The last record of each event, and how many there are.
    events: BTreeMap<String, (Value, usize)>,
}

impl Told {
    /// Every committed record of a results topic.
    pub fn in_topic(stack: &Stack, topic: &str) -> Self {
        let mut told = Self::default();
        for record in kafka::read_all(stack.broker(), topic, Isolation::Committed) {
            let value = record.json();
            let id = value["event_id"].as_str().expect("an event id").to_owned();
            let event = told.events.entry(id).or_default();
            *event = (value, event.1 + 1);
        }
        told
    }

    /// What the relay answers about every event of the storage and every one of `promised`. None can be there twice.
    pub fn by_status<'a>(stack: &Stack, promised: impl Iterator<Item = &'a str>) -> Self {
        let mut ids: BTreeSet<String> = stack.stored_dumps().into_keys().collect();
        ids.extend(promised.map(str::to_owned));
        let answers = ids.into_iter().filter_map(|id| {
            let outcome = stack.event(&id).json()["outcome"].take();
            (!outcome.is_null()).then_some((id, (outcome, 1)))
        });
        Self {
            events: answers.collect(),
        }
    }

    /// What was told about an event.
    pub fn about(&self, id: &str) -> Option<&Value> {
        self.events.get(id).map(|(value, _)| value)
    }

    /// Whether an event was told to have failed.
    pub fn is_failed(&self, id: &str) -> bool {
        self.about(id)
            .is_some_and(|told| told["outcome"] == "failed")
    }

    /// How many events there are.
    pub fn count(&self) -> usize {
        self.events.len()
    }

    /// The events, each with its number of records.
    pub fn events(&self) -> impl Iterator<Item = (&str, usize)> {
        self.events
            .iter()
            .map(|(id, (_, records))| (id.as_str(), *records))
    }
}
