//! `crashferry reprocess`: stored dumps are parsed again, here, beside whatever is running.

use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use jiff::Timestamp;
use processor::reprocess::{NotRenewed, Renewed, Reprocessor};
use shared::config::{Config, Role};
use shared::id::{EventId, ProjectId};
use shared::limits::REPROCESSED_EVENTS_MAX;
use shared::metrics::Metrics;
use shared::outcome::{Outcome, Reason};
use shared::readiness::{Need, Part, Readiness};
use shared::state::State;
use shared::storage::{EventFolder, Storage};
use tokio::task::JoinSet;

use crate::moment::Moment;
use crate::output::{counted, print};
use crate::{CommandError, role};

/// Which crashes are processed again.
#[derive(Debug, clap::Args)]
pub(crate) struct ReprocessArguments {
    /// The crashes, by their event ids
    #[arg(
        value_name = "EVENT",
        required_unless_present = "reason",
        conflicts_with_all = ["reason", "since", "until"]
    )]
    events: Vec<EventId>,
    /// All that failed for this reason (parser_timeout, …), or all that are `processed`; may be repeated
    #[arg(long, value_parser = fate)]
    reason: Vec<Fate>,
    /// Of those, the ones finished then or later: a time such as 2026-01-31T12:00:00Z, or how long ago such as 2h
    #[arg(long, value_name = "T")]
    since: Option<Moment>,
    /// Of those, the ones finished then or earlier
    #[arg(long, value_name = "T")]
    until: Option<Moment>,
    /// Of those, the project's
    #[arg(long, value_name = "N")]
    project: Option<ProjectId>,
    /// Only say which would be parsed
    #[arg(long)]
    dry_run: bool,
}

/// What became of a crash: `None` is a report.
type Fate = Option<Reason>;

fn fate(text: &str) -> Result<Fate, String> {
    let reason = Reason::ALL
        .into_iter()
        .find(|reason| reason.as_str() == text);
    match (text, reason) {
        ("processed", _) => Ok(None),
        (_, Some(reason)) => Ok(Some(reason)),
        (_, None) => {
            let names = Reason::ALL.map(Reason::as_str).join(", ");
            Err(format!("expected processed, or one of {names}"))
        }
    }
}

/// Processes crashes again that the state store of `config` knows.
pub(crate) fn run(config: &Config, arguments: &ReprocessArguments) -> Result<(), CommandError> {
    config
        .check(Role::Standalone)
        .map_err(CommandError::usage)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = runtime.context("starting the runtime")?;
    runtime.block_on(async {
        role::make_data_directory(config)?;
        let readiness = Readiness::default();
        readiness.register(Part::State, Need::Informative);
        let metrics = Metrics::default();
        let state = State::open_patiently(config, metrics.clone(), readiness.clone()).await;
        let state = state.map_err(CommandError::usage)?;
        let found = find(&state, arguments).await;
        state.shutdown().await;
        let storage = Storage::open(config, readiness).await;
        let storage = storage.map_err(CommandError::usage)?;
        let reprocessor = Reprocessor::open(config, storage, metrics).await;
        let reprocessor = Arc::new(reprocessor.map_err(role::processor_error)?);
        let done = renew_all(&reprocessor, found?, arguments).await;
        reprocessor.stop().await;
        done
    })
}

/// What there is to do.
struct Found {
    /// Oldest first.
    crashes: Vec<EventFolder>,
    /// Asked for, and not there.
    absent: Vec<(EventId, String)>,
}

async fn find(state: &State, arguments: &ReprocessArguments) -> Result<Found, CommandError> {
    let mut found = match arguments.events.is_empty() {
        true => by_fate(state, arguments).await?,
        false => by_name(state, arguments).await?,
    };
    found
        .crashes
        .sort_by_key(|crash| (crash.received_at, crash.event_id));
    Ok(found)
}

async fn by_name(state: &State, arguments: &ReprocessArguments) -> Result<Found, CommandError> {
    let mut named = HashSet::new();
    let events = arguments.events.iter().copied();
    let events: Vec<EventId> = events.filter(|event| named.insert(*event)).collect();
    let known = state.finished(&events).await;
    let known = known.context("the state store")?;
    let mut found = Found {
        crashes: Vec::new(),
        absent: Vec::new(),
    };
    for (event, outcome) in events.into_iter().zip(known) {
        let why = match outcome {
            None => "not known, not finished yet, or finished so long ago that the state store has forgotten it".into(),
            Some(Outcome {
                attached_to: Some(crash),
                ..
            }) => format!("no crash, but files of {crash} that came late"),
            Some(outcome) if !is_of(arguments.project, &outcome) => {
                format!("of project {}", outcome.project_id)
            }
            Some(outcome) => {
                found.crashes.push(folder(&outcome));
                continue;
            }
        };
        found.absent.push((event, why));
    }
    Ok(found)
}

async fn by_fate(state: &State, arguments: &ReprocessArguments) -> Result<Found, CommandError> {
    let since = arguments.since.map_or(Timestamp::MIN, |since| since.0);
    let mut crashes: HashMap<EventId, EventFolder> = HashMap::new();
    let mut after = None;
    loop {
        let page = state
            .outcomes(since, after)
            .await
            .context("the state store")?;
        let chosen = page.outcomes.iter().filter(|outcome| {
            arguments.reason.contains(&outcome.verdict.reason())
                && outcome.attached_to.is_none()
                && is_of(arguments.project, outcome)
                && arguments
                    .until
                    .is_none_or(|until| outcome.finished_at <= until.0)
        });
        crashes.extend(chosen.map(|outcome| (outcome.event_id, folder(outcome))));
        if crashes.len() > REPROCESSED_EVENTS_MAX {
            return Err(CommandError::Failed(anyhow!(
                "expected at most {REPROCESSED_EVENTS_MAX} crashes, found more: choose fewer with --since and --until"
            )));
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    Ok(Found {
        crashes: crashes.into_values().collect(),
        absent: Vec::new(),
    })
}

fn is_of(project: Option<ProjectId>, outcome: &Outcome) -> bool {
    project.is_none_or(|project| project == outcome.project_id)
}

fn folder(outcome: &Outcome) -> EventFolder {
    EventFolder {
        project_id: outcome.project_id,
        received_at: outcome.received_at,
        event_id: outcome.event_id,
    }
}

/// What became of the crashes that were asked for.
#[derive(Default)]
struct Tally {
    renewed: usize,
    skipped: usize,
    failed: usize,
}

async fn renew_all(
    reprocessor: &Arc<Reprocessor>,
    found: Found,
    arguments: &ReprocessArguments,
) -> Result<(), CommandError> {
    let mut tally = Tally::default();
    for (event, why) in &found.absent {
        tally.failed += 1;
        print(&format!("{event}: {why}"))?;
    }
    let all = found.crashes.len();
    print(&format!("found {}", crashes(all)))?;
    let mut waiting = found.crashes.into_iter();
    let mut under_way = JoinSet::new();
    let mut done = 0;
    loop {
        while under_way.len() < reprocessor.workers()
            && let Some(crash) = waiting.next()
        {
            let reprocessor = Arc::clone(reprocessor);
            let dry_run = arguments.dry_run;
            under_way.spawn(async move {
                let result = match dry_run {
                    true => reprocessor.look(crash).await.map(|()| None),
                    false => reprocessor.renew(crash).await.map(Some),
                };
                (crash.event_id, result)
            });
        }
        let Some(ended) = under_way.join_next().await else {
            break;
        };
        let (event, result) = ended.context("a task ended early; this is a bug")?;
        done += 1;
        let line = tally.count(result);
        print(&format!("{done}/{all} {event}: {line}"))?;
    }
    tally.close(arguments)
}

impl Tally {
    fn count(&mut self, result: Result<Option<Renewed>, NotRenewed>) -> String {
        match result {
            Ok(None) => {
                self.renewed += 1;
                "would be parsed".to_owned()
            }
            Ok(Some(renewed)) => {
                self.renewed += 1;
                let signature = renewed.signature.as_deref().unwrap_or("no signature");
                let (revision, seconds) = (renewed.revision, renewed.seconds);
                format!("revision {revision}, {seconds:.2}s, {signature}")
            }
            Err(error @ (NotRenewed::CameWithout | NotRenewed::NoDump)) => {
                self.skipped += 1;
                format!("skipped: {error}")
            }
            Err(
                error @ (NotRenewed::NoReport
                | NotRenewed::Unreadable(_)
                | NotRenewed::Failed { .. }
                | NotRenewed::Storage(_)
                | NotRenewed::Scratch(_)
                | NotRenewed::Parser(_)
                | NotRenewed::NotTold { .. }),
            ) => {
                self.failed += 1;
                format!("failed: {error}")
            }
        }
    }

    /// Says how it ended; a crash that was asked for by name and skipped counts as failed.
    fn close(&self, arguments: &ReprocessArguments) -> Result<(), CommandError> {
        let Self {
            renewed,
            skipped,
            failed,
        } = self;
        let what = match arguments.dry_run {
            true => "would be parsed",
            false => "with a new report",
        };
        print(&format!(
            "{renewed} {what}, {skipped} skipped, {failed} failed"
        ))?;
        let not_done = failed
            + if arguments.events.is_empty() {
                0
            } else {
                *skipped
            };
        match not_done {
            0 => Ok(()),
            count => Err(CommandError::Failed(anyhow!(
                "{} without a new report",
                crashes(count)
            ))),
        }
    }
}

fn crashes(count: usize) -> String {
    counted(count, "crash", "crashes")
}
