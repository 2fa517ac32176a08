//! `crashferry`, the one binary: roles and operator commands. The program itself is `bin/crashferry.rs`.

mod admin;
mod config;
mod dead_letters;
mod keys;
mod modes;
mod moment;
mod output;
mod reports;
mod reprocess;
mod role;
mod topics;
mod welcome;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use shared::config::{Config, Role};

/// librdkafka and we share one allocator, which gives memory back after a burst.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Read when it is present and `--config` is not given.
const DEFAULT_CONFIG_FILE: &str = "crashferry.toml";

/// The command cannot be carried out as it was given or configured.
const EXIT_USAGE: u8 = 2;

/// Carries crash dumps from desktop programs to the people who fix them.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    /// Configuration file [default: crashferry.toml when present]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// All roles in one process (the default)
    Standalone,
    /// HTTP uploads to the queue
    Relay,
    /// The queue to reports and outcomes
    Processor,
    /// Look at the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Look after the Kafka topics
    #[command(subcommand)]
    Topics(TopicsCommand),
    /// Look after the keys that clients send with
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Look at what could not be taken from the ingest topic, and send it again
    #[command(subcommand)]
    DeadLetters(dead_letters::DeadLettersCommand),
    /// Parse stored dumps again, after a fix of the parser or with new symbols: a new report, the same outcome
    Reprocess(reprocess::ReprocessArguments),
    /// Look after stored events
    #[command(subcommand)]
    Reports(reports::ReportsCommand),
    /// A parser process of the processor; reads dumps from standard input
    #[command(name = processor::parser::WORKER_SUBCOMMAND, hide = true)]
    ParseWorker {
        /// Bytes of address space it may use
        memory: u64,
        /// Milliseconds it may take for one dump
        time: u64,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Say what is wrong with the configuration, if anything
    Check {
        /// The role to check it for
        #[arg(long, value_enum, default_value = "standalone")]
        role: RoleName,
    },
    /// Print the configuration in force, defaults and environment included, secrets left out
    Show,
}

#[derive(Debug, Subcommand)]
enum TopicsCommand {
    /// Make the topics that do not exist, and say what those that do are like
    Create(topics::CreateArguments),
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum RoleName {
    Standalone,
    Relay,
    Processor,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Standalone => Self::Standalone,
            RoleName::Relay => Self::Relay,
            RoleName::Processor => Self::Processor,
        }
    }
}

/// How a command ended when it did not succeed.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    /// The configuration or the command line is wrong: exit 2.
    #[error("{0}")]
    Usage(String),
    /// It was tried and failed: exit 1.
    #[error("{0:#}")]
    Failed(#[from] anyhow::Error),
}

impl CommandError {
    fn usage(error: impl std::fmt::Display) -> Self {
        Self::Usage(error.to_string())
    }
}

/// The program; `parse_worker` is what a parser process runs.
#[must_use]
pub fn main(parse_worker: impl FnOnce() -> ExitCode) -> ExitCode {
    modes::make_files_private();
    let arguments = Arguments::parse();
    if let Some(Command::ParseWorker { .. }) = arguments.command {
        return parse_worker();
    }
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::print_error(&format!("error: {error}"));
            match error {
                CommandError::Usage(_) => ExitCode::from(EXIT_USAGE),
                CommandError::Failed(_) => ExitCode::FAILURE,
            }
        }
    }
}

fn run(arguments: Arguments) -> Result<(), CommandError> {
    let config = load(arguments.config.as_deref())?;
    match arguments.command.unwrap_or(Command::Standalone) {
        Command::Standalone => role::run(Role::Standalone, config),
        Command::Relay => role::run(Role::Relay, config),
        Command::Processor => role::run(Role::Processor, config),
        Command::Config(ConfigCommand::Check { role }) => config::check(&config, role.into()),
        Command::Config(ConfigCommand::Show) => config::show(&config),
        Command::Topics(TopicsCommand::Create(plan)) => topics::create(&config, &plan),
        Command::Keys(command) => keys::run(config, command),
        Command::DeadLetters(command) => dead_letters::run(&config, command),
        Command::Reprocess(arguments) => reprocess::run(&config, &arguments),
        Command::Reports(command) => reports::run(&config, command),
        // INVARIANT: main has dealt with it.
        Command::ParseWorker { .. } => Ok(()),
    }
}

fn load(path: Option<&Path>) -> Result<Config, CommandError> {
    let default = Path::new(DEFAULT_CONFIG_FILE);
    let path = path.or_else(|| default.exists().then_some(default));
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    shared::config::load(path, environment).map_err(CommandError::usage)
}
