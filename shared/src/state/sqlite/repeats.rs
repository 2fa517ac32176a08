//! Durable uploads and chosen event ids, in SQLite.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::{Durability, JobError, Sqlite, unreadable, value};
use crate::id::EventId;
use crate::state::repeats::left_of;
use crate::state::{AcceptedNote, DurableElsewhere, RememberedUpload, StateError};

impl Sqlite {
    pub(in crate::state) async fn remembered_uploads(
        &self,
        marks_max: usize,
    ) -> Result<Vec<RememberedUpload>, StateError> {
        let window = self.window;
        self.run(Durability::Process, move |connection| {
            let now = Timestamp::now();
            let oldest = now.checked_sub(window).unwrap_or(Timestamp::MIN);
            let mut rows = connection.prepare_cached(
                "SELECT project_id, mark, event_id, received_at FROM uploads WHERE received_at >= ?1
                 ORDER BY received_at DESC LIMIT ?2",
            )?;
            let marks_max = i64::try_from(marks_max).unwrap_or(i64::MAX);
            let rows = rows.query_map(params![oldest.as_second(), marks_max], |row| {
                let texts: (String, String) = (row.get(0)?, row.get(1)?);
                let bytes: ([u8; 16], i64) = (row.get(2)?, row.get(3)?);
                Ok((texts, bytes))
            })?;
            let mut remembered = Vec::new();
            for row in rows {
                let ((project, mark), (event, received_at)) = row?;
                let received_at = Timestamp::from_second(received_at)
                    .map_err(|_| unreadable("the time of an upload"))?;
                let event = EventId::from_bytes(event);
                remembered.push(RememberedUpload {
                    project_id: project.parse().map_err(|_| unreadable("a project id"))?,
                    mark: mark.parse().map_err(|_| unreadable("an upload's mark"))?,
                    proof: DurableElsewhere::new(event, left_of(window, received_at, now)),
                });
            }
            remembered.reverse();
            Ok(remembered)
        })
        .await
    }

    pub(in crate::state) async fn claim_event_id(
        &self,
        event: EventId,
        fingerprint: blake3::Hash,
    ) -> Result<bool, StateError> {
        self.run(Durability::Process, move |connection| {
            let fingerprint = fingerprint.to_hex();
            let select = "SELECT fingerprint FROM chosen_ids WHERE event_id = ?1";
            let known: Option<String> = connection
                .prepare_cached(select)?
                .query_row([event.as_bytes()], |row| row.get(0))
                .optional()?;
            if let Some(known) = known {
                return Ok(known == fingerprint.as_str());
            }
            if value(connection, event)?.is_some() {
                return Ok(false);
            }
            connection
                .prepare_cached("INSERT INTO chosen_ids VALUES (?1, ?2, ?3)")?
                .execute(params![
                    event.as_bytes(),
                    fingerprint.as_str(),
                    Timestamp::now().as_second()
                ])?;
            Ok(true)
        })
        .await
    }
}

/// Notes by what the repeats of a durable upload are known.
pub(super) fn remember(connection: &Connection, note: &AcceptedNote) -> Result<(), JobError> {
    let Some(claim) = &note.claim else {
        return Ok(());
    };
    let insert = "INSERT OR REPLACE INTO uploads VALUES (?1, ?2, ?3, ?4)";
    let mut insert = connection.prepare_cached(insert)?;
    for mark in claim.marks.iter() {
        insert.execute(params![
            claim.project_id.to_string(),
            mark.to_string(),
            note.event_id.as_bytes(),
            note.received_at.as_second()
        ])?;
    }
    Ok(())
}
