//! Deleted events, in SQLite.

use jiff::Timestamp;
use rusqlite::params;

use super::{Durability, Sqlite, value};
use crate::id::EventId;
use crate::state::{StateError, stored};

impl Sqlite {
    pub(in crate::state) async fn mark_deleted(
        &self,
        event: EventId,
        at: Timestamp,
    ) -> Result<(), StateError> {
        self.run(Durability::Machine, move |connection| {
            let Some(known) = value(connection, event)? else {
                return Ok(());
            };
            if let Some(deleted) = stored::deleted(&known, at)? {
                // Kept from now on as long as any outcome.
                let update = "UPDATE events SET status = ?2, finished_at = ?3 WHERE event_id = ?1";
                connection.prepare_cached(update)?.execute(params![
                    event.as_bytes(),
                    deleted,
                    at.as_second()
                ])?;
            }
            Ok(())
        })
        .await
    }
}
