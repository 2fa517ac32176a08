//! `crashferry reports delete`: the mark first, so that nothing comes back, then everything that is stored.

use std::io::{IsTerminal as _, Write as _};

use anyhow::{Context as _, anyhow};
use jiff::civil::Date;
use jiff::{Timestamp, ToSpan as _};
use shared::id::{EventId, ProjectId};
use shared::limits;
use shared::spool;
use shared::state::EventStatus;
use shared::storage::{StoredEvent, day_of};

use super::Reports;
use super::receipt::{Receipt, StateLine, TopicLine};
use crate::CommandError;
use crate::output::{self, counted};

/// Which events, and how sure the operator is.
#[derive(Debug, clap::Args)]
pub(crate) struct DeleteArguments {
    /// The events' ids
    #[arg(required = true, value_name = "EVENT")]
    events: Vec<EventId>,
    /// Only when they are of this project
    #[arg(long, value_name = "N")]
    project: Option<ProjectId>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Remove nothing, and print what would be
    #[arg(long)]
    dry_run: bool,
}

impl DeleteArguments {
    /// Asks whoever sits at the terminal.
    pub(super) fn confirm(&self) -> Result<(), CommandError> {
        if self.yes || self.dry_run {
            return Ok(());
        }
        if !std::io::stdin().is_terminal() {
            return Err(CommandError::usage(
                "--yes: expected it where nobody can be asked, found neither it nor --dry-run",
            ));
        }
        let events = counted(self.events.len(), "event", "events");
        eprint!("delete {events} for good? [y/N] ");
        std::io::stderr().flush().context("standard error")?;
        let mut answer = String::new();
        let read = std::io::stdin().read_line(&mut answer);
        read.context("standard input")?;
        match answer.trim() {
            "y" | "Y" | "yes" => Ok(()),
            _ => Err(anyhow!("nothing was deleted").into()),
        }
    }
}

/// An event that can be deleted.
struct Deletable {
    project: ProjectId,
    state: StateLine,
    deleted_before: Option<Timestamp>,
    stored: Vec<StoredEvent>,
    /// No record that tells of it is younger.
    told_until: Timestamp,
}

impl Reports<'_> {
    /// Deletes each event; one that cannot be does not keep the others.
    pub(super) async fn delete(&self, arguments: &DeleteArguments) -> Result<(), CommandError> {
        let mut failed = 0;
        for event in arguments.events.iter().copied() {
            match self.delete_one(event, arguments).await {
                Ok(receipt) => {
                    let line = serde_json::to_string(&receipt).context("writing JSON")?;
                    output::print(&line)?;
                }
                Err(error) => {
                    output::print_error(&format!("error: {event}: {error}"));
                    failed += 1;
                }
            }
        }
        if failed == 0 {
            return Ok(());
        }
        let all = counted(arguments.events.len(), "event", "events");
        Err(anyhow!("{failed} of {all} could not be deleted").into())
    }

    async fn delete_one(
        &self,
        event: EventId,
        arguments: &DeleteArguments,
    ) -> Result<Receipt, CommandError> {
        let found = self.deletable(event, arguments.project).await?;
        let copies = spool::copies_of(&self.config.data.dir, event);
        let copies = copies.context("looking into the spool")?;
        let now = Timestamp::now();
        if !arguments.dry_run {
            let marked = self.state.mark_deleted(event, now).await;
            marked.context("marking the event as deleted")?;
            let removed = self.storage.remove(&found.stored).await;
            removed.context("removing the event's files; run the command again")?;
            for copy in copies.iter().filter(|copy| copy.is_quarantined) {
                copy.remove().context("removing a copy from the spool")?;
            }
        }
        Ok(Receipt {
            event_id: event,
            project_id: found.project,
            deleted_at: found.deleted_before.unwrap_or(now),
            deleted_before: found.deleted_before.is_some(),
            dry_run: arguments.dry_run,
            storage: found.stored.as_slice().into(),
            state: found.state,
            spool: copies.as_slice().into(),
            kafka: self.topics(found.told_until).await,
        })
    }

    /// What there is of an event, when it may be deleted.
    async fn deletable(
        &self,
        event: EventId,
        project: Option<ProjectId>,
    ) -> Result<Deletable, CommandError> {
        let Some((owner, status)) = self.find(event).await? else {
            return self.deletable_by_files(event, project).await;
        };
        let project = project.unwrap_or(owner);
        if project != owner {
            return Err(another_project(project, owner));
        }
        let (outcome, deleted_before) = match status {
            EventStatus::Accepted { received_at } => {
                return Err(unfinished(&format!("accepted at {received_at}")));
            }
            EventStatus::Finished(outcome) => (outcome, None),
            EventStatus::Deleted {
                outcome,
                deleted_at,
            } => (outcome, Some(deleted_at)),
        };
        let stored = self.stored(event, Some(project)).await?;
        let mut told_until = outcome.finished_at;
        for late in stored.iter().flat_map(StoredEvent::late_uploads) {
            if let Some((_, EventStatus::Finished(late))) = self.find(late).await? {
                told_until = told_until.max(late.finished_at);
            }
        }
        Ok(Deletable {
            project,
            state: StateLine::OutcomeMarkedDeleted,
            deleted_before,
            stored,
            told_until,
        })
    }

    /// The same of an event whose outcome is not known any more.
    async fn deletable_by_files(
        &self,
        event: EventId,
        project: Option<ProjectId>,
    ) -> Result<Deletable, CommandError> {
        let stored = self.stored(event, project).await?;
        let Some(first) = stored.first() else {
            return Err(self.no_such_event(event, project).await?);
        };
        let now = Timestamp::now();
        let youngest: Option<Date> = stored.iter().map(|event| event.folder.day()).max();
        // As the sweeper has it: nobody works at older ones any more.
        let yesterday = day_of(now).saturating_sub(1.day());
        if let Some(day) = youngest.filter(|day| *day >= yesterday) {
            return Err(unfinished(&format!("files of {day} and no outcome")));
        }
        Ok(Deletable {
            project: first.folder.project_id,
            state: StateLine::NothingKept,
            deleted_before: None,
            // An outcome that is not known any more was told so long ago.
            told_until: now - limits::STATUS_KEPT,
            stored,
        })
    }

    /// Why an event that the state store has forgotten has no files that may be deleted.
    async fn no_such_event(
        &self,
        event: EventId,
        project: Option<ProjectId>,
    ) -> Result<CommandError, CommandError> {
        if let Some(project) = project
            && let Some(elsewhere) = self.stored(event, None).await?.first()
        {
            return Ok(another_project(project, elsewhere.folder.project_id));
        }
        Ok(anyhow!(
            "expected an event that the state store or the storage knows, found none with this id"
        )
        .into())
    }

    /// Until when the topics keep what they were told of an event up to `told_until`.
    async fn topics(&self, told_until: Timestamp) -> Vec<TopicLine> {
        let names = &self.config.kafka.topics;
        let mut lines = Vec::new();
        for topic in [&names.attachments, &names.reports] {
            let Some(admin) = &self.admin else { continue };
            let (kept_until, problem) = match admin.describe(topic).await {
                Ok(described) => {
                    let kept = described.retention;
                    (
                        kept.and_then(|kept| told_until.checked_add(kept).ok()),
                        None,
                    )
                }
                Err(error) => (None, Some(error.to_string())),
            };
            lines.push(TopicLine {
                topic: topic.clone(),
                kept_until,
                problem,
            });
        }
        lines
    }
}

fn another_project(project: ProjectId, owner: ProjectId) -> CommandError {
    anyhow!("expected an event of project {project}, found one of project {owner}: nothing of it was deleted")
        .into()
}

fn unfinished(found: &str) -> CommandError {
    anyhow!(
        "expected an event that is finished, found {found}: wait for its outcome, then delete it"
    )
    .into()
}
