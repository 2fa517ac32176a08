//! State in Redis, for roles in several processes. Status and ledger change in one script.

mod claimer;
mod deleted;
mod keys;
mod link;
mod open_events;
mod outcomes;
mod recent;
mod repeats;

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Pipeline, RedisResult};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::claimer::Claimer;
use self::link::Link;
use self::recent::{Record, Recorder};
use self::repeats::Scripts;
use super::{AcceptedNote, AttemptId, EventStatus, Finished, LogPlace, StateError, stored};
use crate::config::Secret;
use crate::id::{EventId, ProjectId, PublicKey};
use crate::limits;
use crate::outcome::Outcome;

const LEDGER: &str = "crashferry:ledger";
/// What the key of an event's status begins with.
const EVENT_PREFIX: &str = "crashferry:event:";

/// A handle on the connection.
#[derive(Clone, Debug)]
pub(super) struct Redis {
    link: Link,
    recorder: Recorder,
    scripts: Arc<Scripts>,
    claimer: Claimer,
    /// How long a durable upload is known to repeats.
    window: Duration,
}

impl Redis {
    /// Starts to connect to `url`, and goes on until `stop`. `window` is `dedupe.window`.
    pub(super) async fn open(
        url: &Secret,
        address: &str,
        window: Duration,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Result<Self, StateError> {
        let recorder = Recorder::new();
        let link = Link::start(url, address, recorder.clone(), tasks, stop.clone()).await?;
        let scripts = Arc::new(Scripts::new());
        let claimer = Claimer::start(link.clone(), Arc::clone(&scripts), tasks, stop);
        Ok(Self {
            link,
            recorder,
            scripts,
            claimer,
            window,
        })
    }

    pub(super) async fn accept(&self, notes: Vec<AcceptedNote>) -> Result<(), StateError> {
        let records = notes.iter().map(|note| Record {
            event: note.event_id,
            value: stored::accepted(note),
            count: String::new(),
            accepted_at: note.received_at,
            place: note.place,
        });
        self.record(records).await?;
        self.keep(&notes).await
    }

    pub(super) async fn finish(&self, outcomes: Vec<Outcome>) -> Result<Vec<Finished>, StateError> {
        let records = outcomes.iter().map(|outcome| Record {
            event: outcome.event_id,
            value: stored::finished(outcome),
            count: stored::count_name(&outcome.verdict),
            accepted_at: outcome.received_at,
            place: LogPlace::of(outcome),
        });
        let known = self.record(records).await?;
        let finished = known.iter().map(|known| match known.as_str() {
            "" => Ok(Finished::First),
            known => stored::outcome(known).map(Finished::Already),
        });
        finished.collect()
    }

    pub(super) async fn statuses(
        &self,
        events: Vec<EventId>,
    ) -> Result<Vec<Option<(ProjectId, EventStatus)>>, StateError> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let keys: Vec<String> = events.into_iter().map(event_key).collect();
        let mut connection = self.link.connection()?;
        let values = Cmd::mget(keys).query_async(&mut connection).await;
        let values: Vec<Option<String>> = self.link.judge(values)?;
        let status = |value: &Option<String>| value.as_deref().map(stored::status).transpose();
        values.iter().map(status).collect()
    }

    /// A set of attempts rather than their number: a try whose answer was lost is not counted twice.
    pub(super) async fn begin_attempt(
        &self,
        event: EventId,
        attempt: AttemptId,
    ) -> Result<u32, StateError> {
        let key = attempts_key(event);
        let mut connection = self.link.connection()?;
        let mut begin = Pipeline::new();
        begin
            .atomic()
            .sadd(&key, attempt.to_string())
            .ignore()
            .expire(&key, kept_seconds())
            .ignore()
            .scard(&key);
        let attempts: RedisResult<(u32,)> = begin.query_async(&mut connection).await;
        let (attempts,) = self.link.judge(attempts)?;
        Ok(attempts)
    }

    pub(super) async fn project_key(&self, project: ProjectId) -> Result<PublicKey, StateError> {
        let key = format!("crashferry:project:{project}:key");
        let mut connection = self.link.connection()?;
        let mut made = Pipeline::new();
        made.atomic()
            .set_nx(&key, PublicKey::random().as_str())
            .ignore()
            .get(&key);
        let made: RedisResult<(String,)> = made.query_async(&mut connection).await;
        let (made,) = self.link.judge(made)?;
        let unreadable = |_| StateError::Unreadable(format!("the key of project {project}"));
        made.parse().map_err(unreadable)
    }

    /// Records; answers for each record the outcome that its event had before, or "".
    async fn record(
        &self,
        records: impl Iterator<Item = Record>,
    ) -> Result<Vec<String>, StateError> {
        let mut connection = self.link.connection()?;
        let recorded = self.recorder.record(&mut connection, records.collect());
        self.link.judge(recorded.await)
    }
}

fn event_key(event: EventId) -> String {
    format!("{EVENT_PREFIX}{}", event.simple())
}

fn attempts_key(event: EventId) -> String {
    format!("crashferry:attempts:{}", event.simple())
}

fn kept_seconds() -> i64 {
    limits::STATUS_KEPT.as_secs().cast_signed()
}
