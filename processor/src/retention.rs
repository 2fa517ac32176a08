//! What is kept no longer: now and then events that are older, or the oldest of more, than `storage.keep` says are
//! removed from the storage, by one processor at a time.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::{Stream, TryStreamExt};
use jiff::civil::Date;
use jiff::{Timestamp, ToSpan as _};
use shared::config::{Config, KeepConfig};
use shared::id::ProjectId;
use shared::limits;
use shared::metrics::{Metrics, Surplus};
use shared::state::{State, StateError};
use shared::storage::{Storage, StorageError, StoredEvent, day_of};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The lease under which one processor sweeps.
const LEASE: &str = "retention";

/// How long each project's events are kept.
#[derive(Debug)]
struct KeepRules {
    everyone: KeepConfig,
    projects: HashMap<ProjectId, KeepConfig>,
}

impl KeepRules {
    fn new(config: &Config) -> Self {
        let own = |project: &shared::config::ProjectConfig| Some((project.id, project.keep?));
        Self {
            everyone: config.storage.keep,
            projects: config.projects.iter().filter_map(own).collect(),
        }
    }

    fn of(&self, project: ProjectId) -> KeepConfig {
        self.projects
            .get(&project)
            .copied()
            .unwrap_or(self.everyone)
    }

    fn are_for_ever(&self) -> bool {
        let mut all = self.projects.values().chain([&self.everyone]);
        all.all(|keep| keep.is_for_ever())
    }
}

/// Removes what is kept no longer.
#[derive(Debug)]
pub(crate) struct Sweeper {
    storage: Storage,
    state: State,
    metrics: Metrics,
    rules: KeepRules,
    /// Under which this processor has the lease.
    holder: Uuid,
}

/// Why a sweep ended early. The next one begins again, with what is left.
#[derive(Debug, thiserror::Error)]
enum Interrupted {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error("another processor has the lease now")]
    Lease,
}

/// Events and their bytes.
#[derive(Clone, Copy, Default, Debug)]
struct Count {
    events: u64,
    bytes: u64,
}

impl Count {
    fn add(&mut self, other: Self) {
        self.events += other.events;
        self.bytes += other.bytes;
    }
}

impl Sweeper {
    pub(crate) fn new(config: &Config, storage: Storage, state: State, metrics: Metrics) -> Self {
        Self {
            storage,
            state,
            metrics,
            rules: KeepRules::new(config),
            holder: Uuid::new_v4(),
        }
    }

    /// Sweeps every [`limits::RETENTION_INTERVAL`], until `stop`. Nothing to do where everything is kept for ever.
    pub(crate) async fn run(self, stop: CancellationToken) {
        if !self.rules.are_for_ever() {
            stop.run_until_cancelled(self.sweep_for_ever()).await;
        }
    }

    async fn sweep_for_ever(&self) {
        // Processors that start together do not all ask at once.
        let share = f64::from(self.holder.as_bytes()[0]) / 256.0;
        sleep(limits::RETENTION_FIRST_WITHIN.mul_f64(share)).await;
        loop {
            match self.sweep().await {
                Ok(()) => {}
                Err(Interrupted::Lease) => {
                    tracing::debug!("another processor sweeps the storage");
                }
                Err(error @ (Interrupted::Storage(_) | Interrupted::State(_))) => {
                    tracing::warn!(%error, "what is kept no longer stays for now");
                }
            }
            sleep(limits::RETENTION_INTERVAL).await;
        }
    }

    async fn lease(&self, lasts: Duration) -> Result<(), Interrupted> {
        match self.state.lease(LEASE, self.holder, lasts).await? {
            true => Ok(()),
            false => Err(Interrupted::Lease),
        }
    }

    async fn sweep(&self) -> Result<(), Interrupted> {
        let begun = Instant::now();
        self.lease(limits::RETENTION_LEASE).await?;
        let (mut kept, mut removed) = (Count::default(), Count::default());
        for project in self.storage.projects().await? {
            let swept = self.sweep_project(project).await?;
            kept.add(swept.0);
            removed.add(swept.1);
        }
        self.metrics.stored_events.set(kept.events.cast_signed());
        self.metrics.stored_bytes.set(kept.bytes.cast_signed());
        let now = Timestamp::now().as_duration().as_secs_f64();
        self.metrics.retention_last_sweep_timestamp_seconds.set(now);
        let took = begun.elapsed().as_secs_f64();
        self.metrics.retention_last_sweep_duration_seconds.set(took);
        tracing::info!(
            removed_events = removed.events,
            removed_bytes = removed.bytes,
            kept_events = kept.events,
            kept_bytes = kept.bytes,
            seconds = took,
            "swept the storage"
        );
        // Who swept goes on sweeping, so that several processors together sweep no more often than one.
        self.lease(limits::RETENTION_INTERVAL + limits::RETENTION_LEASE)
            .await
    }

    /// By age first, then by bytes. Returns what is left and what is gone.
    async fn sweep_project(&self, project: ProjectId) -> Result<(Count, Count), Interrupted> {
        let keep = self.rules.of(project);
        let oldest_kept = keep.age.and_then(|age| {
            let oldest = Timestamp::now().checked_sub(age.get()).ok()?;
            Some(day_of(oldest))
        });
        let (mut kept, mut removed) = (Count::default(), Count::default());
        let mut days = Vec::new();
        for day in self.storage.days(project).await? {
            self.lease(limits::RETENTION_LEASE).await?;
            if oldest_kept.is_some_and(|oldest| day < oldest) {
                removed.add(self.remove(project, day, Surplus::Age, u64::MAX).await?);
            } else {
                kept.add(count(self.storage.events(project, day)).await?);
                days.push(day);
            }
        }
        let bytes_max = keep.bytes.map_or(u64::MAX, |bytes| bytes.get());
        for day in days {
            let surplus = kept.bytes.saturating_sub(bytes_max);
            if surplus == 0 {
                break;
            }
            let gone = self.remove(project, day, Surplus::Bytes, surplus).await?;
            kept.events = kept.events.saturating_sub(gone.events);
            kept.bytes = kept.bytes.saturating_sub(gone.bytes);
            removed.add(gone);
        }
        Ok((kept, removed))
    }

    /// Removes events of a day until at least so many `bytes` are gone, or all that may go.
    async fn remove(
        &self,
        project: ProjectId,
        day: Date,
        reason: Surplus,
        bytes: u64,
    ) -> Result<Count, Interrupted> {
        let mut events = self.storage.events(project, day);
        let mut gone = Count::default();
        loop {
            let mut batch = Vec::new();
            let mut found = 0;
            while batch.len() < limits::STORAGE_REMOVE_EVENTS && gone.bytes + found < bytes {
                let Some(event) = events.try_next().await? else {
                    break;
                };
                found += event.bytes();
                batch.push(event);
            }
            if batch.is_empty() {
                return Ok(gone);
            }
            self.lease(limits::RETENTION_LEASE).await?;
            let batch = self.finished(day, batch).await?;
            self.storage.remove(&batch).await?;
            for event in &batch {
                self.metrics.count_surplus(reason, event.bytes());
                gone.events += 1;
                gone.bytes += event.bytes();
            }
        }
    }

    /// Those that nobody works at any more: of the last two days the ones that have their outcome, of older ones all.
    async fn finished(
        &self,
        day: Date,
        mut events: Vec<StoredEvent>,
    ) -> Result<Vec<StoredEvent>, Interrupted> {
        let yesterday = day_of(Timestamp::now()).saturating_sub(1.day());
        if day >= yesterday {
            let ids: Vec<_> = events.iter().map(|event| event.folder.event_id).collect();
            let mut outcomes = self.state.finished(&ids).await?.into_iter();
            events.retain(|_| outcomes.next().flatten().is_some());
        }
        Ok(events)
    }
}

async fn count(
    events: impl Stream<Item = Result<StoredEvent, StorageError>>,
) -> Result<Count, StorageError> {
    let add = |sum: Count, event: StoredEvent| async move {
        Ok(Count {
            events: sum.events + 1,
            bytes: sum.bytes + event.bytes(),
        })
    };
    events.try_fold(Count::default(), add).await
}
