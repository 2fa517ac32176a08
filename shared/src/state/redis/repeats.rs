//! Claims on uploads and on event ids, in Redis.

use std::time::Duration;

use redis::Script;

use super::{Redis, event_key, kept_seconds};
use crate::id::{EventId, ProjectId};
use crate::repeat::RepeatMark;
use crate::state::{AcceptedNote, Claim, Claimed, StateError};

impl Redis {
    pub(in crate::state) async fn claim_upload(
        &self,
        claim: &Claim,
        lasts: Duration,
    ) -> Result<Claimed, StateError> {
        self.claimer.claim(claim, lasts).await
    }

    pub(in crate::state) async fn release_upload(&self, claim: &Claim) -> Result<(), StateError> {
        let mut connection = self.link.connection()?;
        let mut script = self.scripts.release.prepare_invoke();
        for mark in claim.marks.iter() {
            script.key(upload_key(claim.project_id, mark));
        }
        script.arg(claim.token());
        let released = script.invoke_async(&mut connection).await;
        self.link.judge(released)
    }

    /// Makes the claims of accepted uploads good.
    pub(super) async fn keep(&self, notes: &[AcceptedNote]) -> Result<(), StateError> {
        let mut script = self.scripts.keep.prepare_invoke();
        script.arg(millis(self.window));
        let mut marks = 0;
        for note in notes {
            let Some(claim) = &note.claim else { continue };
            for mark in claim.marks.iter() {
                script.key(upload_key(claim.project_id, mark));
                script.arg(claim.token()).arg(note.event_id.simple());
                marks += 1;
            }
        }
        if marks == 0 || self.window.is_zero() {
            return Ok(());
        }
        let mut connection = self.link.connection()?;
        let kept = script.invoke_async(&mut connection).await;
        self.link.judge(kept)
    }

    pub(in crate::state) async fn claim_event_id(
        &self,
        event: EventId,
        fingerprint: blake3::Hash,
    ) -> Result<bool, StateError> {
        let mut connection = self.link.connection()?;
        let mut script = self.scripts.event_id.key(chosen_key(event));
        script
            .key(event_key(event))
            .arg(fingerprint.to_hex().as_str())
            .arg(kept_seconds());
        let claimed = script.invoke_async(&mut connection).await;
        let claimed: u8 = self.link.judge(claimed)?;
        Ok(claimed == 1)
    }
}

/// The scripts besides that of the recorder, each with its hash.
#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) claim: Script,
    pub(super) keep: Script,
    pub(super) release: Script,
    pub(super) event_id: Script,
    pub(super) quota: Script,
    pub(super) put_key: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            claim: Script::new(include_str!("claim.lua")),
            keep: Script::new(include_str!("keep.lua")),
            release: Script::new(include_str!("release.lua")),
            event_id: Script::new(include_str!("event_id.lua")),
            quota: Script::new(include_str!("quota.lua")),
            put_key: Script::new(include_str!("put_key.lua")),
        }
    }
}

pub(super) fn upload_key(project: ProjectId, mark: RepeatMark) -> String {
    format!("crashferry:upload:{project}:{mark}")
}

fn chosen_key(event: EventId) -> String {
    format!("crashferry:chosen:{}", event.simple())
}

/// Redis takes no expiry of zero.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis())
        .unwrap_or(u64::MAX)
        .clamp(1, i64::MAX as u64 / 4)
}
