//! What became of each event, and the ledger over all of them: in a SQLite file, or in Redis when roles scale out.
//!
//! Status and ledger change in one transaction, so `accepted = processed + failed + in flight` holds in every snapshot,
//! and an event counts once whatever is repeated or lost on the way here.

mod keys;
mod notes;
mod open_events;
mod outcomes;
mod quotas;
mod redis;
mod repeats;
mod sqlite;
mod store;
mod stored;
mod watch;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

pub use self::keys::{KeyPut, KeyRecord};
pub use self::open_events::{LogPart, LogPlace, OpenEvents, UntoldEvent};
pub use self::outcomes::{OutcomePage, OutcomesAfter};
pub use self::quotas::QuotaVerdict;
pub use self::repeats::{Claim, Claimed, DurableElsewhere, RememberedUpload};

use self::notes::Notes;
use self::redis::Redis;
use self::sqlite::Sqlite;
use self::store::Store;
use self::watch::Watch;
use crate::config::Config;
use crate::id::{EventId, ProjectId, PublicKey};
use crate::ledger::Ledger;
use crate::limits;
use crate::metrics::{Metrics, StateOperation};
use crate::outcome::Outcome;
use crate::readiness::{Part, Readiness};

/// Why the state store gave no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StateError {
    /// It does not answer now: try again.
    #[error("the state store is away: {0}")]
    Away(String),
    /// It cannot be used as it is configured.
    #[error("{key}: {problem}")]
    Unusable {
        /// The configuration key.
        key: &'static str,
        /// What was expected and what was found.
        problem: String,
    },
    /// It holds something that we did not write, or a newer version of us did.
    #[error("the state store holds what this version cannot read: {0}")]
    Unreadable(String),
}

/// An upload that got its 200.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AcceptedNote {
    /// The crash.
    pub event_id: EventId,
    /// Its project.
    pub project_id: ProjectId,
    /// When the relay had it.
    pub received_at: Timestamp,
    /// Where its message stands in the ingest topic; `None` while that is not known.
    pub place: Option<LogPlace>,
    /// By what its repeats are known, made good with this note; `None` when they are not to be.
    pub claim: Option<Claim>,
}

/// Where an event is on its way.
#[derive(Clone, PartialEq, Debug)]
pub enum EventStatus {
    /// Promised a fate, which is not known yet.
    Accepted {
        /// When the relay had it.
        received_at: Timestamp,
    },
    /// Its fate.
    Finished(Outcome),
    /// Its fate once; then an operator had everything of it removed, and nothing of it is to come back.
    Deleted {
        /// Its fate, which the ledger still counts.
        outcome: Outcome,
        /// When it was deleted.
        deleted_at: Timestamp,
    },
}

/// What recording an outcome came to.
#[derive(Clone, PartialEq, Debug)]
pub enum Finished {
    /// It is the event's outcome now.
    First,
    /// The event had this one already, and keeps it. It may be the same one, recorded by a try whose answer was lost.
    Already(Outcome),
}

/// One attempt at an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AttemptId(Uuid);

impl AttemptId {
    /// A new attempt.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.simple().fmt(f)
    }
}

/// A handle on the state store; clones share it.
#[derive(Clone, Debug)]
pub struct State(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    notes: Notes,
    metrics: Metrics,
    /// How long it may take where an upload waits for the answer.
    soon: Duration,
    /// Product and address, for messages.
    address: String,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl State {
    /// Opens the store that `config` names. Redis may be away; a SQLite file may not.
    ///
    /// # Errors
    /// [`StateError::Unusable`] names the key; [`StateError::Unreadable`] when a newer version wrote the file.
    pub async fn open(
        config: &Config,
        metrics: Metrics,
        readiness: Readiness,
    ) -> Result<Self, StateError> {
        Self::open_with(limits::STATE_SOON_TIMEOUT, config, metrics, readiness).await
    }

    /// As [`State::open`], for those who have no client waiting: every answer may take
    /// [`limits::STATE_REQUEST_TIMEOUT`].
    ///
    /// # Errors
    /// As [`State::open`].
    pub async fn open_patiently(
        config: &Config,
        metrics: Metrics,
        readiness: Readiness,
    ) -> Result<Self, StateError> {
        Self::open_with(limits::STATE_REQUEST_TIMEOUT, config, metrics, readiness).await
    }

    async fn open_with(
        soon: Duration,
        config: &Config,
        metrics: Metrics,
        readiness: Readiness,
    ) -> Result<Self, StateError> {
        let tasks = TaskTracker::new();
        let stop = CancellationToken::new();
        let window = config.dedupe.window.get();
        let address = config.redis.address();
        readiness.wait_for(Part::State, &address);
        let store = match &config.redis.url {
            Some(url) => {
                Store::Redis(Redis::open(url, &address, window, &tasks, stop.clone()).await?)
            }
            None => Store::Sqlite(Sqlite::open(&config.data.dir.join("state.db"), window).await?),
        };
        let notes = Notes::start(store.clone(), metrics.clone(), &tasks, stop.clone());
        let state = Self(Arc::new(Inner {
            store,
            notes,
            metrics: metrics.clone(),
            soon,
            address,
            stop: stop.clone(),
            tasks: tasks.clone(),
        }));
        let watch = Watch {
            store: state.0.store.clone(),
            metrics,
            readiness,
            indexed_to: AtomicU64::new(0),
        };
        watch.look().await;
        tasks.spawn(async move { stop.run_until_cancelled(watch.run()).await });
        tasks.close();
        Ok(state)
    }

    /// Notes that an upload got its 200. Never waits and never fails: a note that finds the queue full is dropped and
    /// counted, and the event's outcome makes up for it.
    pub fn note_accepted(&self, note: AcceptedNote) {
        self.0.notes.push(note);
    }

    /// Records outcomes, each event's first one only, and says for each what it came to, in the same order. May be
    /// repeated, in whole or in part.
    ///
    /// # Errors
    /// [`StateError::Away`]: any number of them may be recorded; repeat.
    pub async fn finish(&self, outcomes: &[Outcome]) -> Result<Vec<Finished>, StateError> {
        let mut finished = Vec::with_capacity(outcomes.len());
        for batch in outcomes.chunks(limits::STATE_BATCH_RECORDS_MAX) {
            let batch = self.0.store.finish(batch.to_vec()).await;
            finished.extend(self.counted(StateOperation::Finish, batch)?);
        }
        Ok(finished)
    }

    /// Where an event of a project is; `None` when there is none such, or its outcome is older than
    /// [`limits::STATUS_KEPT`]. Sees every note of this process.
    ///
    /// # Errors
    /// [`StateError`]
    pub async fn status(
        &self,
        project: ProjectId,
        event: EventId,
    ) -> Result<Option<EventStatus>, StateError> {
        if let Some(status) = self.look_up(project, event).await? {
            return Ok(Some(status));
        }
        self.flush().await?;
        self.look_up(project, event).await
    }

    /// The outcomes of those of `events` that have one, in the same order.
    ///
    /// # Errors
    /// [`StateError`]
    pub async fn finished(&self, events: &[EventId]) -> Result<Vec<Option<Outcome>>, StateError> {
        let statuses = self.statuses(events).await?;
        Ok(statuses
            .into_iter()
            .map(|status| match status {
                Some((
                    _,
                    EventStatus::Finished(outcome) | EventStatus::Deleted { outcome, .. },
                )) => Some(outcome),
                Some((_, EventStatus::Accepted { .. })) | None => None,
            })
            .collect())
    }

    /// Where an event of any project is, and whose it is. As [`State::status`], but of the notes sees what is written.
    ///
    /// # Errors
    /// [`StateError`]
    pub async fn find(
        &self,
        event: EventId,
    ) -> Result<Option<(ProjectId, EventStatus)>, StateError> {
        Ok(self.statuses(&[event]).await?.pop().flatten())
    }

    /// Has a finished event known as deleted, for another [`limits::STATUS_KEPT`]. An event that is not finished, is
    /// deleted already or is unknown stays as it is: [`State::find`] says which. Lasts from when this returns.
    ///
    /// # Errors
    /// [`StateError`]: it may be marked; repeat.
    pub async fn mark_deleted(&self, event: EventId, at: Timestamp) -> Result<(), StateError> {
        let marked = self.0.store.mark_deleted(event, at).await;
        self.counted(StateOperation::Delete, marked)
    }

    /// Takes or renews the lease `name` for `lasts`, under the `holder`'s own token; `false` when another holder has it.
    /// SQLite belongs to one process, which holds every lease.
    ///
    /// # Errors
    /// [`StateError`]: whether it was taken is not known.
    pub async fn lease(
        &self,
        name: &'static str,
        holder: Uuid,
        lasts: Duration,
    ) -> Result<bool, StateError> {
        let taken = self.0.store.lease(name, holder, lasts).await;
        self.counted(StateOperation::Lease, taken)
    }

    /// The ledger, without the notes that are still queued.
    ///
    /// # Errors
    /// [`StateError`]
    pub async fn ledger(&self) -> Result<Ledger, StateError> {
        self.counted(StateOperation::Ledger, self.0.store.ledger().await)
    }

    /// Counts an attempt at an event before it is made, and says how many there are with it. The outcome ends the count.
    /// May be repeated: an attempt counts once.
    ///
    /// # Errors
    /// [`StateError`]; the attempt may have been counted.
    pub async fn begin_attempt(
        &self,
        event: EventId,
        attempt: AttemptId,
    ) -> Result<u32, StateError> {
        let attempts = self.0.store.begin_attempt(event, attempt).await;
        self.counted(StateOperation::Attempt, attempts)
    }

    /// The key that was made for a project when this was first asked.
    ///
    /// # Errors
    /// [`StateError`]
    pub async fn project_key(&self, project: ProjectId) -> Result<PublicKey, StateError> {
        let key = self.0.store.project_key(project).await;
        self.counted(StateOperation::ProjectKey, key)
    }

    /// Waits until every note so far is in the store.
    ///
    /// # Errors
    /// [`StateError::Away`]: they stay queued.
    pub async fn flush(&self) -> Result<(), StateError> {
        self.0.notes.flush().await
    }

    /// Writes the queued notes and ends every task, within [`limits::STATE_STOP_TIMEOUT`] or little more.
    pub async fn shutdown(&self) {
        self.0.stop.cancel();
        self.0.tasks.wait().await;
        self.0.store.close().await;
    }

    async fn look_up(
        &self,
        project: ProjectId,
        event: EventId,
    ) -> Result<Option<EventStatus>, StateError> {
        let status = self.statuses(&[event]).await?.pop().flatten();
        Ok(status
            .filter(|(owner, _)| *owner == project)
            .map(|(_, status)| status))
    }

    async fn statuses(
        &self,
        events: &[EventId],
    ) -> Result<Vec<Option<(ProjectId, EventStatus)>>, StateError> {
        let statuses = self.0.store.statuses(events.to_vec()).await;
        self.counted(StateOperation::Status, statuses)
    }

    /// What the store answers soon: a client waits.
    async fn soon<T>(
        &self,
        operation: StateOperation,
        answer: impl Future<Output = Result<T, StateError>>,
    ) -> Result<T, StateError> {
        let wait = self.0.soon;
        let answer = tokio::time::timeout(wait, answer).await;
        let late = |_| {
            let (address, wait) = (&self.0.address, wait.as_millis());
            StateError::Away(format!("{address}: no answer within {wait} ms"))
        };
        self.counted(
            operation,
            answer.unwrap_or_else(|elapsed| Err(late(elapsed))),
        )
    }

    fn counted<T>(
        &self,
        operation: StateOperation,
        result: Result<T, StateError>,
    ) -> Result<T, StateError> {
        if result.is_err() {
            self.0.metrics.count_state_error(operation);
        }
        result
    }
}
