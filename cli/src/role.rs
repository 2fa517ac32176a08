//! Running a role: open what it needs, start its parts, wait for a signal, stop them in order.

use std::os::unix::fs::DirBuilderExt as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use processor::{ProcessorError, Source};
use relay::RelayError;
use shared::config::{Config, LogFormat, ProjectConfig, Role};
use shared::id::ProjectId;
use shared::kafka::KafkaError;
use shared::readiness::{Need, Part};
use shared::services::{Services, ServicesError};
use shared::spool::{SpoolDirectory, SpoolError};
use shared::state::State;
use shared::telemetry;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{CommandError, admin, modes, welcome};

/// What a stop may take besides `shutdown_timeout`, for the parts to end after their work.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// Runs a role until a signal.
pub(crate) fn run(role: Role, config: Config) -> Result<(), CommandError> {
    config.check(role).map_err(CommandError::usage)?;
    telemetry::start(&config.log).map_err(CommandError::usage)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = runtime.context("starting the runtime")?;
    let ended = runtime.block_on(run_until_signal(role, config));
    // A thread of ours that blocks on a disk or a broker must not keep the process from ending.
    runtime.shutdown_timeout(Duration::from_millis(200));
    ended
}

async fn run_until_signal(role: Role, mut config: Config) -> Result<(), CommandError> {
    let shutdown = CancellationToken::new();
    make_data_directory(&config)?;
    let services = Services::open(&config, role)
        .await
        .map_err(services_error)?;
    let made_key = role == Role::Standalone && config.projects.is_empty();
    if made_key {
        config.projects.push(first_project(&services.state).await?);
    }
    let config = Arc::new(config);
    let spool = match role {
        Role::Standalone | Role::Relay => Some(SpoolDirectory::open(&config).map_err(spool_error)?),
        Role::Processor => None,
    };
    modes::warn_of_loose_files(&config, &services.storage);
    register_parts(role, &services);
    let mut parts = JoinSet::new();
    let admin = start_admin(&config, &services).await?;
    let (storage, stop) = (services.storage.clone(), shutdown.clone());
    parts.spawn(async move {
        storage.watch(stop).await;
        Ok(())
    });
    if let Some(spool) = &spool {
        let (config, services) = (Arc::clone(&config), services.clone());
        let (spool, shutdown) = (spool.clone(), shutdown.clone());
        parts.spawn(async move {
            relay::run(config, services, spool, shutdown)
                .await
                .map_err(relay_error)
        });
    }
    if matches!(role, Role::Standalone | Role::Processor) {
        let source = match (&config.kafka.brokers, spool) {
            (None, Some(spool)) => Source::Local(spool),
            (Some(_), _) | (None, None) => Source::Kafka,
        };
        let (config, services, shutdown) =
            (Arc::clone(&config), services.clone(), shutdown.clone());
        parts.spawn(async move {
            processor::run(config, services, source, shutdown)
                .await
                .map_err(processor_error)
        });
    }
    if role == Role::Standalone && config.log.format == LogFormat::Text {
        welcome::print(&config, made_key).context("writing the sample dump")?;
    }
    let stopped = wait(
        parts,
        admin,
        &services,
        shutdown,
        config.shutdown_timeout.get(),
    )
    .await;
    services.state.shutdown().await;
    stopped
}

/// The runtime of an operator's command: one thread, beside roles that need the others.
pub(crate) fn command_runtime() -> Result<Runtime, CommandError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(1)
        .build();
    Ok(runtime.context("starting the runtime")?)
}

/// Makes `data.dir` for this user alone: it holds other people's memory, and the key of project 1.
pub(crate) fn make_data_directory(config: &Config) -> Result<(), CommandError> {
    let dir = &config.data.dir;
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir);
    made.map_err(|error| {
        let dir = dir.display();
        CommandError::usage(format!("data.dir: expected a directory at {dir}: {error}"))
    })
}

/// Registers what the role's parts set ready once they run, so that nobody is told "ready" before they do.
fn register_parts(role: Role, services: &Services) {
    if matches!(role, Role::Standalone | Role::Relay) {
        services.readiness.register(Part::Listener, Need::Required);
    }
    if matches!(role, Role::Standalone | Role::Processor) {
        services.readiness.register(Part::Parser, Need::Required);
    }
}

/// Waits for a signal or for a part that ends, then for the rest to end in time.
async fn wait(
    mut parts: JoinSet<Result<(), CommandError>>,
    mut admin: Admin,
    services: &Services,
    shutdown: CancellationToken,
    timeout: Duration,
) -> Result<(), CommandError> {
    let mut first_error = None;
    tokio::select! {
        signal = stop_signal() => {
            tracing::info!(signal = signal?, "stopping");
        }
        Some(ended) = parts.join_next() => {
            first_error = part_error(ended);
        }
        Some(ended) = admin.serving.join_next() => {
            first_error = part_error(ended);
        }
    }
    services.readiness.stop(&[Part::Listener, Part::Consumer]);
    shutdown.cancel();
    let rest = async {
        while let Some(ended) = parts.join_next().await {
            if let Some(error) = part_error(ended) {
                first_error.get_or_insert(error);
            }
        }
    };
    if tokio::time::timeout(timeout + STOP_GRACE, rest)
        .await
        .is_err()
    {
        let error = anyhow!(
            "not all parts ended within shutdown_timeout ({}s); nothing that got a 200 is lost",
            timeout.as_secs()
        );
        first_error.get_or_insert(error.into());
    }
    // Last, so that a stop can be watched.
    admin.stop.cancel();
    let ended = tokio::time::timeout(STOP_GRACE, admin.serving.join_next()).await;
    if let Ok(Some(ended)) = ended
        && let Some(error) = part_error(ended)
    {
        first_error.get_or_insert(error);
    }
    first_error.map_or(Ok(()), Err)
}

/// The running admin listener.
struct Admin {
    serving: JoinSet<Result<(), CommandError>>,
    stop: CancellationToken,
}

fn part_error(
    ended: Result<Result<(), CommandError>, tokio::task::JoinError>,
) -> Option<CommandError> {
    match ended {
        Ok(ended) => ended.err(),
        Err(error) => Some(anyhow!("a part of the program panicked: {error}").into()),
    }
}

async fn stop_signal() -> Result<&'static str, CommandError> {
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    tokio::select! {
        _ = terminate.recv() => Ok("SIGTERM"),
        _ = interrupt.recv() => Ok("SIGINT"),
    }
}

/// Project 1 with the key that was made for it at the first start.
pub(crate) async fn first_project(state: &State) -> Result<ProjectConfig, CommandError> {
    let id = ProjectId::new(1);
    let key = state
        .project_key(id)
        .await
        .context("the key of project 1")?;
    let mut project = ProjectConfig::new(id, [key]);
    // Who tries it out reads what became of it with the key that the start prints.
    project.privacy.public_report = true;
    Ok(project)
}

async fn start_admin(config: &Config, services: &Services) -> Result<Admin, CommandError> {
    let address = config.admin.listen;
    let listener = TcpListener::bind(address).await;
    let listener = listener.map_err(|error| {
        CommandError::usage(format!(
            "admin.listen: expected to listen on {address}, found: {error}"
        ))
    })?;
    let stop = CancellationToken::new();
    let (settings, services, stopping) = (config.admin.clone(), services.clone(), stop.clone());
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        admin::serve(listener, settings, services, stopping).await;
        Ok(())
    });
    Ok(Admin { serving, stop })
}

fn services_error(error: ServicesError) -> CommandError {
    CommandError::usage(error)
}

fn spool_error(error: SpoolError) -> CommandError {
    CommandError::usage(format!("data.dir: {error}"))
}

fn relay_error(error: RelayError) -> CommandError {
    match error {
        RelayError::Queue(error) => kafka_error(error),
        error @ RelayError::Listen { .. } => CommandError::usage(error),
    }
}

pub(crate) fn processor_error(error: ProcessorError) -> CommandError {
    match error {
        ProcessorError::Kafka(error) => kafka_error(error),
        error @ (ProcessorError::Topic { .. } | ProcessorError::Scratch { .. }) => {
            CommandError::usage(error)
        }
        error @ ProcessorError::Parser(_) => CommandError::Failed(error.into()),
    }
}

fn kafka_error(error: KafkaError) -> CommandError {
    match error {
        error @ (KafkaError::NoTopic { .. } | KafkaError::Unsuitable(_)) => {
            CommandError::usage(format!("kafka.topics: {error}"))
        }
        error @ KafkaError::Misconfigured { .. } => CommandError::usage(format!(
            "kafka.brokers, kafka.options: expected a cluster that lets us in, found: {error}; \
             check the credentials and certificates in kafka.options, and the rights they come with"
        )),
        error @ KafkaError::Unavailable { .. } => CommandError::Failed(error.into()),
    }
}
