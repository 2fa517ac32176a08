//! Deleted events and leases, in Redis.

use std::time::Duration;

use jiff::Timestamp;
use redis::{Cmd, Script};
use uuid::Uuid;

use super::repeats::millis;
use super::{Redis, event_key, kept_seconds};
use crate::id::EventId;
use crate::state::{StateError, stored};

impl Redis {
    pub(in crate::state) async fn mark_deleted(
        &self,
        event: EventId,
        at: Timestamp,
    ) -> Result<(), StateError> {
        let key = event_key(event);
        let mut connection = self.link.connection()?;
        let known = Cmd::get(&key).query_async(&mut connection).await;
        let known: Option<String> = self.link.judge(known)?;
        let Some(known) = known else { return Ok(()) };
        let Some(deleted) = stored::deleted(&known, at)? else {
            return Ok(());
        };
        // An outcome changes in no other way than this: when it is not there any more, another deletion was quicker.
        let replaced = Script::new(include_str!("replace.lua"))
            .key(&key)
            .arg(known)
            .arg(deleted)
            .arg(kept_seconds())
            .invoke_async(&mut connection)
            .await;
        self.link.judge(replaced)
    }

    pub(in crate::state) async fn lease(
        &self,
        name: &'static str,
        holder: Uuid,
        lasts: Duration,
    ) -> Result<bool, StateError> {
        let mut connection = self.link.connection()?;
        let taken = Script::new(include_str!("lease.lua"))
            .key(format!("crashferry:lease:{name}"))
            .arg(holder.simple().to_string())
            .arg(millis(lasts))
            .invoke_async(&mut connection)
            .await;
        self.link.judge(taken)
    }
}
