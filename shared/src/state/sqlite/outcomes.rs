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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use jiff::ToSpan as _;

    use super::*;
    use crate::id::ProjectId;
    use crate::outcome::{Outcome, Verdict};
    use crate::state::AcceptedNote;

    #[tokio::test]
    async fn every_outcome_since_a_time_is_on_a_page_and_no_other() {
        let dir = tempfile::tempdir().expect("a directory");
        let window = Duration::from_secs(1);
        let store = Sqlite::open(&dir.path().join("state.db"), window)
            .await
            .expect("opens");
        let now = Timestamp::now();
        let outcome = |finished_at| Outcome {
            event_id: EventId::random(),
            project_id: ProjectId::new(1).expect("not zero"),
            attached_to: None,
            verdict: Verdict::Processed,
            received_at: now,
            finished_at,
            attempts: 1,
            partition: None,
            offset: None,
        };
        let early: Vec<Outcome> = (0..3).map(|_| outcome(now - 2.hours())).collect();
        // All within one second, so that pages end among equals.
        let wanted: Vec<Outcome> = (0..1200).map(|_| outcome(now)).collect();
        let open = AcceptedNote {
            event_id: EventId::random(),
            project_id: ProjectId::new(1).expect("not zero"),
            received_at: now,
            claim: None,
        };
        store.accept(vec![open]).await.expect("accepts");
        for outcomes in [early, wanted.clone()] {
            store.finish(outcomes).await.expect("finishes");
        }
        let (mut after, mut found, mut pages) = (None, Vec::new(), 0);
        loop {
            let page = store
                .outcomes(now - 1.hours(), after)
                .await
                .expect("a page");
            found.extend(page.outcomes.iter().map(|outcome| outcome.event_id));
            pages += 1;
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!((found.len(), pages), (wanted.len(), 3));
        let found: BTreeSet<EventId> = found.into_iter().collect();
        let wanted = wanted.iter().map(|outcome| outcome.event_id).collect();
        assert_eq!(found, wanted);
    }
}
