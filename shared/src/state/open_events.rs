//! Events that are accepted and not finished, by their age; and events whose outcome is not known to be told, by the place of
//! their message in the ingest topic. The first is what is in flight. The second says what a truncated log has taken, and
//! what was told before somebody reset the group's offsets.

use jiff::Timestamp;

use super::{EventStatus, State, StateError};
use crate::id::{EventId, ProjectId};
use crate::metrics::StateOperation;
use crate::outcome::Outcome;

/// Where an event's message stands in the ingest topic. Of several copies of it, the last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogPlace {
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

impl LogPlace {
    /// That of the message that an outcome answers; `None` with the embedded queue.
    #[must_use]
    pub fn of(outcome: &Outcome) -> Option<Self> {
        let (partition, offset) = outcome.partition.zip(outcome.offset)?;
        Some(Self { partition, offset })
    }
}

/// What is in flight.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OpenEvents {
    /// Events that are accepted and not finished.
    pub count: u64,
    /// When the one that was accepted first was; `None` when there is none.
    pub oldest: Option<Timestamp>,
}

/// Messages of a partition below an offset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogPart {
    /// The partition.
    pub partition: i32,
    /// The first offset that is not meant.
    pub below: i64,
}

/// An event whose outcome is not known to be told.
#[derive(Clone, PartialEq, Debug)]
pub struct UntoldEvent {
    /// Which.
    pub event_id: EventId,
    /// Where its message stands, or stood.
    pub place: LogPlace,
    /// Whose it is and how far it is; `None` when its status is not kept any more.
    pub status: Option<(ProjectId, EventStatus)>,
}

impl State {
    /// Events whose outcome is not known to be told and whose message stands in one of `parts`: of each part those that stand
    /// lowest, up to [`crate::limits::STATE_BATCH_RECORDS_MAX`].
    ///
    /// # Errors
    /// [`StateError`]
    pub async fn untold(&self, parts: &[LogPart]) -> Result<Vec<UntoldEvent>, StateError> {
        let places = self.0.store.untold(parts.to_vec()).await;
        let places = self.counted(StateOperation::Untold, places)?;
        let mut events = Vec::with_capacity(places.len());
        for places in places.chunks(crate::limits::STATE_BATCH_RECORDS_MAX) {
            let ids: Vec<EventId> = places.iter().map(|(event_id, _)| *event_id).collect();
            let statuses = self.statuses(&ids).await?;
            let with_status = places.iter().zip(statuses);
            events.extend(with_status.map(|((event_id, place), status)| UntoldEvent {
                event_id: *event_id,
                place: *place,
                status,
            }));
        }
        Ok(events)
    }

    /// Whether the outcome of an event whose message stands in `partition` is not known to be told.
    ///
    /// # Errors
    /// [`StateError`]
    pub async fn is_untold(&self, event: EventId, partition: i32) -> Result<bool, StateError> {
        let untold = self.0.store.is_untold(event, partition).await;
        self.counted(StateOperation::Untold, untold)
    }

    /// Notes that the outcomes of events whose messages stand in these partitions are told. May be repeated.
    ///
    /// # Errors
    /// [`StateError`]
    pub async fn note_told(&self, events: &[(EventId, i32)]) -> Result<(), StateError> {
        for events in events.chunks(crate::limits::STATE_BATCH_RECORDS_MAX) {
            let noted = self.0.store.note_told(events.to_vec()).await;
            self.counted(StateOperation::Untold, noted)?;
        }
        Ok(())
    }
}
