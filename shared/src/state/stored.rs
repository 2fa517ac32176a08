//! How both stores write a status and name the ledger's counts.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{AcceptedNote, EventStatus, KeyRecord, StateError};
use crate::id::ProjectId;
use crate::ledger::Ledger;
use crate::outcome::{Outcome, Reason, Verdict};

/// The ledger's count of all events.
pub(super) const ACCEPTED: &str = "accepted";
/// What the value of a finished event starts with; that of an accepted one starts with `A`.
pub(super) const FINISHED_MARK: char = 'F';
const ACCEPTED_MARK: char = 'A';
const PROCESSED: &str = "processed";
const FAILED: &str = "failed:";

#[derive(Serialize, Deserialize)]
struct AcceptedValue {
    project_id: ProjectId,
    received_at: Timestamp,
}

/// What follows [`FINISHED_MARK`] when the event was deleted afterwards; an outcome's JSON begins otherwise.
const DELETED_MARK: char = 'D';

#[derive(Serialize, Deserialize)]
struct DeletedValue {
    deleted_at: Timestamp,
    outcome: Outcome,
}

/// The value of an accepted event.
pub(super) fn accepted(note: &AcceptedNote) -> String {
    let value = AcceptedValue {
        project_id: note.project_id,
        received_at: note.received_at,
    };
    mark(ACCEPTED_MARK, &value)
}

/// The value of a finished event.
pub(super) fn finished(outcome: &Outcome) -> String {
    mark(FINISHED_MARK, outcome)
}

/// The value of a finished event with this value after its deletion; `None` when it is not finished, or deleted already.
pub(super) fn deleted(value: &str, deleted_at: Timestamp) -> Result<Option<String>, StateError> {
    match status(value)? {
        (_, EventStatus::Finished(outcome)) => {
            let value = DeletedValue {
                deleted_at,
                outcome,
            };
            Ok(Some(format!(
                "{FINISHED_MARK}{}",
                mark(DELETED_MARK, &value)
            )))
        }
        (_, EventStatus::Accepted { .. } | EventStatus::Deleted { .. }) => Ok(None),
    }
}

fn mark(mark: char, value: &impl Serialize) -> String {
    // INVARIANT: notes and outcomes are texts and numbers under text keys, which always make JSON.
    let json = serde_json::to_string(value).expect("statuses encode");
    format!("{mark}{json}")
}

/// Reads a value of either kind.
pub(super) fn status(value: &str) -> Result<(ProjectId, EventStatus), StateError> {
    let unreadable = |error: &dyn std::fmt::Display| {
        let start: String = value.chars().take(40).collect();
        StateError::Unreadable(format!("a status that starts {start:?}: {error}"))
    };
    if let Some(json) = value.strip_prefix(FINISHED_MARK) {
        if let Some(json) = json.strip_prefix(DELETED_MARK) {
            let value: DeletedValue =
                serde_json::from_str(json).map_err(|error| unreadable(&error))?;
            let DeletedValue {
                deleted_at,
                outcome,
            } = value;
            let project = outcome.project_id;
            return Ok((
                project,
                EventStatus::Deleted {
                    outcome,
                    deleted_at,
                },
            ));
        }
        let outcome: Outcome = serde_json::from_str(json).map_err(|error| unreadable(&error))?;
        return Ok((outcome.project_id, EventStatus::Finished(outcome)));
    }
    let json = value
        .strip_prefix(ACCEPTED_MARK)
        .ok_or_else(|| unreadable(&"expected A or F first"))?;
    let value: AcceptedValue = serde_json::from_str(json).map_err(|error| unreadable(&error))?;
    let received_at = value.received_at;
    Ok((value.project_id, EventStatus::Accepted { received_at }))
}

/// When an accepted event that is not finished was accepted; `None` for a finished one.
pub(super) fn accepted_at(value: &str) -> Result<Option<Timestamp>, StateError> {
    match status(value)? {
        (_, EventStatus::Accepted { received_at }) => Ok(Some(received_at)),
        (_, EventStatus::Finished(_) | EventStatus::Deleted { .. }) => Ok(None),
    }
}

/// The value of an operator's key.
pub(super) fn key_value(record: &KeyRecord) -> String {
    // INVARIANT: a key is texts and numbers under text keys, which always make JSON.
    serde_json::to_string(record).expect("keys encode")
}

/// Reads the value of an operator's key.
pub(super) fn key(value: &str) -> Result<KeyRecord, StateError> {
    // Not the value itself: keys do not belong in logs.
    serde_json::from_str(value)
        .map_err(|error| StateError::Unreadable(format!("a key's record: {error}")))
}

/// The outcome in a finished event's value.
pub(super) fn outcome(value: &str) -> Result<Outcome, StateError> {
    match status(value)? {
        (_, EventStatus::Finished(outcome) | EventStatus::Deleted { outcome, .. }) => Ok(outcome),
        (_, EventStatus::Accepted { .. }) => Err(StateError::Unreadable(
            "expected an outcome, found an accepted event".into(),
        )),
    }
}

/// The ledger's count that an outcome belongs to.
pub(super) fn count_name(verdict: &Verdict) -> String {
    match verdict.reason() {
        None => PROCESSED.into(),
        Some(reason) => format!("{FAILED}{}", reason.as_str()),
    }
}

/// The ledger from its counts. A count that we do not know would unbalance it, so it is an error.
pub(super) fn ledger(
    counts: impl IntoIterator<Item = (String, u64)>,
) -> Result<Ledger, StateError> {
    let mut ledger = Ledger::default();
    for (name, count) in counts {
        let reason = name.strip_prefix(FAILED).and_then(|name| {
            Reason::ALL
                .into_iter()
                .find(|reason| reason.as_str() == name)
        });
        match (name.as_str(), reason) {
            (ACCEPTED, _) => ledger.accepted = count,
            (PROCESSED, _) => ledger.processed = count,
            (_, Some(reason)) => ledger.failed_by_reason.add(reason, count),
            (unknown, None) => {
                return Err(StateError::Unreadable(format!(
                    "a ledger count named {unknown:?}"
                )));
            }
        }
    }
    Ok(ledger)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::EventId;

    #[test]
    fn statuses_read_back_and_others_are_errors() {
        let note = AcceptedNote {
            event_id: EventId::random(),
            project_id: ProjectId::new(u64::MAX),
            received_at: Timestamp::now(),
            place: None,
            claim: None,
        };
        let received_at = note.received_at;
        let expected = (note.project_id, EventStatus::Accepted { received_at });
        assert_eq!(status(&accepted(&note)).expect("reads"), expected);
        assert!(outcome(&accepted(&note)).is_err());
        for other in ["", "A", "F{}", "X{}", "€"] {
            assert!(status(other).is_err(), "{other:?}");
        }
    }

    #[test]
    fn every_reason_has_a_count_and_an_unknown_one_is_an_error() {
        for reason in Reason::ALL {
            let name = format!("{FAILED}{}", reason.as_str());
            let ledger = ledger([(name, 3), (ACCEPTED.into(), 3)]).expect("known names");
            assert_eq!((ledger.failed(), ledger.in_flight()), (3, 0));
        }
        assert!(ledger([("failed:by_magic".to_owned(), 1)]).is_err());
    }
}
