//! Events in flight, and those whose outcome is not known to be told, in Redis: sorted sets beside the statuses.

use jiff::Timestamp;
use redis::{Cmd, Pipeline, RedisResult, Script};

use super::{EVENT_PREFIX, LEDGER, Redis};
use crate::id::EventId;
use crate::ledger::Ledger;
use crate::limits;
use crate::state::{LogPart, LogPlace, OpenEvents, StateError, stored};

/// Ids of the events in flight, by when they were accepted, in milliseconds since 1970.
pub(super) const OPEN: &str = "crashferry:open";
/// There when [`OPEN`] has every event in flight, those of earlier versions included.
const OPEN_IS_COMPLETE: &str = "crashferry:open:complete";
/// Statuses that one step of completing it looks at.
const INDEXED_AT_ONCE: usize = 1000;

/// Ids of events whose message stands in the partition and whose outcome is not known to be told, by offset.
pub(super) fn untold_key(partition: Option<i32>) -> String {
    match partition {
        Some(partition) => format!("crashferry:untold:{partition}"),
        // Never written.
        None => "crashferry:untold:nowhere".to_owned(),
    }
}

impl Redis {
    pub(in crate::state) async fn ledger(&self) -> Result<Ledger, StateError> {
        let mut connection = self.link.connection()?;
        let mut look = Pipeline::new();
        look.atomic()
            .hgetall(LEDGER)
            .zcard(OPEN)
            .zrange_withscores(OPEN, 0, 0)
            .exists(OPEN_IS_COMPLETE);
        type Look = (Vec<(String, u64)>, u64, Vec<(String, i64)>, bool);
        let looked: RedisResult<Look> = look.query_async(&mut connection).await;
        let (counts, count, oldest, is_complete) = self.link.judge(looked)?;
        let oldest = oldest.first();
        let oldest = oldest.and_then(|(_, millis)| Timestamp::from_millisecond(*millis).ok());
        Ok(Ledger {
            open: is_complete.then_some(OpenEvents { count, oldest }),
            ..stored::ledger(counts)?
        })
    }

    pub(in crate::state) async fn untold(
        &self,
        parts: Vec<LogPart>,
    ) -> Result<Vec<(EventId, LogPlace)>, StateError> {
        let mut connection = self.link.connection()?;
        let mut ask = Pipeline::new();
        for part in &parts {
            ask.cmd("ZRANGEBYSCORE")
                .arg(untold_key(Some(part.partition)))
                .arg("-inf")
                .arg(format!("({}", part.below))
                .arg("WITHSCORES")
                .arg("LIMIT")
                .arg(0)
                .arg(limits::STATE_BATCH_RECORDS_MAX);
        }
        let answers: RedisResult<Vec<Vec<(String, i64)>>> = ask.query_async(&mut connection).await;
        let answers = self.link.judge(answers)?;
        let mut events = Vec::new();
        for (part, members) in parts.iter().zip(answers) {
            for (id, offset) in members {
                let unreadable = |_| StateError::Unreadable(format!("an untold event {id:?}"));
                let event: EventId = id.parse().map_err(unreadable)?;
                let partition = part.partition;
                events.push((event, LogPlace { partition, offset }));
            }
        }
        Ok(events)
    }

    pub(in crate::state) async fn is_untold(
        &self,
        event: EventId,
        partition: i32,
    ) -> Result<bool, StateError> {
        let mut connection = self.link.connection()?;
        let score = Cmd::zscore(untold_key(Some(partition)), event.simple());
        let score: RedisResult<Option<i64>> = score.query_async(&mut connection).await;
        Ok(self.link.judge(score)?.is_some())
    }

    pub(in crate::state) async fn note_told(
        &self,
        events: Vec<(EventId, i32)>,
    ) -> Result<(), StateError> {
        if events.is_empty() {
            return Ok(());
        }
        let mut connection = self.link.connection()?;
        let mut note = Pipeline::new();
        for (event, partition) in &events {
            note.zrem(untold_key(Some(*partition)), event.simple())
                .ignore();
        }
        let noted = note.query_async(&mut connection).await;
        self.link.judge(noted)
    }

    /// Brings events of earlier versions into the index, some at a time from `cursor` on; where to go on, `None` when all are
    /// in it.
    pub(in crate::state) async fn index_open(
        &self,
        cursor: u64,
    ) -> Result<Option<u64>, StateError> {
        let mut connection = self.link.connection()?;
        let mut scan = Cmd::new();
        scan.arg("SCAN")
            .arg(cursor)
            .arg("MATCH")
            .arg(format!("{EVENT_PREFIX}*"))
            .arg("COUNT")
            .arg(INDEXED_AT_ONCE);
        let scanned: RedisResult<(u64, Vec<String>)> = scan.query_async(&mut connection).await;
        let (next, keys) = self.link.judge(scanned)?;
        if !keys.is_empty() {
            let found = Cmd::mget(&keys).query_async(&mut connection).await;
            let values: Vec<Option<String>> = self.link.judge(found)?;
            let script = Script::new(include_str!("index_open.lua"));
            let mut index = script.key(OPEN);
            let mut is_any = false;
            for (key, value) in keys.iter().zip(&values) {
                let received_at = value.as_deref().map(stored::accepted_at).transpose()?;
                let id = key.strip_prefix(EVENT_PREFIX).unwrap_or_default();
                if let Some(received_at) = received_at.flatten() {
                    index.key(key).arg(id).arg(received_at.as_millisecond());
                    is_any = true;
                }
            }
            if is_any {
                let indexed = index.invoke_async(&mut connection).await;
                self.link.judge::<()>(indexed)?;
            }
        }
        if next != 0 {
            return Ok(Some(next));
        }
        let complete = Cmd::set(OPEN_IS_COMPLETE, 1);
        let complete = complete.query_async(&mut connection).await;
        self.link.judge(complete).map(|()| None)
    }
}
