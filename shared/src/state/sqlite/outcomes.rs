//! Looking through the outcomes in SQLite, by the index over when they finished.

use jiff::Timestamp;
use rusqlite::params;

use super::{Durability, Sqlite};
use crate::id::EventId;
use crate::limits;
use crate::state::{OutcomePage, OutcomesAfter, StateError, stored};

/// Below every event id: an empty blob.
const BELOW_ALL: &[u8] = &[];

impl Sqlite {
    pub(in crate::state) async fn outcomes(
        &self,
        since: Timestamp,
        after: Option<OutcomesAfter>,
    ) -> Result<OutcomePage, StateError> {
        let after: Option<(i64, EventId)> = match after {
            Some(OutcomesAfter::Row(finished_at, event)) => Some((finished_at, event)),
            Some(OutcomesAfter::Cursor(_)) | None => None,
        };
        self.run(Durability::Process, move |connection| {
            let mut select = connection.prepare_cached(
                "SELECT status FROM events WHERE finished_at IS NOT NULL AND (finished_at, event_id) > (?1, ?2)
                 ORDER BY finished_at, event_id LIMIT ?3",
            )?;
            let finished_at = after.map_or(since.as_second(), |(finished_at, _)| finished_at);
            let event = after.as_ref().map_or(BELOW_ALL, |(_, event)| event.as_bytes());
            let rows_max = limits::STATE_PAGE_OUTCOMES;
            let mut rows = select.query(params![finished_at, event, rows_max])?;
            let mut outcomes = Vec::new();
            while let Some(row) = rows.next()? {
                let status: String = row.get(0)?;
                outcomes.push(stored::outcome(&status)?);
            }
            let last = outcomes.last().filter(|_| outcomes.len() >= rows_max as usize);
            let next = last.map(|last| OutcomesAfter::Row(last.finished_at.as_second(), last.event_id));
            Ok(OutcomePage { outcomes, next })
        })
        .await
    }
}
