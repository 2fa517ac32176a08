//! `crashferry reports`: what operators do to stored events, in the configured storage and state store.

mod delete;
mod receipt;

use anyhow::{Context as _, anyhow};
use shared::config::{Config, Role};
use shared::id::{EventId, ProjectId};
use shared::kafka::{Admin, KafkaError};
use shared::metrics::Metrics;
use shared::readiness::{Need, Part, Readiness};
use shared::report::REPORT_GONE;
use shared::state::{EventStatus, State};
use shared::storage::{EventFolder, Storage, StoredEvent};

use self::delete::DeleteArguments;
use crate::{CommandError, output, role};

/// What can be done to stored events.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ReportsCommand {
    /// Print an event's report, JSON
    Show {
        /// The event's id
        event: EventId,
    },
    /// Remove everything of events for good, and print a receipt for each, one JSON object a line
    Delete(DeleteArguments),
}

/// Carries out a command on the storage and the state store that `config` names.
pub(crate) fn run(config: &Config, command: ReportsCommand) -> Result<(), CommandError> {
    config
        .check(Role::Standalone)
        .map_err(CommandError::usage)?;
    if let ReportsCommand::Delete(arguments) = &command {
        arguments.confirm()?;
    }
    let runtime = role::command_runtime()?;
    runtime.block_on(async {
        role::make_data_directory(config)?;
        let readiness = Readiness::default();
        readiness.register(Part::State, Need::Informative);
        readiness.register(Part::Storage, Need::Informative);
        let storage = Storage::open(config, readiness.clone()).await;
        let storage = storage.map_err(CommandError::usage)?;
        let state = State::open(config, Metrics::default(), readiness).await;
        let state = state.map_err(CommandError::usage)?;
        let kafka = config.kafka.brokers.is_some();
        let admin = kafka.then(|| Admin::new(&config.kafka)).transpose();
        let reports = Reports {
            config,
            storage,
            state,
            admin: admin.map_err(|error: KafkaError| CommandError::usage(error))?,
        };
        let done = match command {
            ReportsCommand::Show { event } => reports.show(event).await,
            ReportsCommand::Delete(arguments) => reports.delete(&arguments).await,
        };
        reports.state.shutdown().await;
        done
    })
}

/// Where events are.
struct Reports<'c> {
    config: &'c Config,
    storage: Storage,
    state: State,
    admin: Option<Admin>,
}

impl Reports<'_> {
    async fn show(&self, event: EventId) -> Result<(), CommandError> {
        let mut had_report = false;
        let folders = match self.find(event).await? {
            Some((_, EventStatus::Deleted { deleted_at, .. })) => {
                return Err(anyhow!(
                    "expected an event that is kept, found that {event} was deleted at {deleted_at}"
                )
                .into());
            }
            Some((project_id, EventStatus::Accepted { received_at })) => vec![EventFolder {
                project_id,
                received_at,
                event_id: event,
            }],
            Some((project_id, EventStatus::Finished(outcome))) => {
                had_report = outcome.had_report();
                vec![EventFolder {
                    project_id,
                    received_at: outcome.received_at,
                    event_id: event,
                }]
            }
            None => {
                let stored = self.stored(event, None).await?.into_iter();
                stored.map(|event| event.folder).collect()
            }
        };
        for folder in folders {
            let report = self.storage.report(folder).await;
            if let Some(report) = report.context("reading the report")? {
                return output::print(&String::from_utf8_lossy(&report));
            }
        }
        let found = match had_report {
            true => format!("{event}: {REPORT_GONE}"),
            false => format!("none with the id {event}"),
        };
        Err(anyhow!("expected an event with a report, found {found}").into())
    }

    /// What the state store knows of an event, and whose it is.
    async fn find(&self, event: EventId) -> Result<Option<(ProjectId, EventStatus)>, CommandError> {
        let found = self.state.find(event).await;
        Ok(found.context("looking the event up")?)
    }

    /// Everything of an event in the storage, of one project or wherever it is.
    async fn stored(
        &self,
        event: EventId,
        project: Option<ProjectId>,
    ) -> Result<Vec<StoredEvent>, CommandError> {
        let projects = match project {
            Some(project) => vec![project],
            None => self.storage.projects().await.context("listing projects")?,
        };
        let mut stored = Vec::new();
        for project in projects {
            let found = self.storage.everything_of(project, event).await;
            stored.extend(found.context("looking for the event's files")?);
        }
        Ok(stored)
    }
}
