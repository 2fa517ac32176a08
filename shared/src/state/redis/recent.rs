//! What Redis has confirmed a moment ago, kept in case it forgets.
//!
//! With `appendfsync everysec`, its usual setting, a Redis that is killed may lose what it confirmed within the last two
//! seconds. After every break of the connection the last few seconds are written again before anyone may ask: the first
//! status of an event stands, so that nothing changes where nothing was lost.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use redis::aio::MultiplexedConnection;
use redis::{RedisResult, Script};

use super::open_events::{OPEN, untold_key};
use super::{LEDGER, attempts_key, event_key, kept_seconds};
use crate::id::EventId;
use crate::limits;
use crate::state::LogPlace;

/// One line of the script's work.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) event: EventId,
    pub(super) value: String,
    pub(super) count: String,
    pub(super) accepted_at: Timestamp,
    pub(super) place: Option<LogPlace>,
}

/// Runs the script that changes statuses and ledger, and remembers with what.
#[derive(Clone, Debug)]
pub(super) struct Recorder {
    script: Script,
    recent: Arc<Mutex<VecDeque<(Instant, Record)>>>,
}

impl Recorder {
    pub(super) fn new() -> Self {
        Self {
            script: Script::new(include_str!("record.lua")),
            recent: Arc::default(),
        }
    }

    /// Runs the script; answers for each record the outcome that its event had before, or "".
    pub(super) async fn record(
        &self,
        connection: &mut MultiplexedConnection,
        records: Vec<Record>,
    ) -> RedisResult<Vec<String>> {
        let known = self.run(connection, &records).await?;
        let now = Instant::now();
        let mut recent = self.recent();
        recent.extend(records.into_iter().map(|record| (now, record)));
        let surplus = recent
            .len()
            .saturating_sub(limits::STATE_REPLAY_RECORDS_MAX);
        recent.drain(..surplus);
        while recent
            .front()
            .is_some_and(|(at, _)| at.elapsed() > limits::STATE_REPLAY_WINDOW)
        {
            recent.pop_front();
        }
        Ok(known)
    }

    /// Writes once more what was confirmed last before the connection broke.
    pub(super) async fn replay(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        let records: Vec<Record> = self
            .recent()
            .iter()
            .map(|(_, record)| record.clone())
            .collect();
        for batch in records.chunks(limits::STATE_BATCH_RECORDS_MAX) {
            self.run(connection, batch).await?;
        }
        Ok(())
    }

    async fn run(
        &self,
        connection: &mut MultiplexedConnection,
        records: &[Record],
    ) -> RedisResult<Vec<String>> {
        let mut script = self.script.key(LEDGER);
        script.key(OPEN).arg(kept_seconds());
        for record in records {
            script
                .key(event_key(record.event))
                .key(attempts_key(record.event))
                .key(untold_key(record.place.map(|place| place.partition)));
            let offset = record.place.map(|place| place.offset.to_string());
            script
                .arg(&record.value)
                .arg(&record.count)
                .arg(record.event.simple())
                .arg(record.accepted_at.as_millisecond())
                .arg(offset.unwrap_or_default());
        }
        script.invoke_async(connection).await
    }

    fn recent(&self) -> MutexGuard<'_, VecDeque<(Instant, Record)>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
