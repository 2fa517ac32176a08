//! Events in flight, and those whose outcome is not known to be told, in SQLite: tables beside the statuses.

use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::{Durability, JobError, Sqlite};
use crate::id::EventId;
use crate::limits;
use crate::outcome::Outcome;
use crate::state::{AcceptedNote, LogPart, LogPlace, OpenEvents, StateError};

/// What this adds to the schema. Events of earlier versions are in flight, and where their messages stand is not known.
pub(super) const SCHEMA: &str = "
    CREATE TABLE open_events (event_id BLOB PRIMARY KEY, accepted_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE INDEX open_events_by_age ON open_events (accepted_ms);
    INSERT INTO open_events SELECT event_id,
        1000 * coalesce(unixepoch(json_extract(substr(status, 2), '$.received_at')), unixepoch())
        FROM events WHERE finished_at IS NULL;
    CREATE TABLE untold_events (event_id BLOB PRIMARY KEY, partition INTEGER NOT NULL, position INTEGER NOT NULL)
        STRICT, WITHOUT ROWID;
    CREATE INDEX untold_events_by_place ON untold_events (partition, position);
";

/// An upload was accepted; `is_new` when its event has no status yet.
pub(super) fn note_accepted(
    connection: &Connection,
    note: &AcceptedNote,
    is_new: bool,
) -> Result<(), JobError> {
    let event = note.event_id.as_bytes();
    if is_new {
        let insert = "INSERT OR IGNORE INTO open_events VALUES (?1, ?2)";
        let accepted_ms = note.received_at.as_millisecond();
        connection
            .prepare_cached(insert)?
            .execute(params![event, accepted_ms])?;
    }
    if let Some(LogPlace { partition, offset }) = note.place {
        // While any copy of the message is in the log, the event is not lost: the last one counts.
        let upsert = "INSERT INTO untold_events SELECT ?1, ?2, ?3 WHERE EXISTS (SELECT 1 FROM open_events WHERE event_id = ?1)
            ON CONFLICT DO UPDATE SET partition = excluded.partition, position = excluded.position
            WHERE partition <> excluded.partition OR position < excluded.position";
        connection
            .prepare_cached(upsert)?
            .execute(params![event, partition, offset])?;
    }
    Ok(())
}

/// An event is finished.
pub(super) fn note_finished(connection: &Connection, outcome: &Outcome) -> Result<(), JobError> {
    let event = outcome.event_id.as_bytes();
    connection
        .prepare_cached("DELETE FROM open_events WHERE event_id = ?1")?
        .execute([event])?;
    if let (Some(partition), Some(offset)) = (outcome.partition, outcome.offset) {
        connection
            .prepare_cached("INSERT OR REPLACE INTO untold_events VALUES (?1, ?2, ?3)")?
            .execute(params![event, partition, offset])?;
    }
    Ok(())
}

/// What is in flight.
pub(super) fn open_events(connection: &Connection) -> Result<OpenEvents, JobError> {
    let mut select = connection.prepare_cached(
        "SELECT (SELECT count(*) FROM open_events), (SELECT min(accepted_ms) FROM open_events)",
    )?;
    let (count, oldest): (i64, Option<i64>) =
        select.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(OpenEvents {
        count: count.cast_unsigned(),
        oldest: oldest.and_then(|millis| Timestamp::from_millisecond(millis).ok()),
    })
}

impl Sqlite {
    pub(in crate::state) async fn untold(
        &self,
        parts: Vec<LogPart>,
    ) -> Result<Vec<(EventId, LogPlace)>, StateError> {
        self.run(Durability::Process, move |connection| {
            let mut select = connection.prepare_cached(
                "SELECT event_id, position FROM untold_events WHERE partition = ?1 AND position < ?2
                 ORDER BY position LIMIT ?3",
            )?;
            let mut events = Vec::new();
            for LogPart { partition, below } in parts {
                let rows_max = limits::STATE_BATCH_RECORDS_MAX as i64;
                let mut rows = select.query(params![partition, below, rows_max])?;
                while let Some(row) = rows.next()? {
                    let event = EventId::from_bytes(row.get(0)?);
                    let offset = row.get(1)?;
                    events.push((event, LogPlace { partition, offset }));
                }
            }
            Ok(events)
        })
        .await
    }

    pub(in crate::state) async fn is_untold(
        &self,
        event: EventId,
        partition: i32,
    ) -> Result<bool, StateError> {
        self.run(Durability::Process, move |connection| {
            let mut select = connection.prepare_cached(
                "SELECT 1 FROM untold_events WHERE event_id = ?1 AND partition = ?2",
            )?;
            Ok(select.exists(params![event.as_bytes(), partition])?)
        })
        .await
    }

    pub(in crate::state) async fn note_told(
        &self,
        events: Vec<(EventId, i32)>,
    ) -> Result<(), StateError> {
        self.run(Durability::Process, move |connection| {
            let mut delete = connection.prepare_cached(
                "DELETE FROM untold_events WHERE event_id = ?1 AND partition = ?2",
            )?;
            for (event, partition) in &events {
                delete.execute(params![event.as_bytes(), partition])?;
            }
            Ok(())
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rusqlite::params;

    use super::super::SCHEMAS;
    use super::*;
    use crate::id::ProjectId;
    use crate::outcome::Verdict;
    use crate::state::stored;

    #[tokio::test]
    async fn events_that_an_earlier_version_accepted_are_in_flight() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("state.db");
        let old = Connection::open(&path).expect("opens");
        for schema in SCHEMAS.iter().take_while(|schema| **schema != SCHEMA) {
            old.execute_batch(schema).expect("an earlier version");
        }
        let note = AcceptedNote {
            event_id: EventId::random(),
            project_id: ProjectId::new(1),
            received_at: "2026-01-02T03:04:05.123456789Z".parse().expect("a time"),
            place: None,
            claim: None,
        };
        let finished = Outcome {
            event_id: EventId::random(),
            project_id: note.project_id,
            attached_to: None,
            verdict: Verdict::Processed,
            received_at: note.received_at,
            finished_at: note.received_at,
            attempts: 1,
            partition: Some(0),
            offset: Some(1),
        };
        let insert = "INSERT INTO events VALUES (?1, ?2, ?3)";
        let none: Option<i64> = None;
        old.execute(
            insert,
            params![note.event_id.as_bytes(), stored::accepted(&note), none],
        )
        .expect("an accepted event");
        old.execute(
            insert,
            params![finished.event_id.as_bytes(), stored::finished(&finished), 1],
        )
        .expect("a finished event");
        drop(old);
        let store = Sqlite::open(&path, Duration::ZERO).await.expect("opens");
        let open = store
            .ledger()
            .await
            .expect("a ledger")
            .open
            .expect("counted");
        assert_eq!(open.count, 1);
        let oldest = open.oldest.map(Timestamp::as_second);
        assert_eq!(oldest, Some(note.received_at.as_second()));
        store.close().await;
    }
}
