//! Looking through the outcomes in Redis, which has no index over them: all its keys are scanned.

use redis::{Cmd, RedisResult};

use super::{EVENT_PREFIX, Redis};
use crate::limits;
use crate::state::{OutcomePage, OutcomesAfter, StateError, stored};

impl Redis {
    pub(in crate::state) async fn outcomes(
        &self,
        after: Option<OutcomesAfter>,
    ) -> Result<OutcomePage, StateError> {
        let cursor: u64 = match after {
            Some(OutcomesAfter::Cursor(cursor)) => cursor,
            Some(OutcomesAfter::Row(..)) | None => 0,
        };
        let mut connection = self.link.connection()?;
        let mut scan = Cmd::new();
        scan.arg("SCAN")
            .arg(cursor)
            .arg("MATCH")
            .arg(format!("{EVENT_PREFIX}*"))
            .arg("COUNT")
            .arg(limits::STATE_PAGE_OUTCOMES);
        let scanned: RedisResult<(u64, Vec<String>)> = scan.query_async(&mut connection).await;
        let (next, keys) = self.link.judge(scanned)?;
        let mut values: Vec<Option<String>> = Vec::new();
        if !keys.is_empty() {
            let found = Cmd::mget(keys).query_async(&mut connection).await;
            values = self.link.judge(found)?;
        }
        let finished = values.iter().flatten();
        let finished = finished.filter(|value| value.starts_with(stored::FINISHED_MARK));
        let outcomes: Result<_, _> = finished.map(|value| stored::outcome(value)).collect();
        Ok(OutcomePage {
            outcomes: outcomes?,
            next: (next != 0).then_some(OutcomesAfter::Cursor(next)),
        })
    }
}
